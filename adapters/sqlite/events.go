package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// A trigger ignores an event that is stored already, and none of the other rows.
const (
	insertEvents = `
INSERT INTO omni_secret_access_events (
    event_id, secret_type, action, actor_type, actor_id, result, error_code, gcp_secret_version, source,
    duration_ms, request_id, replica_id, reason, recorded_at, chain_id, chain_seq, chain_hash)
VALUES `
	eventValues      = `(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	eventColumnCount = 17
	insertEvent      = insertEvents + eventValues
)

// rowsOfInserts are how many events one statement stores, of those that a batch is divided among. What a statement
// costs by itself is then shared. Longer ones gain nothing.
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

// setLink fills the rest of row with the event's place in its chain.
func setLink(row []any, h *domain.ChainHead) {
	if id, ok := row[14].(int64); !ok || id != int64(h.Chain) {
		row[14] = int64(h.Chain)
	}
	row[15] = h.Seq
	hash, ok := row[16].([]byte)
	if !ok {
		hash = make([]byte, len(h.Hash))
		row[16] = hash
	}
	copy(hash, h.Hash[:])
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
	chains := newChains()
	h, err := chains.link(ctx, tx, &e)
	if err != nil {
		return err
	}
	values := make([]any, eventColumnCount)
	setEvent(values, &e)
	setLink(values, h)
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
	return chains.save(ctx, tx)
}

// errRepeated says that some of the events of a batch are stored already.
var errRepeated = errors.New("events are stored already")

// InsertEvents implements ports.AuditStore. Links are made as if all events were new, which they are but after a crash;
// when that proves wrong, nothing is stored, and the events that are new are sought out first.
func (s *Store) InsertEvents(ctx context.Context, events []domain.Event) error {
	if len(events) == 0 {
		return nil
	}
	defer s.erase(ctx)
	const doing = "insert audit events"
	err := s.write(ctx, doing, func(tx *sql.Tx) error { return insertAll(ctx, tx, events) })
	if !errors.Is(err, errRepeated) {
		return rejected(err)
	}
	return rejected(s.write(ctx, doing, func(tx *sql.Tx) error {
		unstored, err := newEvents(ctx, tx, events)
		if err != nil || len(unstored) == 0 {
			return err
		}
		return insertAll(ctx, tx, unstored)
	}))
}

const selectStored = `SELECT EXISTS (SELECT 1 FROM omni_secret_access_events WHERE event_id = ?)`

// newEvents are those of events that are not stored yet, each once.
func newEvents(ctx context.Context, tx *sql.Tx, events []domain.Event) ([]domain.Event, error) {
	stored, err := tx.PrepareContext(ctx, selectStored)
	if err != nil {
		return nil, err
	}
	defer stored.Close()
	seen := make(map[domain.EventID]bool, len(events))
	var unstored []domain.Event
	for _, e := range events {
		known := seen[e.ID]
		if !known {
			if err := stored.QueryRowContext(ctx, e.ID.String()).Scan(&known); err != nil {
				return nil, err
			}
		}
		seen[e.ID] = true
		if !known {
			unstored = append(unstored, e)
		}
	}
	return unstored, nil
}

// insertAll links and stores events, all of which must be new.
func insertAll(ctx context.Context, tx *sql.Tx, events []domain.Event) error {
	chains := newChains()
	args := make([]any, min(len(events), rowsOfInserts[0])*eventColumnCount)
	for _, rows := range rowsOfInserts {
		n := len(events) - len(events)%rows
		if err := insertByRows(ctx, tx, chains, rows, events[:n], args); err != nil {
			return err
		}
		events = events[n:]
	}
	return chains.save(ctx, tx)
}

// insertByRows stores events, a multiple of rows, that many by one statement. args has room for one.
func insertByRows(ctx context.Context, tx *sql.Tx, chains *chains, rows int, events []domain.Event, args []any) error {
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
				copy(row[:eventColumnCount-1], args[(i-1)*eventColumnCount:]) // the hash has room of its own
			}
			h, err := chains.link(ctx, tx, &events[i])
			if err != nil {
				return err
			}
			setEvent(row, &events[i])
			setLink(row, h)
		}
		result, err := insert.ExecContext(ctx, args...)
		if err != nil {
			return fmt.Errorf("events %v to %v: %w", events[0].ID, events[rows-1].ID, err)
		}
		if stored, err := result.RowsAffected(); err != nil {
			return err
		} else if stored != int64(rows) {
			return errRepeated
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
	if f.Action != "" && f.Action != domain.ActionRead {
		conditions = append(conditions, "action <> 'read'") // word for word as the index has it, which is used only then
	}
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

// Bounded, so that a long backlog of old events does not keep other writes waiting. A place that the chain goes on from
// is noted before the event in it goes; the mark of a place that goes is not needed any more.
const (
	pruneBatch = `
SELECT id, chain_id, chain_seq, chain_hash
FROM omni_secret_access_events
WHERE recorded_at < ?
ORDER BY recorded_at
LIMIT 5000`

	pruneEvent = `DELETE FROM omni_secret_access_events WHERE id = ?`

	markPruned = `
INSERT INTO omni_audit_pruned (chain_id, seq, hash)
VALUES (?, ?, ?)
ON CONFLICT DO NOTHING`

	dropMark = `DELETE FROM omni_audit_pruned WHERE chain_id = ? AND seq = ?`

	pruneCheckpoints = `
DELETE FROM omni_audit_checkpoints
WHERE signed_at < ? AND EXISTS (
    SELECT 1 FROM omni_audit_checkpoints newer WHERE newer.chain_id = omni_audit_checkpoints.chain_id AND newer.seq > omni_audit_checkpoints.seq)`
)

// checkpointsLonger is how much longer than events the checkpoints before the last are kept.
const checkpointsLonger = 7 * 24 * time.Hour

// PruneEvents implements ports.AuditStore. It deletes in several transactions; after an error, the count says
// how many events are gone.
func (s *Store) PruneEvents(ctx context.Context, before time.Time) (int64, error) {
	if limit := time.Now().Add(-domain.AuditRetention); before.After(limit) {
		return 0, fmt.Errorf("sqlite: prune audit events before %v: those since %v must be kept", before, limit)
	}
	for total := int64(0); ; {
		var pruned int64
		err := s.write(ctx, "prune audit events", func(tx *sql.Tx) (err error) {
			pruned, err = pruneSome(ctx, tx, before)
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

type prunedRow struct {
	id   int64
	mark domain.ChainMark // Chain is 0 for an event without a link
}

func pruneSome(ctx context.Context, tx *sql.Tx, before time.Time) (int64, error) {
	if _, err := tx.ExecContext(ctx, pruneCheckpoints, timestamp(before.Add(-checkpointsLonger))); err != nil {
		return 0, err
	}
	rows, err := tx.QueryContext(ctx, pruneBatch, timestamp(before))
	if err != nil {
		return 0, err
	}
	going, err := collect(rows, func(r *prunedRow) error {
		var chain, seq sql.NullInt64
		var hash []byte
		err := rows.Scan(&r.id, &chain, &seq, &hash)
		r.mark = domain.ChainMark{Chain: domain.ChainID(chain.Int64), Seq: seq.Int64}
		copy(r.mark.Hash[:], hash)
		return err
	})
	if err != nil {
		return 0, err
	}
	remove, err := tx.PrepareContext(ctx, pruneEvent)
	if err != nil {
		return 0, err
	}
	defer remove.Close()
	for _, r := range going {
		if _, err := remove.ExecContext(ctx, r.id); err != nil {
			return 0, err
		}
	}
	for _, end := range runs(going) {
		if _, err := tx.ExecContext(ctx, dropMark, int64(end.Chain), end.first-1); err != nil {
			return 0, err
		}
		if _, err := tx.ExecContext(ctx, markPruned, int64(end.Chain), end.Seq, end.Hash[:]); err != nil {
			return 0, err
		}
	}
	return int64(len(going)), nil
}

// run is neighbours in a chain; its mark is the last of them.
type run struct {
	domain.ChainMark
	first int64
}

func runs(rows []prunedRow) []run {
	slices.SortFunc(rows, func(a, b prunedRow) int {
		return cmp.Or(cmp.Compare(a.mark.Chain, b.mark.Chain), cmp.Compare(a.mark.Seq, b.mark.Seq))
	})
	var all []run
	for _, r := range rows {
		switch n := len(all); {
		case r.mark.Chain == 0:
		case n > 0 && all[n-1].Chain == r.mark.Chain && all[n-1].Seq == r.mark.Seq-1:
			all[n-1].ChainMark = r.mark
		default:
			all = append(all, run{r.mark, r.mark.Seq})
		}
	}
	return all
}
