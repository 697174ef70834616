package service_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/service"
)

// watcher is one caller's watch.
type watcher struct {
	*service.Watch
	f *fixture
}

func (f *fixture) watch(types ...domain.SecretType) *watcher {
	f.t.Helper()
	w := &watcher{f: f}
	var err error
	if w.Watch, err = f.Watch(f.t.Context(), reader, types); err != nil {
		f.t.Fatal(err)
	}
	return w
}

// wantTold checks what there is to tell now, without waiting: "TYPE VALUE SOURCE [stale]" or "TYPE - [REASON]
// [withdrawn]".
func (w *watcher) wantTold(want ...string) {
	w.f.t.Helper()
	var got []string
	for {
		u, news, err := w.Next(w.f.t.Context(), 0)
		if err != nil {
			w.f.t.Fatalf("after %v: %v", time.Since(w.f.start), err)
		}
		if !news {
			break
		}
		got = append(got, describe(u))
	}
	if !slices.Equal(got, want) {
		w.f.t.Fatalf("after %v: told %q, want %q", time.Since(w.f.start), got, want)
	}
}

func describe(u service.Update) string {
	words := []string{string(u.Type)}
	if u.Available() {
		words = append(words, string(u.Served.Value.Reveal()), u.Served.Source)
		if u.Served.Stale {
			words = append(words, "stale")
		}
	} else {
		words = append(words, "-", string(u.Reason))
		if u.Withdrawn {
			words = append(words, "withdrawn")
		}
	}
	return strings.TrimSpace(strings.Join(words, " "))
}

func TestWatchTellsTheStateAndThenEachChange(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*fixture)
		want   []string
	}{
		{"nothing", func(*fixture) {}, nil},
		{"a refresh that finds the same version", func(f *fixture) { f.refreshed() }, nil},
		{"a background refresh", func(f *fixture) { f.at(4 * time.Minute); f.wantCalls("key", 2) }, nil},
		{"a new version", func(f *fixture) { f.backend.Set("key", "key-2"); f.refreshed() }, []string{"trading_api_key key-2 gsm"}},
		{"an override", func(f *fixture) { f.apply("emergency", time.Minute) }, []string{"trading_api_key emergency break_glass"}},
		{
			"an override that is replaced", func(f *fixture) { f.apply("one", time.Minute); f.apply("two", time.Minute) },
			[]string{"trading_api_key two break_glass"},
		},
		{"an override that came and went", func(f *fixture) { f.apply("emergency", time.Minute); f.refreshed() }, nil},
		{"a failed fetch of a fresh value", func(f *fixture) {
			f.backend.Fail("key", domain.ReasonUnavailable)
			f.at(4*time.Minute + 30*time.Second)
		}, nil},
		{
			"the end of the TTL", func(f *fixture) { f.backend.Fail("key", domain.ReasonUnavailable); f.at(5 * time.Minute) },
			[]string{"trading_api_key key-1 gsm stale"},
		},
		{
			"a denial", func(f *fixture) { f.backend.Fail("key", domain.ReasonPermissionDenied); f.at(4 * time.Minute) },
			[]string{"trading_api_key key-1 gsm stale"},
		},
		{
			"the end of the grace after a denial", func(f *fixture) { f.backend.Fail("key", domain.ReasonPermissionDenied); f.at(9 * time.Minute) },
			[]string{"trading_api_key - permission_denied withdrawn"},
		},
		{
			"a revocation", func(f *fixture) { f.backend.Fail("key", domain.ReasonVersionDisabled); f.at(4 * time.Minute) },
			[]string{"trading_api_key - version_disabled withdrawn"},
		},
		{
			"the end of an outage's time", func(f *fixture) { f.backend.Fail("key", domain.ReasonUnavailable); f.at(35 * time.Minute) },
			[]string{"trading_api_key - unavailable"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				defer f.run()()
				w := f.watch(apiKey)
				w.wantTold("trading_api_key key-1 gsm")
				c.change(f)
				w.wantTold(c.want...)
				w.wantTold()
			})
		})
	}
}

// refreshed refreshes the key on purpose.
func (f *fixture) refreshed() {
	f.t.Helper()
	if _, err := f.Refresh(f.t.Context(), cacher, apiKey); err != nil {
		f.t.Fatal(err)
	}
}

func TestWatchIsToldOfEachTurnAtItsInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		w := f.watch(apiKey)
		w.wantTold("trading_api_key key-1 gsm")
		var got []string
		var following sync.WaitGroup
		following.Go(func() {
			for {
				u, news, err := w.Next(t.Context(), time.Hour)
				if err != nil {
					return
				}
				if news {
					got = append(got, time.Since(f.start).String()+" "+describe(u))
				}
			}
		})
		f.backend.Fail("key", domain.ReasonUnavailable)
		f.at(10 * time.Minute)
		f.apply("emergency", 5*time.Minute)
		f.at(34 * time.Minute)
		f.backend.Recover("key")
		f.at(36 * time.Minute)
		f.backend.Fail("key", domain.ReasonNotFound)
		f.at(40 * time.Minute)
		f.EndWatches()
		following.Wait()
		want := []string{
			"5m0s trading_api_key key-1 gsm stale",
			"10m0s trading_api_key emergency break_glass",
			"15m0s trading_api_key key-1 gsm stale",
			"34m1s trading_api_key key-1 gsm",
			"38m1s trading_api_key - not_found withdrawn",
		}
		if !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	})
}

func TestWatchOfEverythingThatMayBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(c *service.Config) { c.Catalog[1].Readers = []string{"svc-billing"} })
		defer f.run()()
		f.watch().wantTold("trading_api_key key-1 gsm")
	})
}

func TestWatchTellsAnEmptySecretFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.Fail("hook", domain.ReasonUnavailable)
		release := f.backend.Hold("key")
		defer f.run()()
		w := f.watch()
		w.wantTold("trading_api_key -", "webhook_shared_secret - unavailable")
		release()
		synctest.Wait()
		w.wantTold("trading_api_key key-1 gsm")
	})
}

func TestWatchIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(c *service.Config) { c.Catalog[1].Readers = []string{"svc-billing"} })
		defer f.run()()
		onlyHook := service.Call{Principal: domain.Principal{Subject: "svc-trading", Scopes: domain.ScopeRead}}
		for _, c := range []struct {
			name  string
			call  service.Call
			types []domain.SecretType
			want  domain.Code
		}{
			{"without the scope", operator, nil, domain.CodeForbidden},
			{"of an unknown type", reader, []domain.SecretType{apiKey, "nothing"}, domain.CodeUnknownSecretType},
			{"by who is not among the readers", onlyHook, []domain.SecretType{apiKey, webhook}, domain.CodeForbidden},
		} {
			w, err := f.Watch(t.Context(), c.call, c.types)
			if w != nil {
				t.Errorf("%s: there is a watch", c.name)
			}
			f.wantCode(err, c.want)
		}
		f.at(time.Second)
		if denied := len(f.recorded(domain.ActionAccessDenied)); denied != 2 {
			t.Errorf("%d denials are recorded, want 2", denied)
		}
	})
}

func TestWhoMayReadNothingCannotWatchEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(c *service.Config) {
			c.Catalog[0].Readers, c.Catalog[1].Readers = []string{"svc-billing"}, []string{"svc-billing"}
		})
		defer f.run()()
		_, err := f.Watch(t.Context(), reader, nil)
		f.wantCode(err, domain.CodeForbidden)
	})
}

func TestEachValueThatAWatchTellsIsARead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		w := f.watch(apiKey)
		w.wantTold("trading_api_key key-1 gsm")
		o := f.apply("emergency", time.Minute)
		w.wantTold("trading_api_key emergency break_glass")
		f.backend.Fail("key", domain.ReasonNotFound)
		f.at(4 * time.Minute)
		w.wantTold("trading_api_key - not_found withdrawn")
		var got []string
		for _, e := range f.recorded(domain.ActionRead) {
			got = append(got, e.Version+" "+e.Source+" "+e.Actor.ID+" "+e.RequestID)
		}
		if want := []string{"1 gsm svc-trading r-1", o.ID + " break_glass svc-trading r-1"}; !slices.Equal(got, want) {
			t.Errorf("recorded reads %q, want %q", got, want)
		}
		if cached, glass := f.meter.Reads(apiKey, domain.SourceCache), f.meter.Reads(apiKey, domain.SourceBreakGlass); cached != 1 || glass != 1 {
			t.Errorf("%d reads from the cache and %d of the override are counted, want 1 and 1", cached, glass)
		}
	})
}

func TestWatchWithoutAJournalTellsNoValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		f.journal.FailWith(errors.New("disk full"))
		u, news, err := f.watch(apiKey).Next(t.Context(), 0)
		f.wantCode(err, domain.CodeAuditUnavailable)
		if news || u.Available() {
			t.Errorf("told %+v", u)
		}
	})
}

