package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/adapters/sqlite"
	"github.com/apex-tradebill/omni-secrets/domain"
)

const eventColumns = `id, event_id, action, actor_type, actor_id, result, duration_ms, recorded_at`

// The audit trail is append-only for every tool that opens the file, not only for this program.
func TestAuditTrailIsAppendOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	stored := event(1, time.Now())
	insert(t, migratedAt(t, path), stored)
	db := raw(t, path)
	forged := func(verb, id, eventID string) string {
		return fmt.Sprintf(`%s INTO omni_secret_access_events (%s)
			VALUES (%s, '%s', 'read', 'service', 'forger', 'success', 0, '2026-01-01T00:00:00.000000Z')`, verb, eventColumns, id, eventID)
	}
	const ignored = "" // no error, and no effect
	cases := []struct{ name, statement, want string }{
		{"update", `UPDATE omni_secret_access_events SET actor_id = 'forger'`, "append-only: no update"},
		{"update or replace", `UPDATE OR REPLACE omni_secret_access_events SET id = 2`, "append-only: no update"},
		{"delete", `DELETE FROM omni_secret_access_events WHERE id = 1`, "keeps its rows for 90 days"},
		{"delete all", `DELETE FROM omni_secret_access_events`, "keeps its rows for 90 days"},
		{"replace by event id", forged("INSERT OR REPLACE", "NULL", stored.ID.String()), ignored},
		{"replace by id", forged("INSERT OR REPLACE", "1", "another"), "the id is taken"},
		{"replace by both", forged("REPLACE", "1", stored.ID.String()), ignored},
		{"upsert", forged("INSERT", "NULL", stored.ID.String()) + ` ON CONFLICT DO UPDATE SET actor_id = 'forger'`, ignored},
		{"an id that would hide later events", forged("INSERT", "-1", "another"), "CHECK constraint failed"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := db.ExecContext(t.Context(), c.statement)
			if c.want == ignored && err != nil || c.want != ignored && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if n := count(t, db, `SELECT count(*) FROM omni_secret_access_events WHERE actor_id = 'svc-orders' AND id = 1`); n != 1 {
				t.Error("the stored event is gone or changed")
			}
			if n := count(t, db, `SELECT count(*) FROM omni_secret_access_events`); n != 1 {
				t.Errorf("%d events, want 1", n)
			}
		})
	}
}

func TestRetentionEndsAfter90Days(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	old := time.Now().Add(-domain.AuditRetention)
	insert(t, migratedAt(t, path), event(1, old.Add(-time.Second)), event(2, old.Add(time.Minute)))
	db := raw(t, path)
	execute(t, db, `DELETE FROM omni_secret_access_events WHERE id = 1`)
	if _, err := db.ExecContext(t.Context(), `DELETE FROM omni_secret_access_events WHERE id = 2`); err == nil {
		t.Error("an event of almost 90 days was deleted")
	}
}

func TestSchemaRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := migratedAt(t, path)
	apply(t, s, override("open", "Y2lwaGVydGV4dA=="), 1, 0)
	apply(t, s, domain.Override{
		ID: "ended", Digest: "d", Envelope: domain.Envelope{Type: "webhook_shared_secret", Ciphertext: "eA==", ExpiresAt: "2026-01-01T00:00:00Z"},
		ExpiresAt: time.Now(), AppliedBy: domain.Actor{Type: domain.ActorOperator, ID: "alice@example.com"}, AppliedAt: time.Now(),
	}, 2, 0)
	end(t, s, "ended", 3)
	db := raw(t, path)

	event := func(action, actorType, result, at string) string {
		return fmt.Sprintf(`INSERT INTO omni_secret_access_events (%s)
			VALUES (NULL, 'x', '%s', '%s', 'a', '%s', 0, '%s')`, eventColumns, action, actorType, result, at)
	}
	const at = "2026-01-01T00:00:00.000000Z"
	cases := []struct{ name, statement, want string }{
		{"an unknown action", event("peek", "service", "success", at), "action IN"},
		{"an unknown actor type", event("read", "robot", "success", at), "actor_type IN"},
		{"an unknown result", event("read", "service", "perhaps", at), "result IN"},
		{"a time that does not sort", event("read", "service", "success", "2026-01-01T00:00:00Z"), "recorded_at GLOB"},
		{"a number for a text", `INSERT INTO omni_secret_access_events (` + eventColumns + `)
			VALUES (NULL, 'x', 'read', 'service', x'00', 'success', 0, '` + at + `')`, "cannot store BLOB value in TEXT column"},
		{"an unknown status", `INSERT INTO omni_secret_metadata (secret_type, environment, backend, gcp_secret_id, gcp_version_alias, status,
			rotation_due_at, owner, cache_source, created_at, updated_at) VALUES ('a', 'e', 'gsm', 'r', '1', 'lost', '` + at + `', 'o', 'gsm', '` + at + `', '` + at + `')`, "status IN"},
		{"an override that ended and keeps its ciphertext", `UPDATE omni_break_glass_overrides
			SET ended_at = '` + at + `', end_cause = 'expired', ended_by = 'a' WHERE id = 'open'`, "open_or_ended"},
		{"an override that ended for no known cause", `UPDATE omni_break_glass_overrides
			SET envelope = NULL, ended_at = '` + at + `', end_cause = 'boredom', ended_by = 'a' WHERE id = 'open'`, "end_cause IN"},
		{"an override that opens again", `UPDATE omni_break_glass_overrides
			SET envelope = 'x', ended_at = NULL, end_cause = NULL, ended_by = NULL WHERE id = 'ended'`, "stays as it is"},
		{"an override whose digest would be forgotten", `DELETE FROM omni_break_glass_overrides WHERE id = 'ended'`, "keeps the digest"},
		{"a second open override of a type", `INSERT INTO omni_break_glass_overrides (id, secret_type, envelope_version, envelope,
			envelope_digest, expires_at, expires_at_text, applied_by, applied_by_type, applied_at)
			VALUES ('b', 'trading_api_key', 2, 'x', 'another', '` + at + `', 'x', 'a', 'operator', '` + at + `')`, "UNIQUE constraint failed"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := db.ExecContext(t.Context(), c.statement); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestInsertEventsIsOneTransaction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := migratedAt(t, path)
	bad := event(2, time.Now())
	bad.Action = "peek"
	if err := s.InsertEvents(t.Context(), []domain.Event{event(1, time.Now()), bad}); err == nil {
		t.Fatal("an unknown action was stored")
	}
	if n := count(t, raw(t, path), `SELECT count(*) FROM omni_secret_access_events`); n != 0 {
		t.Errorf("%d events of the failed batch are stored", n)
	}
}

func TestBreakGlassEventsTellAuditors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := migratedAt(t, path)
	first, second := override("first", "eA=="), override("second", "eQ==")
	apply(t, s, first, 1, 0)
	apply(t, s, second, 2, 3)
	end(t, s, "second", 4)
	apply(t, s, override("third", "eg=="), 5, 0)

	db := raw(t, path)
	const who = `applied_by = 'alice@example.com' AND secret_type = 'trading_api_key' AND reason = 'outage' AND applied_at < planned_end`
	for what, query := range map[string]string{
		"the replaced one": `override_id = 'first' AND end_cause = 'replaced' AND ended_by = 'svc-orders' AND actual_end IS NOT NULL`,
		"the cleared one":  `override_id = 'second' AND end_cause = 'cleared' AND ended_by = 'svc-orders' AND actual_end >= applied_at`,
		"the open one":     `override_id = 'third' AND end_cause IS NULL AND ended_by IS NULL AND actual_end IS NULL`,
	} {
		if n := count(t, db, `SELECT count(*) FROM omni_break_glass_events WHERE `+query+` AND `+who); n != 1 {
			t.Errorf("%s is there %d times, want once", what, n)
		}
	}
	if n := count(t, db, `SELECT count(*) FROM omni_break_glass_overrides WHERE request_id = 'req-1' AND replica_id = 'replica-a'`); n != 3 {
		t.Errorf("%d overrides have their request and replica, want 3", n)
	}
}

// Pages of a large trail must come by index, without sorting it.
func TestAuditFiltersUseIndexes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	migratedAt(t, path)
	db := raw(t, path)
	for name, c := range map[string]struct {
		filter domain.EventFilter
		index  string
	}{
		"nothing": {domain.EventFilter{}, ""},
		"type":    {domain.EventFilter{Type: "a", Before: 9}, "USING INDEX omni_secret_access_events_by_type"},
		"reads":   {domain.EventFilter{Action: domain.ActionRead, Before: 9}, "USING INTEGER PRIMARY KEY"},
		"action":  {domain.EventFilter{Action: domain.ActionAccessDenied, Before: 9}, "USING INDEX omni_secret_access_events_by_action"},
		"actor":   {domain.EventFilter{ActorID: "a", Before: 9}, "USING INDEX omni_secret_access_events_by_actor"},
	} {
		query, args := sqlite.EventQuery(c.filter, 10)
		for _, step := range plan(t, db, query, args) {
			if strings.Contains(step, "TEMP B-TREE") || !strings.Contains(step, c.index) {
				t.Errorf("%s: %s", name, step)
			}
		}
	}
}

// plan is how SQLite would run the query.
func plan(t *testing.T, db *sql.DB, query string, args []any) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatalf("explain %s: %v", query, err)
	}
	defer rows.Close()
	var steps []string
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatalf("explain %s: %v", query, err)
		}
		steps = append(steps, step)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("explain %s: %v", query, err)
	}
	return steps
}

