package service_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/service"
)

func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		f.backend.Set("key", "key-2")
		r, err := f.Refresh(t.Context(), cacher, "")
		if err != nil || len(r.Types) != 2 || len(r.Failures) != 0 {
			t.Fatalf("refresh of all: %+v, %v", r, err)
		}
		f.wantServed(apiKey, "key-2", "gsm", false)

		f.backend.Fail("key", domain.ReasonPermissionDenied)
		r, err = f.Refresh(t.Context(), cacher, "")
		want := service.RefreshFailure{Type: apiKey, Reason: domain.ReasonPermissionDenied}
		if err != nil || len(r.Types) != 1 || r.Types[0] != webhook || len(r.Failures) != 1 || r.Failures[0] != want {
			t.Fatalf("refresh of all, one denied: %+v, %v", r, err)
		}
		r, err = f.Refresh(t.Context(), cacher, apiKey)
		f.wantCode(err, domain.CodeRefreshFailed)
		if len(r.Failures) != 1 {
			t.Errorf("failures: %+v", r.Failures)
		}
		_, err = f.Refresh(t.Context(), cacher, "nope")
		f.wantCode(err, domain.CodeUnknownSecretType)
		f.at(time.Second)
		if got := len(f.recorded(domain.ActionCacheRefresh)); got != 6 { // 2 + 2 + 1, and the unknown type
			t.Errorf("%d refresh events, want 6", got)
		}
	})
}

// A caller who reads that all is served as before, while the value was just evicted, looks elsewhere for the outage.
func TestRefreshThatFailsSaysWhatIsLeft(t *testing.T) {
	const asBefore = "values and overrides in place are served as before"
	for _, tc := range []struct {
		name     string
		reason   domain.Reason
		override bool
		want     string
	}{
		{"an outage leaves the value", domain.ReasonUnavailable, false, asBefore},
		{"a denial leaves it for its grace", domain.ReasonPermissionDenied, false, asBefore},
		{"a version that is gone", domain.ReasonNotFound, false, "trading_api_key HAS NO VALUE NOW, reads get 503"},
		{"a version that is disabled", domain.ReasonVersionDisabled, false, "trading_api_key HAS NO VALUE NOW, reads get 503"},
		{"a version that is gone, under an override", domain.ReasonNotFound, true, asBefore},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				defer f.run()()
				if tc.override {
					f.apply("an emergency", time.Minute)
				}
				f.backend.Fail("key", tc.reason)
				_, err := f.Refresh(t.Context(), cacher, apiKey)
				f.wantCode(err, domain.CodeRefreshFailed)
				if want := "(trading_api_key: " + string(tc.reason) + "); " + tc.want; !strings.HasSuffix(err.Error(), want) {
					t.Errorf("the error is %q, want %q at its end", err, want)
				}
			})
		})
	}
}

func TestRefreshSeesWhatTheBackendHasAfterItWasAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		release := f.backend.Hold("key")
		defer f.run()() // the first fetch is under way
		done := make(chan error, 1)
		go func() {
			_, err := f.Refresh(t.Context(), cacher, apiKey)
			done <- err
		}()
		synctest.Wait()
		release()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		f.wantCalls("key", 2)
	})
}

