// Package postgres keeps the state of Omni Secrets in PostgreSQL (15 or newer), where any number of replicas
// share it: metadata, break-glass overrides, the audit trail, and what replicas tell each other.
//
// Calls share a pool of connections and are bounded in time, on both sides. Watch and Lead have a connection of
// their own, since LISTEN and the leader's lock belong to a session; a pooler in between must therefore pool
// sessions, not transactions.
//
// Of errors that come from the server only the SQLSTATE is looked at, never the text.
package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/apex-tradebill/omni-secrets/ports"
)

// Store implements the ports for state, audit and replicas over PostgreSQL. It is safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
	log  *slog.Logger
	pace pace
}

var (
	_ ports.Metadata    = (*Store)(nil)
	_ ports.Overrides   = (*Store)(nil)
	_ ports.Rotations   = (*Store)(nil)
	_ ports.FollowUps   = (*Store)(nil)
	_ ports.AuditStore  = (*Store)(nil)
	_ ports.AuditChains = (*Store)(nil)
	_ ports.Replicas    = (*Store)(nil)
	_ ports.Leadership  = (*Store)(nil)
)

// Open prepares a pool of connections to the database at url, postgres://USER:PASSWORD@HOST:PORT/DATABASE with
// the parameters of libpq and of pgxpool (such as sslmode and pool_max_conns). It connects to nothing: a
// server that is down shows in Ping. It does not touch the schema either: call CheckSchema or Migrate before
// anything else. Neither the URL nor its password is ever part of an error or of a log line.
func Open(ctx context.Context, url string, log *slog.Logger) (*Store, error) {
	config, err := parse(url)
	if err != nil {
		return nil, fmt.Errorf("postgres: open: %w", err)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("postgres: open: %w", err)
	}
	return &Store{pool: pool, log: log, pace: usualPace}, nil
}

// closeTimeout bounds Close: when the server is silent, pgx alone waits 15 s for it to take leave.
const closeTimeout = 2 * time.Second

// Close waits for running calls and closes the pool, for two seconds at most. Watch and Lead end with their
// contexts instead.
func (s *Store) Close() error {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.pool.Close()
	}()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
		s.log.Warn("the database is silent: its connections are left to end by themselves")
	}
	return nil
}

// Ping reports whether the server can be reached and lets us in.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.pace.call)
	defer cancel()
	if err := s.pool.Ping(ctx); err != nil {
		return fmt.Errorf("postgres: ping: %w", explain(err))
	}
	return nil
}

// write runs f in a transaction. A connection that is lost during its commit leaves the caller with an error
// and the outcome unknown; ids and digests make trying again safe.
func (s *Store) write(ctx context.Context, doing string, f func(ctx context.Context, tx pgx.Tx) error) error {
	return s.writeWithin(ctx, s.pace.call, doing, f)
}

func (s *Store) writeWithin(ctx context.Context, limit time.Duration, doing string, f func(ctx context.Context, tx pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return f(ctx, tx) })
	if err != nil {
		return fmt.Errorf("postgres: %s: %w", doing, explain(err))
	}
	return nil
}

// read returns the rows of a query, each scanned into a T.
func read[T any](ctx context.Context, s *Store, doing string, scan func(pgx.Row, *T) error, query string, args ...any) ([]T, error) {
	ctx, cancel := context.WithTimeout(ctx, s.pace.call)
	defer cancel()
	rows, err := s.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("postgres: %s: %w", doing, explain(err))
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (one T, err error) {
		err = scan(row, &one)
		return one, err
	})
	if err != nil {
		return nil, fmt.Errorf("postgres: %s: %w", doing, explain(err))
	}
	return all, nil
}
