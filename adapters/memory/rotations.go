package memory

import (
	"cmp"
	"context"
	"slices"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// BeginRotation implements ports.Rotations.
func (s *Store) BeginRotation(ctx context.Context, r domain.Rotation, newest string, next domain.Standing, event domain.Event) (bool, error) {
	return s.step(ctx, event, func() bool {
		if row := s.metadata[r.Type]; row.Status != domain.RotationActive || row.NewestVersion != newest || row.Origin() != next.Origin {
			return false
		}
		r.BegunAt = stored(r.BegunAt)
		s.rotations[r.Type] = r
		s.stand(next, domain.Rotated{}, event)
		return true
	})
}

// EndRotation implements ports.Rotations.
func (s *Store) EndRotation(ctx context.Context, id string, _ domain.RotationEnd, next domain.Standing, rotated domain.Rotated, event domain.Event) (bool, error) {
	return s.step(ctx, event, func() bool {
		if s.rotations[next.Type].ID != id {
			return false
		}
		delete(s.rotations, next.Type)
		s.stand(next, rotated, event)
		return true
	})
}

// RecordRotation implements ports.Rotations.
func (s *Store) RecordRotation(ctx context.Context, newest string, next domain.Standing, rotated domain.Rotated, event domain.Event) (bool, error) {
	return s.step(ctx, event, func() bool {
		row, ok := s.metadata[next.Type]
		if !ok || row.Status == domain.RotationRotating || row.Status != next.Status || row.NewestVersion != newest || row.Origin() != next.Origin {
			return false
		}
		s.stand(next, rotated, event)
		return true
	})
}

// step does what take does and stores the event, if take reports true and the event can be stored.
func (s *Store) step(ctx context.Context, event domain.Event, take func() bool) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.outage.check(ctx); err != nil {
		return false, err
	}
	if err := s.checkNew(event); err != nil {
		return false, err
	}
	if !take() {
		return false, nil
	}
	s.insert(event)
	s.announce()
	return true, nil
}

// stand makes next the secret's standing. It must be called with mu held.
func (s *Store) stand(next domain.Standing, rotated domain.Rotated, event domain.Event) {
	row, ok := s.metadata[next.Type]
	if !ok {
		return
	}
	row.Status, row.NewestVersion, row.PinnedVersion = next.Status, next.Newest, next.Pinned
	row.UpdatedAt = stored(event.RecordedAt)
	if !rotated.At.IsZero() {
		if at := stored(rotated.At); !at.Before(row.LastRotatedAt) {
			row.LastRotatedAt, row.RotationDueAt = at, stored(rotated.DueAt)
		}
		for i, f := range s.followUps {
			if f.Type == next.Type && !f.OpenedAt.After(stored(rotated.At)) {
				s.followUps[i].ClosedAt = stored(event.RecordedAt)
			}
		}
	}
	s.metadata[next.Type] = row
}

// Standings implements ports.Rotations. They are ordered by type.
func (s *Store) Standings(ctx context.Context) ([]domain.Standing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.outage.check(ctx); err != nil {
		return nil, err
	}
	var all []domain.Standing
	for _, row := range s.metadata {
		st := row.Standing()
		st.Rotation = s.rotations[row.Type]
		all = append(all, st)
	}
	slices.SortFunc(all, func(a, b domain.Standing) int { return cmp.Compare(a.Type, b.Type) })
	return all, nil
}

// OpenFollowUps implements ports.FollowUps.
func (s *Store) OpenFollowUps(ctx context.Context) ([]domain.FollowUp, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.outage.check(ctx); err != nil {
		return nil, err
	}
	var open []domain.FollowUp
	for _, f := range s.followUps {
		if f.ClosedAt.IsZero() {
			open = append(open, f)
		}
	}
	slices.SortFunc(open, func(a, b domain.FollowUp) int {
		return cmp.Or(a.OpenedAt.Compare(b.OpenedAt), cmp.Compare(a.OverrideID, b.OverrideID))
	})
	return open, nil
}

// CloseFollowUp implements ports.FollowUps.
func (s *Store) CloseFollowUp(ctx context.Context, overrideID, _ string, event domain.Event) (bool, error) {
	return s.step(ctx, event, func() bool {
		for i, f := range s.followUps {
			if f.OverrideID == overrideID && f.ClosedAt.IsZero() {
				s.followUps[i].ClosedAt = stored(event.RecordedAt)
				return true
			}
		}
		return false
	})
}
