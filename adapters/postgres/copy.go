package postgres

import (
	"encoding/binary"
	"io"
	"math"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const copyEvents = `COPY omni_secret_access_events (` + linkedColumns + `) FROM STDIN (FORMAT binary)`

// copiedEvents is what COPY reads: events in its binary format, of which
// https://www.postgresql.org/docs/current/sql-copy.html ("Binary Format") says how rows are put together. It is written
// by hand since every read's event goes through it; pgx.CopyFrom would look for a way to encode each value anew.
type copiedEvents struct {
	chains *chains
	events []domain.Event // yet to be encoded
	buf    []byte
	unread []byte // of buf, or the signature
	ended  bool   // the trailer is encoded
}

func (c *chains) copied(events []domain.Event) *copiedEvents {
	return &copiedEvents{chains: c, events: events, unread: []byte(copySignature)}
}

const (
	copySignature = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00" // with no flags, and no extension
	copyTrailer   = "\xff\xff"
	copyChunk     = 32 << 10 // is encoded at once, in bytes and but for the last row of it
)

// Read implements io.Reader.
func (c *copiedEvents) Read(p []byte) (int, error) {
	if len(c.unread) == 0 {
		c.unread = c.next(c.buf[:0])
		c.buf = c.unread
	}
	if len(c.unread) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

// next appends the next piece to b, and nothing after the last.
func (c *copiedEvents) next(b []byte) []byte {
	for ; len(c.events) > 0 && len(b) < copyChunk; c.events = c.events[1:] {
		e := &c.events[0]
		b = appendRow(b, e, c.chains.link(e))
	}
	if len(c.events) == 0 && !c.ended {
		c.ended = true
		b = append(b, copyTrailer...)
	}
	return b
}

// appendRow appends the values of linkedColumns, in their order.
func appendRow(b []byte, e *domain.Event, h *domain.ChainHead) []byte {
	b = binary.BigEndian.AppendUint16(b, eventColumnCount)
	b = appendRequired(b, e.ID.String())
	b = appendText(b, string(e.Type))
	b = appendRequired(b, string(e.Action))
	b = appendRequired(b, string(e.Actor.Type))
	b = appendRequired(b, e.Actor.ID)
	b = appendRequired(b, string(e.Result))
	b = appendText(b, e.ErrorCode)
	b = appendText(b, e.Version)
	b = appendText(b, e.Source)
	b = appendInt8(b, math.Float64bits(float64(e.Duration)/float64(time.Millisecond)))
	b = appendText(b, e.RequestID)
	b = appendText(b, e.ReplicaID)
	b = appendText(b, e.Reason)
	b = appendTimestamp(b, e.RecordedAt)
	b = appendInt8(b, uint64(h.Chain)) //nolint:gosec // a chain's id is above 0, and PostgreSQL has the same bits for others
	b = appendInt8(b, uint64(h.Seq))   //nolint:gosec // likewise
	return appendBytes(b, h.Hash[:])
}

// appendText appends a text, of which "" is NULL.
func appendText(b []byte, s string) []byte {
	if s == "" {
		return binary.BigEndian.AppendUint32(b, math.MaxUint32) // -1
	}
	return appendRequired(b, s)
}

func appendRequired(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s))) //nolint:gosec // no text of an event comes near 4 GB
	return append(b, s...)
}

func appendBytes(b, value []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(value))) //nolint:gosec // as for a text
	return append(b, value...)
}

// appendInt8 appends a value of 8 bytes.
func appendInt8(b []byte, bits uint64) []byte {
	b = binary.BigEndian.AppendUint32(b, 8)
	return binary.BigEndian.AppendUint64(b, bits)
}

// epoch is PostgreSQL's, from which timestamps count in microseconds.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

func appendTimestamp(b []byte, t time.Time) []byte {
	return appendInt8(b, uint64(t.UnixMicro()-epoch)) //nolint:gosec // times before it are negative, in the same bits
}
