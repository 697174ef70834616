package client

import "github.com/apex-tradebill/omni-secrets/domain"

// Value is the plaintext of a secret. It prints as [redacted], whatever it is printed with; Reveal returns the bytes,
// which the caller must neither change nor keep.
type Value = domain.Value

// SourceBreakGlass is the Source of a value that an operator put in place for a while.
const SourceBreakGlass = domain.SourceBreakGlass

// Secret is a value as it is served now.
type Secret struct {
	Type    string // the name in the catalog
	Value   Value
	Version string // as its source counts; the id of the override when Source is SourceBreakGlass
	Source  string // the name of a backend, such as "gsm" or "local_file", or SourceBreakGlass
	Stale   bool   // nobody can confirm now that this is still the value; it is served for a bounded time
}

// sameValue reports whether b is what a is, apart from being stale.
func (a Secret) sameValue(b Secret) bool {
	return a.Version == b.Version && a.Source == b.Source && a.Value.IsZero() == b.Value.IsZero() &&
		a.Value.Equal(b.Value)
}

// Change says that a secret has another value than before, or none. Another value differs in its version, its source
// or its bytes; becoming stale is no change.
type Change struct {
	Secret Secret // only Type is set when there is no value
	Err    error  // why there is none, an *Error; nil when there is one
}
