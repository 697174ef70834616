package memory

import (
	"context"
	"maps"
	"slices"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// RequestRefresh implements ports.Replicas.
func (s *Store) RequestRefresh(ctx context.Context, types []domain.SecretType, replicaID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.outage.check(ctx); err != nil {
		return err
	}
	for _, t := range types {
		s.lastRequest++
		s.requests[t] = domain.RefreshRequest{Type: t, ReplicaID: replicaID, Seq: s.lastRequest}
	}
	s.announce()
	return nil
}

// RefreshRequests implements ports.Replicas.
func (s *Store) RefreshRequests(ctx context.Context) ([]domain.RefreshRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.outage.check(ctx); err != nil {
		return nil, err
	}
	return slices.Collect(maps.Values(s.requests)), nil
}

// Watch implements ports.Replicas. The end of an outage counts as a reconnection.
func (s *Store) Watch(ctx context.Context, changed func()) error {
	for {
		s.mu.Lock()
		next := s.changed
		s.mu.Unlock()
		changed()
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// announce wakes every Watch. It must be called with mu held.
func (s *Store) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}
