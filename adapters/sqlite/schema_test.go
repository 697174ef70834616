package sqlite_test

import (
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/adapters/sqlite"
	"github.com/apex-tradebill/omni-secrets/migrations"
)

func TestMigrateFromNothing(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "state.db"))
	for _, want := range [][]string{{"00001_initial.sql", "00002_rotations.sql", "00003_audit_chain.sql"}, nil} {
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
	if len(pending) != 3 || pending[0].Name != "00001_initial.sql" || !pending[0].AppliedAt.IsZero() {
		t.Errorf("before: %+v, want 00001_initial.sql and two others pending", pending)
	}

	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatalf("Migrate: %v", err)
	}
	execute(t, raw(t, path), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)`)
	applied := statusOf(t, s)
	if len(applied) != 4 {
		t.Fatalf("after: %+v, want 4 migrations", applied)
	}
	if applied[0].Version != 1 || applied[0].AppliedAt.IsZero() {
		t.Errorf("after: %+v, want version 1 applied", applied[0])
	}
	if applied[3].Version != 99 || applied[3].Name != "" || applied[3].AppliedAt.IsZero() {
		t.Errorf("after: %+v, want version 99 applied, without a name", applied[3])
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
