package postgres

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/apex-tradebill/omni-secrets/ports"
)

// Of these the server says that it was given something that it cannot keep, whoever gives it and whenever.
const (
	classDataException      = "22"    // a value that its type does not hold
	classIntegrityViolation = "23"    // a constraint
	stateProgramLimit       = "54000" // a text that is too long for its index
)

// rejected marks an error that is about the content of an event. Those of connections, resources, rights and missing
// tables are not: the same event is taken once they are mended.
func rejected(err error) error {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err
	}
	switch class := e.Code[:min(2, len(e.Code))]; {
	case class == classDataException, class == classIntegrityViolation, e.Code == stateProgramLimit:
		return fmt.Errorf("%w: %w", ports.ErrEventRejected, err)
	}
	return err
}
