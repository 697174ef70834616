package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// A trigger ignores an event that is stored already, and none of the other rows.
const (
	insertEvents = `
INSERT INTO omni_secret_access_events (
    event_id, secret_type, action, actor_type, actor_id, result, error_code, gcp_secret_version, source,
    duration_ms, request_id, replica_id, reason, recorded_at)
VALUES `
	eventValues      = `(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	eventColumnCount = 14
	insertEvent      = insertEvents + eventValues
)

// rowsOfInserts are how many events one statement stores, of those that a batch is divided among. What a statement
// costs by itself is then shared: above all the tables that SQLite makes for the lists of the CHECKs. Longer ones gain
// nothing.
var rowsOfInserts = [...]int{100, 10, 1}

func insertStatement(rows int) string {
	return insertEvents + strings.Repeat(eventValues+", ", rows-1) + eventValues
}

// setEvent fills row, of eventValues, over the values of another event or over nothing. They are plain ones, which
// database/sql passes on without asking. A text that is the same stays: what the events of a batch share is not
// allocated for each.
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
	row[9] = inMilliseconds(e.Duration)
	setText(&row[10], e.RequestID)
	setText(&row[11], e.ReplicaID)
	setText(&row[12], e.Reason)
	row[13] = formatted(e.RecordedAt)
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
	if there, ok := (*column).(string); !ok || there != s {
		*column = s
	}
}

// insertNewEvent stores the event of a change in the change's own transaction. Other than a drained event, it
// must not be there already: the change would stand without one of its own.
func insertNewEvent(ctx context.Context, tx *sql.Tx, e domain.Event) error {
	values := make([]any, eventColumnCount)
	setEvent(values, &e)
	result, err := tx.ExecContext(ctx, insertEvent, values...)
	if err != nil {
		return fmt.Errorf("audit event: %w", err)
	}
	stored, err := result.RowsAffected()
	if err != nil {
		return fmt.Errorf("audit event: %w", err)
	}
	if stored != 1 {
		return fmt.Errorf("audit event %v is stored already", e.ID)
	}
	return nil
}

// InsertEvents implements ports.AuditStore.
func (s *Store) InsertEvents(ctx context.Context, events []domain.Event) error {
	if len(events) == 0 {
		return nil
	}
	defer s.erase(ctx)
	return rejected(s.write(ctx, "insert audit events", func(tx *sql.Tx) error {
		left := events
		args := make([]any, min(len(events), rowsOfInserts[0])*eventColumnCount)
		for _, rows := range rowsOfInserts {
			n := len(left) - len(left)%rows
			if err := insertByRows(ctx, tx, rows, left[:n], args); err != nil {
				return err
			}
			left = left[n:]
		}
		return nil
	}))
}

// insertByRows stores events, a multiple of rows, that many by one statement. args has room for one.
func insertByRows(ctx context.Context, tx *sql.Tx, rows int, events []domain.Event, args []any) error {
	if len(events) == 0 {
		return nil
	}
	insert, err := tx.PrepareContext(ctx, insertStatement(rows))
	if err != nil {
		return err
	}
	defer insert.Close()
	args = args[:rows*eventColumnCount]
	for ; len(events) > 0; events = events[rows:] {
		for i := range rows {
			row := args[i*eventColumnCount : (i+1)*eventColumnCount]
			if i > 0 {
				copy(row, args[(i-1)*eventColumnCount:])
			}
			setEvent(row, &events[i])
		}
		if _, err := insert.ExecContext(ctx, args...); err != nil {
			return fmt.Errorf("events %v to %v: %w", events[0].ID, events[rows-1].ID, err)
		}
	}
	return nil
}

const selectEvents = `
SELECT id, event_id, secret_type, action, actor_type, actor_id, result, error_code, gcp_secret_version, source,
       duration_ms, request_id, replica_id, reason, recorded_at
FROM omni_secret_access_events`

type eventRow struct {
	id int64
	domain.Event
}

// ListEvents implements ports.AuditStore. A limit out of range is brought into it.
func (s *Store) ListEvents(ctx context.Context, f domain.EventFilter) (domain.EventPage, error) {
	limit := min(f.Limit, domain.MaxEventPage)
	if limit <= 0 {
		limit = domain.DefaultEventPage
	}
	query, args := eventQuery(f, limit+1) // the one more tells whether this is the last page
	rows, err := s.readers.QueryContext(ctx, query, args...)
	if err != nil {
		return domain.EventPage{}, fmt.Errorf("sqlite: list audit events: %w", explain(err))
	}
	stored, err := collect(rows, func(e *eventRow) error { return scanEvent(rows, e) })
	if err != nil {
		return domain.EventPage{}, fmt.Errorf("sqlite: list audit events: %w", explain(err))
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
			conditions = append(conditions, condition)
			args = append(args, arg)
		}
	}
	where(f.Type != "", "secret_type = ?", f.Type)
	where(f.Action != "", "action = ?", f.Action)
	where(f.ActorID != "", "actor_id = ?", f.ActorID)
	where(f.Result != "", "result = ?", f.Result)
	where(!f.Since.IsZero(), "recorded_at >= ?", timestamp(f.Since))
	where(!f.Until.IsZero(), "recorded_at < ?", timestamp(f.Until))
	where(f.Before != 0, "id < ?", f.Before)

	query = selectEvents
	if len(conditions) > 0 {
		query += "\nWHERE " + strings.Join(conditions, " AND ")
	}
	return query + "\nORDER BY id DESC\nLIMIT ?", append(args, limit)
}

func scanEvent(rows *sql.Rows, e *eventRow) error {
	var id string
	err := rows.Scan(&e.id, &id, (*text)(&e.Type), &e.Action, &e.Actor.Type, &e.Actor.ID, &e.Result,
		(*text)(&e.ErrorCode), (*text)(&e.Version), (*text)(&e.Source), (*milliseconds)(&e.Duration),
		(*text)(&e.RequestID), (*text)(&e.ReplicaID), (*text)(&e.Reason), (*timestamp)(&e.RecordedAt))
	if err != nil {
		return err
	}
	e.ID, err = domain.ParseEventID(id)
	return err
}

// Bounded, so that a long backlog of old events does not keep other writes waiting.
const pruneEvents = `
DELETE FROM omni_secret_access_events
WHERE id IN (SELECT id FROM omni_secret_access_events WHERE recorded_at < ? LIMIT 5000)`

// PruneEvents implements ports.AuditStore. It deletes in several transactions; after an error, the count says
// how many events are gone.
func (s *Store) PruneEvents(ctx context.Context, before time.Time) (int64, error) {
	if limit := time.Now().Add(-domain.AuditRetention); before.After(limit) {
		return 0, fmt.Errorf("sqlite: prune audit events before %v: those since %v must be kept", before, limit)
	}
	for total := int64(0); ; {
		var pruned int64
		err := s.write(ctx, "prune audit events", func(tx *sql.Tx) error {
			result, err := tx.ExecContext(ctx, pruneEvents, timestamp(before))
			if err != nil {
				return err
			}
			pruned, err = result.RowsAffected()
			return err
		})
		if err != nil {
			return total, err
		}
		if pruned == 0 {
			return total, nil
		}
		total += pruned
	}
}
