package service_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/memory"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
	"github.com/apex-tradebill/omni-secrets/service"
)

const instant = time.Nanosecond

func TestWarmSecretIsFetchedAgainAtFourFifthsOfItsTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		f.wantCalls("key", 1)
		f.at(4*time.Minute - instant)
		f.wantCalls("key", 1)
		f.at(4 * time.Minute)
		f.wantCalls("key", 2)
		f.at(8 * time.Minute)
		f.wantCalls("key", 3)
		f.wantServed(apiKey, "key-1", "gsm", false)
	})
}

func TestRefreshAheadIsSpreadByTenPerCent(t *testing.T) {
	for _, c := range []struct {
		spread float64
		at     time.Duration
	}{{-1, 216 * time.Second}, {0, 240 * time.Second}, {1, 264 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, func(cfg *service.Config) { cfg.Spread = func() float64 { return c.spread } })
			defer f.run()()
			f.at(c.at - instant)
			f.wantCalls("key", 1)
			f.at(c.at)
			f.wantCalls("key", 2)
		})
	}
}

func TestReaderOfAWarmSecretNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		release := f.backend.Hold("key")
		defer release()
		f.at(6 * time.Minute) // the refresh began at 4 min and hangs
		before := time.Now()
		f.wantServed(apiKey, "key-1", "gsm", true)
		if waited := time.Since(before); waited != 0 {
			t.Errorf("the read took %v", waited)
		}
	})
}

func TestReadersOfAColdSecretShareOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.SetDelay("key", time.Second)
		defer f.run()()
		var readers sync.WaitGroup
		for range 50 {
			readers.Go(func() { f.wantServed(apiKey, "key-1", "gsm", false) })
		}
		f.wantServed(webhook, "hook-1", "gsm", false) // a slow one blocks no other
		if waited := time.Since(f.start); waited != 0 {
			t.Errorf("the other secret waited %v", waited)
		}
		readers.Wait()
		f.wantCalls("key", 1)
	})
}

// A failed fetch is followed by a pause in which readers are refused; not while somebody fetches all the same.
func TestReaderAfterAFailureSharesTheFetchUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.Fail("key", domain.ReasonUnavailable)
		defer f.run()()
		f.at(20 * time.Second)
		_, err := f.read(apiKey)
		f.wantCode(err, domain.CodeSecretUnavailable)
		calls := f.backend.Calls("key")
		f.backend.Recover("key")
		release := f.backend.Hold("key")
		go func() { _, _ = f.Refresh(t.Context(), cacher, apiKey) }()
		synctest.Wait()
		time.AfterFunc(100*time.Millisecond, release)
		f.wantServed(apiKey, "key-1", "gsm", false)
		f.wantCalls("key", calls+1)
	})
}

// Nor does a reader wait for a place among the fetches of the background.
func TestReaderBeginsTheFetchThatIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.Fail("key", domain.ReasonUnavailable)
		for i := range service.MaxConcurrentFetches {
			name := fmt.Sprintf("slow_%d", i)
			f.config.Catalog = append(f.config.Catalog, domain.Entry{Type: domain.SecretType(name), Backend: "gsm", Reference: name, Version: domain.LatestVersion, Owner: "o", RotationMonths: 12})
			f.backend.Set(name, "v")
		}
		f.build()
		defer f.run()()
		f.apply("injected", 25*time.Minute)
		f.at(4*time.Minute - time.Second)
		for i := range service.MaxConcurrentFetches {
			f.backend.Hold(fmt.Sprintf("slow_%d", i))
		}
		f.at(4*time.Minute + time.Second/2) // they take all places; the next try of the key is half a second off
		f.backend.Recover("key")
		if err := f.ClearOverride(t.Context(), operator, apiKey); err != nil {
			t.Fatal(err)
		}
		f.wantServed(apiKey, "key-1", "gsm", false)
	})
}

func TestReaderOfAColdSecretGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.SetDelay("key", time.Minute)
		defer f.run()()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := f.Read(ctx, reader, apiKey)
		f.wantCode(err, domain.CodeSecretUnavailable)
		f.at(time.Minute)
		f.wantServed(apiKey, "key-1", "gsm", false) // the fetch itself went on
		f.wantCalls("key", 1)
	})
}

