// Package sqlite keeps the state of Omni Secrets in one SQLite file: metadata, break-glass overrides and the
// audit trail. It serves a single process: a laptop, a test, or a deployment without replicas.
//
// The file is in WAL mode with synchronous=FULL, so that what was committed outlives a power cut. All writes go
// through one connection, whose transactions take the write lock when they begin; reads have a few connections
// of their own and never wait for a writer. Erased ciphertext is overwritten in the file, and the WAL is
// emptied after it (see erase).
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/apex-tradebill/omni-secrets/ports"
)

// Store implements the ports for state and audit over a SQLite file. It is safe for concurrent use.
type Store struct {
	path    string
	writer  *sql.DB // one connection
	readers *sql.DB
	remnant atomic.Bool // the WAL may hold ciphertext that was erased
}

var (
	_ ports.Metadata    = (*Store)(nil)
	_ ports.Overrides   = (*Store)(nil)
	_ ports.Rotations   = (*Store)(nil)
	_ ports.FollowUps   = (*Store)(nil)
	_ ports.AuditStore  = (*Store)(nil)
	_ ports.AuditChains = (*Store)(nil)
)

// Open opens the database file at path. A missing file is created with mode 0600, a missing directory with
// mode 0700. Open does not touch the schema: call CheckSchema or Migrate before anything else.
func Open(ctx context.Context, path string) (*Store, error) {
	path, err := prepare(path)
	if err != nil {
		return nil, fmt.Errorf("sqlite: open %s: %w", path, err)
	}
	writer, err := connect(path, writerPragmas, "immediate")
	if err != nil {
		return nil, fmt.Errorf("sqlite: open %s: %w", path, err)
	}
	readers, err := connect(path, readerPragmas, "deferred")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sqlite: open %s: %w", path, err), writer.Close())
	}
	s := &Store{path: path, writer: writer, readers: readers}
	s.writer.SetMaxOpenConns(1)
	s.readers.SetMaxOpenConns(maxReaders)
	s.readers.SetMaxIdleConns(maxReaders)

	if err := s.probe(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("sqlite: open %s: %w", path, explain(err)), s.Close())
	}
	s.remnant.Store(true) // the process before may have died between erasing and emptying the WAL
	s.erase(ctx)
	return s, nil
}

// Close waits for running calls and closes the file.
func (s *Store) Close() error {
	// The writer goes last: the last connection to close folds the WAL into the file and removes it.
	if err := errors.Join(s.readers.Close(), s.writer.Close()); err != nil {
		return fmt.Errorf("sqlite: close %s: %w", s.path, err)
	}
	return nil
}

// Ping reports whether the database can be read.
func (s *Store) Ping(ctx context.Context) error {
	var one int
	if err := s.readers.QueryRowContext(ctx, "SELECT 1 FROM sqlite_schema LIMIT 1").Scan(&one); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("sqlite: ping: %w", explain(err))
	}
	return nil
}

// write runs f in a transaction that holds the write lock from its beginning, so that what f reads is still
// true when it writes.
func (s *Store) write(ctx context.Context, doing string, f func(tx *sql.Tx) error) error {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("sqlite: %s: begin: %w", doing, explain(err))
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback() // f's error says more
		return fmt.Errorf("sqlite: %s: %w", doing, explain(err))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("sqlite: %s: commit: %w", doing, explain(err))
	}
	return nil
}
