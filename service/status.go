package service

import (
	"context"
	"errors"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// SecretStatus is what operators see of one secret. It never holds a value.
type SecretStatus struct {
	domain.Metadata

	Source            string // what a reader would get now: a backend's name, break_glass or empty
	Version           string
	Age               time.Duration // 0 when there is nothing to serve
	Stale             bool
	Rotation          domain.RotationState
	OverrideExpiresAt time.Time // zero without an active override
	Failures          int       // consecutive
	LastFailure       domain.Reason
	InProgress        domain.Rotation // zero when none is
	FollowUps         int             // of overrides, open
	FollowUpOpenedAt  time.Time       // the oldest of them; zero when there is none

	// Survival is how long something would still be served if the backend went away now; 0 when nothing is served.
	Survival time.Duration

	// The fetched value, which is underneath while an override is served.
	CachedSource  string // "" when nothing is cached
	CachedVersion string
	CachedAge     time.Duration
}

// Status describes every secret, in the catalog's order. While the database is away, rotation deadlines are
// those that were read last.
//
// Errors are *domain.Error: CodeForbidden.
func (s *Service) Status(ctx context.Context, call Call) ([]SecretStatus, error) {
	if err := s.Authorize(ctx, call, domain.ScopeStatus, ""); err != nil {
		return nil, err
	}
	if err := errors.Join(s.readMetadata(ctx), s.readFollowUps(ctx)); err != nil {
		s.log.WarnContext(ctx, "status shows rotation deadlines and follow-ups as they were read last: the database does not answer", "err", err)
	}
	return s.Snapshot(time.Now()), nil
}

// Snapshot describes every secret as it is known in memory, for metrics.
func (s *Service) Snapshot(now time.Time) []SecretStatus {
	all := make([]SecretStatus, 0, len(s.order))
	for _, sl := range s.order {
		all = append(all, s.status(sl, now))
	}
	return all
}

func (s *Service) status(sl *slot, now time.Time) SecretStatus {
	v := sl.snapshot()
	st := SecretStatus{
		Metadata: s.rotations.metadata(sl.entry, s.cfg.Environment, now),
		Source:   domain.SourceEmpty,
		Failures: v.state.Failures, LastFailure: v.state.LastFailure,
		InProgress: v.standing.Rotation,
	}
	st.FollowUps, st.FollowUpOpenedAt = s.followUps.of(sl.entry.Type)
	st.Rotation = st.RotationAt(now)
	if v.state.FetchedAt.After(st.LastValidatedAt) { // the row is written after it, and for a new version alone
		st.LastValidatedAt = v.state.FetchedAt
	}
	if served, ok := sl.serve(now); ok {
		st.Source, st.Version, st.Age, st.Stale = served.Source, served.Version, served.Age(now), served.Stale
	}
	if v.overridden(now) {
		st.OverrideExpiresAt = v.override.ExpiresAt
	}
	if ok, _ := sl.servable(v, now); ok {
		st.CachedSource, st.CachedVersion, st.CachedAge = v.state.Source, v.state.Version, max(0, now.Sub(v.state.FetchedAt))
	}
	st.Survival = max(0, sl.servableUntil(v, now).Sub(now))
	return st
}

// JournalBacklog is how many audit events wait for the database, and for how long the oldest has.
func (s *Service) JournalBacklog(now time.Time) (events int, lag time.Duration) {
	events, oldest := s.cfg.Drain.Backlog()
	if events > 0 {
		lag = max(0, now.Sub(oldest))
	}
	return events, lag
}
