package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const eventColumns = `event_id, secret_type, action, actor_type, actor_id, result, error_code, gcp_secret_version, source,
    duration_ms, request_id, replica_id, reason, recorded_at`

const (
	linkedColumns    = eventColumns + `, chain_id, chain_seq, chain_hash`
	eventColumnCount = 17
)

// storableEvent is e with texts as PostgreSQL takes them, which are those that links are made of.
func storableEvent(e *domain.Event) domain.Event {
	s := *e
	s.Type, s.Action, s.Result = domain.SecretType(storable(string(e.Type))), domain.Action(storable(string(e.Action))), domain.Result(storable(string(e.Result)))
	s.Actor.Type, s.Actor.ID = domain.ActorType(storable(string(e.Actor.Type))), storable(e.Actor.ID)
	s.ErrorCode, s.Version, s.Source = storable(e.ErrorCode), storable(e.Version), storable(e.Source)
	s.RequestID, s.ReplicaID, s.Reason = storable(e.RequestID), storable(e.ReplicaID), storable(e.Reason)
	return s
}

// The unique key alone would let an event of the same id and another time through.
const selectStoredID = `SELECT event_id FROM omni_secret_access_events WHERE event_id = ANY($1) LIMIT 1`

// insertNewEvents stores the events of a change in the change's own transaction. Other than a drained event, none
// must be there already: the change would stand without one of its own. It is what a transaction does last, since it
// takes the lock of the replica's chain, for which all others that store events wait.
func insertNewEvents(ctx context.Context, tx pgx.Tx, events ...domain.Event) error {
	if len(events) == 0 {
		return nil
	}
	ids := make([]string, len(events))
	for i := range events {
		ids[i], events[i] = events[i].ID.String(), storableEvent(&events[i])
	}
	var stored string
	switch err := tx.QueryRow(ctx, selectStoredID, ids).Scan(&stored); {
	case err == nil:
		return fmt.Errorf("audit event %s is stored already", stored)
	case !errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("audit event: %w", err)
	}
	chains, err := lockChains(ctx, tx, events)
	if err != nil {
		return err
	}
	if err := chains.store(ctx, tx, events); err != nil {
		return fmt.Errorf("audit event: %w", err)
	}
	return nil
}

var errNothingIsNew = errors.New("all of the events are stored already")

// InsertEvents implements ports.AuditStore. The same event always has the same RecordedAt: by both together it
// is known again.
//
// Links are made as if all events were new, which they are but after a crash; when that proves wrong, nothing is stored,
// and the events that are new are sought out first, under the lock of the chain.
func (s *Store) InsertEvents(ctx context.Context, events []domain.Event) error {
	if len(events) == 0 {
		return nil
	}
	storables := make([]domain.Event, len(events))
	for i := range events {
		storables[i] = storableEvent(&events[i])
	}
	const doing = "insert audit events"
	err := s.write(ctx, doing, func(ctx context.Context, tx pgx.Tx) error { return storeEvents(ctx, tx, storables, everyEvent) })
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == stateUniqueViolation {
		err = s.write(ctx, doing, func(ctx context.Context, tx pgx.Tx) error { return storeEvents(ctx, tx, storables, unstoredEvents) })
		if errors.Is(err, errNothingIsNew) {
			return nil
		}
	}
	return rejected(err)
}

// storeEvents links and stores those events that choose says are new.
func storeEvents(ctx context.Context, tx pgx.Tx, events []domain.Event, choose func(context.Context, pgx.Tx, []domain.Event) ([]domain.Event, error)) error {
	chains, err := lockChains(ctx, tx, events)
	if err != nil {
		return err
	}
	if events, err = choose(ctx, tx, events); err != nil {
		return err
	}
	return chains.store(ctx, tx, events)
}

func everyEvent(_ context.Context, _ pgx.Tx, events []domain.Event) ([]domain.Event, error) {
	return events, nil
}

// The times leave most partitions out.
const selectStored = `
SELECT event_id
FROM omni_secret_access_events
WHERE event_id = ANY($1) AND recorded_at BETWEEN $2 AND $3`

// unstoredEvents are those that are not stored yet, each once; errNothingIsNew when that is none.
func unstoredEvents(ctx context.Context, tx pgx.Tx, events []domain.Event) ([]domain.Event, error) {
	ids := make([]string, len(events))
	first, last := events[0].RecordedAt, events[0].RecordedAt
	for i, e := range events {
		ids[i] = e.ID.String()
		if e.RecordedAt.Before(first) {
			first = e.RecordedAt
		}
		if e.RecordedAt.After(last) {
			last = e.RecordedAt
		}
	}
	rows, err := tx.Query(ctx, selectStored, ids, timestamp(first), timestamp(last))
	if err != nil {
		return nil, err
	}
	stored, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool, len(events))
	for _, id := range stored {
		known[id] = true
	}
	var unstored []domain.Event
	for i, e := range events {
		if !known[ids[i]] {
			known[ids[i]] = true
			unstored = append(unstored, e)
		}
	}
	if len(unstored) == 0 {
		return nil, errNothingIsNew
	}
	return unstored, nil
}

