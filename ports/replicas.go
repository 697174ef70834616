package ports

import (
	"context"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// Replicas lets processes that share a database learn of each other's changes. Safe for concurrent use.
type Replicas interface {
	// RequestRefresh records that these secrets were refreshed on purpose here, so that the other replicas fetch
	// them too.
	RequestRefresh(ctx context.Context, types []domain.SecretType, replicaID string) error

	// RefreshRequests returns the last request for each secret, by whichever replica.
	RefreshRequests(ctx context.Context) ([]domain.RefreshRequest, error)

	// Watch calls changed within a second of every committed change to overrides, follow-ups, rotations and refresh
	// requests, by this replica or another, and after every (re)connection, since changes may have been missed while there was
	// none. Calls come one at a time and may be fewer than the changes. It reconnects by itself, calls changed
	// now and then even when nothing seems to have happened, and returns only when ctx is done, with its error.
	Watch(ctx context.Context, changed func()) error
}

// Leadership lets one replica at a time do periodic work. Safe for concurrent use.
type Leadership interface {
	// Lead waits until this replica is the leader, calls duties with a context that ends when it no longer is,
	// and begins again when duties returned, until ctx is done; it then returns ctx's error. Leadership passes on
	// within seconds of the leader's end or of the loss of its connection.
	Lead(ctx context.Context, duties func(context.Context)) error

	// Claim reports whether the job, which is to be done once in every interval, is due and was given to this
	// caller: of all replicas one gets true, whatever they believe about who leads. When it is not due, wait is
	// how long it will be until it is.
	Claim(ctx context.Context, job string, every time.Duration) (mine bool, wait time.Duration, err error)
}
