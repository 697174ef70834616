package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/apex-tradebill/omni-secrets/migrations"
)

// CheckSchema returns a *migrations.SchemaError unless the schema has the version that this program was made
// for. It changes nothing.
func (s *Store) CheckSchema(ctx context.Context) error {
	return s.withSchema("check schema", func(schema migrations.Schema) error { return schema.Check(ctx) })
}

// Migrate applies the pending migrations, each in a transaction of its own, and returns their names. Of
// replicas that migrate together one works and the others wait for it. A schema that is newer than this program
// is a *migrations.SchemaError.
func (s *Store) Migrate(ctx context.Context) (names []string, err error) {
	err = s.withSchema("migrate", func(schema migrations.Schema) (err error) {
		names, err = schema.Up(ctx)
		return err
	})
	return names, err
}

// MigrationStatus lists every migration that this program or the database knows, in order. It changes nothing.
func (s *Store) MigrationStatus(ctx context.Context) (steps []migrations.Step, err error) {
	err = s.withSchema("migration status", func(schema migrations.Schema) (err error) {
		steps, err = schema.Status(ctx)
		return err
	})
	return steps, err
}

// withSchema calls f with goose over connections of its own. A *migrations.SchemaError says it all by itself.
func (s *Store) withSchema(doing string, f func(migrations.Schema) error) error {
	config := s.pool.Config().ConnConfig
	config.RuntimeParams["statement_timeout"] = "0" // a migration of a large table takes its time
	db := stdlib.OpenDB(*config)
	provider, err := newProvider(db)
	if err == nil {
		err = f(migrations.Schema{Provider: provider, Applied: s.applied})
	}
	if closeErr := db.Close(); err == nil {
		err = closeErr
	}
	if wrong, ok := errors.AsType[*migrations.SchemaError](err); ok {
		return wrong
	}
	if err != nil {
		return fmt.Errorf("postgres: %s: %w", doing, explain(err))
	}
	return nil
}

func newProvider(db *sql.DB) (*goose.Provider, error) {
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, db, migrations.Postgres(),
		goose.WithLogger(goose.NopLogger()), goose.WithDisableGlobalRegistry(true), goose.WithSessionLocker(locker))
}

// Goose would create its table when asked for the version; a look must not write.
const selectVersioned = `SELECT to_regclass('goose_db_version') IS NOT NULL`

// Goose begins its table with a version 0 of its own, and keeps the server's local time without a zone.
const selectApplied = `
SELECT version_id, tstamp::timestamptz
FROM goose_db_version
WHERE is_applied AND version_id > 0
ORDER BY version_id`

// applied lists the migrations in the database, in order and without names.
func (s *Store) applied(ctx context.Context) ([]migrations.Step, error) {
	ctx, cancel := context.WithTimeout(ctx, s.pace.call)
	defer cancel()
	var versioned bool
	if err := s.pool.QueryRow(ctx, selectVersioned).Scan(&versioned); err != nil || !versioned {
		return nil, err
	}
	rows, err := s.pool.Query(ctx, selectApplied)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (m migrations.Step, err error) {
		err = row.Scan(&m.Version, (*timestamp)(&m.AppliedAt))
		return m, err
	})
}
