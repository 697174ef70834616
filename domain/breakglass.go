package domain

import (
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxOverrideTTL is the longest that an override may live.
const MaxOverrideTTL = 30 * time.Minute

// maxReason is how many characters an operator may give as a reason.
const maxReason = 500

// Envelope is an override as its sender encrypted it. ExpiresAt is kept to the letter, because version 2
// envelopes authenticate it.
type Envelope struct {
	Type       SecretType
	Ciphertext string // base64 of the envelope's JSON
	ExpiresAt  string // RFC 3339
}

// Opened is a decrypted envelope.
type Opened struct {
	Value   Value
	Version int    // of the envelope format
	Digest  string // the same for every encoding of the same envelope, and for no other
	KeyID   string // names the key that opened it
}

// Override is a value that an operator put in a secret's place for a limited time.
type Override struct {
	ID           string
	Envelope     Envelope // what is stored; Ciphertext is empty once it ended
	EnvelopeKind int      // version of the envelope format
	Digest       string
	ExpiresAt    time.Time
	Reason       string
	AppliedBy    Actor
	AppliedAt    time.Time

	// EndsBy is the end by the monotonic clock of the process that serves it, which Held sets. It is not stored.
	EndsBy time.Time
}

// OverrideEnd says why an override ended.
type OverrideEnd string

const (
	EndExpired   OverrideEnd = "expired"
	EndCleared   OverrideEnd = "cleared"   // by an operator
	EndRefreshed OverrideEnd = "refreshed" // by an explicit refresh that succeeded
	EndReplaced  OverrideEnd = "replaced"  // by the next override
)

// Held is the override as a process takes it over at now, which must have a monotonic reading. From then on it ends when
// either clock says so: at ExpiresAt by the clock on the wall, and once the time that was left at now is over by the
// monotonic one, which nobody can set back. No more is left than it had at first.
func (o Override) Held(now time.Time) Override {
	if o.ID != "" {
		o.EndsBy = now.Add(min(o.ExpiresAt.Sub(now), o.ExpiresAt.Sub(o.AppliedAt)))
	}
	return o
}

// Remaining is how long the override is to be served from now on, by the clock that says less; 0 or less when it is over.
func (o Override) Remaining(now time.Time) time.Duration {
	left := o.ExpiresAt.Sub(now)
	if !o.EndsBy.IsZero() {
		left = min(left, o.EndsBy.Sub(now))
	}
	return left
}

// ActiveAt reports whether the override is to be served at now.
func (o Override) ActiveAt(now time.Time) bool { return o.ID != "" && o.Remaining(now) > 0 }

// OverrideExpiry reads expiresAt and checks that it lies in (now, now+MaxOverrideTTL]. Out of range is an
// error, never clamped.
func OverrideExpiry(expiresAt string, now time.Time) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, expiresAt)
	if err != nil {
		return time.Time{}, &Error{
			Code:    CodeInvalidBreakGlassTTL,
			Message: fmt.Sprintf("expiresAt must be an RFC 3339 time such as %s", now.Add(25*time.Minute).UTC().Format(time.RFC3339)),
		}
	}
	switch ttl := at.Sub(now); {
	case ttl <= 0:
		return time.Time{}, &Error{Code: CodeInvalidBreakGlassTTL, Message: "expiresAt is not in the future of the server's clock; send one at most 30 minutes ahead"}
	case ttl > MaxOverrideTTL:
		return time.Time{}, &Error{Code: CodeInvalidBreakGlassTTL, Message: "expiresAt is more than 30 minutes ahead of the server's clock; send an earlier one"}
	}
	return at, nil
}

// CheckReason checks why an operator applies an override, or closes its follow-up. Its error is an *Error.
func CheckReason(reason string) error {
	if utf8.RuneCountInString(reason) > maxReason {
		return &Error{Code: CodeInvalidRequest, Message: fmt.Sprintf("reason is longer than %d characters", maxReason)}
	}
	for _, r := range reason { // nothing with which it could pass for another line, or for other words, where it is shown
		if unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp) {
			return &Error{Code: CodeInvalidRequest, Message: "reason must be one line of text without control characters"}
		}
	}
	return nil
}
