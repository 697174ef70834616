package service_test

import (
	"context"
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
