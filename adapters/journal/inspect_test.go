package journal_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/adapters/journal"
)

func inspect(t *testing.T, dir string) journal.Inspection {
	t.Helper()
	found, err := journal.Inspect(dir)
	if err != nil {
		t.Fatalf("Inspect: %v", err)
	}
	return found
}

func namesIn(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestInspect(t *testing.T) {
	dir := t.TempDir()
	if _, err := journal.Inspect(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing directory: %v", err)
	}
	if got := inspect(t, dir); got != (journal.Inspection{}) || len(namesIn(t, dir)) > 0 {
		t.Errorf("an empty directory: %+v, and files %v", got, namesIn(t, dir))
	}

	j := open(t, configIn(dir))
	appendEvents(t, j, 1, 2)
	before := namesIn(t, dir)
	if got := inspect(t, dir); !got.InUse || got.Bytes == 0 || got.Corrupt != 0 {
		t.Errorf("in use: %+v", got)
	}
	closeJournal(t, j)
	if got := inspect(t, dir); got.InUse || got.Bytes == 0 {
		t.Errorf("closed: %+v", got)
	}
	if diff := cmp.Diff(before, namesIn(t, dir)); diff != "" {
		t.Errorf("files (-before +after):\n%s", diff)
	}
	open(t, configIn(dir)) // nobody is kept out by a look that has ended

	if err := os.WriteFile(filepath.Join(dir, "events-000000000001.log.corrupt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := inspect(t, dir); got.Corrupt != 1 {
		t.Errorf("with a segment set aside: %+v", got)
	}
}
