package domain

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"unsafe"
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
// The bytes are overwritten with zeros when nothing refers to them any more, at the next garbage collection:
// neither while a reader holds what Reveal returned, nor at a moment that can be told.
//
// The zero Value holds nothing. A Value is immutable and safe for concurrent use.
type Value struct {
	shown  redaction // what reflection finds in place of the bytes
	reveal func() []byte
}

// NewValue copies plaintext. A caller that needs its own copy no longer clears it.
func NewValue(plaintext []byte) Value {
	kept := keep(plaintext)
	return Value{shown: Redacted, reveal: func() []byte { return kept }}
}

// smallestKept is the size from which the runtime gives an object memory of its own. Smaller ones share it, and
// their finalizers may never run.
const smallestKept = 16

// keep copies b to memory that is cleared before it is used for anything else. The finalizer is that of the
// memory itself and not of who holds it, so that any slice of it, however it was come by, keeps it as it is.
func keep(b []byte) []byte {
	n := len(b)
	if n == 0 {
		return b
	}
	memory := make([]byte, max(n, smallestKept))
	copy(memory, b)
	runtime.SetFinalizer(&memory[0], func(first *byte) {
		clear(unsafe.Slice(first, n)) //nolint:gosec // the finalizer gets the first of the n bytes
	})
	return memory[:n:n]
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
