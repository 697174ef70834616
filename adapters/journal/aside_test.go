package journal_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/adapters/journal"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

func setAside(t *testing.T, j *journal.Journal, seqs ...uint64) {
	t.Helper()
	var events []domain.Event
	for _, seq := range seqs {
		events = append(events, event(seq))
	}
	if err := j.SetAside(events); err != nil {
		t.Fatalf("SetAside: %v", err)
	}
}

// giveBack does what the runbook says.
func giveBack(t *testing.T, dir string) {
	t.Helper()
	if err := os.Rename(filepath.Join(dir, "rejected.log"), filepath.Join(dir, "rejected.retry")); err != nil {
		t.Fatal(err)
	}
}

func TestEventsSetAsideAreDrainedOnceTheyAreGivenBack(t *testing.T) {
	dir := t.TempDir()
	j := open(t, configIn(dir))
	appendEvents(t, j, 1, 4)
	drain(t, j)
	setAside(t, j, 2)
	setAside(t, j, 4)
	closeJournal(t, j)
	if got := inspect(t, dir); got.SetAside != 2 {
		t.Errorf("inspection: %+v, want 2 events set aside", got)
	}

	giveBack(t, dir)
	j = open(t, configIn(dir))
	appendEvents(t, j, 5, 5)
	if got := j.Usage().SetAside; got != 0 {
		t.Errorf("%d events are set aside after they were given back", got)
	}
	if diff := cmp.Diff([]uint64{2, 4, 5}, drain(t, j)); diff != "" {
		t.Errorf("drained (-want +got):\n%s", diff)
	}
}

func TestEventsSetAsideCountTowardsTheLimit(t *testing.T) {
	c := configIn(t.TempDir())
	c.MaxBytes = 700
	j := open(t, c)
	setAside(t, j, 1, 2, 3)
	if err := j.Append(t.Context(), event(4)); !errors.Is(err, ports.ErrJournalFull) {
		t.Errorf("Append with %+v: %v, want ErrJournalFull", j.Usage(), err)
	}
	closeJournal(t, j)
	j = open(t, c) // also of the process before
	if err := j.Append(t.Context(), event(4)); !errors.Is(err, ports.ErrJournalFull) {
		t.Errorf("Append after a restart with %+v: %v, want ErrJournalFull", j.Usage(), err)
	}
}

func TestTornRecordOfAnEventSetAsideIsCutOff(t *testing.T) {
	dir := t.TempDir()
	j := open(t, configIn(dir))
	setAside(t, j, 1)
	closeJournal(t, j)
	path := filepath.Join(dir, "rejected.log")
	whole := read(t, path)
	if err := os.WriteFile(path, []byte(string(whole)+string(whole[:20])), 0o600); err != nil {
		t.Fatal(err)
	}
	j = open(t, configIn(dir))
	setAside(t, j, 2)
	closeJournal(t, j)
	giveBack(t, dir)
	if diff := cmp.Diff([]uint64{1, 2}, drain(t, open(t, configIn(dir)))); diff != "" {
		t.Errorf("drained (-want +got):\n%s", diff)
	}
}
