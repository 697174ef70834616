package service_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/memory"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
	"github.com/apex-tradebill/omni-secrets/service"
)

// newReplicas makes two services on one store and one backend.
func newReplicas(t *testing.T) (a, b *fixture) {
	t.Helper()
	store, backend := memory.New(), memory.NewBackend()
	replica := func(id string) *fixture {
		return newFixture(t, func(cfg *service.Config) {
			cfg.Metadata, cfg.Overrides, cfg.Rotations, cfg.FollowUps = store, store, store, store
			cfg.Audit, cfg.Replicas = store, store
			cfg.Backends = map[string]ports.SecretBackend{"gsm": backend}
			cfg.ReplicaID = id
		})
	}
	a, b = replica("a"), replica("b")
	backend.Set("key", "key-1")
	backend.Set("hook", "hook-1")
	a.store, b.store, a.backend, b.backend = store, store, backend, backend
	return a, b
}

// hearing is what a replica hears of the others, as late as the test wants.
type hearing struct {
	ports.Replicas
	covered atomic.Pointer[chan struct{}] // closed when it hears again
}

func (h *hearing) Watch(ctx context.Context, changed func()) error {
	return h.Replicas.Watch(ctx, func() {
		if covered := h.covered.Load(); covered != nil {
			select {
			case <-*covered:
			case <-ctx.Done():
				return
			}
		}
		changed()
	})
}

// cover keeps from the replica what the others do, until uncover.
func (h *hearing) cover() (uncover func()) {
	covered := make(chan struct{})
	h.covered.Store(&covered)
	return func() { close(covered) }
}

// late makes the replica one whose hearing can be covered, before it runs.
func late(f *fixture) *hearing {
	h := &hearing{Replicas: f.config.Replicas}
	f.config.Replicas = h
	f.build()
	return h
}

func TestOverrideReachesEveryReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplicas(t)
		defer a.run()()
		defer b.run()()
		a.apply("one", 25*time.Minute)
		synctest.Wait()
		b.wantServed(apiKey, "one", domain.SourceBreakGlass, false)
		b.wantLogged(domain.AlertBreakGlassApplied, 1)

		b.apply("two", 25*time.Minute) // replaces it everywhere
		synctest.Wait()
		a.wantServed(apiKey, "two", domain.SourceBreakGlass, false)

		if err := a.ClearOverride(t.Context(), operator, apiKey); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		b.wantServed(apiKey, "key-1", "gsm", false)
		if got := len(a.recorded(domain.ActionBreakGlassClear)); got != 2 { // one for each override
			t.Errorf("%d clear events, want 2", got)
		}
	})
}

func TestOverrideThatExpiresIsRecordedByOneReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplicas(t)
		defer a.run()()
		defer b.run()()
		a.apply("injected", 25*time.Minute)
		a.at(25 * time.Minute)
		a.wantServed(apiKey, "key-1", "gsm", false)
		b.wantServed(apiKey, "key-1", "gsm", false)
		a.at(26 * time.Minute)
		if got := len(a.recorded(domain.ActionBreakGlassClear)); got != 1 {
			t.Errorf("%d clear events, want 1", got)
		}
	})
}

func TestExplicitRefreshReachesEveryReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplicas(t)
		defer a.run()()
		defer b.run()()
		a.apply("injected", 25*time.Minute)
		a.backend.Set("key", "key-2")
		synctest.Wait()
		if _, err := a.Refresh(t.Context(), cacher, apiKey); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		a.wantServed(apiKey, "key-2", "gsm", false)
		b.wantServed(apiKey, "key-2", "gsm", false)
		b.wantServed(webhook, "hook-1", "gsm", false)
		b.wantCalls("hook", 2) // one for each replica, at start
		a.at(time.Second)
		if got := a.recorded(domain.ActionCacheRefresh); len(got) != 1 {
			t.Errorf("%d refresh events, want that of the replica that was asked", len(got))
		}
	})
}

