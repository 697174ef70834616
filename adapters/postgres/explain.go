package postgres

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATEs, from the appendix "PostgreSQL Error Codes" of its documentation.
const (
	stateUniqueViolation       = "23505"
	stateReadOnlyTransaction   = "25006"
	stateInvalidAuthorization  = "28000"
	stateInvalidPassword       = "28P01"
	stateUndefinedDatabase     = "3D000"
	stateInsufficientPrivilege = "42501"
	stateUndefinedTable        = "42P01"
	stateTooManyConnections    = "53300"
	stateLockNotAvailable      = "55P03"
)

// explain adds to PostgreSQL's words what an operator can do.
func explain(err error) error {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err
	}
	switch e.Code {
	case stateInvalidAuthorization, stateInvalidPassword:
		return fmt.Errorf("the server refuses this user; check the user, the password and pg_hba.conf: %w", err)
	case stateUndefinedDatabase:
		return fmt.Errorf("create the database, or give the name of another: %w", err)
	case stateUndefinedTable:
		return fmt.Errorf("run `omni-secrets migrate up`: %w", err)
	case stateInsufficientPrivilege:
		return fmt.Errorf("this user needs the rights of the role omni_app, see roles.sql: %w", err)
	case stateReadOnlyTransaction:
		return fmt.Errorf("this server only reads; give the URL of the primary: %w", err)
	case stateTooManyConnections:
		return fmt.Errorf("the server has no connection left; raise max_connections or lower pool_max_conns: %w", err)
	case stateLockNotAvailable:
		return fmt.Errorf("somebody else holds a lock on it for long: %w", err)
	default:
		return err
	}
}

// violates reports whether err is a violation of this unique constraint.
func violates(err error, constraint string) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == stateUniqueViolation && e.ConstraintName == constraint
}
