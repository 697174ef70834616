package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// maxReaders bounds the connections that read: status pages and audit queries need no more.
const maxReaders = 4

var (
	writerPragmas = []string{
		"busy_timeout(5000)", // ms; for other processes, such as an auditor's sqlite3 shell
		"journal_mode(WAL)",
		"synchronous(FULL)",
		"foreign_keys(ON)",
		"secure_delete(ON)",  // overwrite what is deleted
		"temp_store(MEMORY)", // no page of ours in files elsewhere
	}
	readerPragmas = []string{"busy_timeout(5000)", "query_only(ON)", "temp_store(MEMORY)"}
)

// prepare makes the directory and the file where they are missing, and returns the absolute path.
func prepare(path string) (string, error) {
	if path == "" || path == ":memory:" {
		return path, errors.New("the path of a file is needed")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return path, err
	}
	switch at, err := os.Stat(abs); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return abs, err
	case at.IsDir():
		return abs, errors.New("this is a directory; give the path of a file in it")
	default:
		// Opening and closing it here would drop the locks that SQLite holds on it in this process.
		return abs, nil
	}

	if err := os.MkdirAll(filepath.Dir(abs), 0o700); err != nil {
		return abs, err
	}
	f, err := os.OpenFile(abs, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return abs, nil // somebody else was faster
	}
	if err != nil {
		return abs, err
	}
	return abs, f.Close()
}

// connect makes a pool of connections with these pragmas, and opens none yet. SQLite gives the WAL and its
// index the mode of the database file.
func connect(path string, pragmas []string, txlock string) (*sql.DB, error) {
	dsn := url.URL{
		Scheme: "file", OmitHost: true, Path: path,
		RawQuery: url.Values{"mode": {"rw"}, "_txlock": {txlock}, "_pragma": pragmas}.Encode(),
	}
	connector, err := sqlite.NewConnector(dsn.String())
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// probe finds out whether the file can be read and written as this package needs it.
func (s *Store) probe(ctx context.Context) error {
	var mode string
	if err := s.writer.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("its journal mode is %q and cannot be changed to wal; is it on a network file system?", mode)
	}
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	return tx.Rollback()
}

// explain adds to SQLite's words what an operator can do.
func explain(err error) error {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return err
	}
	const primary = 0xff // the rest of an extended result code is detail
	switch e.Code() & primary {
	case sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("this file is no SQLite database; move it away or give another path: %w", err)
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY:
		return fmt.Errorf("this user needs to read and write the file and its directory: %w", err)
	case sqlite3.SQLITE_BUSY:
		return fmt.Errorf("another process holds the database locked: %w", err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("no space is left for the database: %w", err)
	case sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("the database file is damaged; restore it from a backup: %w", err)
	default:
		return err
	}
}
