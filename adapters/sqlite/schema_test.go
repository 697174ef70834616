package sqlite_test

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pressly/goose/v3"

	"github.com/apex-tradebill/omni-secrets/adapters/sqlite"
	"github.com/apex-tradebill/omni-secrets/migrations"
)

func TestMigrateFromNothing(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "state.db"))
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

func TestCheckSchemaOlder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path)
	before := schemaOf(t, raw(t, path))

	wrong := schemaError(t, s.CheckSchema(t.Context()))
	if wrong.Newer() || !strings.Contains(wrong.Error(), "omni-secrets migrate up") {
		t.Errorf("got %q, newer: %v", wrong, wrong.Newer())
	}
	if diff := cmp.Diff(before, schemaOf(t, raw(t, path))); diff != "" {
		t.Errorf("looking changed the schema (-before +after):\n%s", diff)
	}
}

func TestSchemaNewer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := migratedAt(t, path)
	execute(t, raw(t, path), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)`)
	before := schemaOf(t, raw(t, path))

	_, migrateErr := s.Migrate(t.Context())
	for call, err := range map[string]error{"CheckSchema": s.CheckSchema(t.Context()), "Migrate": migrateErr} {
		wrong := schemaError(t, err)
		if !wrong.Newer() || wrong.Have != 99 || !strings.Contains(wrong.Error(), "run a newer omni-secrets; nothing was changed") {
			t.Errorf("%s: %q, newer: %v", call, wrong, wrong.Newer())
		}
	}
	if diff := cmp.Diff(before, schemaOf(t, raw(t, path))); diff != "" {
		t.Errorf("something was changed (-before +after):\n%s", diff)
	}
}

func TestMigrationStatus(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path)
	pending := statusOf(t, s)
	if len(pending) != 4 || pending[0].Name != "00001_initial.sql" || !pending[0].AppliedAt.IsZero() {
		t.Errorf("before: %+v, want 00001_initial.sql and three others pending", pending)
	}

	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatalf("Migrate: %v", err)
	}
	execute(t, raw(t, path), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)`)
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

// Migration 4 writes the schema's text itself, without touching a row.
func TestMigrateRulesOfEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path)
	other := raw(t, path)
	other.SetMaxOpenConns(1)
	older, err := goose.NewProvider(goose.DialectSQLite3, other, migrations.SQLite(), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatalf("NewProvider: %v", err)
	}
	if _, err := older.UpTo(t.Context(), 3); err != nil {
		t.Fatalf("UpTo: %v", err)
	}
	insert(t, s, event(1, time.Now()))
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatalf("Migrate: %v", err)
	}
	insert(t, s, event(2, time.Now()))

	for name, db := range map[string]*sql.DB{"that was open before": other, "a new one": raw(t, path)} {
		if rows := count(t, db, `SELECT count(*) FROM omni_secret_access_events`); rows != 2 {
			t.Errorf("connection %s: %d events, want 2", name, rows)
		}
		if found := names(t, db, `PRAGMA integrity_check`); !slices.Equal(found, []string{"ok"}) {
			t.Errorf("connection %s: integrity_check found %q", name, found)
		}
		for _, first := range []string{"action = 'read'", "actor_type = 'service'", "result = 'success'"} {
			if n := count(t, db, fmt.Sprintf(`SELECT count(*) FROM sqlite_schema WHERE name = 'omni_secret_access_events' AND sql LIKE '%%CHECK (%s OR %%'`,
				strings.ReplaceAll(first, "'", "''"))); n != 1 {
				t.Errorf("connection %s: no CHECK compares %s first", name, first)
			}
		}
		for column, value := range map[string]string{"action": "peek", "actor_type": "ghost", "result": "maybe"} {
			_, err := db.ExecContext(t.Context(), `
INSERT INTO omni_secret_access_events (event_id, action, actor_type, actor_id, result, duration_ms, recorded_at)
SELECT 'another', iif(?1 = 'action', ?2, action), iif(?1 = 'actor_type', ?2, actor_type), actor_id, iif(?1 = 'result', ?2, result),
       duration_ms, recorded_at
FROM omni_secret_access_events WHERE id = 1`, column, value)
			if err == nil || !strings.Contains(err.Error(), "CHECK constraint failed: "+column) {
				t.Errorf("connection %s takes the %s %q: %v", name, column, value, err)
			}
		}
	}
}

func statusOf(t *testing.T, s *sqlite.Store) []migrations.Step {
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

// schemaOf lists what is in the schema, and its version.
func schemaOf(t *testing.T, db *sql.DB) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `
SELECT coalesce(sql, name) FROM sqlite_schema
UNION ALL SELECT 'schema version ' || schema_version FROM pragma_schema_version
ORDER BY 1`)
	if err != nil {
		t.Fatalf("read the schema: %v", err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var one string
		if err := rows.Scan(&one); err != nil {
			t.Fatalf("read the schema: %v", err)
		}
		all = append(all, one)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("read the schema: %v", err)
	}
	return all
}
