package migrations

import (
	"context"
	"fmt"
	"path"
	"time"

	"github.com/pressly/goose/v3"
)

// Step is one migration.
type Step struct {
	Version   int64     `json:"version"`
	Name      string    `json:"name"`      // of its file; "" for one that only a newer program knows
	AppliedAt time.Time `json:"appliedAt"` // zero while it is pending
}

// SchemaError says that a database and this program do not fit together.
type SchemaError struct {
	Have int64 // version of the database
	Want int64 // version that this program was made for
}

func (e *SchemaError) Error() string {
	if e.Newer() {
		return fmt.Sprintf("the database schema has version %d and this omni-secrets knows %d: run a newer omni-secrets; nothing was changed", e.Have, e.Want)
	}
	return fmt.Sprintf("the database schema has version %d and this omni-secrets needs %d: run `omni-secrets migrate up`", e.Have, e.Want)
}

// Newer reports whether the database is ahead of this program, which no migration can mend.
func (e *SchemaError) Newer() bool { return e.Have > e.Want }

// Schema is the schema of one database.
type Schema struct {
	// Provider applies the migrations. It is asked neither for the version nor for the status: it would create
	// its table in order to answer.
	Provider *goose.Provider
	// Applied lists the migrations that the database has, in order and without names. It changes nothing.
	Applied func(context.Context) ([]Step, error)
}

// Check returns a *SchemaError unless the database has the version that this program was made for. It changes
// nothing.
func (s Schema) Check(ctx context.Context) error {
	fit, err := s.fit(ctx)
	if err != nil {
		return err
	}
	if fit.Have != fit.Want {
		return fit
	}
	return nil
}

// Up applies the pending migrations, each in a transaction of its own, and returns their names. A database that
// is newer than this program is a *SchemaError.
func (s Schema) Up(ctx context.Context) ([]string, error) {
	fit, err := s.fit(ctx)
	if err != nil {
		return nil, err
	}
	if fit.Newer() {
		return nil, fit
	}
	results, err := s.Provider.Up(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, r := range results {
		names = append(names, path.Base(r.Source.Path))
	}
	return names, nil
}

// Status lists every migration that this program or the database knows, in order. It changes nothing.
func (s Schema) Status(ctx context.Context) ([]Step, error) {
	applied, err := s.Applied(ctx)
	if err != nil {
		return nil, err
	}
	var status []Step
	for _, source := range s.Provider.ListSources() {
		step := Step{Version: source.Version, Name: path.Base(source.Path)}
		if len(applied) > 0 && applied[0].Version == step.Version {
			step.AppliedAt = applied[0].AppliedAt
			applied = applied[1:]
		}
		status = append(status, step)
	}
	return append(status, applied...), nil
}

func (s Schema) fit(ctx context.Context) (*SchemaError, error) {
	applied, err := s.Applied(ctx)
	if err != nil {
		return nil, err
	}
	sources := s.Provider.ListSources()
	fit := &SchemaError{Want: sources[len(sources)-1].Version}
	if len(applied) > 0 {
		fit.Have = applied[len(applied)-1].Version
	}
	return fit, nil
}
