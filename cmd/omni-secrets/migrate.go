package main

import (
	"context"
	"errors"
	"log/slog"
	"strconv"

	"github.com/spf13/cobra"
)

func newMigrateCommand(s *streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database schema up to date, or show where it stands",
		Long: `Bring the schema of the database that DATABASE_URL names up to date, or show where it stands. 'serve' does not
start on a schema that is older or newer than it knows.`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			return usageErrorf("migrate needs a command: up or status")
		},
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "up", Short: "Apply the migrations that are missing",
			Long: `Applies the migrations that are missing, the oldest first, to the database that DATABASE_URL names; a SQLite file that
is not there is made. They create and change tables, views, indexes, functions and triggers whose names begin with
omni_, and may fill new columns and tables from the rows that are there; goose_db_version keeps which were applied.
Nothing else in the database is touched, and no audit event is changed or deleted. 'omni-secrets migrate status' says
beforehand which would be applied.

With PostgreSQL the login must own those tables; run roles.sql again afterwards, for the rights on new ones.`,
			Example: `  DATABASE_URL=sqlite:/var/lib/omni-secrets/state.db omni-secrets migrate up`,
			Args:    noArguments,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return withDatabase(cmd.Context(), s, openDatabase, s.migrateUp)
			},
		},
		&cobra.Command{
			Use: "status", Short: "List the migrations and which are applied",
			Args: noArguments,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return withDatabase(cmd.Context(), s, openToLook, s.migrateStatus)
			},
		},
	)
	return cmd
}

// withDatabase opens the database that DATABASE_URL names for f, as soon as it answers.
func withDatabase(
	ctx context.Context, s *streams,
	open func(context.Context, string, *slog.Logger) (database, error), f func(context.Context, database) error,
) (err error) {
	url := s.env("DATABASE_URL")
	if err := checkDatabaseURL(url); err != nil {
		return &exitError{code: exitConfig, err: err}
	}
	log := newLogger(s.err, slog.LevelInfo)
	db, err := open(ctx, url, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := awaitDatabase(ctx, db, log); err != nil {
		return err
	}
	return f(ctx, db)
}

func (s *streams) migrateUp(ctx context.Context, db database) error {
	applied, err := db.Migrate(ctx)
	if err != nil {
		return err
	}
	if s.json() {
		return s.printValue(map[string][]string{"applied": append([]string{}, applied...)})
	}
	for _, name := range applied {
		if err := s.print("applied %s\n", name); err != nil {
			return err
		}
	}
	if len(applied) == 0 {
		return s.print("the schema is up to date\n")
	}
	return nil
}

func (s *streams) migrateStatus(ctx context.Context, db database) error {
	list, err := db.MigrationStatus(ctx)
	if err != nil {
		return err
	}
	if s.json() {
		return s.printValue(map[string]any{"migrations": list})
	}
	t := table{columns: []string{"VERSION", "MIGRATION", "APPLIED"}}
	for _, m := range list {
		applied := instant(&m.AppliedAt)
		if applied == "" {
			applied = "pending"
		}
		t.add(strconv.FormatInt(m.Version, 10), m.Name, applied)
	}
	return t.flush(s.out)
}