func TestOutageServesTheLastValueForTTLAndMaxStale(t *testing.T) {
	for _, reason := range []domain.Reason{
		domain.ReasonUnavailable, domain.ReasonDeadlineExceeded, domain.ReasonResourceExhausted,
		domain.ReasonInternal, domain.ReasonChecksumMismatch,
	} {
		t.Run(string(reason), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				defer f.run()()
				f.backend.Fail("key", reason)
				f.at(5*time.Minute - instant)
				f.wantServed(apiKey, "key-1", "gsm", false)
				f.at(5 * time.Minute)
				f.wantServed(apiKey, "key-1", "gsm", true)
				f.at(35*time.Minute - instant)
				f.wantServed(apiKey, "key-1", "gsm", true)
				f.at(35 * time.Minute)
				_, err := f.read(apiKey)
				e := f.wantCode(err, domain.CodeSecretUnavailable)
				if e.RetryAfter <= 0 || e.RetryAfter > 30*time.Second {
					t.Errorf("RetryAfter is %v", e.RetryAfter)
				}
				if e.Withdrawn {
					t.Error("an outage withdraws the value")
				}
				if got := f.meter.StaleReads(apiKey); got != 2 {
					t.Errorf("%d stale reads counted, want 2", got)
				}
				f.backend.Recover("key")
				f.at(36 * time.Minute)
				f.wantServed(apiKey, "key-1", "gsm", false)
			})
		})
	}
}

func TestFailedFetchIsRetriedWithDoublingBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		f.backend.Fail("key", domain.ReasonUnavailable)
		at, calls := 4*time.Minute, 2
		for _, seconds := range []int{1, 2, 4, 8, 16, 30, 30, 30} {
			wait := time.Duration(seconds) * time.Second
			f.at(at + wait - instant)
			f.wantCalls("key", calls)
			at, calls = at+wait, calls+1
			f.at(at)
			f.wantCalls("key", calls)
		}
		f.wantCalls("hook", 2) // its own pace
	})
}

func TestAuthoritativeAnswerEvictsAtOnce(t *testing.T) {
	for _, reason := range []domain.Reason{domain.ReasonNotFound, domain.ReasonVersionDisabled} {
		t.Run(string(reason), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				defer f.run()()
				f.backend.Fail("key", reason)
				f.at(4*time.Minute - instant)
				f.wantServed(apiKey, "key-1", "gsm", false)
				f.at(4 * time.Minute)
				_, err := f.read(apiKey)
				if e := f.wantCode(err, domain.CodeSecretUnavailable); !e.Withdrawn {
					t.Error("readers who still have the value are not told to let go of it")
				}
				if s := f.status(apiKey); s.Source != domain.SourceEmpty || s.LastFailure != reason {
					t.Errorf("status says %s, %s", s.Source, s.LastFailure)
				}
				f.wantServed(webhook, "hook-1", "gsm", false)
			})
		})
	}
}

func TestDenialAlertsAtOnceAndServesForItsGrace(t *testing.T) {
	for _, reason := range []domain.Reason{domain.ReasonPermissionDenied, domain.ReasonUnauthenticated} {
		t.Run(string(reason), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				defer f.run()()
				f.backend.Fail("key", reason)
				f.at(4 * time.Minute)
				f.wantLogged(domain.AlertCacheFailure, 1)
				f.wantServed(apiKey, "key-1", "gsm", true)
				f.at(9*time.Minute - instant)
				f.wantServed(apiKey, "key-1", "gsm", true)
				f.at(9 * time.Minute)
				_, err := f.read(apiKey)
				if e := f.wantCode(err, domain.CodeSecretUnavailable); !e.Withdrawn {
					t.Error("readers who still have the value are not told to let go of it")
				}
			})
		})
	}
}

func TestOutageAfterADenialDoesNotProlongTheGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		f.backend.Fail("key", domain.ReasonPermissionDenied)
		f.at(4 * time.Minute)
		f.backend.Fail("key", domain.ReasonUnavailable)
		f.at(9 * time.Minute)
		_, err := f.read(apiKey)
		f.wantCode(err, domain.CodeSecretUnavailable)
	})
}

func TestMissingAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.Fail("key", domain.ReasonNotFound)
		defer f.run()()
		if missing := f.NotReady(); len(missing) != 0 {
			t.Errorf("the service is not ready: %v", missing)
		}
		_, err := f.read(apiKey)
		e := f.wantCode(err, domain.CodeSecretUnavailable)
		if e.RetryAfter != time.Second {
			t.Errorf("RetryAfter is %v, want 1s", e.RetryAfter)
		}
		f.wantCalls("key", 1) // the read did not ask again
		if s := f.status(apiKey); s.Source != domain.SourceEmpty {
			t.Errorf("status says %s, want empty", s.Source)
		}
		f.at(5 * time.Minute)
		if got := len(f.logs.named(domain.AlertCacheFailure)); got < 10 {
			t.Errorf("only %d alerts in 5 minutes", got)
		}
		f.backend.Recover("key")
		f.at(6 * time.Minute)
		f.wantServed(apiKey, "key-1", "gsm", false)
		f.wantLogged(domain.AlertCacheRecovered, 1)
	})
}

func TestFailureAlerts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		f.backend.Fail("key", domain.ReasonUnavailable)
		f.at(4*time.Minute + time.Second) // failures at 4:00 and 4:01
		f.wantLogged(domain.AlertCacheFailure, 2)
		f.wantLogged(domain.AlertCacheFailureThreshold, 0)
		f.at(4*time.Minute + 3*time.Second)
		lines := f.wantLogged(domain.AlertCacheFailure, 3)
		threshold := f.wantLogged(domain.AlertCacheFailureThreshold, 1)
		for i, line := range lines {
			if line["secretType"] != string(apiKey) || line["reason"] != "unavailable" || line["consecutiveFailures"] != float64(i+1) {
				t.Errorf("line %d: %v", i, line)
			}
		}
		if threshold[0]["consecutiveFailures"] != 3.0 || threshold[0]["level"] != "ERROR" {
			t.Errorf("threshold: %v", threshold[0])
		}
		f.backend.Recover("key")
		f.at(4*time.Minute + 7*time.Second)
		f.wantLogged(domain.AlertCacheRecovered, 1)
		if got := f.meter.Failures(apiKey, domain.ReasonUnavailable); got != 3 {
			t.Errorf("%d failures counted, want 3", got)
		}
	})
}

func TestEntryPolicyOverridesTheDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(cfg *service.Config) {
			cfg.Catalog[0].TTL, cfg.Catalog[0].MaxStale = time.Minute, 2*time.Minute
		})
		defer f.run()()
		f.backend.Fail("key", domain.ReasonUnavailable)
		f.at(time.Minute)
		f.wantServed(apiKey, "key-1", "gsm", true)
		f.at(3 * time.Minute)
		_, err := f.read(apiKey)
		f.wantCode(err, domain.CodeSecretUnavailable)
	})
}

func TestThousandSecretsAreFetchedThirtyTwoAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := memory.NewBackend()
		f := newFixture(t, func(cfg *service.Config) {
			cfg.Catalog = nil
			for i := range 1000 {
				name := fmt.Sprintf("secret_%d", i)
				backend.Set(name, "v")
				backend.SetDelay(name, time.Second)
				cfg.Catalog = append(cfg.Catalog, domain.Entry{
					Type: domain.SecretType(name), Backend: "gsm", Reference: name, Version: domain.LatestVersion, Owner: "o", RotationMonths: 1,
				})
			}
			cfg.Backends = map[string]ports.SecretBackend{"gsm": backend}
		})
		defer f.run()()
		f.at(32*time.Second - instant) // 1000 / 32 rounds of a second
		if f.NotReady() == nil {
			t.Error("ready too early: more than 32 at a time")
		}
		f.at(32 * time.Second)
		if missing := f.NotReady(); missing != nil {
			t.Errorf("not ready: %v", missing)
		}
		if _, err := f.Refresh(t.Context(), cacher, ""); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(f.start) - 32*time.Second; took != 32*time.Second {
			t.Errorf("an explicit refresh took %v, want 32s", took)
		}
		if got := backend.Peak(); got != 32 {
			t.Errorf("%d at a time, want 32", got)
		}
	})
}

func TestReadIsRefusedWhenItCannotBeAudited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		f.journal.FailWith(errors.New("disk full"))
		_, err := f.read(apiKey)
		f.wantCode(err, domain.CodeAuditUnavailable)
		f.journal.FailWith(nil)
		f.wantServed(apiKey, "key-1", "gsm", false)
	})
}
