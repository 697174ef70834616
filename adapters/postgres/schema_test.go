package postgres_test

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/apex-tradebill/omni-secrets/adapters/postgres"
	"github.com/apex-tradebill/omni-secrets/adapters/postgres/postgrestest"
	"github.com/apex-tradebill/omni-secrets/migrations"
)

func TestMigrateFromNothing(t *testing.T) {
	s := open(t, postgrestest.Empty(t))
	for _, want := range [][]string{{"00001_initial.sql", "00002_rotations.sql", "00003_audit_chain.sql", "00004_cheaper_events.sql"}, nil} {
		names, err := s.Migrate(t.Context())
		if err != nil {
			t.Fatalf("Migrate: %v", err)
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("applied (-want +got):\n%s", diff)
		}
		if err := s.CheckSchema(t.Context()); err != nil {
			t.Errorf("CheckSchema: %v", err)
		}
	}
}

func TestReplicasMigrateTogether(t *testing.T) {
	url := postgrestest.Empty(t)
	var replicas sync.WaitGroup
	for range 3 {
		s := open(t, url)
		replicas.Go(func() {
			if _, err := s.Migrate(t.Context()); err != nil {
				t.Errorf("Migrate: %v", err)
			}
			if err := s.CheckSchema(t.Context()); err != nil {
				t.Errorf("CheckSchema: %v", err)
			}
		})
	}
	replicas.Wait()
}

// migrateTo3 makes a database of before migration 4.
func migrateTo3(t *testing.T, db *pgx.Conn) {
	t.Helper()
	older := stdlib.OpenDB(*db.Config())
	defer older.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, older, migrations.Postgres(), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatalf("NewProvider: %v", err)
	}
	if _, err := provider.UpTo(t.Context(), 3); err != nil {
		t.Fatalf("UpTo: %v", err)
	}
}

// A server looks into the trail and then stores an event, in one transaction; the migration must not get between the two.
func TestMigrationWaitsForServersThatStoreEvents(t *testing.T) {
	url := postgrestest.Empty(t)
	db := raw(t, url)
	migrateTo3(t, db)
	execute(t, db, `BEGIN`)
	execute(t, db, `SELECT FROM omni_secret_access_events WHERE event_id = 'another'`)

	s := open(t, withParameter(t, url, "lock_timeout", "60000"))
	migrated := make(chan error, 1)
	go func() {
		_, err := s.Migrate(t.Context())
		migrated <- err
	}()
	look := raw(t, url)
	const waiting = `SELECT count(*)::int FROM pg_locks JOIN pg_database ON pg_database.oid = database WHERE datname = current_database() AND NOT granted`
	for deadline := time.Now().Add(time.Minute); one[int](t, look, waiting) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the migration waits for nobody")
		}
	}
	execute(t, db, `
INSERT INTO omni_secret_access_events (event_id, action, actor_type, actor_id, result, duration_ms, recorded_at)
VALUES ('one', 'read', 'service', 'svc-orders', 'success', 0, now())`)
	execute(t, db, `COMMIT`)
	if err := <-migrated; err != nil {
		t.Errorf("Migrate: %v", err)
	}
}

// What before_00004.sql builds is taken by the migration, which is refused while one of them is not whole.
func TestMigrationTakesIndexesThatWereBuiltBeforehand(t *testing.T) {
	url := postgrestest.Empty(t)
	db := raw(t, url)
	migrateTo3(t, db)
	script, err := os.ReadFile("../../migrations/postgres/before_00004.sql")
	if err != nil {
		t.Fatal(err)
	}
	beforehand := func() (statements []string) {
		t.Helper()
		for query := range strings.SplitSeq(strings.TrimSpace(string(script)), `\gexec`) { // what psql runs each row of
			if query != "" {
				for _, statement := range lines(t, db, query) {
					execute(t, db, statement)
					statements = append(statements, statement)
				}
			}
		}
		return statements
	}
	const built = `
SELECT indexrelid::text
FROM pg_index JOIN pg_inherits ON inhrelid = indrelid
WHERE inhparent = 'omni_secret_access_events'::regclass AND indpred IS NOT NULL
ORDER BY 1`

	partitions := one[int](t, db, `SELECT count(*)::int FROM pg_inherits WHERE inhparent = 'omni_secret_access_events'::regclass`)
	if n := len(beforehand()); n != partitions || n < 2 {
		t.Fatalf("%d statements for %d partitions", n, partitions)
	}
	if again := beforehand(); len(again) != 0 {
		t.Errorf("a second run does %q", again)
	}

	interrupted := lines(t, db, built)[0]
	execute(t, db, `UPDATE pg_index SET indisvalid = false WHERE indexrelid::text = $1`, interrupted)
	s := open(t, url)
	if _, err := s.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "run before_00004.sql again") {
		t.Fatalf("Migrate with an index that is not whole: %v", err)
	}
	if mended := beforehand(); len(mended) != 2 {
		t.Errorf("the run after that does %q, want one index dropped and one built", mended)
	}

	there := lines(t, db, built)
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatalf("Migrate: %v", err)
	}
	if diff := cmp.Diff(there, lines(t, db, built)); diff != "" {
		t.Errorf("indexes of partitions (-built beforehand +migrated):\n%s", diff)
	}
	if n := one[int](t, db, `SELECT count(*)::int FROM pg_inherits WHERE inhparent = 'omni_secret_access_events_by_action'::regclass`); n != partitions {
		t.Errorf("%d of %d indexes belong to the one of the whole table", n, partitions)
	}
}

