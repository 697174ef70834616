package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// openDatabase opens what url names. A PostgreSQL server need not answer yet.
func openDatabase(ctx context.Context, url string, log *slog.Logger) (database, error) {
	if isPostgres(url) {
		return postgres.Open(ctx, url, log)
	}
	return sqlite.Open(ctx, strings.TrimPrefix(url, "sqlite:"))
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
