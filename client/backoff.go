package client

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 10 * time.Second
)

// backoff doubles from min to max.
type backoff struct {
	min, max, last time.Duration
}

func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, b.min), b.max)
	return b.last
}

func (b *backoff) reset() { b.last = 0 }

// jittered is between half of d and d: clients that lost the same server do not come back all at once.
func jittered(d time.Duration) time.Duration { return d - spread(d, rand.Float64()) } //nolint:gosec // jitter, no secret

// spread is a share of half of d.
func spread(d time.Duration, share float64) time.Duration {
	return time.Duration(float64(d) / 2 * share)
}

// pause waits for d and reports whether ctx is still alive then.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
