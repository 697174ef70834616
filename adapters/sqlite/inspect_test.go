package sqlite_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/adapters/sqlite"
	"github.com/apex-tradebill/omni-secrets/domain"
)

// filesOf is what is in a folder, by name.
func filesOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(content)
	}
	return files
}

func inspected(t *testing.T, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Inspect(t.Context(), path)
	if err != nil {
		t.Fatalf("Inspect: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func TestInspectChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	owner, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := owner.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	insert(t, owner, event(1, time.Now()))
	if err := owner.Close(); err != nil {
		t.Fatal(err)
	}

	before := filesOf(t, filepath.Dir(path))
	s := inspected(t, path)
	if err := s.CheckSchema(t.Context()); err != nil {
		t.Errorf("CheckSchema: %v", err)
	}
	if _, err := s.ListMetadata(t.Context()); err != nil {
		t.Errorf("ListMetadata: %v", err)
	}
	if err := s.InsertEvents(t.Context(), []domain.Event{event(2, time.Now())}); err == nil {
		t.Error("an event was inserted")
	}
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Errorf("Migrate with nothing to do: %v", err)
	}
	if diff := cmp.Diff(before, filesOf(t, filepath.Dir(path))); diff != "" {
		t.Errorf("files (-before +after):\n%s", diff)
	}
}

func TestInspectBesideItsServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	server := migratedAt(t, path)
	insert(t, server, event(1, time.Now()))
	s := inspected(t, path)
	if err := s.CheckSchema(t.Context()); err != nil {
		t.Errorf("CheckSchema: %v", err)
	}
	insert(t, server, event(2, time.Now())) // it is held up by nothing
	page, err := s.ListEvents(t.Context(), domain.EventFilter{Limit: 10})
	if err != nil || len(page.Events) != 2 {
		t.Errorf("%d events, %v: the look does not see what is in the WAL", len(page.Events), err)
	}
	if err := s.InsertEvents(t.Context(), []domain.Event{event(3, time.Now())}); err == nil {
		t.Error("an event was inserted")
	}
}

// A process that was killed leaves what it committed in the WAL.
func TestInspectAfterAKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	insert(t, migratedAt(t, path), event(1, time.Now()))
	left := t.TempDir()
	for _, name := range []string{"state.db", "state.db-wal"} {
		if err := os.WriteFile(filepath.Join(left, name), []byte(filesOf(t, filepath.Dir(path))[name]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := filesOf(t, left)

	s, err := sqlite.Inspect(t.Context(), filepath.Join(left, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := s.ListEvents(t.Context(), domain.EventFilter{Limit: 10})
	if err != nil || len(page.Events) != 1 {
		t.Errorf("%d events, %v", len(page.Events), err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	after := filesOf(t, left)
	delete(after, "state.db-shm")
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("files (-before +after):\n%s", diff)
	}
}

func TestInspectNeedsAFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := sqlite.Inspect(t.Context(), filepath.Join(dir, "state.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := sqlite.Inspect(t.Context(), dir); err == nil {
		t.Error("a directory was opened")
	}
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte("this is some text and no database, long enough to have a header"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Inspect(t.Context(), other); err == nil {
		t.Error("a file that is no database was opened")
	}
	if got := filesOf(t, dir); len(got) != 1 {
		t.Errorf("files were made: %v", got)
	}
}
