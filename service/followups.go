package service

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// followUps remembers those that are open, as they were read last, the oldest first.
type followUps struct {
	mu      sync.RWMutex
	open    []domain.FollowUp
	byType  map[domain.SecretType]openFollowUps // of open, so that a status of all secrets goes through it once
	changes int                                 // that were made here: what was read before is old then
}

// openFollowUps are those of one secret.
type openFollowUps struct {
	count  int
	oldest time.Time
}

// of is how many are open of a secret, and since when the oldest is; zero when none is.
func (f *followUps) of(t domain.SecretType) (count int, oldest time.Time) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	of := f.byType[t]
	return of.count, of.oldest
}

// set is called with mu held.
func (f *followUps) set(open []domain.FollowUp) {
	f.open, f.byType = open, make(map[domain.SecretType]openFollowUps)
	for _, one := range open {
		of := f.byType[one.Type]
		if of.count == 0 {
			of.oldest = one.OpenedAt
		}
		of.count++
		f.byType[one.Type] = of
	}
}

// opened adds that of an override which was just applied.
func (f *followUps) opened(o domain.Override) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes++
	if slices.ContainsFunc(f.open, func(one domain.FollowUp) bool { return one.OverrideID == o.ID }) {
		return // it was read meanwhile
	}
	f.set(append(slices.Clip(f.open), domain.FollowUp{
		OverrideID: o.ID, Type: o.Envelope.Type, OpenedAt: o.AppliedAt, AppliedBy: o.AppliedBy, Reason: o.Reason,
	}))
}

// rotated drops those of a secret that a rotation settled.
func (f *followUps) rotated(t domain.SecretType, at time.Time) {
	f.drop(func(one domain.FollowUp) bool { return one.Type == t && !one.OpenedAt.After(at) })
}

func (f *followUps) drop(settled func(domain.FollowUp) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes++
	f.set(slices.DeleteFunc(slices.Clone(f.open), settled))
}

func (f *followUps) list() []domain.FollowUp {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return slices.Clone(f.open)
}

func (s *Service) readFollowUps(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	for {
		changes := s.followUps.generation()
		open, err := s.cfg.FollowUps.OpenFollowUps(ctx)
		if err != nil {
			return err
		}
		if s.followUps.replace(open, changes) {
			return nil
		}
	}
}

func (f *followUps) generation() int {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.changes
}

// replace takes over what was read since the generation changes, and reports false when it is older.
func (f *followUps) replace(open []domain.FollowUp, changes int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changes != changes {
		return false
	}
	f.set(open)
	return true
}

// OpenFollowUps lists what overrides have left to be done, the oldest first.
//
// Errors are *domain.Error: CodeForbidden, CodeStateUnavailable.
func (s *Service) OpenFollowUps(ctx context.Context, call Call) ([]domain.FollowUp, error) {
	if err := s.Authorize(ctx, call, domain.ScopeStatus, ""); err != nil {
		return nil, err
	}
	if err := s.readFollowUps(ctx); err != nil {
		return nil, s.notListed(ctx, "list open follow-ups", err)
	}
	return s.followUps.list(), nil
}

// CloseFollowUp closes the follow-up of an override without a rotation, for a reason that auditors will read.
//
// Errors are *domain.Error: CodeForbidden, CodeInvalidRequest, CodeNoFollowUp, CodeStateUnavailable.
func (s *Service) CloseFollowUp(ctx context.Context, call Call, overrideID, reason string) error {
	ctx = context.WithoutCancel(ctx) // it is finished even if the caller goes away
	if err := s.Authorize(ctx, call, domain.ScopeBreakGlass, ""); err != nil {
		return err
	}
	e := s.event(call, domain.ActionWriteMetadata, "", domain.ResultSuccess)
	e.Source, e.Reason = domain.SourceBreakGlass, reason
	refuse := func(err error) error {
		e.Result, e.ErrorCode, e.Reason = domain.ResultFailure, string(domain.AsError(err).Code), ""
		s.note(ctx, e)
		return err
	}
	if strings.TrimSpace(reason) == "" {
		return refuse(&domain.Error{Code: domain.CodeInvalidRequest, Message: "reason is missing: say why the injected value need not be rotated"})
	}
	if err := domain.CheckReason(reason); err != nil {
		return refuse(err)
	}
	if err := s.readFollowUps(ctx); err != nil {
		return s.stateUnavailable(ctx, "close the follow-up", err)
	}
	missing := &domain.Error{Code: domain.CodeNoFollowUp, Message: "no open follow-up has this id; list them to see those that are"}
	open := s.followUps.list()
	i := slices.IndexFunc(open, func(f domain.FollowUp) bool { return f.OverrideID == overrideID })
	if i < 0 {
		return refuse(missing)
	}
	e.Type, e.Version = open[i].Type, overrideID
	closing, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	closed, err := s.cfg.FollowUps.CloseFollowUp(closing, overrideID, reason, e)
	switch {
	case err != nil:
		return s.stateUnavailable(ctx, "close the follow-up", err)
	case !closed:
		e.ID = s.events.next()
		return refuse(missing)
	}
	s.followUps.drop(func(f domain.FollowUp) bool { return f.OverrideID == overrideID })
	return nil
}

// checkFollowUps warns of each that has been open for too long.
func (s *Service) checkFollowUps(ctx context.Context) {
	if err := s.readFollowUps(ctx); err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "follow-ups are checked as they were read last: the database does not answer", "err", err)
	}
	now := time.Now()
	for _, f := range s.followUps.list() {
		if !f.LateAt(now) {
			continue
		}
		s.log.LogAttrs(ctx, slog.LevelWarn, domain.AlertFollowUpOpen,
			slog.String("secretType", string(f.Type)),
			slog.String("overrideId", f.OverrideID),
			slog.String("appliedBy", f.AppliedBy.ID),
			slog.Time("openedAt", f.OpenedAt),
			slog.Int("hoursOpen", int(now.Sub(f.OpenedAt).Hours())))
	}
}
