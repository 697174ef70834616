package service

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// ensureMetadata makes a row for each secret, or makes the one that there is describe the catalog's.
func (s *Service) ensureMetadata(ctx context.Context, slots []*slot) error {
	now := time.Now()
	rows := make([]domain.Metadata, 0, len(slots))
	for _, sl := range slots {
		rows = append(rows, domain.NewMetadata(sl.entry, s.cfg.Environment, now))
	}
	return s.cfg.Metadata.EnsureMetadata(ctx, rows, func(t domain.SecretType) domain.Event {
		e := s.event(Call{}, domain.ActionWriteMetadata, t, domain.ResultSuccess)
		e.Actor = domain.Automation
		return e
	})
}

// remakeMetadata makes the rows that were there at the start and are not any more: the database is another one. What
// they told of rotations is not known here.
func (s *Service) remakeMetadata(ctx context.Context, missing []*slot) error {
	if err := s.ensureMetadata(ctx, missing); err != nil {
		return err
	}
	s.served.add(missing...)
	s.log.ErrorContext(ctx, domain.AlertMetadataMissing, "secrets", len(missing), "replicaId", s.cfg.ReplicaID,
		"next", "the rows were made anew, with rotation deadlines from today on; if the database was failed over to, bring over what the former one has (runbook: the database is another one)")
	return nil
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

func (n *slotNotes) add(slots ...*slot) {
	n.mu.Lock()
	for _, sl := range slots {
		n.pending[sl] = struct{}{}
	}
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

// notesTogether is how many secrets are written in one transaction: enough that a catalog is not one commit for each of
// them, few enough that nobody who needs one of the rows waits long.
const notesTogether = 500

// keep writes what is noted, one by one, until ctx is done, and catches up after the database was away.
func (n *slotNotes) keep(ctx context.Context, write func(context.Context, *slot) error, failing func(error)) error {
	return n.keepTogether(ctx, 1, func(ctx context.Context, one []*slot) error { return write(ctx, one[0]) }, failing)
}

// keepTogether does so at most limit at a time.
func (n *slotNotes) keepTogether(ctx context.Context, limit int, write func(context.Context, []*slot) error, failing func(error)) error {
	retry := backoff{min: time.Second, max: 30 * time.Second}
	for {
		select {
		case <-n.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
		var failed error
		for some := range slices.Chunk(n.take(), limit) {
			if failed == nil {
				failed = write(ctx, some)
			}
			if failed != nil {
				n.add(some...)
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
	return s.served.keepTogether(ctx, notesTogether, s.recordServed, func(err error) {
		s.log.WarnContext(ctx, "metadata does not tell what is served: the database does not take it", "err", err)
	})
}

func (s *Service) recordServed(ctx context.Context, slots []*slot) error {
	now := time.Now()
	accounts := make([]domain.Account, len(slots))
	for i, sl := range slots {
		a := domain.Account{Type: sl.entry.Type, Source: domain.SourceEmpty, Origin: sl.entry.Origin()}
		if v := sl.snapshot(); !v.state.Value.IsZero() {
			a.ValidatedAt = v.state.FetchedAt
		}
		if served, ok := sl.serve(now); ok {
			a.Source, a.Version = served.Source, served.Version
		}
		if v := sl.snapshot(); v.standing.Find(v.found) == domain.FoundFirst {
			a.First = v.found
		}
		accounts[i] = a
	}
	if err := s.cfg.Metadata.RecordServed(ctx, accounts); err != nil {
		return err
	}
	for i, sl := range slots {
		if first := accounts[i].First; first != "" { // or another replica's, which followRotations will say
			sl.change(func(v *view) { v.standing.Newest = cmp.Or(v.standing.Newest, first) })
		}
	}
	return nil
}
