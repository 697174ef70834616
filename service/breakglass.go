package service

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

const stateTimeout = 5 * time.Second // for one change in the database

var errNoBreakGlassKey = &domain.Error{
	Code:    domain.CodeBreakGlassDisabled,
	Message: "this server has no break-glass key; give it OMNI_BREAKGLASS_PRIVATE_KEY, or the file or the secret that it is to take one from",
}

// ApplyOverride puts the encrypted value in the secret's place until the envelope's expiry. It is stored
// together with its audit event before it is served.
//
// Errors are *domain.Error: CodeForbidden, CodeRateLimited, CodeUnknownSecretType, CodeInvalidRequest,
// CodeInvalidBreakGlassTTL, CodeInvalidBreakGlassPayload (also for an envelope that was used before),
// CodeBreakGlassDisabled, CodeStateUnavailable.
func (s *Service) ApplyOverride(ctx context.Context, call Call, envelope domain.Envelope, reason string) (domain.Override, error) {
	ctx = context.WithoutCancel(ctx) // it is finished even if the caller goes away; each step bounds its own time
	t := envelope.Type
	if err := s.Authorize(ctx, call, domain.ScopeBreakGlass, t); err != nil {
		return domain.Override{}, err
	}
	if wait := s.applies.take(ctx, call.Principal.Subject, call.Principal.Actor()); wait > 0 {
		return domain.Override{}, tooMany("too many overrides by this caller; an override can always be ended", wait)
	}
	sl, ok := s.slots[t]
	if !ok {
		return domain.Override{}, s.refuseUnknown(ctx, call, domain.ActionBreakGlassApply, t)
	}
	if s.cfg.Envelopes == nil {
		return domain.Override{}, s.refuseOverride(ctx, call, t, "", errNoBreakGlassKey)
	}
	if err := domain.CheckReason(reason); err != nil {
		return domain.Override{}, s.refuseOverride(ctx, call, t, "", err)
	}
	now := time.Now()
	expiresAt, err := domain.OverrideExpiry(envelope.ExpiresAt, now)
	if err != nil {
		return domain.Override{}, s.refuseOverride(ctx, call, t, domain.ReasonBreakGlassTTL, err)
	}
	opened, err := s.cfg.Envelopes.Open(envelope)
	if errors.Is(err, ports.ErrNoKey) {
		return domain.Override{}, s.refuseOverride(ctx, call, t, "", errNoBreakGlassKey)
	}
	if err != nil {
		return domain.Override{}, s.refuseOverride(ctx, call, t, domain.ReasonBreakGlassPayload, &domain.Error{
			Code: domain.CodeInvalidBreakGlassPayload, Message: err.Error(),
		})
	}

	o := domain.Override{
		ID: "bg-" + rand.Text(), Envelope: envelope, EnvelopeKind: opened.Version, Digest: opened.Digest,
		ExpiresAt: expiresAt, Reason: reason, AppliedBy: call.Principal.Actor(), AppliedAt: now,
	}
	applied := s.event(call, domain.ActionBreakGlassApply, t, domain.ResultSuccess)
	applied.Version, applied.Source, applied.Reason = o.ID, domain.SourceBreakGlass, reason
	s.overrides.Lock()
	defer s.overrides.Unlock()
	changing, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	var replaced domain.Override
	err = s.cfg.Overrides.ApplyOverride(changing, o, applied, func(former domain.Override) domain.Event {
		replaced = former
		return s.clearEvent(call, former, domain.EndReplaced)
	})
	switch {
	case errors.Is(err, ports.ErrReplay):
		return domain.Override{}, s.refuseOverride(ctx, call, t, domain.ReasonBreakGlassReplay, &domain.Error{
			Code: domain.CodeInvalidBreakGlassPayload, Message: "this envelope was used before; encrypt the value anew",
		})
	case err != nil:
		return domain.Override{}, s.stateUnavailable(ctx, "apply the override", err)
	}

	o = o.Held(now)
	sl.change(func(v *view) { v.override, v.value = o, opened.Value })
	s.followUps.opened(o)
	s.wakeExpiries()
	if replaced.ID != "" {
		s.logCleared(ctx, call, replaced, domain.EndReplaced)
	}
	s.log.LogAttrs(ctx, slog.LevelWarn, domain.AlertBreakGlassApplied, append(s.overrideAttrs(call, o),
		slog.Int("envelopeVersion", o.EnvelopeKind), slog.String("reason", reason))...)
	return o, nil
}

