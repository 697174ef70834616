package service

import (
	"context"
	"sync"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// ensureMetadata makes a row for each secret of the catalog.
func (s *Service) ensureMetadata(ctx context.Context) error {
	now := time.Now()
	rows := make([]domain.Metadata, 0, len(s.order))
	for _, sl := range s.order {
		rows = append(rows, domain.NewMetadata(sl.entry, s.cfg.Environment, now))
	}
	return s.cfg.Metadata.EnsureMetadata(ctx, rows, func(t domain.SecretType) domain.Event {
		e := s.event(Call{}, domain.ActionWriteMetadata, t, domain.ResultSuccess)
		e.Actor = domain.Automation
		return e
	})
}

// servedNotes collects the secrets whose row in the metadata no longer tells what is served.
type servedNotes struct {
	mu      sync.Mutex
	pending map[*slot]struct{}
	wake    chan struct{}
}

func newServedNotes() *servedNotes {
	return &servedNotes{pending: make(map[*slot]struct{}), wake: make(chan struct{}, 1)}
}

func (n *servedNotes) add(sl *slot) {
	n.mu.Lock()
	n.pending[sl] = struct{}{}
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *servedNotes) take() []*slot {
	n.mu.Lock()
	defer n.mu.Unlock()
	slots := make([]*slot, 0, len(n.pending))
	for sl := range n.pending {
		slots = append(slots, sl)
	}
	clear(n.pending)
	return slots
}

// writeServedNotes keeps the metadata's account of what is served up to date, and catches up after the
// database was away.
func (s *Service) writeServedNotes(ctx context.Context) error {
	retry := backoff{min: time.Second, max: 30 * time.Second}
	for {
		select {
		case <-s.served.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
		var failed error
		for _, sl := range s.served.take() {
			if err := s.recordServed(ctx, sl); err != nil {
				failed = err
				s.served.add(sl)
			}
		}
		if failed == nil {
			retry.reset()
			continue
		}
		if ctx.Err() == nil {
			s.log.WarnContext(ctx, "metadata does not tell what is served: the database does not take it", "err", failed)
		}
		select {
		case <-time.After(retry.next()):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Service) recordServed(ctx context.Context, sl *slot) error {
	now := time.Now()
	source, version, validated := domain.SourceEmpty, "", time.Time{}
	if v := sl.snapshot(); !v.state.Value.IsZero() {
		validated = v.state.FetchedAt
	}
	if served, ok := sl.serve(now); ok {
		source, version = served.Source, served.Version
	}
	return s.cfg.Metadata.RecordServed(ctx, sl.entry.Type, source, version, validated)
}
