package sqlite_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/sqlite"
)

func TestOpenCreatesPrivateFiles(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "made", "here")
	path := filepath.Join(directory, "state.db")
	insert(t, migratedAt(t, path), event(1, time.Now()))

	for name, want := range map[string]os.FileMode{
		directory:     0o700 | os.ModeDir,
		path:          0o600,
		path + "-wal": 0o600,
		path + "-shm": 0o600,
	} {
		at, err := os.Stat(name)
		if err != nil {
			t.Errorf("Stat: %v", err)
			continue
		}
		if at.Mode() != want {
			t.Errorf("%s has mode %v, want %v", name, at.Mode(), want)
		}
	}
}

func TestOpenTakesAnyFileName(t *testing.T) {
	directory := t.TempDir()
	for _, name := range []string{"a b.db", "100%.db", "what?.db", "a#b.db", "ünïcode.db", "x?_pragma=query_only(ON)"} {
		path := filepath.Join(directory, name)
		insert(t, migratedAt(t, path), event(1, time.Now()))
		if _, err := os.Stat(path); err != nil {
			t.Errorf("Stat: %v", err)
		}
	}
}

func TestOpenAgainKeepsWhatIsStored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	first := migratedAt(t, path)
	insert(t, first, event(1, time.Now()))
	if err := first.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}

	second := open(t, path)
	if err := second.CheckSchema(t.Context()); err != nil {
		t.Errorf("CheckSchema: %v", err)
	}
	if err := second.Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
	if n := count(t, raw(t, path), "SELECT count(*) FROM omni_secret_access_events"); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func TestCloseLeavesOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := migratedAt(t, path)
	insert(t, s, event(1, time.Now()))
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if _, err := os.Stat(path + "-wal"); !os.IsNotExist(err) {
		t.Errorf("the WAL stayed: %v", err)
	}
}

func TestOpenExplainsItself(t *testing.T) {
	directory := t.TempDir()
	file := filepath.Join(directory, "notes.txt")
	if err := os.WriteFile(file, []byte(strings.Repeat("no database at all\n", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	dangling := filepath.Join(directory, "link.db")
	if err := os.Symlink(filepath.Join(directory, "missing.db"), dangling); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, want string }{
		{"no path", "", "path of a file is needed"},
		{"in memory", ":memory:", "path of a file is needed"},
		{"a directory", directory, "is a directory"},
		{"below a file", filepath.Join(file, "state.db"), "not a directory"},
		{"another kind of file", file, "no SQLite database"},
		{"a link to nowhere", dangling, "needs to read and write"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := sqlite.Open(t.Context(), c.path)
			if err == nil {
				_ = s.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, want %q in it", err, c.want)
			}
			if c.path != "" && !strings.Contains(err.Error(), c.path) {
				t.Errorf("got %q, which does not name the path", err)
			}
		})
	}
}

func TestOpenSettings(t *testing.T) {
	s := migrated(t)
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "secure_delete": "1",
	} {
		if got := sqlite.WriterPragma(t, s, pragma); got != want {
			t.Errorf("%s is %s, want %s", pragma, got, want)
		}
	}
}