func TestWatchEndsWithItsToken(t *testing.T) {
	for _, c := range []struct {
		name    string
		then    func(*fixture)
		noticed time.Duration // after the token's end
	}{
		{"while nothing happens", func(*fixture) {}, 15 * time.Second},
		{"before a value is told", func(f *fixture) { f.apply("emergency", time.Minute) }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens := new(endingToken)
				f := newFixture(t, func(c *service.Config) { c.Tokens = tokens })
				defer f.run()()
				call, err := f.Authenticate(t.Context(), service.Credentials{Authorization: "Bearer x"}, "r-1")
				if err != nil {
					t.Fatal(err)
				}
				watch, err := f.Watch(t.Context(), call, []domain.SecretType{apiKey})
				if err != nil {
					t.Fatal(err)
				}
				(&watcher{watch, f}).wantTold("trading_api_key key-1 gsm")
				tokens.ended = true
				c.then(f)
				before := time.Now()
				u, _, err := watch.Next(t.Context(), 15*time.Second)
				f.wantCode(err, domain.CodeUnauthenticated)
				if u.Available() {
					t.Error("a value was told")
				}
				if waited := time.Since(before); waited != c.noticed {
					t.Errorf("noticed after %v, want %v", waited, c.noticed)
				}
				f.at(20 * time.Second)
				if reads := len(f.recorded(domain.ActionRead)); reads != 1 {
					t.Errorf("%d reads are recorded, want the first alone", reads)
				}
			})
		})
	}
}

// endingToken accepts every token until it has ended.
type endingToken struct{ ended bool }

func (e *endingToken) Verify(context.Context, string) (domain.Principal, error) {
	if e.ended {
		return domain.Principal{}, errors.New("the token has expired")
	}
	return reader.Principal, nil
}

func TestWatchesEndWhenTheServiceIsAboutToStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		w := f.watch(apiKey)
		w.wantTold("trading_api_key key-1 gsm")
		ended := make(chan error, 1)
		go func() {
			_, _, err := w.Next(t.Context(), time.Hour)
			ended <- err
		}()
		f.at(time.Minute)
		f.EndWatches()
		f.wantCode(<-ended, domain.CodeShuttingDown)
		if waited := time.Since(f.start); waited != time.Minute {
			t.Errorf("it took until %v", waited)
		}
		_, _, err := f.watch(apiKey).Next(t.Context(), time.Hour)
		f.wantCode(err, domain.CodeShuttingDown)
		f.wantServed(apiKey, "key-1", "gsm", false) // requests under way are still answered
	})
}

func TestWatchEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		w, err := f.Watch(ctx, reader, []domain.SecretType{apiKey})
		if err != nil {
			t.Fatal(err)
		}
		(&watcher{w, f}).wantTold("trading_api_key key-1 gsm")
		if n := f.Watches(apiKey); n != 1 {
			t.Errorf("%d watches", n)
		}
		if _, _, err := w.Next(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Next: %v", err)
		}
		synctest.Wait()
		if n := f.Watches(apiKey); n != 0 {
			t.Errorf("%d watches are still known", n)
		}
	})
}

// A thousand watchers, of which one never asks: all others learn of a change in the instant that it is made, and
// the one learns the newest state when it asks.
func TestSlowWatcherHoldsUpNobodyAndGetsTheNewestState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		slow := f.watch(apiKey)
		var following sync.WaitGroup
		told := make(chan string, 10_000)
		for range 1000 {
			w := f.watch(apiKey)
			w.wantTold("trading_api_key key-1 gsm")
			following.Go(func() {
				for {
					u, news, err := w.Next(t.Context(), time.Hour)
					if err != nil {
						return
					}
					if news {
						told <- describe(u)
					}
				}
			})
		}
		synctest.Wait()
		for _, value := range []string{"key-2", "key-3", "key-4"} {
			before := time.Now()
			f.backend.Set("key", value)
			f.refreshed()
			for range 1000 {
				if got := <-told; got != "trading_api_key "+value+" gsm" {
					t.Fatalf("told %s", got)
				}
			}
			if took := time.Since(before); took != 0 {
				t.Errorf("%s took %v", value, took)
			}
		}
		slow.wantTold("trading_api_key key-4 gsm")
		f.EndWatches()
		following.Wait()
	})
}