func TestWhoMayDoWhat(t *testing.T) {
	all := domain.ScopeOps | domain.ScopeRead | domain.ScopeCacheRefresh
	useCases := []struct {
		name  string
		scope domain.Scope
		call  func(*fixture, service.Call) error
	}{
		{"read", domain.ScopeRead, func(f *fixture, c service.Call) error { _, err := f.Read(f.t.Context(), c, apiKey); return err }},
		{"refresh", domain.ScopeCacheRefresh, func(f *fixture, c service.Call) error {
			_, err := f.Refresh(f.t.Context(), c, "")
			return err
		}},
		{"status", domain.ScopeStatus, func(f *fixture, c service.Call) error { _, err := f.Status(f.t.Context(), c); return err }},
		{"apply", domain.ScopeBreakGlass, func(f *fixture, c service.Call) error {
			_, err := f.ApplyOverride(f.t.Context(), c, seal(apiKey, "v", time.Minute), "")
			return err
		}},
		{"clear", domain.ScopeBreakGlass, func(f *fixture, c service.Call) error {
			f.apply("to be cleared by "+c.Principal.Subject, time.Minute)
			return f.ClearOverride(f.t.Context(), c, apiKey)
		}},
		{"audit", domain.ScopeAudit, func(f *fixture, c service.Call) error {
			_, err := f.ListEvents(f.t.Context(), c, domain.EventFilter{})
			return err
		}},
	}
	for _, u := range useCases {
		t.Run(u.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				defer f.run()()
				exact := service.Call{Principal: domain.Principal{Subject: "exact", Scopes: u.scope}}
				if err := u.call(f, exact); err != nil {
					t.Errorf("with its scope alone: %v", err)
				}
				others := service.Call{Principal: domain.Principal{Subject: "others", Scopes: all &^ u.scope}}
				f.wantCode(u.call(f, others), domain.CodeForbidden)
				f.at(time.Second)
				denied := f.recorded(domain.ActionAccessDenied)
				if len(denied) != 1 || denied[0].Actor.ID != "others" || denied[0].Result != domain.ResultDenied {
					t.Errorf("denials: %+v", denied)
				}
			})
		})
	}
}

func TestReadersOfAnEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(cfg *service.Config) { cfg.Catalog[0].Readers = []string{"svc-trading", "svc-risk-*"} })
		defer f.run()()
		for subject, ok := range map[string]bool{"svc-trading": true, "svc-risk-eu": true, "svc-trading-2": false, "other": false} {
			call := service.Call{Principal: domain.Principal{Subject: subject, Scopes: domain.ScopeRead}}
			_, err := f.Read(t.Context(), call, apiKey)
			if ok && err != nil {
				t.Errorf("%s: %v", subject, err)
			} else if !ok {
				f.wantCode(err, domain.CodeForbidden)
			}
		}
	})
}

func TestUnknownTypeIsAuditedOnlyWhenItCouldBeAName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		for _, typ := range []domain.SecretType{"no_such_secret", "a value pasted by mistake"} {
			_, err := f.read(typ)
			f.wantCode(err, domain.CodeUnknownSecretType)
		}
		f.at(time.Second)
		events := f.recorded(domain.ActionRead)
		if len(events) != 2 || events[0].Type != "no_such_secret" || events[1].Type != "" {
			t.Errorf("events: %+v", events)
		}
	})
}

func TestAnsweredReadIsInTheJournalAndThenInSQL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		f.store.FailWith(errGone) // so that the drain cannot be faster than the look
		f.wantServed(apiKey, "key-1", "gsm", false)
		if n, _ := f.JournalBacklog(time.Now()); n != 1 {
			t.Errorf("%d events in the journal, want 1", n)
		}
		f.store.FailWith(nil)
		f.at(time.Second)
		got := f.recorded(domain.ActionRead)
		if len(got) != 1 {
			t.Fatalf("events: %+v", got)
		}
		e := got[0]
		if e.Type != apiKey || e.Actor != (domain.Actor{Type: domain.ActorService, ID: "svc-trading"}) || e.Version != "1" ||
			e.Source != "gsm" || e.RequestID != "r-1" || e.ReplicaID != "replica-1" || e.Result != domain.ResultSuccess {
			t.Errorf("event: %+v", e)
		}
	})
}

func TestEventsWaitOutADatabaseOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		stop := f.run()
		f.store.FailWith(errGone)
		for i := range 2500 {
			f.at(time.Duration(i) * 100 * time.Millisecond)
			f.wantServed(apiKey, "key-1", "gsm", f.status(apiKey).Stale)
		}
		if n, lag := f.JournalBacklog(time.Now()); n != 2500 || lag < 249*time.Second {
			t.Errorf("backlog %d, lag %v", n, lag)
		}
		f.store.FailWith(nil)
		f.at(256 * time.Second)
		if got := len(f.recorded(domain.ActionRead)); got != 2500 {
			t.Errorf("%d events in SQL, want 2500", got)
		}
		f.wantServed(apiKey, "key-1", "gsm", false)
		stop()
		if err := f.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := len(f.recorded(domain.ActionRead)); got != 2501 {
			t.Errorf("%d events in SQL after the flush, want 2501", got)
		}
	})
}

