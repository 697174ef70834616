package postgres_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/adapters/postgres"
	"github.com/apex-tradebill/omni-secrets/adapters/postgres/postgrestest"
	"github.com/apex-tradebill/omni-secrets/domain"
)

// The audit trail is append-only for everybody, also for the owner and past the parent table.
func TestAuditTrailIsAppendOnly(t *testing.T) {
	url := postgrestest.Database(t)
	s, db := open(t, url), raw(t, url)
	insert(t, s, event(1, time.Now()))                       // in the partition of this week
	insert(t, s, event(2, time.Now().Add(-21*24*time.Hour))) // in the default partition
	week := one[string](t, db, `SELECT tableoid::regclass::text FROM omni_secret_access_events WHERE event_id LIKE '%01'`)

	for _, table := range []string{"omni_secret_access_events", week, "omni_secret_access_events_default"} {
		for _, statement := range []string{
			`UPDATE $ SET actor_id = 'forger'`,
			`UPDATE $ SET recorded_at = recorded_at - interval '1 year'`,
			`DELETE FROM $`,
			`TRUNCATE $`,
			`TRUNCATE $ CASCADE`,
			`MERGE INTO $ AS e USING (VALUES (1)) AS v ON true WHEN MATCHED THEN DELETE`,
		} {
			statement = strings.ReplaceAll(statement, "$", table)
			for _, role := range []string{"origin", "replica"} {
				execute(t, db, `SELECT set_config('session_replication_role', $1, false)`, role)
				_, err := db.Exec(t.Context(), statement)
				wantState(t, role+": "+statement, err, "23000")
			}
		}
	}
	_, err := db.Exec(t.Context(), `
INSERT INTO omni_secret_access_events (event_id, action, actor_type, actor_id, result, duration_ms, recorded_at)
SELECT event_id, 'read', 'service', 'forger', 'success', 0, recorded_at FROM omni_secret_access_events
ON CONFLICT (event_id, recorded_at) DO UPDATE SET actor_id = excluded.actor_id`)
	wantState(t, "upsert", err, "23000")
	_, err = db.Exec(t.Context(), `
INSERT INTO omni_secret_access_events (id, event_id, action, actor_type, actor_id, result, duration_ms, recorded_at)
VALUES (99, 'another', 'read', 'service', 'forger', 'success', 0, now())`)
	wantState(t, "an id of the writer's choice", err, "428C9") // generated_always

	if n := one[int](t, db, `SELECT count(*) FROM omni_secret_access_events WHERE actor_id = 'svc-orders'`); n != 2 {
		t.Errorf("%d events stand as they were, want 2", n)
	}
}

func TestSchemaRefuses(t *testing.T) {
	url := postgrestest.Database(t)
	s, db := open(t, url), raw(t, url)
	apply(t, s, override("open", "Y2lwaGVydGV4dA=="), 1, 0)
	other := override("ended", "eA==")
	other.Envelope.Type = "webhook_shared_secret"
	apply(t, s, other, 2, 0)
	end(t, s, "ended", 3)

	const check, unique, rule = "23514", "23505", "23000"
	event := func(action, actorType, result string) string {
		return `INSERT INTO omni_secret_access_events (event_id, action, actor_type, actor_id, result, duration_ms, recorded_at)
			VALUES ('x', '` + action + `', '` + actorType + `', 'a', '` + result + `', 0, now())`
	}
	cases := []struct{ name, statement, state string }{
		{"an unknown action", event("peek", "service", "success"), check},
		{"an unknown actor type", event("read", "robot", "success"), check},
		{"an unknown result", event("read", "service", "perhaps"), check},
		{"an unknown status", `INSERT INTO omni_secret_metadata (secret_type, environment, backend, gcp_secret_id, gcp_version_alias, status,
			rotation_due_at, owner, cache_source, created_at, updated_at) VALUES ('a', 'e', 'gsm', 'r', '1', 'lost', now(), 'o', 'gsm', now(), now())`, check},
		{"an override that ended and keeps its ciphertext", `UPDATE omni_break_glass_overrides
			SET ended_at = now(), end_cause = 'expired', ended_by = 'a' WHERE id = 'open'`, check},
		{"an override that ended for no known cause", `UPDATE omni_break_glass_overrides
			SET envelope = NULL, ended_at = now(), end_cause = 'boredom', ended_by = 'a' WHERE id = 'open'`, check},
		{"an override that opens again", `UPDATE omni_break_glass_overrides
			SET envelope = 'x', ended_at = NULL, end_cause = NULL, ended_by = NULL WHERE id = 'ended'`, rule},
		{"an override whose digest would be forgotten", `DELETE FROM omni_break_glass_overrides WHERE id = 'ended'`, rule},
		{"all digests", `TRUNCATE omni_break_glass_overrides`, rule},
		{"a second open override of a type", `INSERT INTO omni_break_glass_overrides (id, secret_type, envelope_version, envelope,
			envelope_digest, expires_at, expires_at_text, applied_by, applied_by_type, applied_at)
			VALUES ('b', 'trading_api_key', 2, 'x', 'another', now(), 'x', 'a', 'operator', now())`, unique},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := db.Exec(t.Context(), c.statement)
			wantState(t, c.name, err, c.state)
		})
	}
}

