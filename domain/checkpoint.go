package domain

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// EventAuditCheckpoint is the log event of a checkpoint. A line of it holds all of the checkpoint, so that logs are a
// copy that an owner of the database cannot change.
const EventAuditCheckpoint = "omni.audit.checkpoint"

// Checkpoint is a signed statement: at this time, the chain ended with this event.
type Checkpoint struct {
	Chain     ChainID
	ReplicaID string // for readers; the signature does not cover it
	Seq       int64
	Hash      ChainHash
	SignedAt  time.Time // in UTC, to the microsecond
	KeyID     string    // of the key that signed
	Signature []byte
}

// signed is what the signature covers.
func (c Checkpoint) signed() []byte {
	return fmt.Appendf(nil, "omni-secrets audit checkpoint v1\nchain %s\nseq %d\nhash %s\ntime %s\n",
		c.Chain, c.Seq, c.Hash, c.SignedAt.UTC().Format(checkpointTime))
}

const checkpointTime = "2006-01-02T15:04:05.000000Z"

// CheckpointKey signs checkpoints. The zero one signs none. Its bytes are held by a closure, as those of a Value are, so
// that nothing prints them. Safe for concurrent use.
type CheckpointKey struct {
	public CheckpointPublicKey
	sign   func(message []byte) []byte
}

// CheckpointSeedBytes is the size of a signing key.
const CheckpointSeedBytes = ed25519.SeedSize

// NewCheckpointKey makes the key of a seed of CheckpointSeedBytes.
func NewCheckpointKey(seed []byte) (CheckpointKey, error) {
	if len(seed) != CheckpointSeedBytes {
		return CheckpointKey{}, fmt.Errorf("the key has %d bytes, want %d", len(seed), CheckpointSeedBytes)
	}
	private := ed25519.NewKeyFromSeed(seed)
	public, _ := private.Public().(ed25519.PublicKey)
	return CheckpointKey{
		public: CheckpointPublicKey{public},
		sign:   func(message []byte) []byte { return ed25519.Sign(private, message) },
	}, nil
}

// IsZero reports whether there is no key.
func (k CheckpointKey) IsZero() bool { return k.sign == nil }

// Public is the key that checks what k signs.
func (k CheckpointKey) Public() CheckpointPublicKey { return k.public }

// Sign makes the checkpoint of a chain that ends with head, at this time.
func (k CheckpointKey) Sign(head ChainHead, at time.Time) Checkpoint {
	c := Checkpoint{
		Chain: head.Chain, ReplicaID: head.ReplicaID, Seq: head.Seq, Hash: head.Hash,
		SignedAt: at.UTC().Truncate(time.Microsecond), KeyID: k.public.ID(),
	}
	c.Signature = k.sign(c.signed())
	return c
}

// CheckpointPublicKey checks checkpoints.
type CheckpointPublicKey struct{ public ed25519.PublicKey }

// ParseCheckpointPublicKey reads what String wrote: base64 of 32 bytes.
func ParseCheckpointPublicKey(text string) (CheckpointPublicKey, error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return CheckpointPublicKey{}, errors.New("a public key of the audit trail is base64 of 32 bytes, as 'omni-secrets keygen --audit' prints it")
	}
	return CheckpointPublicKey{b}, nil
}

// String is the key in base64.
func (k CheckpointPublicKey) String() string { return base64.StdEncoding.EncodeToString(k.public) }

// ID is a short name of the key, by which a checkpoint says who signed it.
func (k CheckpointPublicKey) ID() string {
	sum := sha256.Sum256(k.public)
	return hex.EncodeToString(sum[:4])
}

// Verifies reports whether k's private key signed c.
func (k CheckpointPublicKey) Verifies(c Checkpoint) bool {
	return ed25519.Verify(k.public, c.signed(), c.Signature)
}
