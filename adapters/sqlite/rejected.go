package sqlite

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/apex-tradebill/omni-secrets/ports"
)

// rejected marks an error that is about the content of an event. A disk that is full or a file that is damaged is not:
// the same event is taken once that is mended.
func rejected(err error) error {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return err
	}
	const primary = 0xff // the rest of an extended result code is detail
	switch e.Code() & primary {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG:
		return fmt.Errorf("%w: %w", ports.ErrEventRejected, err)
	}
	return err
}