func TestInsertEventsIsOneTransaction(t *testing.T) {
	s := migrated(t)
	bad := event(2, time.Now())
	bad.Action = "peek"
	if err := s.InsertEvents(t.Context(), []domain.Event{event(1, time.Now()), bad}); err == nil {
		t.Fatal("an unknown action was stored")
	}
	if got := list(t, s, domain.EventFilter{}); len(got) != 0 {
		t.Errorf("%d events of the failed batch are stored", len(got))
	}
	insert(t, s, event(1, time.Now())) // and takes the place in the chain that the failed one gave back
	if got := list(t, s, domain.EventFilter{}); len(got) != 1 {
		t.Errorf("%d events, want 1", len(got))
	}
}

// Whatever comes in from outside, it must not keep an event, and with it the whole batch, from being stored.
func TestTextThatPostgresRefusesIsMended(t *testing.T) {
	s := migrated(t)
	e := event(1, time.Now())
	e.Actor.ID, e.Reason, e.RequestID = "ali\x00ce", "\x00", "a\xffb"
	insert(t, s, e)
	got := list(t, s, domain.EventFilter{ActorID: "ali\x00ce"})
	if len(got) != 1 || got[0].Actor.ID != "alice" || got[0].Reason != "" || got[0].RequestID != "a\uFFFDb" {
		t.Errorf("stored: %+v", got)
	}

	o := override("first", "eA==")
	o.AppliedBy.ID, o.Reason = "ali\x00ce", "because\x00"
	apply(t, s, o, 2, 0)
	open, err := s.OpenOverrides(t.Context())
	if err != nil || len(open) != 1 || open[0].AppliedBy.ID != "alice" || open[0].Reason != "because" {
		t.Errorf("open: %+v, %v", open, err)
	}
}

func TestBreakGlassEventsTellAuditors(t *testing.T) {
	url := postgrestest.Database(t)
	s, db := open(t, url), raw(t, url)
	apply(t, s, override("first", "eA=="), 1, 0)
	apply(t, s, override("second", "eQ=="), 2, 3)
	end(t, s, "second", 4)
	apply(t, s, override("third", "eg=="), 5, 0)

	const who = `applied_by = 'alice@example.com' AND secret_type = 'trading_api_key' AND reason = 'outage' AND applied_at < planned_end`
	for what, query := range map[string]string{
		"the replaced one": `override_id = 'first' AND end_cause = 'replaced' AND ended_by = 'svc-orders' AND actual_end IS NOT NULL`,
		"the cleared one":  `override_id = 'second' AND end_cause = 'cleared' AND ended_by = 'svc-orders' AND actual_end >= applied_at`,
		"the open one":     `override_id = 'third' AND end_cause IS NULL AND ended_by IS NULL AND actual_end IS NULL`,
	} {
		if n := one[int](t, db, `SELECT count(*) FROM omni_break_glass_events WHERE `+query+` AND `+who); n != 1 {
			t.Errorf("%s is there %d times, want once", what, n)
		}
	}
	if n := one[int](t, db, `SELECT count(*) FROM omni_break_glass_overrides WHERE request_id = 'req-1' AND replica_id = 'replica-a'`); n != 3 {
		t.Errorf("%d overrides have their request and replica, want 3", n)
	}
	if n := one[int](t, db, `SELECT count(*) FROM omni_break_glass_overrides WHERE envelope IS NOT NULL`); n != 1 {
		t.Errorf("%d overrides have a ciphertext, want the open one alone", n)
	}
}

