package service_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/adapters/memory"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
	"github.com/apex-tradebill/omni-secrets/service"
)

func TestOverrideIsPutBackIntoADatabaseThatDoesNotKnowIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplicas(t)
		defer a.run()()
		defer b.run()()
		o := a.apply("injected", 25*time.Minute)
		synctest.Wait()

		a.store.FailOver(memory.New())
		synctest.Wait()
		a.wantServed(apiKey, "injected", domain.SourceBreakGlass, false)
		b.wantServed(apiKey, "injected", domain.SourceBreakGlass, false)
		open, err := a.store.OpenOverrides(t.Context())
		if err != nil || len(open) != 1 || open[0].ID != o.ID || open[0].Envelope.Ciphertext != "sealed:injected" {
			t.Fatalf("open in the standby: %+v, %v", open, err)
		}
		if told := len(a.logs.named(domain.AlertBreakGlassUnknown)) + len(b.logs.named(domain.AlertBreakGlassUnknown)); told != 1 {
			t.Errorf("%d alerts %s of two replicas, want one", told, domain.AlertBreakGlassUnknown)
		}
		rows, err := a.store.ListMetadata(t.Context())
		if err != nil || len(rows) != 2 {
			t.Errorf("metadata of the standby: %v, %v; want a row for each secret", rows, err)
		}

		a.at(26 * time.Minute)
		a.wantServed(apiKey, "key-1", "gsm", false)
		b.wantServed(apiKey, "key-1", "gsm", false)
		clears := 0
		for _, e := range a.store.Events() {
			if e.Action == domain.ActionBreakGlassClear {
				clears++
			}
		}
		if clears != 1 {
			t.Errorf("%d clear events in the standby, want 1", clears)
		}
	})
}

// A standby that lags behind may have, in its place, the override that it replaced.
func TestOverrideIsPutBackIntoADatabaseThatHasTheOneBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplicas(t)
		defer a.run()()
		defer b.run()()
		a.apply("first", 25*time.Minute)
		lagging, err := a.store.OpenOverrides(t.Context())
		if err != nil || len(lagging) != 1 {
			t.Fatalf("open: %+v, %v", lagging, err)
		}
		a.at(time.Minute)
		o := a.apply("second", 20*time.Minute)
		synctest.Wait()

		standby := memory.New()
		applied := domain.Event{ID: domain.EventID{Start: 7, Seq: 1}, Action: domain.ActionBreakGlassApply, Actor: domain.Automation, Result: domain.ResultSuccess, RecordedAt: time.Now()}
		if err := standby.ApplyOverride(t.Context(), lagging[0], applied, func(domain.Override) domain.Event { return domain.Event{} }); err != nil {
			t.Fatal(err)
		}
		a.store.FailOver(standby)
		synctest.Wait()
		a.wantServed(apiKey, "second", domain.SourceBreakGlass, false)
		b.wantServed(apiKey, "second", domain.SourceBreakGlass, false)
		if open, err := a.store.OpenOverrides(t.Context()); err != nil || len(open) != 1 || open[0].ID != o.ID {
			t.Errorf("open in the standby: %+v, %v", open, err)
		}
	})
}

func TestOverrideThatCannotBePutBackIsServedToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := newReplicas(t)
		defer a.run()()
		a.apply("injected", 25*time.Minute)
		synctest.Wait()
		a.store.FailWith(errors.New("relation does not exist"))
		a.store.FailOver(memory.New())
		synctest.Wait()
		a.at(24 * time.Minute)
		a.wantServed(apiKey, "injected", domain.SourceBreakGlass, false)
		a.at(25 * time.Minute)
		a.wantServed(apiKey, "key-1", "gsm", false)
	})
}

