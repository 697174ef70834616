package domain

import "time"

// FollowUpLimit is how long a follow-up may stay open before it raises an alert.
const FollowUpLimit = 24 * time.Hour

// FollowUp is what every override leaves to be done: the value that was injected is known to more people and machines
// than before, so the secret is rotated, or somebody says why it need not be.
type FollowUp struct {
	OverrideID string
	Type       SecretType
	OpenedAt   time.Time // when the override was applied
	AppliedBy  Actor
	Reason     string // of the override

	ClosedAt     time.Time // zero while it is open
	Outcome      FollowUpOutcome
	ClosedBy     Actor
	ClosedReason string
}

// FollowUpOutcome says how a follow-up was closed.
type FollowUpOutcome string

const (
	FollowUpRotated FollowUpOutcome = "rotated" // the secret was rotated after the override was applied
	FollowUpWaived  FollowUpOutcome = "waived"  // an operator said why it need not be
)

// LateAt reports whether the follow-up has been open for too long at now.
func (f FollowUp) LateAt(now time.Time) bool {
	return f.ClosedAt.IsZero() && now.Sub(f.OpenedAt) >= FollowUpLimit
}
