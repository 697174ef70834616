package service_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/memory"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
	"github.com/apex-tradebill/omni-secrets/service"
)

// catalogOf makes n secrets and puts a value of each into the backend.
func catalogOf(n int, backend *memory.Backend) domain.Catalog {
	c := make(domain.Catalog, n)
	for i := range c {
		name := fmt.Sprintf("secret_%d", i)
		c[i] = domain.Entry{Type: domain.SecretType(name), Backend: "gsm", Reference: name, Version: domain.LatestVersion, Owner: "o", RotationMonths: 12}
		backend.Set(name, "value of "+name)
	}
	return c
}

// largeService is one with a catalog of n secrets that serves nothing yet.
func largeService(tb testing.TB, n int, adapt ...func(*service.Config)) (*service.Service, *memory.Store) {
	tb.Helper()
	backend, store := memory.NewBackend(), memory.New()
	config := service.Config{
		Catalog: catalogOf(n, backend), Policy: domain.DefaultCachePolicy(), Backends: map[string]ports.SecretBackend{"gsm": backend},
		Metadata: store, Overrides: store, Rotations: store, FollowUps: store, Audit: store,
		Journal: discard{}, Drain: memory.NewJournal(), Envelopes: plainEnvelopes{}, Leadership: memory.NewAlone(), Meter: discard{},
		Logger: slog.New(slog.DiscardHandler),
	}
	for _, a := range adapt {
		a(&config)
	}
	s, err := service.New(config)
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return s, store
}

// wantGrowth compares what work takes for n and for thirty times as much: thirty times as long if it is linear, and twice
// or three times that where memory is slower than caches; nine hundred times if it is quadratic. What counts is the
// processor's time, and the least of several, so that whoever else uses the machine hardly matters.
func wantGrowth(t *testing.T, n int, prepare func(n int) (work func())) {
	t.Helper()
	least := func(n, tries int) time.Duration {
		var took []time.Duration
		work := prepare(n)
		for range tries {
			before := processorTime(t)
			work()
			took = append(took, processorTime(t)-before)
		}
		return slices.Min(took)
	}
	small, large := least(n, 20), least(30*n, 5)
	t.Logf("%d: %v, %d: %v", n, small, 30*n, large)
	if large > 400*small {
		t.Errorf("%d took %v and %d %v, %.0f times as long; a linear growth is 30 times", n, small, 30*n, large, float64(large)/float64(small))
	}
}

// processorTime is what this process has used so far.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func TestStatusGrowsWithTheSecretsAndTheirFollowUpsAlike(t *testing.T) {
	wantGrowth(t, 1000, func(n int) func() {
		s, _ := largeService(t, n, func(c *service.Config) {
			c.FollowUps = manyFollowUps{c.FollowUps, n}
		})
		return func() {
			all := s.Snapshot(time.Now())
			if last := all[n-1]; last.FollowUps != 1 || last.FollowUpOpenedAt.IsZero() {
				t.Fatalf("the last secret has %d follow-ups", last.FollowUps)
			}
		}
	})
}

// manyFollowUps has one open follow-up for each of n secrets.
type manyFollowUps struct {
	ports.FollowUps

	n int
}

func (m manyFollowUps) OpenFollowUps(context.Context) ([]domain.FollowUp, error) {
	open := make([]domain.FollowUp, m.n)
	for i := range open {
		open[i] = domain.FollowUp{OverrideID: fmt.Sprint(i), Type: domain.SecretType(fmt.Sprintf("secret_%d", i)), OpenedAt: time.Now()}
	}
	return open, nil
}

func TestWatchOfEverythingGrowsWithTheSecrets(t *testing.T) {
	wantGrowth(t, 1000, func(n int) func() {
		s, _ := largeService(t, n)
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		types := make([]domain.SecretType, 0, n)
		for _, st := range s.Snapshot(time.Now()) {
			types = append(types, st.Type)
		}
		return func() {
			w, err := s.Watch(ctx, reader, types)
			if err != nil {
				t.Fatal(err)
			}
			for range n {
				if _, news, err := w.Next(ctx, 0); !news || err != nil {
					t.Fatalf("told %v, %v", news, err)
				}
			}
		}
	})
}

// countedAccounts counts the writes that were taken.
type countedAccounts struct {
	ports.Metadata

	accounts []int // of each write
}

func (c *countedAccounts) RecordServed(ctx context.Context, accounts []domain.Account) error {
	err := c.Metadata.RecordServed(ctx, accounts)
	if err == nil {
		c.accounts = append(c.accounts, len(accounts))
	}
	return err
}

// A commit for each secret would take longer than everything else that a start does.
func TestWhatIsServedIsWrittenManySecretsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1200
		var counted *countedAccounts
		s, store := largeService(t, n, func(c *service.Config) {
			counted = &countedAccounts{Metadata: c.Metadata}
			c.Metadata = counted
		})
		store.FailWith(errors.New("the database is away"))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		time.Sleep(time.Second / 2) //nolint:forbidigo // simulated: in a bubble
		synctest.Wait()             // all of them were fetched
		store.FailWith(nil)
		time.Sleep(time.Minute) //nolint:forbidigo // simulated: in a bubble
		synctest.Wait()
		if want := []int{500, 500, 200}; !slices.Equal(counted.accounts, want) {
			t.Errorf("%d writes, of %v secrets; want %v", len(counted.accounts), counted.accounts, want)
		}
		rows, err := store.ListMetadata(ctx)
		if err != nil || len(rows) != n {
			t.Fatalf("%d rows, %v", len(rows), err)
		}
		for _, row := range rows {
			if row.CacheSource != "gsm" || row.CacheVersion != "1" {
				t.Fatalf("the row of %s tells of version %q of %q", row.Type, row.CacheVersion, row.CacheSource)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