// An override that is ended in a database which does not know it is put back first, or another replica would do that.
func TestEndOfAnOverrideThatTheDatabaseDoesNotKnow(t *testing.T) {
	for name, end := range map[string]func(*fixture) error{"clear": clearOn, "refresh": askedOn} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := newReplicas(t)
				hearsA, hearsB := late(a), late(b)
				defer a.run()()
				defer b.run()()
				o := a.apply("injected", 25*time.Minute)
				synctest.Wait()
				uncoverA, uncoverB := hearsA.cover(), hearsB.cover()
				a.store.FailOver(memory.New())
				if err := end(a); err != nil {
					t.Fatal(err)
				}
				a.wantServed(apiKey, "key-1", "gsm", false)
				uncoverB()
				synctest.Wait()
				uncoverA()
				synctest.Wait()
				a.wantServed(apiKey, "key-1", "gsm", false)
				b.wantServed(apiKey, "key-1", "gsm", false)
				if clears := a.recorded(domain.ActionBreakGlassClear); len(clears) != 1 || clears[0].Version != o.ID || clears[0].Actor == domain.Automation {
					t.Errorf("clear events: %+v", clears)
				}
			})
		})
	}
}

// A database that was restored, or is empty, numbers refresh requests anew.
func TestRefreshIsFollowedAfterAFailover(t *testing.T) {
	for _, c := range []struct {
		name          string
		before, there int // how many requests there were, and how many of them the other database has
	}{
		{"to a database that is empty", 1, 0},
		{"to one that lags behind", 5, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := newReplicas(t)
				apart(b)
				defer a.run()()
				defer b.run()()
				standby := memory.New()
				for i := range c.before {
					if err := askedOn(a); err != nil {
						t.Fatal(err)
					}
					if i < c.there {
						if err := standby.RequestRefresh(t.Context(), []domain.SecretType{apiKey}, "a"); err != nil {
							t.Fatal(err)
						}
					}
				}
				a.at(time.Second)
				a.store.FailOver(standby)
				a.at(2 * time.Second)
				a.store.FailWith(nil) // look once more: the rows that the standby lacked are there by now
				a.at(10 * time.Second)
				calls := b.backend.Calls("key")
				if err := askedOn(a); err != nil {
					t.Fatal(err)
				}
				a.at(11 * time.Second)
				b.wantCalls("key", calls+1)
			})
		})
	}
}

func TestOverrideThatEndedElsewhereIsNotPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplicas(t)
		defer a.run()()
		defer b.run()()
		a.apply("injected", 25*time.Minute)
		synctest.Wait()
		if err := b.ClearOverride(t.Context(), operator, apiKey); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		a.wantServed(apiKey, "key-1", "gsm", false)
		a.wantLogged(domain.AlertBreakGlassUnknown, 0)
	})
}

func TestDrainSetsAsideWhatTheDatabaseRefusesAndStoresTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b, _ := newBatchesFixture(t)
		const events = service.DrainBatch + 1000
		refused := []uint64{1234, 1235, events - 1} // the last is of another batch
		for seq := range uint64(events) {
			e := domain.Event{
				ID: domain.EventID{Start: 7, Seq: seq}, Action: domain.ActionRead, Actor: domain.Automation,
				Result: domain.ResultSuccess, RecordedAt: time.Now(),
			}
			if slices.Contains(refused, seq) {
				e.Action = "nonsense"
			}
			if err := f.journal.Append(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		defer f.run()()
		f.at(time.Second)
		var aside []uint64
		for _, e := range f.journal.Aside() {
			aside = append(aside, e.ID.Seq)
		}
		if diff := cmp.Diff(refused, aside); diff != "" {
			t.Errorf("set aside (-want +got):\n%s", diff)
		}
		if got := len(f.recorded(domain.ActionRead)); got != events-len(refused) {
			t.Errorf("%d events are stored, want the other %d", got, events-len(refused))
		}
		if n, _ := f.JournalBacklog(time.Now()); n != 0 {
			t.Errorf("%d events wait", n)
		}
		if calls := len(b.all()); calls > 80 {
			t.Errorf("%d calls of the store; three events are found by halving", calls)
		}
		f.wantLogged(domain.AlertAuditEventSetAside, 3)
	})
}

// An outage in the middle of the search sets nothing aside, and leaves nothing out.
func TestDrainSetsNothingAsideForAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, appendEvents := newBatchesFixture(t)
		defer f.run()()
		f.store.FailWith(errors.New("disk full"))
		appendEvents(10)
		f.at(time.Minute)
		if got := f.journal.Aside(); len(got) != 0 {
			t.Errorf("set aside: %v", got)
		}
		f.store.FailWith(nil)
		f.at(2 * time.Minute)
		if got := len(f.recorded(domain.ActionRead)); got != 10 {
			t.Errorf("%d events are stored, want 10", got)
		}
	})
}

