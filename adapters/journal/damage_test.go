package journal_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/adapters/journal"
)

// written leaves a journal of five events in one segment, closed, and returns its configuration with the log,
// and the segment's path and lines.
func written(t *testing.T) (config journal.Config, log *bytes.Buffer, path string, lines [][]byte) {
	t.Helper()
	log = new(bytes.Buffer)
	config = configIn(t.TempDir())
	config.Logger = slog.New(slog.NewTextHandler(log, nil))
	j := open(t, config)
	appendEvents(t, j, 1, 5)
	closeJournal(t, j)
	path = only(t, config.Dir)
	return config, log, path, bytes.SplitAfter(bytes.TrimSuffix(read(t, path), nil), []byte("\n"))[:5]
}

func rewrite(t *testing.T, path string, parts ...[]byte) {
	t.Helper()
	if err := os.WriteFile(path, bytes.Join(parts, nil), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTornRecordIsCutOff(t *testing.T) {
	for name, torn := range map[string]func(last []byte) []byte{
		"without its line feed": func(last []byte) []byte { return last[:len(last)-1] },
		"in the middle":         func(last []byte) []byte { return last[:len(last)/2] },
		"after one byte":        func(last []byte) []byte { return last[:1] },
		"filled with zeros":     func(last []byte) []byte { return append(last[:20:20], make([]byte, 4096)...) },
	} {
		t.Run(name, func(t *testing.T) {
			config, log, path, lines := written(t)
			rewrite(t, path, bytes.Join(lines[:4], nil), torn(lines[4]))

			j := open(t, config)
			if want := bytes.Join(lines[:4], nil); !bytes.Equal(read(t, path), want) {
				t.Errorf("the segment has %d bytes, want %d", len(read(t, path)), len(want))
			}
			if !strings.Contains(log.String(), "torn record") {
				t.Errorf("the log has nothing of it: %s", log)
			}
			appendEvents(t, j, 6, 6)
			if diff := cmp.Diff([]uint64{1, 2, 3, 4, 6}, drain(t, j)); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// With Sync a segment is longer than its records, by zeros that the next ones overwrite.
func TestZerosBehindTheRecordsAreNoDamage(t *testing.T) {
	config, log, path, lines := written(t)
	records := bytes.Join(lines, nil)
	rewrite(t, path, records, make([]byte, 1<<20))

	j := open(t, config)
	if got := read(t, path); !bytes.Equal(got, records) {
		t.Errorf("the segment has %d bytes, want %d", len(got), len(records))
	}
	if log.Len() > 0 {
		t.Errorf("it was logged: %s", log)
	}
	if diff := cmp.Diff([]uint64{1, 2, 3, 4, 5}, drain(t, j)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestFlushedSegmentsGrowAheadOfTheirRecords(t *testing.T) {
	config := configIn(t.TempDir())
	config.Sync, config.SegmentBytes = true, 10_000
	j := open(t, config)
	appendEvents(t, j, 1, 100) // several segments
	all := segments(t, config.Dir)
	if len(all) < 2 {
		t.Fatalf("%d segments, want some", len(all))
	}
	for _, full := range all[:len(all)-1] {
		if bytes.ContainsRune(read(t, full), 0) {
			t.Errorf("%s is full, and has zeros", filepath.Base(full))
		}
	}
	current := all[len(all)-1]
	if size := len(read(t, current)); size != 10_000 {
		t.Errorf("the segment that is written has %d bytes, want its whole size", size)
	}
	closeJournal(t, j)
	if bytes.ContainsRune(read(t, current), 0) {
		t.Error("zeros are left after Close")
	}
	if got := drain(t, open(t, config)); len(got) != 100 {
		t.Errorf("%d events, want 100", len(got))
	}
}

func TestCorruptRecordIsSkippedAndKept(t *testing.T) {
	flipped := func(line []byte, at int) []byte {
		line = bytes.Clone(line)
		line[at] ^= 1
		return line
	}
	for name, damage := range map[string]func(line []byte) []byte{
		"a bit of the payload":  func(line []byte) []byte { return flipped(line, 40) },
		"a bit of the checksum": func(line []byte) []byte { return flipped(line, 3) },
		"no checksum":           func(line []byte) []byte { return line[9:] },
		"an empty line":         func([]byte) []byte { return []byte("\n") },
		"text":                  func([]byte) []byte { return []byte("hello, world\n") },
		"a long line":           func([]byte) []byte { return append(bytes.Repeat([]byte("x"), 200<<10), '\n') },
	} {
		t.Run(name, func(t *testing.T) {
			config, log, path, lines := written(t)
			rewrite(t, path, lines[0], lines[1], damage(lines[2]), lines[3], lines[4])
			damaged := read(t, path)

			j := open(t, config)
			if n, oldest := j.Backlog(); n != 4 || !oldest.Equal(event(1).RecordedAt) {
				t.Errorf("backlog of %d since %v, want 4 since %v", n, oldest, event(1).RecordedAt)
			}
			if diff := cmp.Diff([]uint64{1, 2, 4, 5}, drain(t, j)); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			closeJournal(t, j)
			open(t, config)
			if got := only(t, config.Dir); got != path+".corrupt" || !bytes.Equal(read(t, got), damaged) {
				t.Errorf("%s is what is left, want the segment as it was under %s.corrupt", got, path)
			}
			if n := strings.Count(log.String(), "cannot be read"); n == 0 {
				t.Errorf("the log has nothing of it: %s", log)
			}
		})
	}
}

// A record of a newer program has a good checksum and a part that this one does not know.
func TestRecordOfANewerProgramIsKept(t *testing.T) {
	config, _, path, lines := written(t)
	newer := journal.Seal(`{"id":"0000000000000001-0000000000000009","tenant":"x"}`)
	rewrite(t, path, newer, lines[0], lines[1])
	j := open(t, config)
	appendEvents(t, j, 6, 6) // in the next segment, so that this one is closed
	if diff := cmp.Diff([]uint64{1, 2, 6}, drain(t, j)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(path + ".corrupt"); err != nil {
		t.Errorf("the segment was not kept: %v", err)
	}
	if n, _ := j.Backlog(); n != 0 {
		t.Errorf("backlog of %d after the drain", n)
	}
}

// Whoever waits for the end of the backlog must not wait for an event that may never come.
func TestOnlyRecordsThatCannotBeRead(t *testing.T) {
	newer := string(journal.Seal(`{"id":"0000000000000001-0000000000000009","tenant":"x"}`))
	for name, c := range map[string]struct {
		content string
		backlog int
	}{
		"damaged":            {"garbage\nmore\n", 0},
		"of a newer program": {newer + newer, 2}, // a start looks at checksums alone
	} {
		t.Run(name, func(t *testing.T) {
			config, _, path, _ := written(t)
			rewrite(t, path, []byte(c.content))
			began := time.Now().Truncate(time.Microsecond)
			j := open(t, config)
			n, oldest := j.Backlog()
			if n != c.backlog {
				t.Errorf("backlog of %d, want %d", n, c.backlog)
			}
			if n > 0 && (oldest.Before(began) || oldest.After(time.Now())) {
				t.Errorf("the oldest is of %v, want the start for want of a time", oldest)
			}

			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if events, err := j.Next(ctx, 1); len(events) > 0 || err != nil {
				t.Errorf("Next: %v, %v, want no events", events, err)
			}
			if n, _ := j.Backlog(); n != 0 {
				t.Errorf("backlog of %d behind them", n)
			}
			if _, err := os.Stat(path + ".corrupt"); err != nil { // although no event followed
				t.Errorf("the segment was not set aside: %v", err)
			}
			appendEvents(t, j, 6, 6)
			if diff := cmp.Diff([]uint64{6}, drain(t, j)); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOldestEventThatCannotBeReadIsAsOldAsTheOneBefore(t *testing.T) {
	config := configIn(t.TempDir())
	config.SegmentBytes = 1 // one for each event
	j := open(t, config)
	appendEvents(t, j, 1, 3)
	if err := os.Remove(segments(t, config.Dir)[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Next(t.Context(), 1); err != nil {
		t.Fatalf("Next: %v", err)
	}
	if err := j.Commit(); err != nil {
		t.Fatalf("Commit: %v", err)
	}
	if n, oldest := j.Backlog(); n != 2 || !oldest.Equal(event(1).RecordedAt) {
		t.Errorf("backlog of %d since %v, want 2 since the time of event 1", n, oldest)
	}
}

func TestCorruptRecordsBeforeTheNextEvent(t *testing.T) {
	config, _, path, _ := written(t)
	rewrite(t, path, []byte("garbage\nmore\n"))
	j := open(t, config)
	if n, oldest := j.Backlog(); n != 0 || !oldest.IsZero() {
		t.Errorf("backlog of %d since %v, want none", n, oldest)
	}
	appendEvents(t, j, 6, 6)
	if diff := cmp.Diff([]uint64{6}, drain(t, j)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// Damage that happens while the journal is open must not keep the drain from coming to an end.
func TestDamageWhileOpen(t *testing.T) {
	config := configIn(t.TempDir())
	j := open(t, config)
	appendEvents(t, j, 1, 5)
	path := only(t, config.Dir)
	content := read(t, path)
	content[len(content)/2] ^= 1
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uint64{1, 2, 4, 5}, drain(t, j)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	appendEvents(t, j, 6, 6)
	if diff := cmp.Diff([]uint64{6}, drain(t, j)); diff != "" {
		t.Errorf("events after it (-want +got):\n%s", diff)
	}
}

func TestCursorIsBeyondDoubt(t *testing.T) {
	for name, content := range map[string]string{
		"empty":                   "",
		"garbage":                 "garbage\n",
		"a wrong checksum":        `00000000 {"segment":1,"offset":10}` + "\n",
		"beyond any segment":      string(journal.Seal(`{"segment":18446744073709551615,"offset":10}`)),
		"beyond the last segment": string(journal.Seal(`{"segment":1,"offset":999999}`)),
		"between two records":     string(journal.Seal(`{"segment":1,"offset":10}`)),
	} {
		t.Run(name, func(t *testing.T) {
			config, _, _, _ := written(t)
			rewrite(t, filepath.Join(config.Dir, "cursor"), []byte(content))
			j := open(t, config)
			appendEvents(t, j, 6, 6)
			got := drain(t, j)
			want := map[string][]uint64{
				"beyond the last segment": {6},
				"between two records":     {2, 3, 4, 5, 6},
			}[name]
			if want == nil {
				want = []uint64{1, 2, 3, 4, 5, 6}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if n, _ := j.Backlog(); n != 0 {
				t.Errorf("backlog of %d after the drain", n)
			}
		})
	}
}

func TestForeignFilesStay(t *testing.T) {
	config, _, _, _ := written(t)
	for _, name := range []string{"README", "events-x.log", "events-000000000001.log.bak"} {
		rewrite(t, filepath.Join(config.Dir, name), []byte("mine"))
	}
	drain(t, open(t, config))
	for _, name := range []string{"README", "events-x.log", "events-000000000001.log.bak"} {
		if got := read(t, filepath.Join(config.Dir, name)); string(got) != "mine" {
			t.Errorf("%s is %q", name, got)
		}
	}
}