// ClearOverride ends the override of a secret before its time.
//
// Errors are *domain.Error: CodeForbidden, CodeUnknownSecretType, CodeNoBreakGlass, CodeStateUnavailable.
func (s *Service) ClearOverride(ctx context.Context, call Call, t domain.SecretType) error {
	ctx = context.WithoutCancel(ctx) // it is finished even if the caller goes away; each step bounds its own time
	if err := s.Authorize(ctx, call, domain.ScopeBreakGlass, t); err != nil {
		return err
	}
	sl, ok := s.slots[t]
	if !ok {
		return s.refuseUnknown(ctx, call, domain.ActionBreakGlassClear, t)
	}
	if err := s.followOverrides(ctx); err != nil { // what is known here may be a second old
		return s.stateUnavailable(ctx, "end the override", err)
	}
	open := sl.snapshot().override
	if !open.ActiveAt(time.Now()) {
		return s.noOverride(ctx, call, t)
	}
	ended, err := s.endOpen(ctx, call, open, domain.EndCleared)
	switch {
	case ended || err != nil:
		return err
	case sl.snapshot().override.ActiveAt(time.Now()):
		return s.refuseClear(ctx, call, t, &domain.Error{
			Code:       domain.CodeStateUnavailable,
			Message:    fmt.Sprintf("somebody else changed the override of %s at the same time; look at the status and try again", t),
			RetryAfter: time.Second,
		})
	default: // somebody else was faster
		return s.noOverride(ctx, call, t)
	}
}

func (s *Service) noOverride(ctx context.Context, call Call, t domain.SecretType) error {
	return s.refuseClear(ctx, call, t, &domain.Error{Code: domain.CodeNoBreakGlass, Message: fmt.Sprintf("no override of %s is active", t)})
}

func (s *Service) refuseClear(ctx context.Context, call Call, t domain.SecretType, err *domain.Error) error {
	e := s.event(call, domain.ActionBreakGlassClear, t, domain.ResultFailure)
	e.ErrorCode = string(err.Code)
	s.note(ctx, e)
	return err
}

// endOpen ends an open override before its time, and reports false when somebody else has ended it. The database ends
// none that it does not know either, as after a failover: such a one is put back first, or another replica would do so
// afterwards.
func (s *Service) endOpen(ctx context.Context, call Call, o domain.Override, end domain.OverrideEnd) (bool, error) {
	if ended, err := s.endOverride(ctx, call, o, end); ended || err != nil {
		return ended, err
	}
	if err := s.followOverrides(ctx); err != nil {
		return false, s.stateUnavailable(ctx, "end the override", err)
	}
	if s.slots[o.Envelope.Type].snapshot().override.ID != o.ID {
		return false, nil
	}
	return s.endOverride(ctx, call, o, end)
}

// endOverride ends an override in the database and then here. It reports whether it was the first to do so; otherwise one
// that has not expired stays here, for it may be that the database does not know it.
func (s *Service) endOverride(ctx context.Context, call Call, o domain.Override, end domain.OverrideEnd) (first bool, err error) {
	s.overrides.Lock()
	defer s.overrides.Unlock()
	ending, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	first, err = s.cfg.Overrides.EndOverride(ending, o.ID, end, s.clearEvent(call, o, end))
	if err != nil {
		return false, s.stateUnavailable(ctx, "end the override", err)
	}
	if !first && end != domain.EndExpired {
		return false, nil
	}
	if sl, ok := s.slots[o.Envelope.Type]; ok {
		if sl.snapshot().override.ID == o.ID {
			s.uncover(sl)
			sl.change(func(v *view) { v.override, v.value = domain.Override{}, domain.Value{} })
		}
		s.served.add(sl)
	} else {
		s.delisted = slices.DeleteFunc(s.delisted, func(d domain.Override) bool { return d.ID == o.ID })
	}
	if first {
		s.logCleared(ctx, call, o, end)
	}
	return first, nil
}