// filling is a journal that says of itself how full it is.
type filling struct {
	*memory.Journal
	bytes atomic.Int64
}

func (j *filling) Usage() ports.JournalUsage {
	return ports.JournalUsage{Bytes: j.bytes.Load(), Limit: 1000}
}

func TestJournalThatFillsUpIsToldOfOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &filling{Journal: memory.NewJournal()}
		f := newFixture(t, func(c *service.Config) { c.Journal, c.Drain = j, j })
		defer f.run()()
		at := func(d time.Duration, bytes int64, high, low int) {
			t.Helper()
			j.bytes.Store(bytes)
			if _, err := f.read(apiKey); err != nil {
				t.Fatal(err)
			}
			f.at(d)
			f.wantLogged(domain.AlertAuditJournalHigh, high)
			f.wantLogged(domain.AlertAuditJournalLow, low)
		}
		at(1*time.Second, 499, 0, 0)
		at(2*time.Second, 500, 1, 0)
		at(3*time.Second, 999, 1, 0)
		at(4*time.Second, 450, 1, 0)
		at(5*time.Second, 399, 1, 1)
		at(6*time.Second, 501, 2, 1)
	})
}

// The versions of a database that is another one are noted anew, so that the next one is counted as a rotation.
func TestRotationAfterAFailoverIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := newReplicas(t)
		defer a.run()()
		a.at(time.Hour)
		a.store.FailOver(memory.New())
		synctest.Wait()
		a.store.FailWith(nil) // the poll
		a.at(time.Hour + time.Minute)
		if st := a.status(apiKey); st.NewestVersion != "1" {
			t.Errorf("the newest version is %q", st.NewestVersion)
		}
		a.backend.Set("key", "key-2")
		a.at(3 * time.Hour)
		if st := a.status(apiKey); st.NewestVersion != "2" || st.LastRotatedAt.IsZero() {
			t.Errorf("status: %+v", st.Metadata)
		}
	})
}

// hanging is a database that keeps callers waiting to their time-out when they ask for overrides or for a refresh.
type hanging struct {
	*memory.Store

	now atomic.Bool
}

func (h *hanging) OpenOverrides(ctx context.Context) ([]domain.Override, error) {
	if h.now.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return h.Store.OpenOverrides(ctx)
}

func (h *hanging) RequestRefresh(ctx context.Context, types []domain.SecretType, replicaID string) error {
	if h.now.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return h.Store.RequestRefresh(ctx, types, replicaID)
}

// What a refresh is asked for is to get rid of an old value: it does not wait for the database with that.
func TestRefreshFetchesAtOnceWhileTheDatabaseHangs(t *testing.T) {
	for name, fails := range map[string]bool{"and succeeds": false, "and fails": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, _ := newReplicas(t)
				h := &hanging{Store: f.store}
				f.config.Overrides, f.config.Replicas = h, h
				f.build()
				defer f.run()()
				f.at(time.Second)
				f.backend.Set("key", "key-2")
				if fails {
					f.backend.Fail("key", domain.ReasonUnavailable)
				}
				h.now.Store(true)
				done := make(chan error, 1)
				go func() { done <- askedOn(f) }()
				synctest.Wait()
				if fails {
					f.wantCode(<-done, domain.CodeRefreshFailed)
					if f.logs.named("a refresh ends no override that another replica applied a moment before: the database does not tell what is open") != nil {
						t.Error("the database was found at fault")
					}
					return
				}
				f.wantServed(apiKey, "key-2", "gsm", false)
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Where the database cannot be asked, an override that another replica applied may be open.
func TestClearSaysWhenItCannotKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := newReplicas(t)
		defer f.run()()
		f.store.FailWith(errors.New("connection refused"))
		if e := f.wantCode(clearOn(f), domain.CodeStateUnavailable); e.RetryAfter == 0 {
			t.Error("no Retry-After")
		}
	})
}
