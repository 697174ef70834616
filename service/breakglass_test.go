package service_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/service"
)

var errGone = errors.New("connection refused")

func TestOverrideWinsUntilItExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		o := f.apply("injected", 25*time.Minute)
		s := f.wantServed(apiKey, "injected", domain.SourceBreakGlass, false)
		if s.Version != o.ID || !s.ExpiresAt.Equal(f.start.Add(25*time.Minute)) {
			t.Errorf("served version %s until %v", s.Version, s.ExpiresAt)
		}
		f.backend.Set("key", "key-2") // underneath, the cache goes on
		f.at(25*time.Minute - instant)
		f.wantServed(apiKey, "injected", domain.SourceBreakGlass, false)
		f.at(25 * time.Minute)
		f.wantServed(apiKey, "key-2", "gsm", false)

		cleared := f.wantLogged(domain.AlertBreakGlassCleared, 1)
		if cleared[0]["cause"] != "expired" {
			t.Errorf("cause is %v", cleared[0]["cause"])
		}
		f.at(26 * time.Minute)
		events := f.recorded(domain.ActionBreakGlassClear)
		if len(events) != 1 || events[0].Actor != domain.Automation || events[0].Reason != "expired" || events[0].Version != o.ID {
			t.Errorf("clear events: %+v", events)
		}
		if open, _ := f.store.OpenOverrides(t.Context()); len(open) != 0 {
			t.Errorf("open in the store: %v", open)
		}
	})
}

func TestOverrideIsStoredAndAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		o := f.apply("injected", 25*time.Minute)
		events := f.recorded(domain.ActionBreakGlassApply)
		if len(events) != 1 || events[0].Actor != (domain.Actor{Type: domain.ActorOperator, ID: "sre"}) ||
			events[0].Reason != "drill" || events[0].Type != apiKey || events[0].Version != o.ID {
			t.Errorf("apply events: %+v", events)
		}
		line := f.wantLogged(domain.AlertBreakGlassApplied, 1)[0]
		if line["secretType"] != string(apiKey) || line["appliedBy"] != "sre" || line["reason"] != "drill" || line["level"] != "WARN" {
			t.Errorf("logged %v", line)
		}
		s := f.status(apiKey)
		if s.Source != domain.SourceBreakGlass || !s.OverrideExpiresAt.Equal(f.start.Add(25*time.Minute)) || s.CachedSource != "gsm" {
			t.Errorf("status: %+v", s)
		}
	})
}

func TestOverrideTTLMustBeWithinThirtyMinutes(t *testing.T) {
	for _, c := range []struct {
		name string
		ttl  time.Duration
		ok   bool
	}{
		{"zero", 0, false},
		{"negative", -time.Minute, false},
		{"a nanosecond", instant, true},
		{"thirty minutes", 30 * time.Minute, true},
		{"thirty minutes and a nanosecond", 30*time.Minute + instant, false},
		{"thirty minutes and a second", 30*time.Minute + time.Second, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				defer f.run()()
				_, err := f.ApplyOverride(t.Context(), operator, seal(apiKey, "injected", c.ttl), "")
				if c.ok {
					if err != nil {
						t.Fatal(err)
					}
					return
				}
				f.wantCode(err, domain.CodeInvalidBreakGlassTTL)
				f.wantServed(apiKey, "key-1", "gsm", false)
				if got := f.meter.Failures(apiKey, domain.ReasonBreakGlassTTL); got != 1 {
					t.Errorf("%d failures counted, want 1", got)
				}
			})
		})
	}
}

func TestOverrideIsRefused(t *testing.T) {
	in := func(ttl time.Duration) string { return time.Now().Add(ttl).Format(time.RFC3339Nano) }
	for _, c := range []struct {
		name     string
		call     service.Call
		envelope func() domain.Envelope
		reason   string
		adapt    func(*service.Config)
		want     domain.Code
	}{
		{"without its scope", reader, func() domain.Envelope { return seal(apiKey, "v", time.Minute) }, "", nil, domain.CodeForbidden},
		{"for an unknown type", operator, func() domain.Envelope { return seal("nope", "v", time.Minute) }, "", nil, domain.CodeUnknownSecretType},
		{"when its expiry is no time", operator, func() domain.Envelope {
			return domain.Envelope{Type: apiKey, Ciphertext: "sealed:v", ExpiresAt: "soon"}
		}, "", nil, domain.CodeInvalidBreakGlassTTL},
		{"when it does not open", operator, func() domain.Envelope {
			return domain.Envelope{Type: apiKey, Ciphertext: "garbage", ExpiresAt: in(time.Minute)}
		}, "", nil, domain.CodeInvalidBreakGlassPayload},
		{"with a reason of two lines", operator, func() domain.Envelope { return seal(apiKey, "v", time.Minute) }, "a\nb", nil, domain.CodeInvalidRequest},
		{"with a reason that is too long", operator, func() domain.Envelope { return seal(apiKey, "v", time.Minute) }, strings.Repeat("x", 501), nil, domain.CodeInvalidRequest},
		{"by a server without a key", operator, func() domain.Envelope { return seal(apiKey, "v", time.Minute) }, "", func(c *service.Config) { c.Envelopes = nil }, domain.CodeBreakGlassDisabled},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, func(cfg *service.Config) {
					if c.adapt != nil {
						c.adapt(cfg)
					}
				})
				defer f.run()()
				_, err := f.ApplyOverride(t.Context(), c.call, c.envelope(), c.reason)
				f.wantCode(err, c.want)
				f.wantServed(apiKey, "key-1", "gsm", false)
				events := f.journal.Events()
				if e := events[len(events)-2]; e.Result == domain.ResultSuccess || e.ErrorCode != string(c.want) {
					t.Errorf("audited as %+v", e)
				}
			})
		})
	}
}

func TestReplayedEnvelopeIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		envelope := seal(apiKey, "injected", 25*time.Minute)
		if _, err := f.ApplyOverride(t.Context(), operator, envelope, ""); err != nil {
			t.Fatal(err)
		}
		_, err := f.ApplyOverride(t.Context(), operator, envelope, "")
		f.wantCode(err, domain.CodeInvalidBreakGlassPayload)
		if err := f.ClearOverride(t.Context(), operator, apiKey); err != nil {
			t.Fatal(err)
		}
		_, err = f.ApplyOverride(t.Context(), operator, envelope, "")
		f.wantCode(err, domain.CodeInvalidBreakGlassPayload)
		f.wantServed(apiKey, "key-1", "gsm", false)
		if got := f.meter.Failures(apiKey, domain.ReasonBreakGlassReplay); got != 2 {
			t.Errorf("%d replays counted, want 2", got)
		}
	})
}

func TestOverrideSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		stop := f.run()
		f.apply("injected", 25*time.Minute)
		f.at(10 * time.Minute)
		stop()

		f.build()
		defer f.run()()
		f.wantServed(apiKey, "injected", domain.SourceBreakGlass, false)
		f.at(25 * time.Minute)
		f.wantServed(apiKey, "key-1", "gsm", false)
		f.at(26 * time.Minute)
		if got := len(f.recorded(domain.ActionBreakGlassClear)); got != 1 {
			t.Errorf("%d clear events, want 1", got)
		}
	})
}

func TestOverrideThatExpiredWhileTheServiceWasDownIsEndedAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		stop := f.run()
		f.apply("injected", 25*time.Minute)
		stop()
		f.at(40 * time.Minute)

		f.build()
		defer f.run()()
		f.wantServed(apiKey, "key-1", "gsm", false)
		if got := f.recorded(domain.ActionBreakGlassClear); len(got) != 1 || got[0].Reason != "expired" {
			t.Errorf("clear events: %+v", got)
		}
	})
}

func TestNextOverrideReplacesTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		first := f.apply("one", 25*time.Minute)
		f.apply("two", 10*time.Minute)
		f.wantServed(apiKey, "two", domain.SourceBreakGlass, false)
		events := f.recorded(domain.ActionBreakGlassClear)
		if len(events) != 1 || events[0].Version != first.ID || events[0].Reason != "replaced" {
			t.Errorf("clear events: %+v", events)
		}
		f.at(10 * time.Minute) // the first does not come back
		f.wantServed(apiKey, "key-1", "gsm", false)
	})
}

func TestClear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		f.wantCode(f.ClearOverride(t.Context(), operator, apiKey), domain.CodeNoBreakGlass)
		f.wantCode(f.ClearOverride(t.Context(), operator, "nope"), domain.CodeUnknownSecretType)
		f.apply("injected", 25*time.Minute)
		f.wantCode(f.ClearOverride(t.Context(), reader, apiKey), domain.CodeForbidden)
		f.wantServed(apiKey, "injected", domain.SourceBreakGlass, false)
		if err := f.ClearOverride(t.Context(), operator, apiKey); err != nil {
			t.Fatal(err)
		}
		f.wantServed(apiKey, "key-1", "gsm", false)
		f.wantCode(f.ClearOverride(t.Context(), operator, apiKey), domain.CodeNoBreakGlass)
		var done []domain.Event
		for _, e := range f.recorded(domain.ActionBreakGlassClear) {
			if e.Result == domain.ResultSuccess {
				done = append(done, e)
			}
		}
		if len(done) != 1 || done[0].Actor.ID != "sre" || done[0].Reason != "cleared" {
			t.Errorf("clear events: %+v", done)
		}
	})
}

