package journal_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/apex-tradebill/omni-secrets/adapters/journal"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports/porttest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(appenderDir); dir != "" {
		appendUntilKilled(dir, os.Getenv(appenderSync) != "")
	}
	goleak.VerifyTestMain(m)
}

func TestAuditJournal(t *testing.T) {
	for name, change := range map[string]func(*journal.Config){
		"one large segment":              func(*journal.Config) {},
		"a segment for every few events": func(c *journal.Config) { c.SegmentBytes = 1000 },
		"an fsync for every batch":       func(c *journal.Config) { c.Sync = true; c.SegmentBytes = 64 << 10 },
	} {
		t.Run(name, func(t *testing.T) {
			porttest.RunAuditJournal(t, func(t *testing.T) (porttest.Journal, func() porttest.Journal) {
				config := configIn(t.TempDir())
				change(&config)
				j := open(t, config)
				return j, func() porttest.Journal {
					closeJournal(t, j)
					j = open(t, config)
					return j
				}
			})
		})
	}
}

func configIn(dir string) journal.Config {
	return journal.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}
}

func open(t testing.TB, c journal.Config) *journal.Journal {
	t.Helper()
	j, err := journal.Open(c)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { closeJournal(t, j) })
	return j
}

func closeJournal(t testing.TB, j *journal.Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func event(seq uint64) domain.Event {
	return domain.Event{
		ID: domain.EventID{Start: 0xabcdef, Seq: seq}, Type: "trading_api_key", Action: domain.ActionRead,
		Actor: domain.Actor{Type: domain.ActorService, ID: "svc-orders"}, Result: domain.ResultSuccess,
		Version: "7", Source: "gsm", Duration: 1500 * time.Nanosecond, RequestID: "4f2c9a0e5b7d4e1f",
		ReplicaID: "replica-a", RecordedAt: time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC).Add(time.Duration(seq) * time.Second),
	}
}

func appendEvents(t testing.TB, j *journal.Journal, first, last uint64) {
	t.Helper()
	for seq := first; seq <= last; seq++ {
		if err := j.Append(t.Context(), event(seq)); err != nil {
			t.Fatalf("Append: %v", err)
		}
	}
}

// drain commits everything that waits and returns its sequence numbers.
func drain(t testing.TB, j *journal.Journal) []uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var seqs []uint64
	for {
		n, _ := j.Backlog()
		if n == 0 {
			return seqs
		}
		events, err := j.Next(ctx, 100)
		if err != nil {
			t.Fatalf("Next: %v", err)
		}
		for _, e := range events {
			seqs = append(seqs, e.ID.Seq)
		}
		if err := j.Commit(); err != nil {
			t.Fatalf("Commit: %v", err)
		}
	}
}

func segments(t testing.TB, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "events-*"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// only is the one segment there is.
func only(t testing.TB, dir string) string {
	t.Helper()
	paths := segments(t, dir)
	if len(paths) != 1 {
		t.Fatalf("segments: %v, want one", paths)
	}
	return paths[0]
}
