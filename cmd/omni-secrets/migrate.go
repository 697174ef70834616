package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/apex-tradebill/omni-secrets/adapters/sqlite"
)

func newMigrateCommand(s *streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database schema up to date, or show where it stands",
		Long: `Bring the schema of the database that DATABASE_URL names up to date, or show where it stands. 'serve' does not
start on a schema that is older or newer than it knows.`,
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "up", Short: "Apply the migrations that are missing",
			Example: `  DATABASE_URL=sqlite:/var/lib/omni-secrets/state.db omni-secrets migrate up`,
			Args:    noArguments,
			RunE:    func(cmd *cobra.Command, _ []string) error { return withStore(cmd.Context(), s, s.migrateUp) },
		},
		&cobra.Command{
			Use: "status", Short: "List the migrations and which are applied",
			Args: noArguments,
			RunE: func(cmd *cobra.Command, _ []string) error { return withStore(cmd.Context(), s, s.migrateStatus) },
		},
	)
	return cmd
}

// withStore opens the database that DATABASE_URL names for f.
func withStore(ctx context.Context, s *streams, f func(context.Context, *sqlite.Store) error) (err error) {
	path, ok := strings.CutPrefix(s.env("DATABASE_URL"), "sqlite:")
	if !ok || path == "" {
		return configErrorf("DATABASE_URL must be sqlite:PATH")
	}
	store, err := sqlite.Open(ctx, path)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := store.Close(); err == nil {
			err = closeErr
		}
	}()
	return f(ctx, store)
}

func (s *streams) migrateUp(ctx context.Context, store *sqlite.Store) error {
	applied, err := store.Migrate(ctx)
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

func (s *streams) migrateStatus(ctx context.Context, store *sqlite.Store) error {
	list, err := store.MigrationStatus(ctx)
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
