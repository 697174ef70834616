package postgres

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

// pace is how long things may take, and how often the parts with a connection of their own look around.
type pace struct {
	// call bounds a call whatever its caller allows: the server's own timeouts do not reach a client whose
	// network is gone.
	call  time.Duration
	poll  time.Duration // Watch calls changed at least this often
	lead  time.Duration // between attempts to become the leader, and between checks whether it still is
	probe time.Duration // the longest that a connection may take to answer
}

var usualPace = pace{call: 10 * time.Second, poll: 5 * time.Second, lead: time.Second, probe: time.Second}

// The wait before connecting again doubles from one to the other.
const (
	shortestRetry = 100 * time.Millisecond
	longestRetry  = 2 * time.Second
)

// line follows one connection that is opened again whenever it is lost. It says so once, however often opening
// it fails, and once when it is back.
type line struct {
	log   *slog.Logger
	name  string
	retry time.Duration
	down  bool
}

func (s *Store) newLine(name string) *line {
	return &line{log: s.log, name: name, retry: shortestRetry}
}

func (l *line) up(ctx context.Context) {
	if l.down {
		l.log.InfoContext(ctx, "database connection is back", "connection", l.name)
	}
	l.down, l.retry = false, shortestRetry
}

// lost waits before the next attempt, or until ctx is done.
func (l *line) lost(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	if !l.down {
		l.log.WarnContext(ctx, "database connection is lost; trying to open it again", "connection", l.name, "err", err)
	}
	l.down = true
	pause(ctx, l.retry)
	l.retry = min(2*l.retry, longestRetry)
}

// pause waits for d, give or take a tenth, so that replicas do not all do the same at once. It reports whether
// ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d*9/10 + rand.N(d/5+1)) //nolint:gosec // jitter, not a secret
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
