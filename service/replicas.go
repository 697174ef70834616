package service

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// followReplicas takes over what other replicas change: rotations, overrides that they apply and end, and refreshes.
func (s *Service) followReplicas(ctx context.Context) error {
	if s.cfg.Replicas == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.cfg.Replicas.Watch(ctx, func() {
		if err := errors.Join(s.followRotations(ctx), s.followOverrides(ctx), s.followRefreshRequests(ctx), s.readFollowUps(ctx)); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "changes of other replicas are not known yet: the database does not answer", "err", err)
		}
	})
}

// followOverrides puts in place what the database says is open, and takes away what it says has ended.
func (s *Service) followOverrides(ctx context.Context) error {
	s.overrides.Lock()
	defer s.overrides.Unlock()
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	list, err := s.cfg.Overrides.OpenOverrides(ctx)
	if err != nil {
		return err
	}
	open := make(map[domain.SecretType]domain.Override, len(list))
	s.delisted = nil
	for _, o := range list {
		if _, ok := s.slots[o.Envelope.Type]; ok {
			open[o.Envelope.Type] = o
			continue
		}
		o.Envelope.Ciphertext = ""
		s.delisted = append(s.delisted, o)
		if !s.started.Load() {
			s.log.WarnContext(ctx, "an override is open for a secret that the catalog no longer lists; it is not served",
				"secretType", o.Envelope.Type, "overrideId", o.ID)
		}
	}
	for _, sl := range s.order {
		here, there := sl.snapshot().override, open[sl.entry.Type]
		if here.ID == there.ID {
			continue
		}
		if here.ActiveAt(time.Now()) && (there.ID == "" || here.AppliedAt.After(there.AppliedAt)) {
			kept, err := s.putBack(ctx, here)
			if err != nil {
				return err
			}
			if kept {
				continue
			}
		}
		value := s.reopen(ctx, there)
		there = there.Held(time.Now())
		if here.ID != "" && value.IsZero() {
			s.uncover(sl)
		}
		sl.change(func(v *view) { v.override, v.value = there, value })
		s.served.add(sl)
		if here.ID != "" {
			s.log.LogAttrs(ctx, slog.LevelWarn, domain.AlertBreakGlassCleared,
				append(s.overrideAttrs(Call{}, here), slog.String("cause", "ended by another replica"))...)
		}
	}
	s.wakeExpiries()
	return nil
}

// putBack stores an override that is served here and that the database does not know at all, as after a failover to one
// that is empty, or lags behind and may have the override that this one replaced: it would be lost with the next restart,
// and other replicas would not serve it. It reports false when the database knows of the override's end. What another
// replica has put back meanwhile is kept too.
func (s *Service) putBack(ctx context.Context, o domain.Override) (kept bool, err error) {
	known, open, err := s.cfg.Overrides.FindOverride(ctx, o.ID)
	if err != nil || known {
		return open, err
	}
	e := s.event(Call{}, domain.ActionBreakGlassApply, o.Envelope.Type, domain.ResultSuccess)
	e.Actor, e.Version, e.Source, e.Reason = domain.Automation, o.ID, domain.SourceBreakGlass, "put back: the database did not know it"
	err = s.cfg.Overrides.ApplyOverride(ctx, o, e, func(former domain.Override) domain.Event {
		return s.clearEvent(Call{}, former, domain.EndReplaced)
	})
	if errors.Is(err, ports.ErrReplay) { // another replica was faster
		return true, nil
	}
	s.log.LogAttrs(ctx, slog.LevelError, domain.AlertBreakGlassUnknown, append(s.overrideAttrs(Call{}, o),
		slog.Bool("putBack", err == nil), slog.Any("err", err),
		slog.String("next", "see which database this is: if it was failed over to, what the former one has and this one lacks must be brought over (runbook: the database is another one)"))...)
	return true, err
}

// reopen decrypts an override that was applied by another replica, or before this process started. It is zero
// when it cannot be, or is past its time.
func (s *Service) reopen(ctx context.Context, o domain.Override) domain.Value {
	if !o.ActiveAt(time.Now()) {
		return domain.Value{}
	}
	err := errors.New("there is no break-glass key")
	if s.cfg.Envelopes != nil {
		var opened domain.Opened
		if opened, err = s.cfg.Envelopes.Open(o.Envelope); err == nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, domain.AlertBreakGlassApplied,
				append(s.overrideAttrs(Call{}, o), slog.Bool("restored", true))...)
			return opened.Value
		}
	}
	s.log.ErrorContext(ctx, "an override cannot be decrypted and is not served; was the break-glass key changed?",
		"secretType", o.Envelope.Type, "overrideId", o.ID, "err", err)
	return domain.Value{}
}

// ReopenOverrides is for after a change of the break-glass keys: it tries again to decrypt the open overrides that could
// not be, and warns of those that are served and could not be decrypted any more. What is served goes on being served.
func (s *Service) ReopenOverrides(ctx context.Context) {
	s.overrides.Lock()
	defer s.overrides.Unlock()
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	list, err := s.cfg.Overrides.OpenOverrides(ctx)
	if err != nil {
		s.log.WarnContext(ctx, "the break-glass keys changed, and which overrides they open is not known: the database does not answer", "err", err)
		return
	}
	for _, o := range list {
		sl, ok := s.slots[o.Envelope.Type]
		if !ok || sl.snapshot().override.ID != o.ID {
			continue
		}
		if !sl.snapshot().value.IsZero() {
			if _, err := s.cfg.Envelopes.Open(o.Envelope); err != nil && o.ActiveAt(time.Now()) {
				s.log.LogAttrs(ctx, slog.LevelWarn, "an open override was sealed for a break-glass key that is no longer here: this replica serves it until it ends, or until a restart; others do not",
					append(s.overrideAttrs(Call{}, o), slog.Any("err", err))...)
			}
			continue
		}
		if value := s.reopen(ctx, o); !value.IsZero() {
			sl.change(func(v *view) { v.value = value })
			s.served.add(sl)
		}
	}
}

// announceRefresh lets the other replicas fetch what was refreshed here. They do so at their next fetch anyway.
func (s *Service) announceRefresh(ctx context.Context, types []domain.SecretType) {
	if s.cfg.Replicas == nil || len(types) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	if err := s.cfg.Replicas.RequestRefresh(ctx, types, s.cfg.ReplicaID); err != nil {
		s.log.WarnContext(ctx, "other replicas were not told of a refresh: the database does not answer", "err", err)
	}
}

// skipRefreshRequests passes over those made before this process started: it fetches everything anyway.
func (s *Service) skipRefreshRequests(ctx context.Context) error {
	if s.cfg.Replicas == nil {
		return nil
	}
	requests, err := s.cfg.Replicas.RefreshRequests(ctx)
	for _, r := range requests {
		s.refreshed[r.Type] = r
	}
	return err
}

// followRefreshRequests goes by what is other than the last time, not by the numbers alone: a database that was restored, or
// failed over to, gives lower ones.
func (s *Service) followRefreshRequests(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	requests, err := s.cfg.Replicas.RefreshRequests(asking)
	if err != nil {
		return err
	}
	last := make(map[domain.SecretType]domain.RefreshRequest, len(requests))
	for _, r := range requests {
		last[r.Type] = r
		if sl, ok := s.slots[r.Type]; ok && r != s.refreshed[r.Type] && r.ReplicaID != s.cfg.ReplicaID {
			s.fetchSoon(sl)
		}
	}
	s.refreshed = last
	return nil
}
