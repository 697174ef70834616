package service

import (
	"context"
	"fmt"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// Read returns the value of a secret. It is answered from memory; only a secret that has no value waits for
// its backend, together with everyone else who asks for it. The audit event is in the journal when Read
// returns.
//
// Errors are *domain.Error: CodeForbidden, CodeUnknownSecretType, CodeSecretUnavailable with RetryAfter,
// CodeAuditUnavailable.
func (s *Service) Read(ctx context.Context, call Call, t domain.SecretType) (domain.Served, error) {
	began := time.Now()
	if err := s.Authorize(ctx, call, domain.ScopeRead, t); err != nil {
		return domain.Served{}, err
	}
	sl, ok := s.slots[t]
	if !ok {
		return domain.Served{}, s.refuseUnknown(ctx, call, domain.ActionRead, t)
	}
	if err := s.mayRead(ctx, call, sl); err != nil {
		return domain.Served{}, err
	}
	served, ok := sl.serve(began)
	if !ok {
		var err error
		if served, err = s.awaitFetch(ctx, sl); err != nil {
			return domain.Served{}, s.failRead(ctx, call, t, began, err)
		}
	}

	if err := s.recordRead(ctx, call, served, began); err != nil {
		return domain.Served{}, err
	}
	return served, nil
}

// mayRead refuses, and audits, a caller that is not among the secret's readers.
func (s *Service) mayRead(ctx context.Context, call Call, sl *slot) error {
	if sl.entry.MayRead(call.Principal.Subject) {
		return nil
	}
	return s.deny(ctx, call, sl.entry.Type, "the catalog does not list this subject among the readers of "+string(sl.entry.Type))
}

// recordRead journals and counts a read that is about to be answered, even if its caller goes away meanwhile.
func (s *Service) recordRead(ctx context.Context, call Call, served domain.Served, began time.Time) error {
	e := domain.Event{
		ID: s.events.next(), Type: served.Type, Action: domain.ActionRead, Actor: call.Principal.Actor(), Result: domain.ResultSuccess,
		Version: served.Version, Source: served.Source, Duration: time.Since(began),
		RequestID: call.RequestID, ReplicaID: s.cfg.ReplicaID, RecordedAt: began,
	}
	err := s.cfg.Journal.Append(ctx, e)
	if err != nil && ctx.Err() != nil { // it left no trace; a context of its own for each read would be an allocation
		err = s.cfg.Journal.Append(context.WithoutCancel(ctx), e)
	}
	if err != nil {
		return s.auditUnavailable(ctx, err)
	}
	if served.Source == domain.SourceBreakGlass {
		s.cfg.Meter.SecretRead(served.Type, domain.SourceBreakGlass, false)
	} else {
		s.cfg.Meter.SecretRead(served.Type, domain.SourceCache, served.Stale)
	}
	return nil
}

// awaitFetch waits for the fetch of a secret that has no value; in the pause after one that failed there is none to wait
// for. One that failed may be followed at once by another that was asked for meanwhile.
func (s *Service) awaitFetch(ctx context.Context, sl *slot) (domain.Served, error) {
	for range 2 {
		f := s.fetchOfNow(sl)
		if f == nil {
			break
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return domain.Served{}, s.unavailable(sl, "it is still being fetched")
		}
		if served, ok := sl.serve(time.Now()); ok {
			return served, nil
		}
	}
	return domain.Served{}, s.unavailable(sl, "")
}

// fetchOfNow is the fetch that is under way, or one that is begun because it is due; nil when there is neither.
func (s *Service) fetchOfNow(sl *slot) *flight {
	sl.mu.Lock()
	f := sl.flight
	sl.mu.Unlock()
	if f == nil && !s.schedule.waits(sl, time.Now()) {
		f = s.joinFetch(sl)
	}
	return f
}

func (s *Service) unavailable(sl *slot, why string) error {
	st := sl.snapshot().state
	switch {
	case why != "":
	case st.Failures == 0:
		why = "the version that was promoted has not been fetched here yet"
	default:
		why = fmt.Sprintf("its backend answered %s", st.LastFailure)
	}
	wait := time.Second
	if until := time.Until(st.NextFetch); until > wait {
		wait = until
	}
	return &domain.Error{
		Code:       domain.CodeSecretUnavailable,
		Message:    fmt.Sprintf("%s has no value that may be served: %s; an operator can inject one by break-glass", sl.entry.Type, why),
		RetryAfter: wait, Withdrawn: sl.policy.Withdrawn(st, time.Now()),
	}
}

// failRead audits a read that could not be answered, and returns why.
func (s *Service) failRead(ctx context.Context, call Call, t domain.SecretType, began time.Time, err error) error {
	e := s.event(call, domain.ActionRead, t, domain.ResultFailure)
	e.ErrorCode = string(domain.AsError(err).Code)
	e.Duration = time.Since(began)
	s.note(ctx, e)
	return err
}
