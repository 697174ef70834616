package service

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

var errStopping = errors.New("the service is stopping")

// joinFetch returns the fetch of the secret that is under way, and starts one when there is none.
func (s *Service) joinFetch(sl *slot) *flight {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	if sl.flight == nil {
		f := &flight{done: make(chan struct{}), err: errStopping}
		if !s.fetches.start(func() { s.fetch(sl, f) }) {
			close(f.done)
			return f
		}
		sl.flight = f
	}
	return sl.flight
}

// fetchAnew waits for a fetch that begins now or later, not for one that is under way and may have read the
// backend before the caller asked.
func (s *Service) fetchAnew(ctx context.Context, sl *slot) error {
	sl.mu.Lock()
	earlier := sl.flight
	sl.mu.Unlock()
	if earlier != nil {
		if err := earlier.wait(ctx); ctx.Err() != nil {
			return err
		}
	}
	return s.joinFetch(sl).wait(ctx)
}

// fetchSoon has the secret fetched by a fetch that begins now or later, without waiting for it.
func (s *Service) fetchSoon(sl *slot) {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	if sl.flight != nil {
		sl.again = true
		return
	}
	s.schedule.set(sl, time.Now())
}

// wait returns the fetch's error, or ctx's.
func (f *flight) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return &domain.FetchError{Reason: domain.ReasonDeadlineExceeded, Err: ctx.Err()}
	}
}

func (s *Service) fetch(sl *slot, f *flight) {
	defer close(f.done)
	e := sl.entry
	for {
		began := time.Now()
		asked := sl.snapshot().standing
		got, found, err := sl.fetchServed(s.life, asked)
		now := time.Now()
		if s.life.Err() != nil {
			return
		}

		outcome, reason := "ok", domain.Reason("")
		if err != nil {
			reason = domain.ReasonOf(err)
			outcome = string(reason)
		}
		sl.mu.Lock()
		standing := sl.snapshot().standing
		if !standing.FetchesAs(asked) {
			sl.mu.Unlock()
			continue // another version may be the one to serve by now
		}
		f.err = err
		before, after := sl.changeLocked(func(v *view) {
			if err == nil {
				uncounted := v.rotated && standing.Find(v.found) == domain.FoundNewer
				v.rotated = rotated(v, got) || uncounted
				v.state = sl.policy.Succeed(got, e.Backend, began, s.cfg.Spread())
				v.found, v.replaceBy = found, time.Time{}
				if standing.Find(found) != domain.FoundBehind {
					v.rolledBack = ""
				}
			} else {
				v.state = sl.policy.Fail(v.state, reason, now, s.cfg.Spread())
			}
		})
		next := after.state.NextFetch
		if sl.again {
			next = now
		}
		sl.flight, sl.again = nil, false
		s.schedule.set(sl, next)
		sl.mu.Unlock()

		s.cfg.Meter.FetchDone(e.Backend, outcome, now.Sub(began))
		if err == nil {
			s.cfg.Meter.SecretRead(e.Type, e.Backend, false)
		} else {
			s.cfg.Meter.SecretFailed(e.Type, reason)
		}
		if err == nil && standing.Find(found) != domain.FoundKnown {
			s.found.add(sl)
		}
		s.fetched(sl, before, after, err)
		return
	}
}

// rotated reports whether got, which is about to follow what v holds, has another value. Names of versions that are not
// numbers change with the same value, too, such as those of a file that is written anew: what was there before this
// process began cannot be compared, and counts only by its number.
func rotated(v *view, got domain.Fetched) bool {
	switch {
	case v.state.Version == got.Version:
		return v.rotated
	case v.state.Value.IsZero():
		return domain.NumberedVersion(got.Version)
	default:
		return !v.state.Value.Equal(got.Value)
	}
}

// fetched does what follows a change of the fetched value, or the failure err to have it.
func (s *Service) fetched(sl *slot, before, after view, err error) {
	if !before.state.Tried() && s.untried.Add(-1) == 0 {
		close(s.tried)
	}
	if before.state.Version != after.state.Version || before.state.Source != after.state.Source {
		s.served.add(sl)
	}
	s.alertFetch(sl, before.state, &after, err)
}

// fetchServed fetches the version that is to be served. found is what the catalog's alias stands for, "" when that was
// not asked or is not what is served.
func (sl *slot) fetchServed(ctx context.Context, standing domain.Standing) (got domain.Fetched, found string, err error) {
	e := sl.entry
	if standing.AsksFor(e.Version) {
		got, err = sl.backend.Fetch(ctx, e.Reference, e.Version)
		switch {
		case standing.Pinned == "", err == nil && standing.Follows(got.Version):
			return got, got.Version, err
		case err != nil && ofTheBackend(domain.ReasonOf(err)):
			return got, "", err // the same would happen to the pinned version
		}
	}
	got, err = sl.backend.Fetch(ctx, e.Reference, standing.Pinned)
	return got, "", err
}

// ofTheBackend reports whether a fetch failed for a reason that every version of every secret shares, not for one that
// may be that of a single version.
func ofTheBackend(reason domain.Reason) bool {
	switch reason {
	case domain.ReasonUnavailable, domain.ReasonDeadlineExceeded, domain.ReasonResourceExhausted, domain.ReasonUnauthenticated:
		return true
	default:
		return false
	}
}

func (s *Service) alertFetch(sl *slot, before domain.CacheState, current *view, err error) {
	after := current.state
	for _, name := range sl.policy.CacheAlerts(before, after) {
		attrs := []slog.Attr{
			slog.String("secretType", string(sl.entry.Type)),
			slog.String("backend", sl.entry.Backend),
			slog.String("replicaId", s.cfg.ReplicaID),
		}
		level := slog.LevelInfo
		switch name {
		case domain.AlertCacheRecovered:
			attrs = append(attrs, slog.Int("failures", before.Failures), slog.String("version", after.Version))
		default:
			level = slog.LevelWarn
			if name == domain.AlertCacheFailureThreshold {
				level = slog.LevelError
			}
			ok, _ := sl.servable(current, time.Now())
			attrs = append(attrs,
				slog.String("reason", string(after.LastFailure)),
				slog.Int("consecutiveFailures", after.Failures),
				slog.Bool("servable", ok),
				slog.Any("err", err))
		}
		s.log.LogAttrs(s.life, level, name, attrs...) //nolint:sloglint // one of the constants domain.Alert…
	}
}
