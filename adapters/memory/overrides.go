package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

type override struct {
	domain.Override
	ended bool
}

// ApplyOverride implements ports.Overrides.
func (s *Store) ApplyOverride(ctx context.Context, o domain.Override, event domain.Event, ended func(domain.Override) domain.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.outage.check(ctx); err != nil {
		return err
	}
	if s.digests[o.Digest] {
		return ports.ErrReplay
	}
	if s.overrides[o.ID] != nil {
		return fmt.Errorf("memory: override %s is stored already", o.ID)
	}

	var events []domain.Event
	former := s.open(o.Envelope.Type)
	if former != nil {
		events = append(events, ended(former.erased()))
	}
	events = append(events, event)
	if err := s.checkNew(events...); err != nil {
		return err
	}

	if former != nil {
		former.end()
	}
	o.ExpiresAt, o.AppliedAt = stored(o.ExpiresAt), stored(o.AppliedAt)
	s.overrides[o.ID] = &override{Override: o}
	s.digests[o.Digest] = true
	s.followUps = append(s.followUps, domain.FollowUp{
		OverrideID: o.ID, Type: o.Envelope.Type, OpenedAt: o.AppliedAt, AppliedBy: o.AppliedBy, Reason: o.Reason,
	})
	if row, ok := s.metadata[o.Envelope.Type]; ok {
		row.BreakGlassEnabledUntil = o.ExpiresAt
		row.CacheSource = domain.SourceBreakGlass
		row.UpdatedAt = stored(event.RecordedAt)
		s.metadata[o.Envelope.Type] = row
	}
	s.insert(events...)
	s.announce()
	return nil
}

// EndOverride implements ports.Overrides.
func (s *Store) EndOverride(ctx context.Context, id string, _ domain.OverrideEnd, event domain.Event) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.outage.check(ctx); err != nil {
		return false, err
	}
	o := s.overrides[id]
	if o == nil || o.ended {
		return false, nil
	}
	if err := s.checkNew(event); err != nil {
		return false, err
	}

	o.end()
	if row, ok := s.metadata[o.Envelope.Type]; ok {
		row.BreakGlassEnabledUntil = time.Time{}
		row.UpdatedAt = stored(event.RecordedAt)
		s.metadata[o.Envelope.Type] = row
	}
	s.insert(event)
	s.announce()
	return true, nil
}

// OpenOverrides implements ports.Overrides. They are ordered by type.
func (s *Store) OpenOverrides(ctx context.Context) ([]domain.Override, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.outage.check(ctx); err != nil {
		return nil, err
	}
	var open []domain.Override
	for _, o := range s.overrides {
		if !o.ended {
			open = append(open, o.Override)
		}
	}
	slices.SortFunc(open, func(a, b domain.Override) int { return cmp.Compare(a.Envelope.Type, b.Envelope.Type) })
	return open, nil
}

// FindOverride implements ports.Overrides.
func (s *Store) FindOverride(ctx context.Context, id string) (known, open bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.outage.check(ctx); err != nil {
		return false, false, err
	}
	o := s.overrides[id]
	return o != nil, o != nil && !o.ended, nil
}

func (s *Store) open(t domain.SecretType) *override {
	for _, o := range s.overrides {
		if !o.ended && o.Envelope.Type == t {
			return o
		}
	}
	return nil
}

func (o *override) erased() domain.Override {
	e := o.Override
	e.Envelope.Ciphertext = ""
	return e
}

func (o *override) end() {
	o.Override = o.erased()
	o.ended = true
}
