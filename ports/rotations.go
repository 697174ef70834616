package ports

import (
	"context"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// Rotations keeps where each secret stands in its rotation. At most one rotation of a secret is in progress. What a
// call changes and its audit event are one transaction. All methods are safe for concurrent use, by any number of
// processes: of those that would take the same step exactly one gets true, the others store nothing.
type Rotations interface {
	// BeginRotation stores r as in progress and makes next the secret's standing. It reports false unless the secret's
	// status is active, its newest version is newest, and its origin that of next.
	BeginRotation(ctx context.Context, r domain.Rotation, newest string, next domain.Standing, event domain.Event) (bool, error)

	// EndRotation ends the rotation with this id and makes next the secret's standing. A rotation that counts, that is
	// one whose rotated is not zero, moves the deadline, unless a later one has done so, and closes the open follow-ups of
	// the secret that were opened before, as domain.FollowUpRotated. It reports false when the rotation has ended already.
	EndRotation(ctx context.Context, id string, end domain.RotationEnd, next domain.Standing, rotated domain.Rotated, event domain.Event) (bool, error)

	// RecordRotation does the same for a rotation that was made elsewhere. It reports false unless the secret's newest
	// version is newest, its status and its origin are those of next, and no rotation of it is in progress.
	RecordRotation(ctx context.Context, newest string, next domain.Standing, rotated domain.Rotated, event domain.Event) (bool, error)

	// Standings returns that of every secret.
	Standings(ctx context.Context) ([]domain.Standing, error)
}

// FollowUps keeps what each override leaves to be done. ApplyOverride opens a follow-up; a rotation that counts closes
// it. Safe for concurrent use, by any number of processes.
type FollowUps interface {
	// OpenFollowUps returns those that were not closed, the oldest first.
	OpenFollowUps(ctx context.Context) ([]domain.FollowUp, error)

	// CloseFollowUp closes the follow-up of an override as domain.FollowUpWaived, for a reason, and stores the event, in
	// one transaction. It reports false, and stores nothing, when no such follow-up is open.
	CloseFollowUp(ctx context.Context, overrideID, reason string, event domain.Event) (bool, error)
}
