package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"path"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/apex-tradebill/omni-secrets/migrations"
)

// SchemaError says that the database and this program do not fit together.
type SchemaError struct {
	Have int64 // version of the database
	Want int64 // version that this program was made for
}

func (e *SchemaError) Error() string {
	if e.Newer() {
		return fmt.Sprintf("the database schema has version %d and this omni-secrets knows %d: run a newer omni-secrets; nothing was changed", e.Have, e.Want)
	}
	return fmt.Sprintf("the database schema has version %d and this omni-secrets needs %d: run `omni-secrets migrate up`", e.Have, e.Want)
}

// Newer reports whether the database is ahead of this program, which no migration can mend.
func (e *SchemaError) Newer() bool { return e.Have > e.Want }

// Migration is one step of the schema.
type Migration struct {
	Version   int64
	Name      string    // of its file; "" for one that only a newer program knows
	AppliedAt time.Time // zero while it is pending
}

// CheckSchema returns a *SchemaError unless the schema has the version that this program was made for. It
// changes nothing.
func (s *Store) CheckSchema(ctx context.Context) error {
	steps, err := s.migrator()
	if err != nil {
		return fmt.Errorf("sqlite: check schema: %w", err)
	}
	want := newest(steps)
	have, err := s.version(ctx)
	if err != nil {
		return fmt.Errorf("sqlite: check schema: %w", explain(err))
	}
	if have != want {
		return &SchemaError{Have: have, Want: want}
	}
	return nil
}

// Migrate applies the pending migrations, each in a transaction of its own, and returns their names. A schema
// that is newer than this program is a *SchemaError.
func (s *Store) Migrate(ctx context.Context) ([]string, error) {
	steps, err := s.migrator()
	if err != nil {
		return nil, fmt.Errorf("sqlite: migrate: %w", err)
	}
	have, err := s.version(ctx)
	if err != nil {
		return nil, fmt.Errorf("sqlite: migrate: %w", explain(err))
	}
	if e := (&SchemaError{Have: have, Want: newest(steps)}); e.Newer() {
		return nil, e
	}

	results, err := steps.Up(ctx)
	if err != nil {
		return nil, fmt.Errorf("sqlite: migrate: %w", explain(err))
	}
	var names []string
	for _, r := range results {
		names = append(names, path.Base(r.Source.Path))
	}
	return names, nil
}

// MigrationStatus lists every migration that this program or the database knows, in order. It changes nothing.
func (s *Store) MigrationStatus(ctx context.Context) ([]Migration, error) {
	steps, err := s.migrator()
	if err != nil {
		return nil, fmt.Errorf("sqlite: migration status: %w", err)
	}
	applied, err := s.applied(ctx)
	if err != nil {
		return nil, fmt.Errorf("sqlite: migration status: %w", explain(err))
	}

	var status []Migration
	for _, source := range steps.ListSources() {
		m := Migration{Version: source.Version, Name: path.Base(source.Path)}
		if len(applied) > 0 && applied[0].Version == m.Version {
			m.AppliedAt = applied[0].AppliedAt
			applied = applied[1:]
		}
		status = append(status, m)
	}
	return append(status, applied...), nil
}

func (s *Store) migrator() (*goose.Provider, error) {
	return goose.NewProvider(goose.DialectSQLite3, s.writer, migrations.SQLite(),
		goose.WithLogger(goose.NopLogger()), goose.WithDisableGlobalRegistry(true))
}

func newest(steps *goose.Provider) int64 {
	sources := steps.ListSources()
	return sources[len(sources)-1].Version
}

func (s *Store) version(ctx context.Context) (int64, error) {
	applied, err := s.applied(ctx)
	if err != nil || len(applied) == 0 {
		return 0, err
	}
	return applied[len(applied)-1].Version, nil
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
func (s *Store) applied(ctx context.Context) ([]Migration, error) {
	var versioned bool
	if err := s.readers.QueryRowContext(ctx, selectVersioned).Scan(&versioned); err != nil || !versioned {
		return nil, err
	}
	rows, err := s.readers.QueryContext(ctx, selectApplied)
	if err != nil {
		return nil, err
	}
	return collect(rows, func(m *Migration) error { return rows.Scan(&m.Version, &m.AppliedAt) })
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
