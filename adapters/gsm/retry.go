package gsm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// retry calls attempt until it succeeds, fails for good, or the time is over. The back-off doubles from
// BackoffMin to BackoffMax; a wait is between half of it and all of it. When the next wait would outlast the
// time that is left, the last failure is returned at once; when the time runs out during an attempt, whoever notices
// that first, the failure before it is returned, which says more about the service.
func (c Config) retry(ctx context.Context, attempt func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var last error
	for backoff := c.BackoffMin; ; backoff = min(2*backoff, c.BackoffMax) {
		whole := left(ctx) >= c.AttemptTimeout
		err := c.once(ctx, attempt)
		if err == nil || !retryable(err) {
			return err
		}
		if last == nil || whole || classify(err).Reason != domain.ReasonDeadlineExceeded {
			last = err
		}
		wait := backoff/2 + rand.N(backoff/2+1) //nolint:gosec // jitter, not a secret
		if left(ctx) <= wait {
			return last
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done(): // the caller's, for ours is later than the wait
			timer.Stop()
			return fmt.Errorf("%w while waiting to try again after: %w", ctx.Err(), last)
		case <-timer.C:
		}
	}
}

// left is how much time a context with a deadline has left.
func left(ctx context.Context) time.Duration {
	deadline, _ := ctx.Deadline()
	return time.Until(deadline)
}

func (c Config) once(ctx context.Context, attempt func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.AttemptTimeout)
	defer cancel()
	return attempt(ctx)
}
