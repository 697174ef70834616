package memory

import (
	"context"
	"sync"
	"time"

	"github.com/apex-tradebill/omni-secrets/ports"
)

// Alone implements ports.Leadership for a process that has its database to itself: it always leads.
type Alone struct {
	mu      sync.Mutex
	claimed map[string]time.Time // by job
}

var _ ports.Leadership = (*Alone)(nil)

// NewAlone returns the leadership of a single process; every job is due.
func NewAlone() *Alone { return &Alone{claimed: make(map[string]time.Time)} }

// Lead implements ports.Leadership.
func (*Alone) Lead(ctx context.Context, duties func(context.Context)) error {
	for ctx.Err() == nil {
		duties(ctx)
	}
	return ctx.Err()
}

// Claim implements ports.Leadership.
func (a *Alone) Claim(ctx context.Context, job string, every time.Duration) (mine bool, wait time.Duration, err error) {
	if err := ctx.Err(); err != nil {
		return false, 0, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if last, ok := a.claimed[job]; ok && now.Before(last.Add(every)) {
		return false, last.Add(every).Sub(now), nil
	}
	a.claimed[job] = now
	return true, 0, nil
}