// Pages of a large trail must come by index, without sorting it.
func TestAuditFiltersUseIndexes(t *testing.T) {
	url := postgrestest.Database(t)
	db := raw(t, url)
	execute(t, db, `SET enable_seqscan = off`) // the tables are empty, and so a scan is cheap, and a sort, too
	execute(t, db, `SET enable_bitmapscan = off`)
	execute(t, db, `SET plan_cache_mode = force_generic_plan`) // for whatever values, as after many calls
	for name, c := range map[string]struct {
		filter domain.EventFilter
		index  string
	}{
		"nothing": {domain.EventFilter{}, "_pkey"},
		"type":    {domain.EventFilter{Type: "a", Before: 9}, "_secret_type_id_idx"},
		"reads":   {domain.EventFilter{Action: domain.ActionRead, Before: 9}, "_pkey"},
		"action":  {domain.EventFilter{Action: domain.ActionAccessDenied, Before: 9}, "_action_id_idx"},
		"actor":   {domain.EventFilter{ActorID: "a", Before: 9}, "_actor_id_id_idx"},
	} {
		query, args := postgres.EventQuery(c.filter, 10)
		execute(t, db, `PREPARE page AS `+query)
		plan := strings.Join(lines(t, db, `EXPLAIN EXECUTE page (`+strings.Repeat("NULL, ", len(args)-1)+`NULL)`), "\n")
		execute(t, db, `DEALLOCATE page`)
		if strings.Contains(plan, "Sort  (") || strings.Contains(plan, "Seq Scan") || !strings.Contains(plan, c.index) {
			t.Errorf("%s:\n%s", name, plan)
		}
	}
}

// The program sorts and compares by bytes; a server's locale may pass over underscores.
func TestIndexedTextsSortByBytes(t *testing.T) {
	got := lines(t, raw(t, postgrestest.Database(t)), `
SELECT DISTINCT a.attrelid::regclass || '.' || a.attname
FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE i.indrelid::regclass::text LIKE 'omni_%' AND a.atttypid = 'text'::regtype AND a.attcollation <> '"C"'::regcollation`)
	if len(got) != 0 {
		t.Errorf("of another collation: %v", got)
	}
}

// COPY reads events piece by piece, whatever their length.
func TestEventsLongerThanAPieceOfTheCopy(t *testing.T) {
	s := migrated(t)
	var want []domain.Event
	for n := range uint64(40) {
		e := event(n+1, time.Now().UTC().Truncate(time.Microsecond))
		e.Reason = strings.Repeat("reason ", int(n*n)*20) // up to 200 kB
		want = append(want, e)
	}
	insert(t, s, want...)
	slices.Reverse(want)
	if diff := cmp.Diff(want, list(t, s, domain.EventFilter{})); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// What one event of a batch has must not stay for the next.
func TestEventsOfABatchShareNothingThatDiffers(t *testing.T) {
	s := migrated(t)
	full := event(1, time.Now().UTC().Truncate(time.Microsecond))
	full.ErrorCode, full.Version, full.Source, full.Reason, full.Duration = "E", "7", "gsm", "because", time.Millisecond
	bare := domain.Event{
		ID: domain.EventID{Start: 1, Seq: 2}, Action: domain.ActionAccessDenied, Actor: domain.Anonymous, Result: domain.ResultDenied,
		RecordedAt: full.RecordedAt.Add(time.Second),
	}
	other := full
	other.ID.Seq, other.Type, other.Actor.ID, other.Version, other.Reason = 3, "webhook_shared_secret", "svc-b", "8", "\x00"
	again := full
	again.ID.Seq = 4
	insert(t, s, full, bare, other, again)

	other.Reason = "" // PostgreSQL takes no NUL
	if diff := cmp.Diff([]domain.Event{again, other, bare, full}, list(t, s, domain.EventFilter{})); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