func TestRefreshReachesAReplicaThatIsFetching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplicas(t)
		defer a.run()()
		defer b.run()()
		release := a.backend.Hold("key")
		go func() { _, _ = b.Refresh(t.Context(), cacher, apiKey) }() // its fetch may have read the old value
		synctest.Wait()
		before := b.backend.Calls("key")
		if err := a.store.RequestRefresh(t.Context(), []domain.SecretType{apiKey}, "a"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		release()
		synctest.Wait()
		if got := b.backend.Calls("key"); got != before+2 { // b's second, and a's answer to b's own refresh
			t.Errorf("%d more fetches, want 2", got-before)
		}
	})
}

func TestReplicaCatchesUpAfterADatabaseOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplicas(t)
		defer a.run()()
		stop := b.run()
		a.apply("injected", 25*time.Minute)
		synctest.Wait()
		a.store.FailWith(errGone)
		a.at(time.Minute)
		b.wantServed(apiKey, "injected", domain.SourceBreakGlass, false)
		a.store.FailWith(nil)
		if err := a.ClearOverride(t.Context(), operator, apiKey); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		b.wantServed(apiKey, "key-1", "gsm", false)
		stop()
	})
}

// A replica learns of an override within a second. Until then it ends it all the same when it is told to.
func TestEndWhereTheOverrideIsNotKnownYet(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(f *fixture) error
		want domain.OverrideEnd
	}{{"clear", clearOn, domain.EndCleared}, {"refresh", askedOn, domain.EndRefreshed}} {
		for _, known := range []bool{false, true} {
			name := c.name
			if known {
				name += ", the one before is known"
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					a, b := newReplicas(t)
					hears := late(b)
					defer a.run()()
					defer b.run()()
					if known {
						a.apply("one", 25*time.Minute)
						synctest.Wait()
						b.wantServed(apiKey, "one", domain.SourceBreakGlass, false)
					}
					uncover := hears.cover()
					o := a.apply("two", 25*time.Minute)
					if err := c.end(b); err != nil {
						t.Fatal(err)
					}
					b.wantServed(apiKey, "key-1", "gsm", false)
					uncover()
					synctest.Wait()
					a.wantServed(apiKey, "key-1", "gsm", false)
					b.wantServed(apiKey, "key-1", "gsm", false)
					clears := b.recorded(domain.ActionBreakGlassClear)
					if e := clears[len(clears)-1]; e.Version != o.ID || e.Reason != string(c.want) || e.ReplicaID != "b" {
						t.Errorf("the last clear event: %+v", e)
					}
				})
			})
		}
	}
}

func clearOn(f *fixture) error { return f.ClearOverride(f.t.Context(), operator, apiKey) }

func askedOn(f *fixture) error {
	_, err := f.Refresh(f.t.Context(), cacher, apiKey)
	return err
}

// What another replica ended a moment before is not ended twice, and nobody is told that it was.
func TestClearWhereTheEndIsNotKnownYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplicas(t)
		hears := late(b)
		defer a.run()()
		defer b.run()()
		a.apply("injected", 25*time.Minute)
		synctest.Wait()
		uncover := hears.cover()
		defer uncover()
		if err := clearOn(a); err != nil {
			t.Fatal(err)
		}
		b.wantCode(clearOn(b), domain.CodeNoBreakGlass)
		b.wantServed(apiKey, "key-1", "gsm", false)
	})
}

// Secret Manager is back and one replica is asked to refresh: the other one, whose next fetch is half a minute off, has
// nothing under the override that ends.
func TestEndOfAnOverrideLeavesNoReplicaWithoutAValue(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(f *fixture) error
	}{
		{"clear", clearOn},
		{"refresh", askedOn},
		{"refresh of all", func(f *fixture) error {
			_, err := f.Refresh(f.t.Context(), cacher, "")
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := newReplicas(t)
				defer a.run()()
				defer b.run()()
				a.backend.Fail("key", domain.ReasonUnavailable)
				a.at(40 * time.Minute)
				a.apply("injected", 25*time.Minute)
				synctest.Wait()
				b.wantServed(apiKey, "injected", domain.SourceBreakGlass, false)
				a.at(40*time.Minute + 20*time.Second)
				a.backend.Recover("key")
				a.backend.SetDelay("key", 50*time.Millisecond)
				a.backend.SetDelay("hook", 3*time.Second) // the slowest of the catalog
				done := make(chan error, 1)
				go func() { done <- c.end(a) }()
				for range 500 {
					time.Sleep(10 * time.Millisecond) //nolint:forbidigo // simulated: in a bubble
					synctest.Wait()
					for _, f := range []*fixture{a, b} {
						if _, err := f.read(apiKey); err != nil {
							t.Fatalf("after %v: read of %s: %v", time.Since(f.start), f.config.ReplicaID, err)
						}
					}
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
				b.wantServed(apiKey, "key-1", "gsm", false)
			})
		})
	}
}

