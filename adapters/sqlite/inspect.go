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
)

// Inspect opens a database file for a look at it, also while another process uses it. It makes and changes neither
// the file nor anything in it: of the Store that it returns only what reads works. A file that is missing is
// fs.ErrNotExist. Where a killed process left its WAL, SQLite makes the index beside it, as the next start does.
func Inspect(ctx context.Context, path string) (*Store, error) {
	s, err := inspect(path)
	if err != nil {
		return nil, fmt.Errorf("sqlite: inspect %s: %w", path, err)
	}
	if err := s.Ping(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func inspect(path string) (*Store, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	at, err := os.Stat(abs)
	if err != nil {
		return nil, err
	}
	if at.IsDir() {
		return nil, errors.New("this is a directory; give the path of a file in it")
	}
	query := url.Values{"mode": {"ro"}, "_pragma": readerPragmas}
	if _, err := os.Stat(abs + "-wal"); errors.Is(err, fs.ErrNotExist) {
		query.Set("immutable", "1") // nobody has it open; otherwise a reader, too, would make the WAL and its index
	}
	dsn := url.URL{Scheme: "file", OmitHost: true, Path: abs, RawQuery: query.Encode()}
	connector, err := sqlite.NewConnector(dsn.String())
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	return &Store{path: abs, writer: db, readers: db}, nil
}