const selectEvents = `SELECT id, ` + eventColumns + `
FROM omni_secret_access_events`

type eventRow struct {
	id int64
	domain.Event
}

// ListEvents implements ports.AuditStore. A limit out of range is brought into it.
//
// Rows are numbered when they are inserted and seen when they are committed, so that of two transactions the
// later number may be seen first. A walk through the pages never shows an event twice; one that is committed
// behind its back, with a number that the walk has passed, is missing from it and is there the next time.
func (s *Store) ListEvents(ctx context.Context, f domain.EventFilter) (domain.EventPage, error) {
	limit := min(f.Limit, domain.MaxEventPage)
	if limit <= 0 {
		limit = domain.DefaultEventPage
	}
	query, args := eventQuery(f, limit+1) // the one more tells whether this is the last page
	stored, err := read(ctx, s, "list audit events", scanEvent, query, args...)
	if err != nil {
		return domain.EventPage{}, err
	}

	var page domain.EventPage
	if len(stored) > limit {
		stored = stored[:limit]
		page.Next = stored[limit-1].id
	}
	for _, e := range stored {
		page.Events = append(page.Events, e.Event)
	}
	return page, nil
}

func eventQuery(f domain.EventFilter, limit int) (query string, args []any) {
	var conditions []string
	where := func(wanted bool, condition string, arg any) {
		if wanted {
			args = append(args, arg)
			conditions = append(conditions, fmt.Sprintf("%s $%d", condition, len(args)))
		}
	}
	where(f.Type != "", "secret_type =", storable(string(f.Type)))
	where(f.Action != "", "action =", storable(string(f.Action)))
	if f.Action != "" && f.Action != domain.ActionRead {
		conditions = append(conditions, "action <> 'read'") // or a plan for any action could not use the index, which has no reads
	}
	where(f.ActorID != "", "actor_id =", storable(f.ActorID))
	where(f.Result != "", "result =", storable(string(f.Result)))
	where(!f.Since.IsZero(), "recorded_at >=", timestamp(f.Since))
	where(!f.Until.IsZero(), "recorded_at <", timestamp(f.Until))
	where(f.Before != 0, "id <", f.Before)

	query = selectEvents
	if len(conditions) > 0 {
		query += "\nWHERE " + strings.Join(conditions, " AND ")
	}
	args = append(args, limit)
	return query + fmt.Sprintf("\nORDER BY id DESC\nLIMIT $%d", len(args)), args
}

func scanEvent(row pgx.Row, e *eventRow) error {
	var id string
	err := row.Scan(&e.id, &id, (*text)(&e.Type), &e.Action, &e.Actor.Type, &e.Actor.ID, &e.Result,
		(*text)(&e.ErrorCode), (*text)(&e.Version), (*text)(&e.Source), (*milliseconds)(&e.Duration),
		(*text)(&e.RequestID), (*text)(&e.ReplicaID), (*text)(&e.Reason), (*timestamp)(&e.RecordedAt))
	if err != nil {
		return err
	}
	e.ID, err = domain.ParseEventID(id)
	return err
}

// pruneTimeout is more than other calls get: counting what is dropped, and finding where its runs end, reads it.
const pruneTimeout = 5 * time.Minute

const allowPruning = `SELECT set_config('statement_timeout', $1, true)`

const pruneEvents = `SELECT omni_prune_access_events($1)`

// PruneEvents implements ports.AuditStore. It drops whole weeks, so that events are kept up to a week longer,
// and makes the partitions of the coming weeks.
func (s *Store) PruneEvents(ctx context.Context, before time.Time) (int64, error) {
	if limit := time.Now().Add(-domain.AuditRetention); before.After(limit) {
		return 0, fmt.Errorf("postgres: prune audit events before %v: those since %v must be kept", before, limit)
	}
	var pruned int64
	err := s.writeWithin(ctx, pruneTimeout, "prune audit events", func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, allowPruning, strconv.FormatInt(pruneTimeout.Milliseconds(), 10)); err != nil {
			return err
		}
		return tx.QueryRow(ctx, pruneEvents, timestamp(before)).Scan(&pruned)
	})
	return pruned, err
}
