package service

import (
	"context"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const (
	drainBatch = 1000
	drainPause = 50 * time.Millisecond // lets events gather, so that a quiet service commits seldom
)

// drainJournal moves audit events from the journal to the store, in order, for as long as ctx lasts. While
// the store is away they wait in the journal.
func (s *Service) drainJournal(ctx context.Context) error {
	retry := backoff{min: 100 * time.Millisecond, max: 5 * time.Second}
	for {
		n, err := s.drainOnce(ctx)
		wait := drainPause
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			if retry.last < retry.max {
				s.log.WarnContext(ctx, "audit events wait in the journal: the database does not take them", "err", err)
			}
			wait = retry.next()
		default:
			if retry.last > 0 {
				s.log.InfoContext(ctx, "the database takes audit events again")
			}
			retry.reset()
			if n == drainBatch {
				wait = 0
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Service) drainOnce(ctx context.Context) (int, error) {
	events, err := s.cfg.Drain.Next(ctx, drainBatch)
	if err != nil {
		return 0, err
	}
	if err := s.cfg.Audit.InsertEvents(ctx, events); err != nil {
		return 0, err
	}
	return len(events), s.cfg.Drain.Commit()
}

// Flush moves what is left in the journal to the store. It must not run beside Run; what it leaves behind
// is moved after the next start.
func (s *Service) Flush(ctx context.Context) error {
	for {
		if n, _ := s.cfg.Drain.Backlog(); n == 0 {
			return nil
		}
		if _, err := s.drainOnce(ctx); err != nil {
			return err
		}
	}
}

// pruneEvents deletes audit events past their retention.
func (s *Service) pruneEvents(ctx context.Context) {
	n, err := s.cfg.Audit.PruneEvents(ctx, time.Now().Add(-domain.AuditRetention))
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "audit events past their retention were not deleted; the next try is in a day", "err", err)
	} else if n > 0 {
		s.log.InfoContext(ctx, "audit events past their retention were deleted", "events", n)
	}
}