// The fetch that is under way when the override ends may have begun too early: readers wait for the one after it, too.
func TestEndOfAnOverrideDuringAFetchThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplicas(t)
		apart(b)
		defer a.run()()
		b.backend.Fail("key", domain.ReasonUnavailable)
		defer b.run()()
		b.at(20 * time.Second)
		a.apply("injected", 25*time.Minute)
		synctest.Wait()
		b.backend.SetDelay("key", time.Second)
		go func() { _ = askedOn(b) }()
		synctest.Wait()
		b.backend.SetDelay("key", 50*time.Millisecond)
		time.AfterFunc(time.Second+10*time.Millisecond, func() { b.backend.Recover("key") })
		if err := clearOn(a); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		b.wantServed(apiKey, "key-1", "gsm", false)
	})
}

// The others follow what was done, audited or not.
func TestRefreshThatCannotBeAuditedReachesEveryReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplicas(t)
		apart(b)
		defer a.run()()
		defer b.run()()
		a.journal.FailWith(ports.ErrJournalFull)
		a.wantCode(askedOn(a), domain.CodeAuditUnavailable)
		synctest.Wait()
		b.wantCalls("key", 2)
	})
}

// passing is a Leadership that a test gives and takes.
type passing struct {
	*memory.Alone
	given chan context.Context
}

func (p passing) Lead(ctx context.Context, duties func(context.Context)) error {
	for {
		select {
		case lease := <-p.given:
			duties(lease)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestPeriodicWorkFollowsTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplicas(t)
		jobs := memory.NewAlone() // claims are shared
		leads := map[*fixture]passing{a: {jobs, make(chan context.Context)}, b: {jobs, make(chan context.Context)}}
		for f, p := range leads {
			f.config.Leadership = p
			f.config.Policy.TTL = 24 * time.Hour
			f.build()
		}
		overdue := domain.NewMetadata(a.config.Catalog[0], "test", a.start.AddDate(-2, 0, 0))
		if err := a.store.EnsureMetadata(t.Context(), []domain.Metadata{overdue}, func(domain.SecretType) domain.Event {
			return domain.Event{ID: domain.EventID{Start: 1, Seq: 1}, Action: domain.ActionWriteMetadata, Actor: domain.Automation, Result: domain.ResultSuccess, RecordedAt: a.start}
		}); err != nil {
			t.Fatal(err)
		}
		defer a.run()()
		defer b.run()()
		a.wantLogged(domain.AlertRotationOverdue, 0)

		lease, end := context.WithCancel(t.Context())
		leads[a].given <- lease
		synctest.Wait()
		a.wantLogged(domain.AlertRotationOverdue, 1)
		if !a.Leading() || b.Leading() {
			t.Error("a is to lead, alone")
		}
		a.at(20 * time.Minute)
		a.wantLogged(domain.AlertRotationOverdue, 2) // at 0 and 15 min
		end()
		a.at(40 * time.Minute) // nobody leads: the check at 30 min is missed
		lease, end = context.WithCancel(t.Context())
		defer end()
		leads[b].given <- lease
		synctest.Wait()
		a.wantLogged(domain.AlertRotationOverdue, 2)
		b.wantLogged(domain.AlertRotationOverdue, 1) // and made up at once
		b.at(55 * time.Minute)
		b.wantLogged(domain.AlertRotationOverdue, 2)
	})
}
