package service_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

func (f *fixture) openFollowUps() []domain.FollowUp {
	f.t.Helper()
	open, err := f.OpenFollowUps(f.t.Context(), operator)
	if err != nil {
		f.t.Fatal(err)
	}
	return open
}

func TestOverrideLeavesAFollowUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		o := f.apply("injected", 20*time.Minute)
		f.at(time.Hour) // it has expired
		open := f.openFollowUps()
		if len(open) != 1 || open[0].OverrideID != o.ID || open[0].Type != apiKey || !open[0].OpenedAt.Equal(f.start) ||
			open[0].AppliedBy.ID != "sre" || open[0].Reason != "drill" {
			t.Fatalf("open: %+v", open)
		}
		if st := f.status(apiKey); st.FollowUps != 1 || !st.FollowUpOpenedAt.Equal(f.start) {
			t.Errorf("status: %+v", st)
		}
		if st := f.status(webhook); st.FollowUps != 0 || !st.FollowUpOpenedAt.IsZero() {
			t.Errorf("status of another secret: %+v", st)
		}

		f.at(domain.FollowUpLimit - 15*time.Minute)
		f.wantLogged(domain.AlertFollowUpOpen, 0)
		f.at(domain.FollowUpLimit)
		if line := f.wantLogged(domain.AlertFollowUpOpen, 1)[0]; line["overrideId"] != o.ID || line["appliedBy"] != "sre" || line["hoursOpen"] != 24.0 || line["level"] != "WARN" {
			t.Errorf("alert: %v", line)
		}

		if err := f.CloseFollowUp(t.Context(), operator, o.ID, "the drill's value is worth nothing"); err != nil {
			t.Fatal(err)
		}
		if open := f.openFollowUps(); len(open) != 0 {
			t.Errorf("open: %+v", open)
		}
		f.at(domain.FollowUpLimit + time.Hour)
		f.wantLogged(domain.AlertFollowUpOpen, 1)
		events := f.recorded(domain.ActionWriteMetadata)
		last := events[len(events)-1]
		if last.Type != apiKey || last.Version != o.ID || last.Actor.ID != "sre" || last.Reason != "the drill's value is worth nothing" || last.Result != domain.ResultSuccess {
			t.Errorf("event: %+v", last)
		}
	})
}

func TestRotationSettlesFollowUps(t *testing.T) {
	for name, rotate := range map[string]func(f *fixture){
		"promoted": func(f *fixture) {
			f.begin("2")
			f.promote()
		},
		"found behind the alias": func(f *fixture) { f.at(5 * time.Minute) },
		"recorded": func(f *fixture) {
			f.backend.SetLatest("key", 1)
			if _, err := f.RecordRotation(f.t.Context(), operator, apiKey, time.Now()); err != nil {
				f.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				defer f.run()()
				f.apply("injected", 20*time.Minute)
				f.at(time.Minute)
				f.backend.Set("key", "key-2")
				rotate(f)
				if st := f.Snapshot(time.Now())[0]; st.FollowUps != 0 { // as the metrics show it
					t.Errorf("in memory: %+v", st)
				}
				if open := f.openFollowUps(); len(open) != 0 {
					t.Errorf("open: %+v", open)
				}
				if st := f.status(apiKey); st.FollowUps != 0 {
					t.Errorf("status: %+v", st)
				}
			})
		})
	}
}

func TestFollowUpThatIsNotClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		o := f.apply("injected", 20*time.Minute)
		f.wantCode(f.CloseFollowUp(t.Context(), reader, o.ID, "drill"), domain.CodeForbidden)
		f.wantCode(f.CloseFollowUp(t.Context(), operator, o.ID, ""), domain.CodeInvalidRequest)
		f.wantCode(f.CloseFollowUp(t.Context(), operator, o.ID, "  "), domain.CodeInvalidRequest)
		f.wantCode(f.CloseFollowUp(t.Context(), operator, o.ID, "two\nlines"), domain.CodeInvalidRequest)
		f.wantCode(f.CloseFollowUp(t.Context(), operator, o.ID, strings.Repeat("x", 501)), domain.CodeInvalidRequest)
		f.wantCode(f.CloseFollowUp(t.Context(), operator, "bg-unknown", "drill"), domain.CodeNoFollowUp)
		f.store.FailWith(errGone)
		f.wantCode(f.CloseFollowUp(t.Context(), operator, o.ID, "drill"), domain.CodeStateUnavailable)
		_, err := f.OpenFollowUps(t.Context(), operator)
		f.wantCode(err, domain.CodeStateUnavailable)
		f.store.FailWith(nil)
		_, err = f.OpenFollowUps(t.Context(), reader)
		f.wantCode(err, domain.CodeForbidden)
		if open := f.openFollowUps(); len(open) != 1 {
			t.Errorf("open: %+v", open)
		}
	})
}

func TestFollowUpsReachEveryReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplicas(t)
		defer a.run()()
		defer b.run()()
		o := a.apply("injected", 20*time.Minute)
		synctest.Wait()
		if st := b.Snapshot(time.Now()); st[0].FollowUps != 1 {
			t.Errorf("at the other: %+v", st[0])
		}
		if err := b.CloseFollowUp(t.Context(), operator, o.ID, "drill"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if st := a.Snapshot(time.Now()); st[0].FollowUps != 0 {
			t.Errorf("at the first: %+v", st[0])
		}
	})
}
