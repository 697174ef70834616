package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/adapters/journal"
	"github.com/apex-tradebill/omni-secrets/ports"
)

func TestFilesArePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "journal")
	j := open(t, configIn(dir))
	appendEvents(t, j, 1, 2)
	if _, err := j.Next(t.Context(), 1); err != nil {
		t.Fatalf("Next: %v", err)
	}
	if err := j.Commit(); err != nil {
		t.Fatalf("Commit: %v", err)
	}
	for name, want := range map[string]os.FileMode{
		dir:                          0o700 | os.ModeDir,
		only(t, dir):                 0o600,
		filepath.Join(dir, "LOCK"):   0o600,
		filepath.Join(dir, "cursor"): 0o600,
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

func TestOneProcessAtATime(t *testing.T) {
	config := configIn(t.TempDir())
	first := open(t, config)
	if _, err := journal.Open(config); !errors.Is(err, journal.ErrInUse) {
		t.Errorf("Open while it is open: %v, want ErrInUse", err)
	}
	closeJournal(t, first)
	open(t, config)
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		config journal.Config
		want   string
	}{
		"nothing at all":       {journal.Config{}, "Dir is missing"},
		"no logger":            {journal.Config{Dir: file}, "Logger is missing"},
		"a negative size":      {journal.Config{Dir: file, MaxBytes: -1}, "must not be negative"},
		"a file for directory": {configIn(file), "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := journal.Open(c.config); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestClosedJournal(t *testing.T) {
	j := open(t, configIn(t.TempDir()))
	waiting := make(chan error)
	go func() {
		_, err := j.Next(t.Context(), 1)
		waiting <- err
	}()
	closeJournal(t, j)
	waitingErr := <-waiting
	_, nextErr := j.Next(t.Context(), 1)
	for call, err := range map[string]error{
		"Append": j.Append(t.Context(), event(1)), "Next": nextErr, "Next that waited": waitingErr,
	} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: %v, want os.ErrClosed", call, err)
		}
	}
	if err := j.Close(); err != nil {
		t.Errorf("Close again: %v", err)
	}
}

func TestDrainedSegmentsAreDeleted(t *testing.T) {
	config := configIn(t.TempDir())
	config.SegmentBytes = 1000
	j := open(t, config)
	appendEvents(t, j, 1, 50)
	if n := len(segments(t, config.Dir)); n < 10 {
		t.Fatalf("%d segments, want 10 or more", n)
	}
	if got := drain(t, j); len(got) != 50 {
		t.Errorf("%d events, want 50", len(got))
	}
	only(t, config.Dir) // the one that is written
	closeJournal(t, j)

	open(t, config)
	if left := segments(t, config.Dir); len(left) != 0 {
		t.Errorf("after the next start there are %v", left)
	}
}

func TestSegmentsAreNeverNumberedTwice(t *testing.T) {
	config := configIn(t.TempDir())
	var numbers []string
	for range 3 {
		j := open(t, config)
		appendEvents(t, j, 1, 1)
		numbers = append(numbers, filepath.Base(only(t, config.Dir)))
		drain(t, j)
		closeJournal(t, j)
		closeJournal(t, open(t, config)) // which deletes the segment, so that only the cursor tells its number
	}
	want := []string{"events-000000000001.log", "events-000000000002.log", "events-000000000003.log"}
	if diff := cmp.Diff(want, numbers); diff != "" {
		t.Errorf("segments (-want +got):\n%s", diff)
	}
}

func TestFullJournal(t *testing.T) {
	config := configIn(t.TempDir())
	config.MaxBytes = 2000
	j := open(t, config)
	accepted := uint64(0)
	var err error
	for err == nil && accepted < 100 {
		if err = j.Append(t.Context(), event(accepted+1)); err == nil {
			accepted++
		}
	}
	if !errors.Is(err, ports.ErrJournalFull) {
		t.Errorf("Append: %v, want ErrJournalFull", err)
	}
	if got := uint64(len(drain(t, j))); got != accepted {
		t.Errorf("%d events were kept of %d accepted", got, accepted)
	}
	if err := j.Append(t.Context(), event(accepted+1)); err != nil {
		t.Errorf("Append after the drain: %v", err)
	}
}

