package domain

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// MaxValueBytes is the largest secret value, the payload limit of Google Secret Manager
// (https://cloud.google.com/secret-manager/quotas).
const MaxValueBytes = 64 << 10

// Redacted stands wherever a secret value would have been printed.
const Redacted redaction = "[redacted]"

type redaction string

// Value carries the plaintext of a secret and cannot be printed: fmt with every verb, slog, JSON, XML, YAML,
// gob and panics show "[redacted]". The bytes are held by a closure, so that printers that walk fields by
// reflection, including those of other packages' unexported fields, find nothing either.
//
// The zero Value holds nothing. A Value is immutable and safe for concurrent use.
type Value struct {
	shown  redaction // what reflection finds in place of the bytes
	reveal func() []byte
}

// NewValue takes ownership of plaintext: the caller must not change it afterwards.
func NewValue(plaintext []byte) Value {
	return Value{shown: Redacted, reveal: func() []byte { return plaintext }}
}

// Reveal returns the plaintext. The caller must neither change nor keep it.
func (v Value) Reveal() []byte {
	if v.reveal == nil {
		return nil
	}
	return v.reveal()
}

// Equal reports whether v and other hold the same bytes, in a time that tells how long they are and nothing else of them.
// Nothing and an empty secret are the same.
func (v Value) Equal(other Value) bool {
	return subtle.ConstantTimeCompare(v.Reveal(), other.Reveal()) == 1
}

// IsZero reports whether v holds no secret at all.
func (v Value) IsZero() bool { return v.reveal == nil }

func (Value) String() string               { return string(Redacted) }
func (Value) GoString() string             { return string(Redacted) }
func (Value) Format(s fmt.State, _ rune)   { _, _ = io.WriteString(s, string(Redacted)) }
func (Value) LogValue() slog.Value         { return slog.StringValue(string(Redacted)) }
func (Value) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// GobEncode keeps gob from refusing, or one day from finding, the unexported fields.
func (Value) GobEncode() ([]byte, error) { return []byte(Redacted), nil }

// GobDecode leaves v as it is: a redacted value cannot be had back.
func (*Value) GobDecode([]byte) error { return nil }
