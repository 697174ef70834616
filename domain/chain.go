package domain

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"time"
)

// ChainID identifies a chain of audit events: random, and above 0.
type ChainID int64

// NewChainID makes an id of 8 random bytes.
func NewChainID(random [8]byte) ChainID {
	id := ChainID(binary.BigEndian.Uint64(random[:]) & math.MaxInt64)
	return max(id, 1)
}

// String is the id as 16 hex digits.
func (id ChainID) String() string { return fmt.Sprintf("%016x", int64(id)) }

// ParseChainID reads what String wrote.
func ParseChainID(s string) (ChainID, error) {
	id, err := strconv.ParseInt(s, 16, 64)
	if err != nil || len(s) != 16 || id <= 0 {
		return 0, fmt.Errorf("chain id %q: want 16 hex digits", s)
	}
	return ChainID(id), nil
}

// ChainHash is the SHA-256 of a link. It stands for the link's event and for all that came before it.
type ChainHash [sha256.Size]byte

// String is the hash as 64 hex digits.
func (h ChainHash) String() string { return hex.EncodeToString(h[:]) }

// ParseChainHash reads what String wrote.
func ParseChainHash(s string) (ChainHash, error) {
	var h ChainHash
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(h) {
		return h, fmt.Errorf("chain hash %q: want 64 hex digits", s)
	}
	return ChainHash(b), nil
}

// ChainHead is where a chain ends: all the events that one replica recorded, in the order in which they were stored.
type ChainHead struct {
	Chain     ChainID
	ReplicaID string // "" for events that name none
	Seq       int64  // of the last event; 0 while there is none
	Hash      ChainHash
}

// BeginChain is the head of a chain without events.
func BeginChain(id ChainID, replicaID string) ChainHead {
	b := []byte("omni-secrets audit chain v1\n")
	b = binary.BigEndian.AppendUint64(b, uint64(id)) //nolint:gosec // it is above 0
	b = append(b, replicaID...)
	return ChainHead{Chain: id, ReplicaID: replicaID, Hash: sha256.Sum256(b)}
}

// Linker computes links. It keeps its buffer, so that a batch of events costs no allocation. Not safe for concurrent
// use.
type Linker struct{ buf []byte }

// Append makes e the last event of the chain. The event's texts must be as they are stored.
func (l *Linker) Append(h *ChainHead, e *Event) {
	h.Seq++
	h.Hash = l.Hash(h.Hash, e)
}

// Hash is that of e as the event that follows the one with the hash before.
func (l *Linker) Hash(before ChainHash, e *Event) ChainHash {
	l.buf = append(l.buf[:0], linkVersion)
	l.buf = append(l.buf, before[:]...)
	l.buf = AppendLinked(l.buf, e)
	return sha256.Sum256(l.buf)
}

// linkVersion begins what is hashed. Whoever changes AppendLinked takes another.
const linkVersion = 1

// AppendLinked appends what a link says of e: every column of its row but the row's number, which only the database
// knows. Two events that differ in a row's columns differ here: numbers have 8 bytes, and each text is preceded by its
// length. A text that is absent has the length 0. Times count in microseconds, as they are stored.
func AppendLinked(b []byte, e *Event) []byte {
	b = binary.BigEndian.AppendUint64(b, e.ID.Start)
	b = binary.BigEndian.AppendUint64(b, e.ID.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(e.RecordedAt.UnixMicro()))
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(float64(e.Duration)/float64(time.Millisecond)))
	for _, text := range [...]string{
		string(e.Type), string(e.Action), string(e.Actor.Type), e.Actor.ID, string(e.Result), e.ErrorCode, e.Version,
		e.Source, e.RequestID, e.ReplicaID, e.Reason,
	} {
		b = binary.AppendUvarint(b, uint64(len(text)))
		b = append(b, text...)
	}
	return b
}

// LinkedEvent is a row of the audit trail with its link, as a database has it.
type LinkedEvent struct {
	Event
	Row     int64  // its number: later rows of one chain have higher ones
	EventID string // as it is stored, also where Event.ID could not be read
	// Foreign says what about the row no program of this project writes, such as an empty text in place of NULL; ""
	// for a good row. Event may be incomplete then.
	Foreign string

	Chain ChainID // 0 for a row without a link, from before there were any
	Seq   int64
	Hash  ChainHash
}

// ChainMark says that the events of a chain up to this one, or the last of them, were pruned. Hash is what the next
// event follows.
type ChainMark struct {
	Chain ChainID
	Seq   int64
	Hash  ChainHash
}