// A disk that fills up makes write(2) short. The limit on the size of files does the same to this process.
func TestShortWriteLeavesNoTrace(t *testing.T) {
	config := configIn(t.TempDir())
	j := open(t, config)
	appendEvents(t, j, 1, 3)
	path := only(t, config.Dir)
	before := read(t, path)

	restore := limitFileSize(t, uint64(len(before))+40)
	for range 2 {
		if err := j.Append(t.Context(), event(4)); !errors.Is(err, syscall.EFBIG) {
			t.Errorf("Append: %v, want EFBIG", err)
		}
		if got := read(t, path); !bytes.Equal(got, before) {
			t.Errorf("the segment grew by %q", strings.TrimPrefix(string(got), string(before)))
		}
	}
	if n, _ := j.Backlog(); n != 3 {
		t.Errorf("backlog of %d, want 3", n)
	}
	restore()

	appendEvents(t, j, 5, 6)
	if diff := cmp.Diff([]uint64{1, 2, 3, 5, 6}, drain(t, j)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestFailedSegmentIsTriedAgain(t *testing.T) {
	config := configIn(t.TempDir())
	j := open(t, config)
	if err := os.Mkdir(filepath.Join(config.Dir, "events-000000000001.log"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := j.Append(t.Context(), event(1)); err == nil {
		t.Error("an event went into a directory")
	}
	appendEvents(t, j, 2, 2)
	if diff := cmp.Diff([]uint64{2}, drain(t, j)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// A disk that is full takes no cursor. That must not keep the drain from making room: what was drained comes once more
// after a restart, and nothing else comes of it.
func TestDrainGoesOnWithoutItsCursor(t *testing.T) {
	log := new(bytes.Buffer)
	config := configIn(t.TempDir())
	config.SegmentBytes, config.Logger = 1000, slog.New(slog.NewTextHandler(log, nil))
	j := open(t, config)
	appendEvents(t, j, 1, 20)
	if _, err := j.Next(t.Context(), 1); err != nil {
		t.Fatalf("Next: %v", err)
	}
	if err := j.Commit(); err != nil { // with a cursor
		t.Fatalf("Commit: %v", err)
	}

	blocker := filepath.Join(config.Dir, "cursor.tmp")
	if err := os.Mkdir(blocker, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 { // in two batches
		if _, err := j.Next(t.Context(), 9); err != nil {
			t.Fatalf("Next: %v", err)
		}
		if err := j.Commit(); err != nil {
			t.Errorf("Commit: %v", err)
		}
	}
	if n, _ := j.Backlog(); n != 1 {
		t.Errorf("backlog of %d, want 1", n)
	}
	left := only(t, config.Dir)
	if n := strings.Count(log.String(), "cursor cannot be written"); n != 1 || !strings.Contains(log.String(), blocker) {
		t.Errorf("it was told %d times, want once, with its cause: %s", n, log)
	}
	closeJournal(t, j)

	if err := os.Remove(blocker); err != nil {
		t.Fatal(err)
	}
	inLeft := bytes.Count(read(t, left), []byte("\n"))
	j = open(t, config)
	appendEvents(t, j, 21, 22)
	var want []uint64
	for seq := uint64(21 - inLeft); seq <= 22; seq++ {
		want = append(want, seq)
	}
	if diff := cmp.Diff(want, drain(t, j)); diff != "" {
		t.Errorf("events after the restart (-want +got):\n%s", diff)
	}
}

// The segment that is written stays when it is drained, until the next one is begun. On a full disk that may never be.
func TestDrainedSegmentMakesRoomForTheNextRecord(t *testing.T) {
	config := configIn(t.TempDir())
	j := open(t, config)
	appendEvents(t, j, 1, 3)
	full := only(t, config.Dir)
	limitFileSize(t, uint64(len(read(t, full))))
	for _, drained := range []string{"nothing", "a part"} {
		if err := j.Append(t.Context(), event(4)); !errors.Is(err, syscall.EFBIG) {
			t.Errorf("Append while %s is drained: %v, want EFBIG", drained, err)
		}
		if _, err := j.Next(t.Context(), 1); err != nil {
			t.Fatalf("Next: %v", err)
		}
		if err := j.Commit(); err != nil {
			t.Fatalf("Commit: %v", err)
		}
	}
	if diff := cmp.Diff([]uint64{3}, drain(t, j)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}

	appendEvents(t, j, 5, 7)
	if at := only(t, config.Dir); at == full {
		t.Errorf("%s is still written", at)
	}
	if n, _ := j.Backlog(); n != 3 {
		t.Errorf("backlog of %d, want 3", n)
	}
	closeJournal(t, j) // and the next process knows what was drained
	if diff := cmp.Diff([]uint64{5, 6, 7}, drain(t, open(t, config))); diff != "" {
		t.Errorf("events after the restart (-want +got):\n%s", diff)
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	j := open(t, configIn(t.TempDir()))
	e, ctx := event(1), t.Context()
	var failed error
	allocations := testing.AllocsPerRun(1000, func() {
		if err := j.Append(ctx, e); err != nil {
			failed = err
		}
	})
	if failed != nil {
		t.Fatalf("Append: %v", failed)
	}
	if allocations != 0 {
		t.Errorf("%v allocations for an Append, want 0", allocations)
	}
}

// BenchmarkAppend is an event's way into the journal, for one writer and for those that share a write and its fsync.
func BenchmarkAppend(b *testing.B) {
	for _, fsync := range []bool{false, true} {
		for _, writers := range []int{1, 32} {
			b.Run(fmt.Sprintf("sync=%v/writers=%d", fsync, writers), func(b *testing.B) {
				config := configIn(b.TempDir())
				config.Sync, config.MaxBytes = fsync, 1<<40
				j := open(b, config)
				e, ctx := event(1), b.Context()
				b.ReportAllocs()
				b.ResetTimer()
				var left atomic.Int64
				left.Store(int64(b.N))
				var writing sync.WaitGroup
				for range writers {
					writing.Go(func() {
						for left.Add(-1) >= 0 {
							if err := j.Append(ctx, e); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				writing.Wait()
			})
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// limitFileSize keeps this process from writing files larger than size, until the function it returns is called.
func limitFileSize(t *testing.T, size uint64) (restore func()) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ) // so that write(2) fails instead
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	set := func(limit syscall.Rlimit) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			t.Fatal(err)
		}
	}
	set(syscall.Rlimit{Cur: size, Max: before.Max})
	restore = func() { set(before); signal.Reset(syscall.SIGXFSZ) }
	t.Cleanup(restore)
	return restore
}

func TestCommitAfterAFailedNextForgetsNothing(t *testing.T) {
	j := open(t, configIn(t.TempDir()))
	appendEvents(t, j, 1, 2)
	if _, err := j.Next(t.Context(), 1); err != nil {
		t.Fatalf("Next: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := j.Next(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Fatalf("Next: %v, want context.Canceled", err)
	}
	if err := j.Commit(); err != nil {
		t.Fatalf("Commit: %v", err)
	}
	if n, _ := j.Backlog(); n != 2 {
		t.Errorf("backlog of %d, want 2", n)
	}
}
