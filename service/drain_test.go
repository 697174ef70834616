package service_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
	"github.com/apex-tradebill/omni-secrets/service"
)

var errBroken = errors.New("input/output error")

// batches is an audit store that keeps how many events came at once.
type batches struct {
	ports.AuditStore
	mu    sync.Mutex
	sizes []int
}

func (b *batches) InsertEvents(ctx context.Context, events []domain.Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sizes = append(b.sizes, len(events))
	return b.AuditStore.InsertEvents(ctx, events)
}

func (b *batches) all() []int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.sizes)
}

// newBatchesFixture is a fixture with a store that counts, and what appends events to its journal.
func newBatchesFixture(t *testing.T) (f *fixture, b *batches, appendEvents func(n int)) {
	t.Helper()
	b = new(batches)
	f = newFixture(t, func(c *service.Config) {
		b.AuditStore = c.Audit
		c.Audit = b
	})
	seq := uint64(0)
	return f, b, func(n int) {
		t.Helper()
		for range n {
			seq++
			err := f.journal.Append(t.Context(), domain.Event{
				ID: domain.EventID{Start: 7, Seq: seq}, Action: domain.ActionRead, Actor: domain.Actor{Type: domain.ActorService, ID: "svc"},
				Result: domain.ResultSuccess, RecordedAt: time.Now(),
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestDrainTakesTheFirstEventAtOnceAndGathersTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b, appendEvents := newBatchesFixture(t)
		defer f.run()()
		f.at(time.Second)
		before := len(b.all())
		for range 100 {
			appendEvents(1)
			f.at(time.Since(f.start) + 7*time.Millisecond)
		}
		f.at(2 * time.Second)
		if diff := cmp.Diff([]int{1, 28, 29, 28, 14}, b.all()[before:]); diff != "" {
			t.Errorf("batches (-want +got):\n%s", diff)
		}
		appendEvents(1)
		synctest.Wait()
		if n, _ := f.JournalBacklog(time.Now()); n != 0 {
			t.Errorf("%d events wait, after a quiet second", n)
		}
	})
}

func TestDrainDoesNotRestBeforeABacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b, appendEvents := newBatchesFixture(t)
		appendEvents(3*service.DrainBatch + 1)
		defer f.run()()
		if n, _ := f.JournalBacklog(time.Now()); n != 0 || time.Since(f.start) != 0 {
			t.Errorf("%d events wait after %v", n, time.Since(f.start))
		}
		if sizes := b.all(); slices.Max(sizes) != service.DrainBatch || len(sizes) > 5 {
			t.Errorf("batches of %v, want some of %d and the rest", sizes, service.DrainBatch)
		}
	})
}

func TestFlushMovesEverythingThatIsLeft(t *testing.T) {
	f, b, appendEvents := newBatchesFixture(t)
	appendEvents(service.DrainBatch + 1)
	if err := f.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, _ := f.JournalBacklog(time.Now()); n != 0 {
		t.Errorf("%d events wait, after batches of %v", n, b.all())
	}
}

// brokenJournal is a journal whose directory cannot be read, or not be written.
type brokenJournal struct {
	ports.JournalReader
	next, aside, commit error
}

func (j brokenJournal) Next(ctx context.Context, limit int) ([]domain.Event, error) {
	if j.next != nil {
		return nil, j.next
	}
	return j.JournalReader.Next(ctx, limit)
}

func (j brokenJournal) SetAside([]domain.Event) error { return j.aside }

func (j brokenJournal) Commit() error { return j.commit }

// refusing is a store that refuses the content of every event.
type refusing struct{ ports.AuditStore }

func (refusing) InsertEvents(context.Context, []domain.Event) error { return ports.ErrEventRejected }

// away is a store that does not answer.
type away struct{ ports.AuditStore }

func (away) InsertEvents(context.Context, []domain.Event) error { return errBroken }