func TestMetadata(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		f.at(time.Second)
		rows, err := f.store.ListMetadata(t.Context())
		if err != nil || len(rows) != 2 {
			t.Fatalf("%v, %v", rows, err)
		}
		if r := rows[0]; r.CacheSource != "gsm" || r.CacheVersion != "1" || !r.LastValidatedAt.Equal(f.start) ||
			!r.RotationDueAt.Equal(f.start.AddDate(1, 0, 0)) || r.Status != domain.RotationActive {
			t.Errorf("row: %+v", r)
		}
		f.backend.Fail("key", domain.ReasonVersionDisabled)
		f.at(5 * time.Minute)
		rows, _ = f.store.ListMetadata(t.Context())
		if rows[0].CacheSource != domain.SourceEmpty {
			t.Errorf("after the eviction the row says %s", rows[0].CacheSource)
		}
		if got := f.recorded(domain.ActionWriteMetadata); len(got) != 2 || got[0].Actor != domain.Automation {
			t.Errorf("write_metadata events: %+v", got)
		}
	})
}

func TestMetadataCatchesUpAfterADatabaseOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		f.store.FailWith(errGone)
		f.backend.Set("key", "key-2")
		f.at(10 * time.Minute)
		f.store.FailWith(nil)
		f.at(11 * time.Minute)
		if rows, err := f.store.ListMetadata(t.Context()); err != nil || rows[0].CacheVersion != "2" {
			t.Errorf("row: %+v, %v", rows, err)
		}
	})
}

func TestRotationMonitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(cfg *service.Config) { cfg.Policy.TTL = 30 * 24 * time.Hour })
		day := 24 * time.Hour
		due := f.start.AddDate(1, 0, 0).Sub(f.start)
		soon := due - domain.RotationWarning
		defer f.run()()

		f.at(soon - 15*time.Minute)
		f.wantLogged(domain.AlertRotationDueSoon, 0)
		f.at(soon)
		lines := f.wantLogged(domain.AlertRotationDueSoon, 2)
		if l := lines[0]; l["days"] != 30.0 || l["owner"] != "Security Engineering" || l["level"] != "WARN" {
			t.Errorf("due soon: %v", l)
		}
		f.at(due)
		f.wantLogged(domain.AlertRotationOverdue, 0)
		f.at(due + 15*time.Minute)
		f.wantLogged(domain.AlertRotationOverdue, 2)
		f.at(due + day)
		overdue := f.logs.named(domain.AlertRotationOverdue)
		last := overdue[len(overdue)-1]
		if last["consecutiveChecks"] != 96.0 || last["days"] != 1.0 || last["level"] != "WARN" {
			t.Errorf("overdue: %v", last)
		}
		if f.status(apiKey).Rotation != domain.RotationOverdue {
			t.Error("status does not say overdue")
		}
	})
}

func TestRotationMonitorChecksAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		row := domain.NewMetadata(f.config.Catalog[0], "test", f.start.AddDate(-1, 0, -3))
		event := func(domain.SecretType) domain.Event {
			return domain.Event{ID: domain.EventID{Start: 1, Seq: 1}, Action: domain.ActionWriteMetadata, Actor: domain.Automation, Result: domain.ResultSuccess, RecordedAt: f.start}
		}
		if err := f.store.EnsureMetadata(t.Context(), []domain.Metadata{row}, event); err != nil {
			t.Fatal(err)
		}
		defer f.run()()
		line := f.wantLogged(domain.AlertRotationOverdue, 1)[0]
		if line["days"] != 3.0 || line["consecutiveChecks"] != 1.0 {
			t.Errorf("overdue: %v", line)
		}
		f.store.FailWith(errGone) // goes by what it read last
		f.at(15 * time.Minute)
		f.wantLogged(domain.AlertRotationOverdue, 2)
	})
}

func TestStatusWorksWhileTheDatabaseIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		want := f.status(apiKey).RotationDueAt
		f.at(time.Minute)
		f.store.FailWith(errGone)
		if s := f.status(apiKey); !s.RotationDueAt.Equal(want) || s.Age != time.Minute || s.Source != "gsm" {
			t.Errorf("status: %+v", s)
		}
	})
}