// uncover is for right before an override goes: a secret that has nothing to serve in its place is fetched now, since its
// next try may be half a minute off, and a reader who finds the override gone waits for that.
func (s *Service) uncover(sl *slot) {
	if ok, _ := sl.servable(sl.snapshot(), time.Now()); !ok {
		s.fetchSoon(sl)
	}
}

func (s *Service) clearEvent(call Call, o domain.Override, end domain.OverrideEnd) domain.Event {
	e := s.event(call, domain.ActionBreakGlassClear, o.Envelope.Type, domain.ResultSuccess)
	if end == domain.EndExpired {
		e.Actor = domain.Automation
	}
	e.Version, e.Source, e.Reason = o.ID, domain.SourceBreakGlass, string(end)
	return e
}

func (s *Service) logCleared(ctx context.Context, call Call, o domain.Override, end domain.OverrideEnd) {
	s.log.LogAttrs(ctx, slog.LevelWarn, domain.AlertBreakGlassCleared,
		append(s.overrideAttrs(call, o), slog.String("cause", string(end)))...)
}

func (s *Service) overrideAttrs(call Call, o domain.Override) []slog.Attr {
	return []slog.Attr{
		slog.String("secretType", string(o.Envelope.Type)),
		slog.String("overrideId", o.ID),
		slog.Time("expiresAt", o.ExpiresAt),
		slog.String("appliedBy", o.AppliedBy.ID),
		slog.String("requestId", call.RequestID),
		slog.String("replicaId", s.cfg.ReplicaID),
	}
}

// refuseOverride audits and counts an override that was not applied, and returns why.
func (s *Service) refuseOverride(ctx context.Context, call Call, t domain.SecretType, reason domain.Reason, err error) error {
	e := s.event(call, domain.ActionBreakGlassApply, t, domain.ResultFailure)
	e.ErrorCode = string(domain.AsError(err).Code)
	if reason != "" {
		e.Reason = string(reason)
		s.cfg.Meter.SecretFailed(t, reason)
	}
	s.note(ctx, e)
	return err
}

func (s *Service) wakeExpiries() {
	select {
	case s.expiries <- struct{}{}:
	default:
	}
}

// clockCheck is how often the clock is looked at while an override is open: a timer does not notice that the clock was
// set forward.
const clockCheck = 5 * time.Second

// endOverrides ends each override when its time has come. Readers do not depend on it: they look at the
// clock. It tells who watches, erases the ciphertext and leaves the audit event, and tries again while the database is away.
func (s *Service) endOverrides(ctx context.Context) error {
	retry := backoff{min: s.cfg.Policy.RetryMin, max: s.cfg.Policy.RetryMax}
	for {
		wait := time.Hour
		var failed error
		for _, o := range s.openOverrides() {
			if left := o.Remaining(time.Now()); left > 0 {
				wait = min(wait, left, clockCheck)
				continue
			}
			if sl, ok := s.slots[o.Envelope.Type]; ok {
				sl.turned()
			}
			if _, err := s.endOverride(ctx, Call{}, o, domain.EndExpired); err != nil {
				failed = err
			}
		}
		if failed != nil {
			wait = min(wait, retry.next())
		} else {
			retry.reset()
		}
		select {
		case <-time.After(wait):
		case <-s.expiries:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// openOverrides lists those that have not been ended, past their time or not.
func (s *Service) openOverrides() []domain.Override {
	s.overrides.Lock()
	defer s.overrides.Unlock()
	open := slices.Clone(s.delisted)
	for _, sl := range s.order {
		if o := sl.snapshot().override; o.ID != "" {
			open = append(open, o)
		}
	}
	return open
}