func TestExplicitRefreshThatSucceedsEndsTheOverride(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		f.apply("injected", 25*time.Minute)
		f.backend.Fail("key", domain.ReasonUnavailable)
		_, err := f.Refresh(t.Context(), cacher, apiKey)
		f.wantCode(err, domain.CodeRefreshFailed)
		f.wantServed(apiKey, "injected", domain.SourceBreakGlass, false)

		f.backend.Recover("key")
		f.backend.Set("key", "key-2")
		f.at(10 * time.Minute) // the background fetches it, and leaves the override alone
		f.wantServed(apiKey, "injected", domain.SourceBreakGlass, false)

		if _, err := f.Refresh(t.Context(), cacher, apiKey); err != nil {
			t.Fatal(err)
		}
		f.wantServed(apiKey, "key-2", "gsm", false)
		e := f.recorded(domain.ActionBreakGlassClear)
		if len(e) != 1 || e[0].Reason != "refreshed" || e[0].Actor.ID != "svc-trading" {
			t.Errorf("clear events: %+v", e)
		}
	})
}

func TestRefreshDoesNotEndAnOverrideThatCameAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		f.backend.SetDelay("key", time.Second)
		done := make(chan error, 1)
		go func() {
			_, err := f.Refresh(t.Context(), cacher, apiKey)
			done <- err
		}()
		synctest.Wait()
		f.apply("injected", 25*time.Minute)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		f.wantServed(apiKey, "injected", domain.SourceBreakGlass, false)
	})
}

func TestStateChangesAreRefusedWhileTheDatabaseIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		f.apply("injected", 25*time.Minute)
		f.store.FailWith(errGone)

		_, err := f.ApplyOverride(t.Context(), operator, seal(apiKey, "other", time.Minute), "")
		f.wantCode(err, domain.CodeStateUnavailable)
		f.wantCode(f.ClearOverride(t.Context(), operator, apiKey), domain.CodeStateUnavailable)
		_, err = f.Refresh(t.Context(), cacher, apiKey)
		f.wantCode(err, domain.CodeRefreshFailed)
		f.wantServed(apiKey, "injected", domain.SourceBreakGlass, false)

		f.at(25 * time.Minute) // it ends on time all the same, and is recorded afterwards
		f.wantServed(apiKey, "key-1", "gsm", false)
		f.at(40 * time.Minute)
		f.store.FailWith(nil)
		f.at(41 * time.Minute)
		if got := f.recorded(domain.ActionBreakGlassClear); len(got) != 1 || got[0].Reason != "expired" {
			t.Errorf("clear events: %+v", got)
		}
	})
}

func TestOverrideThatCannotBeDecryptedAfterARestartIsNotServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		stop := f.run()
		f.apply("injected", 25*time.Minute)
		stop()
		f.config.Envelopes = nil
		f.build()
		defer f.run()()
		f.wantServed(apiKey, "key-1", "gsm", false)
		f.wantLogged("an override cannot be decrypted and is not served; was the break-glass key changed?", 1)
	})
}

func TestEndOfAnOverrideLeavesTheOneThatCameNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		f.apply("first", 25*time.Minute)
		release := f.backend.Hold("key")
		done := make(chan error, 1)
		go func() {
			_, err := f.Refresh(t.Context(), cacher, apiKey)
			done <- err
		}()
		synctest.Wait()
		f.apply("next", 25*time.Minute) // the refresh is to end the first one
		release()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		f.wantServed(apiKey, "next", domain.SourceBreakGlass, false)
	})
}

func TestEndThatAnotherReplicaWroteFirstIsNotAnnouncedHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		o := f.apply("injected", 25*time.Minute)
		elsewhere := domain.Event{ID: domain.EventID{Start: 7, Seq: 1}, Action: domain.ActionBreakGlassClear, Actor: domain.Automation, Result: domain.ResultSuccess, RecordedAt: time.Now()}
		if first, err := f.store.EndOverride(t.Context(), o.ID, domain.EndCleared, elsewhere); err != nil || !first {
			t.Fatal(first, err)
		}
		f.at(26 * time.Minute)
		f.wantServed(apiKey, "key-1", "gsm", false)
		f.wantLogged(domain.AlertBreakGlassCleared, 0)
		rows, err := f.store.ListMetadata(t.Context())
		if err != nil || slices.ContainsFunc(rows, func(m domain.Metadata) bool { return m.CacheSource == domain.SourceBreakGlass }) {
			t.Errorf("metadata: %+v, %v", rows, err)
		}
		if got := len(f.recorded(domain.ActionBreakGlassClear)); got != 1 {
			t.Errorf("%d clear events, want 1", got)
		}
	})
}

func TestOverrideOfADelistedSecretStillEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		stop := f.run()
		f.apply("injected", 25*time.Minute)
		stop()
		f.config.Catalog = f.config.Catalog[1:]
		f.build()
		defer f.run()()
		_, err := f.read(apiKey)
		f.wantCode(err, domain.CodeUnknownSecretType)
		f.at(26 * time.Minute)
		if open, _ := f.store.OpenOverrides(t.Context()); len(open) != 0 {
			t.Errorf("open: %v", open)
		}
		if got := f.recorded(domain.ActionBreakGlassClear); len(got) != 1 || got[0].Reason != "expired" {
			t.Errorf("clear events: %+v", got)
		}
	})
}