func TestDrainTellsWhatIsInItsWay(t *testing.T) {
	const database, directory = "audit events wait in the journal: the database does not take them",
		"audit events wait in the journal: its own files cannot be read or written; look at its disk"
	for name, c := range map[string]struct {
		journal brokenJournal
		store   func(ports.AuditStore) ports.AuditStore
		want    string
	}{
		"the database":               {brokenJournal{}, func(s ports.AuditStore) ports.AuditStore { return away{s} }, database},
		"segments":                   {brokenJournal{next: errBroken}, nil, directory},
		"the cursor":                 {brokenJournal{commit: errBroken}, nil, directory},
		"the file of refused events": {brokenJournal{aside: errBroken}, func(s ports.AuditStore) ports.AuditStore { return refusing{s} }, directory},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, func(config *service.Config) {
					c.journal.JournalReader = config.Drain
					config.Drain = c.journal
					if c.store != nil {
						config.Audit = c.store(config.Audit)
					}
				})
				defer f.run()()
				f.wantServed(apiKey, "key-1", "gsm", false)
				f.at(time.Second)
				for _, said := range []string{database, directory} {
					if n := len(f.logs.named(said)); (n > 0) != (said == c.want) {
						t.Errorf("%d times %q", n, said)
					}
				}
			})
		})
	}
}

// unreadable is a journal of records that cannot be read: Next goes past them and has nothing to show.
type unreadable struct {
	ports.JournalReader
	left int
}

func (j *unreadable) Backlog() (events int, oldest time.Time) { return j.left, time.Now() }

func (j *unreadable) Next(context.Context, int) ([]domain.Event, error) {
	j.left = 0
	return nil, nil
}

func TestFlushEndsBehindRecordsThatCannotBeRead(t *testing.T) {
	f, b, _ := newBatchesFixture(t)
	f.config.Drain = &unreadable{f.journal, 3}
	f.build()
	if err := f.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := b.all(); len(got) > 0 {
		t.Errorf("batches of %v were stored, want none", got)
	}
}

// slow is a store that does not take more than most events at once in time.
type slow struct {
	ports.AuditStore
	most int
}

func (s slow) InsertEvents(ctx context.Context, events []domain.Event) error {
	if len(events) > s.most {
		return context.DeadlineExceeded
	}
	return s.AuditStore.InsertEvents(ctx, events)
}

func TestDrainTriesLessOfASlowDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b, appendEvents := newBatchesFixture(t)
		b.AuditStore = slow{b.AuditStore, 700}
		appendEvents(2 * service.DrainBatch)
		defer f.run()()
		f.at(5 * time.Minute)
		if n, _ := f.JournalBacklog(time.Now()); n != 0 {
			t.Errorf("%d events wait, after batches of %v", n, b.all())
		}
	})
}

// flaky is a journal, or a store, that fails until it is mended.
type flaky struct {
	ports.JournalReader
	ports.AuditStore

	journal, store atomic.Bool // fail now
	unreadable     atomic.Bool // the next records cannot be read
}

func (f *flaky) Next(ctx context.Context, limit int) ([]domain.Event, error) {
	if f.journal.Load() {
		return nil, errBroken
	}
	if f.unreadable.Swap(false) {
		return nil, nil
	}
	return f.JournalReader.Next(ctx, limit)
}

func (f *flaky) InsertEvents(ctx context.Context, events []domain.Event) error {
	if f.store.Load() {
		return errBroken
	}
	return f.AuditStore.InsertEvents(ctx, events)
}

// What is in the way is told when it begins, also in place of something else, and which of them is over in the end.
func TestDrainTellsWhatIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var parts *flaky
		f := newFixture(t, func(config *service.Config) {
			parts = &flaky{JournalReader: config.Drain, AuditStore: config.Audit}
			parts.journal.Store(true)
			config.Drain, config.Audit = parts, parts
		})
		defer f.run()()
		f.wantServed(apiKey, "key-1", "gsm", false)
		f.at(time.Minute)
		parts.store.Store(true)
		parts.journal.Store(false)
		f.at(2 * time.Minute)
		parts.unreadable.Store(true) // which says nothing of the database
		f.at(2*time.Minute + 30*time.Second)
		f.wantLogged("the database takes audit events again", 0)
		parts.store.Store(false)
		f.at(3 * time.Minute)
		parts.journal.Store(true)
		f.wantServed(apiKey, "key-1", "gsm", false)
		f.at(4 * time.Minute)
		parts.journal.Store(false)
		f.wantServed(apiKey, "key-1", "gsm", false)
		f.at(5 * time.Minute)
		if len(f.logs.named("audit events wait in the journal: the database does not take them")) == 0 {
			t.Error("the database was not told of")
		}
		f.wantLogged("the database takes audit events again", 1)
		f.wantLogged("the journal's own files can be read and written again", 1)
	})
}
