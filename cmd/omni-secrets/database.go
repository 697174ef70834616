package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/memory"
	"github.com/apex-tradebill/omni-secrets/adapters/postgres"
	"github.com/apex-tradebill/omni-secrets/adapters/sqlite"
	"github.com/apex-tradebill/omni-secrets/migrations"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// database is what a DATABASE_URL names.
type database interface {
	ports.Metadata
	ports.Overrides
	ports.Rotations
	ports.FollowUps
	ports.AuditStore
	ports.AuditChains

	Ping(ctx context.Context) error
	CheckSchema(ctx context.Context) error
	Migrate(ctx context.Context) ([]string, error)
	MigrationStatus(ctx context.Context) ([]migrations.Step, error)
	Close() error
}

// checkDatabaseURL reports what is wrong with a DATABASE_URL, without repeating it: it may hold a password.
func checkDatabaseURL(url string) error {
	scheme, rest, _ := strings.Cut(url, ":")
	switch {
	case url == "":
		return errors.New("DATABASE_URL is not set; it is postgres://... or sqlite:PATH")
	case scheme == "sqlite" && rest == "":
		return errors.New("DATABASE_URL names no file; sqlite:/var/lib/omni-secrets/state.db is one")
	case scheme != "sqlite" && !isPostgres(url):
		return errors.New("DATABASE_URL must be postgres://USER:PASSWORD@HOST/DATABASE or sqlite:PATH")
	case scheme != "sqlite":
		if err := postgres.CheckURL(url); err != nil {
			return fmt.Errorf("DATABASE_URL: %w", err)
		}
	}
	return nil
}

func isPostgres(url string) bool {
	return strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://")
}

// openDatabase opens what url names, and makes a SQLite file that is not there. A PostgreSQL server need not answer yet.
func openDatabase(ctx context.Context, url string, log *slog.Logger) (database, error) {
	if isPostgres(url) {
		return postgres.Open(ctx, url, log)
	}
	return sqlite.Open(ctx, strings.TrimPrefix(url, "sqlite:"))
}

// openMigrated is openDatabase for who cannot use an empty database: a SQLite file must be there.
func openMigrated(ctx context.Context, url string, log *slog.Logger) (database, error) {
	if err := checkDatabaseFile(url); err != nil {
		return nil, err
	}
	return openDatabase(ctx, url, log)
}

// openToLook opens what url names to read from it. It makes and changes no SQLite file.
func openToLook(ctx context.Context, url string, log *slog.Logger) (database, error) {
	if isPostgres(url) {
		return postgres.Open(ctx, url, log)
	}
	if err := checkDatabaseFile(url); err != nil {
		return nil, err
	}
	return sqlite.Inspect(ctx, strings.TrimPrefix(url, "sqlite:"))
}

// checkDatabaseFile refuses a SQLite file that is not there: its path may be a slip.
func checkDatabaseFile(url string) error {
	if isPostgres(url) {
		return nil
	}
	path := strings.TrimPrefix(url, "sqlite:")
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return failuref("there is no database file %s", path).try("check the path in DATABASE_URL; 'omni-secrets migrate up' makes the file")
}

// cooperation is how the processes on db divide and share their work. A SQLite file has one process.
func cooperation(db database) (ports.Leadership, ports.Replicas) {
	if pg, ok := db.(*postgres.Store); ok {
		return pg, pg
	}
	return memory.NewAlone(), nil
}

// awaitDatabase waits until db answers, and says so now and then.
func awaitDatabase(ctx context.Context, db database, log *slog.Logger) error {
	for wait := 250 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		err := db.Ping(ctx)
		if err == nil {
			return nil
		}
		log.WarnContext(ctx, "waiting for the database", "nextTry", wait.String(), "err", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
