package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/postgres"
	"github.com/apex-tradebill/omni-secrets/adapters/sqlite"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/migrations"
)

const (
	databaseCheck = "database"
	rotationCheck = "rotation"
)

// standings is which version of each secret is to be served, for those of which the database says so.
type standings map[domain.SecretType]domain.Standing

// examineDatabase makes the checks that need the database, as far as it answers, and reads where each secret stands in
// its rotation. It only reads.
func examineDatabase(ctx context.Context, c config) ([]finding, standings) {
	unknown := func(first finding) ([]finding, standings) {
		return []finding{first, found(rotationCheck, verdictSkipped, "deadlines and pinned versions are in the database")}, nil
	}
	if checkDatabaseURL(c.DatabaseURL) != nil {
		return unknown(found(databaseCheck, verdictSkipped, "DATABASE_URL names none"))
	}
	db, err := inspectDatabase(ctx, c.DatabaseURL)
	if err != nil {
		return unknown(unreachableDatabase(c.DatabaseURL, err))
	}
	defer db.Close()
	if err := db.CheckSchema(ctx); err != nil {
		return unknown(wrongSchema(err))
	}
	var findings []finding
	if pg, ok := db.(*postgres.Store); ok {
		findings = append(findings, found(databaseCheck, verdictOK, "PostgreSQL answers and has the schema of this program"),
			checkRights(ctx, pg), checkDatabaseClock(ctx, pg))
	} else {
		path := strings.TrimPrefix(c.DatabaseURL, "sqlite:")
		findings = append(findings, checkSQLiteFile(path), found(databaseClockCheck, verdictSkipped, "a SQLite file has no clock of its own"))
	}
	findings = append(findings, checkCheckpoints(ctx, db, c, time.Now()))
	findings = append(findings, checkRotation(ctx, db, c.catalog, time.Now())...)
	list, err := db.Standings(ctx)
	if err != nil {
		return append(findings, found(rotationCheck, verdictFailed, "%v", err)), nil
	}
	byType := make(standings, len(list))
	for _, standing := range list {
		byType[standing.Type] = standing
	}
	return findings, byType
}

// inspectDatabase opens what url names to look at it. Unlike openDatabase it makes no file.
func inspectDatabase(ctx context.Context, url string) (database, error) {
	if !isPostgres(url) {
		return sqlite.Inspect(ctx, strings.TrimPrefix(url, "sqlite:"))
	}
	db, err := postgres.Open(ctx, url, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	if err := db.Ping(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func unreachableDatabase(url string, err error) finding {
	f := found(databaseCheck, verdictFailed, "%v", err)
	switch {
	case isPostgres(url):
		return f.try("check that PostgreSQL runs, that this host may connect, and the DATABASE_URL; while it is away, a running server serves warm secrets and keeps audit events in its journal")
	case errors.Is(err, fs.ErrNotExist):
		return f.try("'omni-secrets migrate up' makes it; or check the path in DATABASE_URL")
	default:
		return f.try("give this user the right to read and write the file and its folder, or restore it from a backup")
	}
}

func wrongSchema(err error) finding {
	if _, ok := errors.AsType[*migrations.SchemaError](err); ok { // it says itself what to do
		return found(databaseCheck, verdictFailed, "%v", err)
	}
	return found(databaseCheck, verdictFailed, "%v", err).try("'omni-secrets migrate status' shows where the schema stands")
}

func checkSQLiteFile(path string) finding {
	for _, needed := range []string{path, filepath.Dir(path)} {
		if !writable(needed) {
			return found(databaseCheck, verdictFailed, "this user may not write %s", needed).try("run as the server's user, or give it the file and its folder")
		}
	}
	return found(databaseCheck, verdictOK, "the SQLite file can be read and written and has the schema of this program")
}

// checkRights compares what the login may do with what the server must be able to do.
func checkRights(ctx context.Context, db *postgres.Store) finding {
	const roles = "see migrations/postgres/roles.sql: the server is a member of omni_app, and another login owns the tables"
	rights, err := db.Rights(ctx)
	switch {
	case err != nil:
		return found(databaseCheck, verdictFailed, "%v", err)
	case len(rights.Lacking) > 0:
		return found(databaseCheck, verdictFailed, "its login lacks %s", strings.Join(rights.Lacking, ", ")).try(roles)
	case rights.MayChangeTrail:
		return found(databaseCheck, verdictWarning, "its login may change or delete audit events").try(roles)
	}
	return found(databaseCheck, verdictOK, "its login may do what the server must, and may not change the audit trail")
}

// checkRotation tells of deadlines that are near or past.
func checkRotation(ctx context.Context, db database, catalog domain.Catalog, now time.Time) []finding {
	rows, err := db.ListMetadata(ctx)
	if err != nil {
		return []finding{found(rotationCheck, verdictFailed, "%v", err)}
	}
	due := make(map[domain.SecretType]domain.Metadata, len(rows))
	for _, row := range rows {
		due[row.Type] = row
	}
	var findings []finding
	current := 0
	for _, e := range catalog {
		row, ok := due[e.Type]
		if !ok {
			continue
		}
		var when string
		switch row.RotationAt(now) {
		case domain.RotationCurrent:
			current++
			continue
		case domain.RotationDueSoon:
			when = fmt.Sprintf("due in %s, on %s", span(row.RotationDueAt.Sub(now)), instant(&row.RotationDueAt))
		case domain.RotationOverdue:
			when = fmt.Sprintf("overdue for %s, since %s", span(now.Sub(row.RotationDueAt)), instant(&row.RotationDueAt))
		}
		findings = append(findings, found(rotationCheck, verdictWarning, "%s", when).of(e.Type).try("%s rotates it", row.Owner))
	}
	if unknown := len(catalog) - current - len(findings); unknown > 0 {
		findings = append(findings, found(rotationCheck, verdictOK, "without a deadline yet: %d; the server sets it at its first start", unknown))
	}
	if current > 0 {
		findings = append(findings, found(rotationCheck, verdictOK, "due in more than 30 days: %d", current))
	}
	return findings
}
