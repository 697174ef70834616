package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

const (
	// drainBatch bounds the memory of a batch, some 2 MB, and how long others wait for its transaction: with SQLite all that
	// write, with PostgreSQL those that change something on this replica. The larger, the less an event costs.
	drainBatch = 5000

	// leastBatch is what is tried of a database that takes no larger ones in time.
	leastBatch = 100

	// drainPause lets events gather: there are at most five commits a second up to 25,000 reads a second, and a batch
	// is of hundreds from 1,000 reads a second on.
	drainPause = 200 * time.Millisecond
)

// What may be in the way of events: the journal itself, while the database may be well, or the database.
var (
	errJournal = errors.New("the journal's own files")
	errStore   = errors.New("the database")
)

// drainJournal moves audit events from the journal to the store, in order, for as long as ctx lasts. While
// the store is away they wait in the journal.
//
// The first event after a quiet time goes at once; those that follow within drainPause go together after it. A full
// batch is followed by the next without a rest, so that a backlog gets shorter: it comes before the speed of reads,
// which are refused once the journal is full. Even then the drain takes no more than one processor. After a failure it
// tries half as many, since a slow database may not take a full batch in time.
func (s *Service) drainJournal(ctx context.Context) error {
	retry := backoff{min: 100 * time.Millisecond, max: 5 * time.Second}
	high, limit := false, drainBatch
	var told error // which of the two was in the way the last time
	for {
		high = s.watchJournal(ctx, high)
		n, err := s.drainOnce(ctx, limit)
		wait := drainPause
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			switch {
			case retry.last >= retry.max && errors.Is(err, told): // nothing new
			case errors.Is(err, errJournal):
				told = errJournal
				s.log.WarnContext(ctx, "audit events wait in the journal: its own files cannot be read or written; look at its disk", "err", err)
			default:
				told = errStore
				s.log.WarnContext(ctx, "audit events wait in the journal: the database does not take them", "err", err)
			}
			wait = retry.next()
			limit = max(limit/2, leastBatch)
		case n == 0: // past records that cannot be read, which asked nobody anything
		default:
			switch {
			case errors.Is(told, errJournal):
				s.log.InfoContext(ctx, "the journal's own files can be read and written again")
			case errors.Is(told, errStore):
				s.log.InfoContext(ctx, "the database takes audit events again")
			}
			told = nil
			retry.reset()
			if n == limit {
				wait = 0
			}
			limit = min(2*limit, drainBatch)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Service) drainOnce(ctx context.Context, limit int) (int, error) {
	events, err := s.cfg.Drain.Next(ctx, limit)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errJournal, err)
	}
	if len(events) == 0 {
		return 0, nil
	}
	refused, err := s.store(ctx, events)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errStore, err)
	}
	if len(refused) > 0 {
		if err := s.cfg.Drain.SetAside(refused); err != nil {
			return 0, fmt.Errorf("%w: %w", errJournal, err)
		}
	}
	if err := s.cfg.Drain.Commit(); err != nil {
		return 0, fmt.Errorf("%w: %w", errJournal, err)
	}
	return len(events), nil
}

// store stores events and returns those that the store refuses for what is in them, so that one of them does not stop
// all that come after it. They are found by halving; what was stored before another error came is known by its ids the
// next time.
func (s *Service) store(ctx context.Context, events []domain.Event) (refused []domain.Event, err error) {
	err = s.cfg.Audit.InsertEvents(ctx, events)
	if !errors.Is(err, ports.ErrEventRejected) {
		return nil, err
	}
	if len(events) == 1 {
		e := events[0]
		s.log.ErrorContext(ctx, domain.AlertAuditEventSetAside, "eventId", e.ID.String(), "action", e.Action, "secretType", e.Type,
			"requestId", e.RequestID, "recordedAt", e.RecordedAt, "err", err,
			"next", "it is kept beside the journal; mend what refuses it and give it back (runbook: events that the database refuses)")
		return events, nil
	}
	for half := range slices.Chunk(events, (len(events)+1)/2) {
		some, err := s.store(ctx, half)
		if err != nil {
			return nil, err
		}
		refused = append(refused, some...)
	}
	return refused, nil
}

// The journal is said to fill up from the one share of its limit on, and to have room again below the other.
const (
	highWater = 0.5
	lowWater  = 0.4
)

// watchJournal tells, once for each time, that the journal is half full, long before reads are refused.
func (s *Service) watchJournal(ctx context.Context, high bool) bool {
	usage := s.cfg.Drain.Usage()
	share := float64(usage.Bytes) / float64(max(usage.Limit, 1))
	attrs := []any{"bytes", usage.Bytes, "limitBytes", usage.Limit, "replicaId", s.cfg.ReplicaID}
	switch {
	case usage.Limit == 0:
		return false
	case !high && share >= highWater:
		s.log.ErrorContext(ctx, domain.AlertAuditJournalHigh, append(attrs,
			"next", "see why the database takes no events: reads are refused once the journal is full (runbook: OmniAuditJournalFilling)")...)
		return true
	case high && share < lowWater:
		s.log.InfoContext(ctx, domain.AlertAuditJournalLow, attrs...)
		return false
	}
	return high
}

// Flush moves what is left in the journal to the store. It must not run beside Run; what it leaves behind
// is moved after the next start.
func (s *Service) Flush(ctx context.Context) error {
	for {
		if n, _ := s.cfg.Drain.Backlog(); n == 0 {
			return nil
		}
		if _, err := s.drainOnce(ctx, drainBatch); err != nil {
			return err
		}
	}
}

// JournalUsage is how full the audit journal is.
func (s *Service) JournalUsage() ports.JournalUsage { return s.cfg.Drain.Usage() }

// pruneEvents deletes audit events past their retention.
func (s *Service) pruneEvents(ctx context.Context) {
	n, err := s.cfg.Audit.PruneEvents(ctx, time.Now().Add(-domain.AuditRetention))
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "audit events past their retention were not deleted; the next try is in a day", "err", err)
	} else if n > 0 {
		s.log.InfoContext(ctx, "audit events past their retention were deleted", "events", n)
	}
}
