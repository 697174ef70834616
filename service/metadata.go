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

// slotNotes collects secrets of which something is to be written to the database.
type slotNotes struct {
	mu      sync.Mutex
	pending map[*slot]struct{}
	wake    chan struct{}
}

func newSlotNotes() *slotNotes {
	return &slotNotes{pending: make(map[*slot]struct{}), wake: make(chan struct{}, 1)}
}

func (n *slotNotes) add(sl *slot) {
	n.mu.Lock()
	n.pending[sl] = struct{}{}
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *slotNotes) take() []*slot {
	n.mu.Lock()
	defer n.mu.Unlock()
	slots := make([]*slot, 0, len(n.pending))
	for sl := range n.pending {
		slots = append(slots, sl)
	}
	clear(n.pending)
	return slots
}

// keep writes what is noted until ctx is done, and catches up after the database was away.
func (n *slotNotes) keep(ctx context.Context, write func(context.Context, *slot) error, failing func(error)) error {
	retry := backoff{min: time.Second, max: 30 * time.Second}
	for {
		select {
		case <-n.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
		var failed error
		for _, sl := range n.take() {
			if err := write(ctx, sl); err != nil {
				failed = err
				n.add(sl)
			}
		}
		if failed == nil {
			retry.reset()
			continue
		}
		if ctx.Err() == nil {
			failing(failed)
		}
		select {
		case <-time.After(retry.next()):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// writeServed keeps the metadata's account of what is served up to date.
func (s *Service) writeServed(ctx context.Context) error {
	return s.served.keep(ctx, s.recordServed, func(err error) {
		s.log.WarnContext(ctx, "metadata does not tell what is served: the database does not take it", "err", err)
	})
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
