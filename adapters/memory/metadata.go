package memory

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// EnsureMetadata implements ports.Metadata.
func (s *Store) EnsureMetadata(ctx context.Context, rows []domain.Metadata, event func(domain.SecretType) domain.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.outage.check(ctx); err != nil {
		return err
	}

	changed := make(map[domain.SecretType]domain.Metadata)
	var events []domain.Event
	for _, row := range rows {
		next, ok := s.ensured(row)
		if !ok {
			continue
		}
		changed[row.Type] = next
		events = append(events, event(row.Type))
	}

	if err := s.checkNew(events...); err != nil {
		return err
	}
	maps.Copy(s.metadata, changed)
	maps.DeleteFunc(s.rotations, func(t domain.SecretType, _ domain.Rotation) bool {
		return s.metadata[t].Status != domain.RotationRotating
	})
	s.insert(events...)
	return nil
}

// ensured is what the row of want.Type has to become, and whether that is a change.
func (s *Store) ensured(want domain.Metadata) (domain.Metadata, bool) {
	have, ok := s.metadata[want.Type]
	if !ok {
		want.RotationDueAt = stored(want.RotationDueAt)
		want.LastRotatedAt = stored(want.LastRotatedAt)
		want.LastValidatedAt = stored(want.LastValidatedAt)
		want.BreakGlassEnabledUntil = stored(want.BreakGlassEnabledUntil)
		want.CreatedAt = stored(want.CreatedAt)
		want.UpdatedAt = stored(want.UpdatedAt)
		return want, true
	}

	next := have
	next.Environment, next.Backend, next.Owner = want.Environment, want.Backend, want.Owner
	next.GCPSecretID, next.GCPVersionAlias = want.GCPSecretID, want.GCPVersionAlias
	if next.Backend != have.Backend || next.GCPSecretID != have.GCPSecretID || next.GCPVersionAlias != have.GCPVersionAlias {
		next.NewestVersion, next.PinnedVersion = "", ""
		if next.Status == domain.RotationRotating {
			next.Status = domain.RotationActive
		}
	}
	if next == have {
		return have, false
	}
	next.UpdatedAt = stored(want.UpdatedAt)
	return next, true
}

// ListMetadata implements ports.Metadata.
func (s *Store) ListMetadata(ctx context.Context) ([]domain.Metadata, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.outage.check(ctx); err != nil {
		return nil, err
	}
	rows := make([]domain.Metadata, 0, len(s.metadata))
	for _, row := range s.metadata {
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b domain.Metadata) int { return cmp.Compare(a.Type, b.Type) })
	return rows, nil
}

// RecordServed implements ports.Metadata.
func (s *Store) RecordServed(ctx context.Context, accounts []domain.Account) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.outage.check(ctx); err != nil {
		return err
	}
	for _, a := range accounts {
		row, ok := s.metadata[a.Type]
		if !ok {
			continue
		}
		row.CacheSource, row.CacheVersion = a.Source, a.Version
		if !a.ValidatedAt.IsZero() {
			row.LastValidatedAt = stored(a.ValidatedAt)
		}
		if row.NewestVersion == "" && row.Origin() == a.Origin {
			row.NewestVersion = a.First
		}
		row.UpdatedAt = stored(time.Now())
		s.metadata[a.Type] = row
	}
	return nil
}