// A schema of another name is as good as public.
func TestMigrateIntoAnotherSchema(t *testing.T) {
	url := postgrestest.Empty(t)
	db := raw(t, url)
	execute(t, db, `CREATE SCHEMA "Omni Secrets"`)
	s := open(t, withParameter(t, url, "search_path", `"Omni Secrets"`))
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatalf("Migrate: %v", err)
	}
	if _, err := s.PruneEvents(t.Context(), longAgo()); err != nil {
		t.Errorf("PruneEvents: %v", err)
	}
	if got := lines(t, db, `SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace`); len(got) != 0 {
		t.Errorf("in the schema public: %v", got)
	}
}

func TestCheckSchemaOlder(t *testing.T) {
	url := postgrestest.Empty(t)
	s := open(t, url)
	wrong := schemaError(t, s.CheckSchema(t.Context()))
	if wrong.Newer() || !strings.Contains(wrong.Error(), "omni-secrets migrate up") {
		t.Errorf("got %q, newer: %v", wrong, wrong.Newer())
	}
	if got := relations(t, raw(t, url)); len(got) != 0 {
		t.Errorf("looking made %v", got)
	}
}

func TestSchemaNewer(t *testing.T) {
	url := postgrestest.Database(t)
	s, db := open(t, url), raw(t, url)
	execute(t, db, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)`)
	before := relations(t, db)

	_, migrateErr := s.Migrate(t.Context())
	for call, err := range map[string]error{"CheckSchema": s.CheckSchema(t.Context()), "Migrate": migrateErr} {
		wrong := schemaError(t, err)
		if !wrong.Newer() || wrong.Have != 99 || !strings.Contains(wrong.Error(), "run a newer omni-secrets; nothing was changed") {
			t.Errorf("%s: %q, newer: %v", call, wrong, wrong.Newer())
		}
	}
	if diff := cmp.Diff(before, relations(t, db)); diff != "" {
		t.Errorf("something was changed (-before +after):\n%s", diff)
	}
}

func TestMigrationStatus(t *testing.T) {
	url := postgrestest.Empty(t)
	s := open(t, url)
	pending := statusOf(t, s)
	if len(pending) != 4 || pending[0].Name != "00001_initial.sql" || !pending[0].AppliedAt.IsZero() {
		t.Errorf("before: %+v, want 00001_initial.sql and three others pending", pending)
	}

	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatalf("Migrate: %v", err)
	}
	execute(t, raw(t, url), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)`)
	applied := statusOf(t, s)
	if len(applied) != 5 {
		t.Fatalf("after: %+v, want 5 migrations", applied)
	}
	if applied[0].Version != 1 || applied[0].AppliedAt.IsZero() {
		t.Errorf("after: %+v, want version 1 applied", applied[0])
	}
	if applied[4].Version != 99 || applied[4].Name != "" || applied[4].AppliedAt.IsZero() {
		t.Errorf("after: %+v, want version 99 applied, without a name", applied[4])
	}
}

func TestCallsBeforeMigrationSaySo(t *testing.T) {
	_, err := open(t, postgrestest.Empty(t)).ListMetadata(t.Context())
	if err == nil || !strings.Contains(err.Error(), "omni-secrets migrate up") {
		t.Errorf("ListMetadata: %v", err)
	}
}

func statusOf(t *testing.T, s *postgres.Store) []migrations.Step {
	t.Helper()
	status, err := s.MigrationStatus(t.Context())
	if err != nil {
		t.Fatalf("MigrationStatus: %v", err)
	}
	return status
}

func schemaError(t *testing.T, err error) *migrations.SchemaError {
	t.Helper()
	wrong, ok := errors.AsType[*migrations.SchemaError](err)
	if !ok {
		t.Fatalf("got %v, want a *SchemaError", err)
	}
	return wrong
}

// relations lists the tables, indexes, sequences and views in the schema public.
func relations(t *testing.T, db *pgx.Conn) []string {
	t.Helper()
	return lines(t, db, `SELECT relname || ' ' || oid FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1`)
}