// PruneEvents and the trigger each look at a clock of their own, and SQLite's has milliseconds.
func TestPruningAtTheEdgeOfTheRetention(t *testing.T) {
	s := migrated(t)
	const events = 1000
	var batch []domain.Event
	first := time.Now().Add(-domain.AuditRetention)
	for n := range uint64(events) {
		batch = append(batch, event(n+1, first.Add(time.Duration(n)*100*time.Microsecond)))
	}
	insert(t, s, batch...)
	for gone := int64(0); gone < events; {
		n, err := s.PruneEvents(t.Context(), time.Now().Add(-domain.AuditRetention))
		if err != nil {
			t.Fatalf("PruneEvents, after %d events: %v", gone, err)
		}
		gone += n
	}
}

// A repeated event is left out of its statement, and nothing else with it: of those that share one and of those that
// come before and after.
func TestRepeatedEventsAmongNewOnes(t *testing.T) {
	const events = 321 // of all sizes of statements
	path := filepath.Join(t.TempDir(), "state.db")
	s := migratedAt(t, path)
	var batch, stored []domain.Event
	for n := range uint64(events) {
		e := event(n+1, time.Now())
		batch = append(batch, e)
		switch n % 7 {
		case 2:
			stored = append(stored, e)
		case 4:
			again := e
			again.Actor.ID = "forger"
			batch = append(batch, again)
		}
	}
	insert(t, s, stored...)
	insert(t, s, batch...)
	insert(t, s, batch...)

	db := raw(t, path)
	if n := count(t, db, `SELECT count(*) FROM omni_secret_access_events WHERE actor_id = 'svc-orders'`); n != events {
		t.Errorf("%d events are stored, want %d", n, events)
	}
	if n := count(t, db, `SELECT count(*) FROM omni_secret_access_events WHERE actor_id <> 'svc-orders'`); n != 0 {
		t.Errorf("%d events were stored a second time", n)
	}
	if n := count(t, db, fmt.Sprintf(`SELECT count(*) FROM omni_secret_access_events a JOIN omni_secret_access_events b
		ON a.id < b.id AND a.event_id > b.event_id WHERE a.id > %d`, len(stored))); n != 0 {
		t.Errorf("%d pairs of events are not in their order", n)
	}
}

// However far a batch has come, an event that cannot be stored leaves none of it.
func TestBatchIsAllOrNothing(t *testing.T) {
	const events = 321
	for _, at := range []int{0, 99, 100, 299, 300, 315, 320} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			s := migratedAt(t, path)
			var batch []domain.Event
			for n := range uint64(events) {
				batch = append(batch, event(n+1, time.Now()))
			}
			batch[at].Action = "peek"
			if err := s.InsertEvents(t.Context(), batch); err == nil {
				t.Fatal("an unknown action was stored")
			}
			batch[at].Action = domain.ActionRead
			if n := count(t, raw(t, path), `SELECT count(*) FROM omni_secret_access_events`); n != 0 {
				t.Errorf("%d events of the failed batch are stored", n)
			}
			insert(t, s, batch...)
			if n := count(t, raw(t, path), `SELECT count(*) FROM omni_secret_access_events`); n != events {
				t.Errorf("%d events after the next try, want %d", n, events)
			}
		})
	}
}

// Rows of a statement are made of each other: what one event has must not stay for the next.
func TestEventsOfABatchShareNothingThatDiffers(t *testing.T) {
	s := migrated(t)
	var want []domain.Event
	for n := range uint64(250) {
		e := event(n+1, time.Now().UTC().Truncate(time.Microsecond))
		switch n % 3 {
		case 1:
			e.ErrorCode, e.Version, e.Source, e.Reason, e.Duration = "E", fmt.Sprint(n), "gsm", "because", time.Millisecond
		case 2:
			e.Type, e.RequestID, e.ReplicaID, e.Action, e.Actor, e.Result = "", "", "", domain.ActionAccessDenied, domain.Anonymous, domain.ResultDenied
		}
		want = append(want, e)
	}
	insert(t, s, want...)
	page, err := s.ListEvents(t.Context(), domain.EventFilter{Limit: domain.MaxEventPage})
	if err != nil {
		t.Fatalf("ListEvents: %v", err)
	}
	slices.Reverse(page.Events)
	if diff := cmp.Diff(want, page.Events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestInsertEventsHeedsItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := migratedAt(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.InsertEvents(ctx, []domain.Event{event(1, time.Now())}); !errors.Is(err, context.Canceled) {
		t.Errorf("InsertEvents: %v, want context.Canceled", err)
	}
	if n := count(t, raw(t, path), `SELECT count(*) FROM omni_secret_access_events`); n != 0 {
		t.Errorf("%d events are stored", n)
	}
}
