package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/pressly/goose/v3"

	"github.com/apex-tradebill/omni-secrets/migrations"
)

// CheckSchema returns a *migrations.SchemaError unless the schema has the version that this program was made
// for. It changes nothing.
func (s *Store) CheckSchema(ctx context.Context) error {
	schema, err := s.schema()
	if err == nil {
		err = schema.Check(ctx)
	}
	return failed("check schema", err)
}

// Migrate applies the pending migrations, each in a transaction of its own, and returns their names. A schema
// that is newer than this program is a *migrations.SchemaError.
func (s *Store) Migrate(ctx context.Context) (names []string, err error) {
	schema, err := s.schema()
	if err == nil {
		names, err = schema.Up(ctx)
	}
	return names, failed("migrate", err)
}

// MigrationStatus lists every migration that this program or the database knows, in order. It changes nothing.
func (s *Store) MigrationStatus(ctx context.Context) (steps []migrations.Step, err error) {
	schema, err := s.schema()
	if err == nil {
		steps, err = schema.Status(ctx)
	}
	return steps, failed("migration status", err)
}

func (s *Store) schema() (migrations.Schema, error) {
	provider, err := goose.NewProvider(goose.DialectSQLite3, s.writer, migrations.SQLite(),
		goose.WithLogger(goose.NopLogger()), goose.WithDisableGlobalRegistry(true))
	return migrations.Schema{Provider: provider, Applied: s.applied}, err
}

// failed says what was being done. A *migrations.SchemaError says it all by itself.
func failed(doing string, err error) error {
	if _, ok := errors.AsType[*migrations.SchemaError](err); ok || err == nil {
		return err
	}
	return fmt.Errorf("sqlite: %s: %w", doing, explain(err))
}

// Goose would create its table when asked for the version; a look must not write.
const selectVersioned = `
SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'goose_db_version')`

// Goose begins its table with a version 0 of its own.
const selectApplied = `
SELECT version_id, tstamp
FROM goose_db_version
WHERE is_applied AND version_id > 0
ORDER BY version_id`

// applied lists the migrations in the database, in order and without names.
func (s *Store) applied(ctx context.Context) ([]migrations.Step, error) {
	var versioned bool
	if err := s.readers.QueryRowContext(ctx, selectVersioned).Scan(&versioned); err != nil || !versioned {
		return nil, err
	}
	rows, err := s.readers.QueryContext(ctx, selectApplied)
	if err != nil {
		return nil, err
	}
	return collect(rows, func(m *migrations.Step) error { return rows.Scan(&m.Version, &m.AppliedAt) })
}

// collect scans every row into a T and closes rows.
func collect[T any](rows *sql.Rows, scan func(*T) error) ([]T, error) {
	defer rows.Close()
	var all []T
	for rows.Next() {
		var one T
		if err := scan(&one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}
