package memory

import (
	"cmp"
	"context"
	"slices"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// link makes e the next event of its replica's chain. Chains are numbered, not random: tests are the same each time.
func (s *Store) link(e *domain.Event) domain.ChainHead {
	h := s.chains[e.ReplicaID]
	if h == nil {
		begun := domain.BeginChain(domain.ChainID(len(s.chains)+1), e.ReplicaID)
		h = &begun
		s.chains[e.ReplicaID] = h
	}
	s.linker.Append(h, e)
	return *h
}

// mark notes that an event was pruned. Events of one chain come in its order.
func (s *Store) mark(h domain.ChainHead) {
	marks := slices.DeleteFunc(s.marks[h.Chain], func(m domain.ChainMark) bool { return m.Seq == h.Seq-1 })
	s.marks[h.Chain] = append(marks, domain.ChainMark{Chain: h.Chain, Seq: h.Seq, Hash: h.Hash})
}

// ChainHeads implements ports.AuditChains.
func (s *Store) ChainHeads(ctx context.Context) ([]domain.ChainHead, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.outage.check(ctx); err != nil {
		return nil, err
	}
	var heads []domain.ChainHead
	for _, h := range s.chains {
		heads = append(heads, *h)
	}
	slices.SortFunc(heads, func(a, b domain.ChainHead) int { return cmp.Compare(a.ReplicaID, b.ReplicaID) })
	return heads, nil
}

// AddCheckpoints implements ports.AuditChains.
func (s *Store) AddCheckpoints(ctx context.Context, checkpoints []domain.Checkpoint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.outage.check(ctx); err != nil {
		return err
	}
	for _, c := range checkpoints {
		there := func(other domain.Checkpoint) bool { return other.Chain == c.Chain && other.Seq == c.Seq }
		if !slices.ContainsFunc(s.checkpoints, there) {
			s.checkpoints = append(s.checkpoints, c)
		}
	}
	return nil
}

// Checkpoints implements ports.AuditChains.
func (s *Store) Checkpoints(ctx context.Context) ([]domain.Checkpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.outage.check(ctx); err != nil {
		return nil, err
	}
	return slices.SortedFunc(slices.Values(s.checkpoints), func(a, b domain.Checkpoint) int {
		return cmp.Or(cmp.Compare(a.Chain, b.Chain), cmp.Compare(a.Seq, b.Seq))
	}), nil
}

// LastCheckpoints implements ports.AuditChains.
func (s *Store) LastCheckpoints(ctx context.Context) ([]domain.Checkpoint, error) {
	all, err := s.Checkpoints(ctx)
	var last []domain.Checkpoint
	for i, c := range all {
		if i == len(all)-1 || all[i+1].Chain != c.Chain {
			last = append(last, c)
		}
	}
	return last, err
}

// ChainMarks implements ports.AuditChains.
func (s *Store) ChainMarks(ctx context.Context) ([]domain.ChainMark, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.outage.check(ctx); err != nil {
		return nil, err
	}
	var all []domain.ChainMark
	for _, marks := range s.marks {
		all = append(all, marks...)
	}
	return all, nil
}

// LinkedEvents implements ports.AuditChains.
func (s *Store) LinkedEvents(ctx context.Context, after int64, limit int) ([]domain.LinkedEvent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.outage.check(ctx); err != nil {
		return nil, err
	}
	var rows []domain.LinkedEvent
	for _, e := range s.events {
		if e.row > after && len(rows) < limit {
			rows = append(rows, domain.LinkedEvent{
				Event: e.Event, Row: e.row, EventID: e.ID.String(), Chain: e.link.Chain, Seq: e.link.Seq, Hash: e.link.Hash,
			})
		}
	}
	return rows, nil
}

// EventRows implements ports.AuditChains.
func (s *Store) EventRows(ctx context.Context) (first, last int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.outage.check(ctx); err != nil || len(s.events) == 0 {
		return 0, 0, err
	}
	return s.events[0].row, s.events[len(s.events)-1].row, nil
}
