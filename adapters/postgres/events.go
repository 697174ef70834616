package postgres

import (
	"context"
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

const eventColumnCount = 14

// setEvent fills row with the values of eventColumns, over those of another event or over nothing. A text that is
// the same stays: what the events of a batch share is not allocated for each.
func setEvent(row []any, e *domain.Event) {
	row[0] = e.ID.String()
	setText(&row[1], string(e.Type))
	setRequired(&row[2], string(e.Action))
	setRequired(&row[3], string(e.Actor.Type))
	setRequired(&row[4], e.Actor.ID)
	setRequired(&row[5], string(e.Result))
	setText(&row[6], e.ErrorCode)
	setText(&row[7], e.Version)
	setText(&row[8], e.Source)
	row[9] = milliseconds(e.Duration)
	setText(&row[10], e.RequestID)
	setText(&row[11], e.ReplicaID)
	setText(&row[12], e.Reason)
	row[13] = timestamp(e.RecordedAt)
}

// eventValues are the values of eventColumns.
func eventValues(e domain.Event) []any {
	values := make([]any, eventColumnCount)
	setEvent(values, &e)
	return values
}

// setText sets a column where "" is NULL.
func setText(column *any, s string) {
	if s == "" {
		*column = nil
		return
	}
	setRequired(column, s)
}

func setRequired(column *any, s string) {
	s = storable(s)
	if there, ok := (*column).(string); !ok || there != s {
		*column = s
	}
}

// The unique key alone would let an event of the same id and another time through.
const insertEvent = `
INSERT INTO omni_secret_access_events (` + eventColumns + `)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14
WHERE NOT EXISTS (SELECT FROM omni_secret_access_events WHERE event_id = $1)
ON CONFLICT (event_id, recorded_at) DO NOTHING`

// insertNewEvent stores the event of a change in the change's own transaction. Other than a drained event, it
// must not be there already: the change would stand without one of its own.
func insertNewEvent(ctx context.Context, tx pgx.Tx, e domain.Event) error {
	stored, err := tx.Exec(ctx, insertEvent, eventValues(e)...)
	if err != nil {
		return fmt.Errorf("audit event: %w", err)
	}
	return wasNew(stored, e)
}

// queueNewEvent does so as a part of a batch.
func queueNewEvent(batch *pgx.Batch, e domain.Event) {
	batch.Queue(insertEvent, eventValues(e)...).Exec(func(stored pgconn.CommandTag) error { return wasNew(stored, e) })
}

func wasNew(stored pgconn.CommandTag, e domain.Event) error {
	if stored.RowsAffected() != 1 {
		return fmt.Errorf("audit event %v is stored already", e.ID)
	}
	return nil
}

// The table belongs to the connection and is empty outside of transactions.
const createStaging = `
CREATE TEMPORARY TABLE IF NOT EXISTS omni_event_staging (
    position           integer,
    event_id           text,
    secret_type        text,
    action             text,
    actor_type         text,
    actor_id           text,
    result             text,
    error_code         text,
    gcp_secret_version text,
    source             text,
    duration_ms        double precision,
    request_id         text,
    replica_id         text,
    reason             text,
    recorded_at        timestamptz
) ON COMMIT DELETE ROWS`

var (
	staging        = pgx.Identifier{"pg_temp", "omni_event_staging"}
	stagingColumns = []string{
		"position", "event_id", "secret_type", "action", "actor_type", "actor_id", "result", "error_code",
		"gcp_secret_version", "source", "duration_ms", "request_id", "replica_id", "reason", "recorded_at",
	}
)

const insertStaged = `
INSERT INTO omni_secret_access_events (` + eventColumns + `)
SELECT ` + eventColumns + `
FROM pg_temp.omni_event_staging
ORDER BY position
ON CONFLICT (event_id, recorded_at) DO NOTHING`

// InsertEvents implements ports.AuditStore. The same event always has the same RecordedAt: by both together it
// is known again.
func (s *Store) InsertEvents(ctx context.Context, events []domain.Event) error {
	if len(events) == 0 {
		return nil
	}
	return rejected(s.write(ctx, "insert audit events", func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, createStaging); err != nil {
			return err
		}
		if _, err := tx.CopyFrom(ctx, staging, stagingColumns, stagingRows(events)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, insertStaged)
		return err
	}))
}

// stagingRows are the rows of stagingColumns. Each is written before the next one is asked for, into the same slice.
func stagingRows(events []domain.Event) pgx.CopyFromSource {
	row := make([]any, 1+eventColumnCount)
	i := 0
	return pgx.CopyFromFunc(func() ([]any, error) {
		if i == len(events) {
			return nil, nil
		}
		row[0] = int32(i) //nolint:gosec // a place in a batch
		setEvent(row[1:], &events[i])
		i++
		return row, nil
	})
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

// pruneTimeout is more than other calls get: counting what is dropped reads it.
const pruneTimeout = time.Minute

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
