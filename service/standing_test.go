package service_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/memory"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
	"github.com/apex-tradebill/omni-secrets/service"
)

func TestVersionBehindTheAliasCountsAsARotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t)
		stop := f.run()
		f.wantSteps(domain.ActionRotationDetected) // the first version is none
		f.backend.Set("key", "key-2")
		f.at(time.Hour)
		f.wantServed(apiKey, "key-2", "gsm", false)
		f.wantSteps(domain.ActionRotationDetected, "success 2")
		st := f.status(apiKey)
		if seen := st.LastRotatedAt.Sub(f.start); seen <= 0 || seen > 5*time.Minute || !st.RotationDueAt.Equal(domain.RotationDue(st.LastRotatedAt, 12)) {
			t.Errorf("rotated %v after the start, due %v", seen, st.RotationDueAt)
		}
		f.wantLogged(domain.EventRotationDetected, 1)

		f.backend.SetLatest("key", 1) // somebody goes back
		f.at(3 * time.Hour)
		f.wantServed(apiKey, "key-1", "gsm", false)
		f.wantLogged(domain.AlertVersionRollback, 1)
		f.backend.SetLatest("key", 2) // and forward again: that is no rotation either
		f.at(5 * time.Hour)
		f.wantServed(apiKey, "key-2", "gsm", false)
		stop()
		f.build()
		defer f.run()()
		f.wantSteps(domain.ActionRotationDetected, "success 2")
		if again := f.status(apiKey); !again.LastRotatedAt.Equal(st.LastRotatedAt) {
			t.Errorf("rotated at %v, want %v", again.LastRotatedAt, st.LastRotatedAt)
		}
	})
}

// What was found while the database was away is counted when it is back.
func TestDetectionOutlivesAnOutageOfTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t)
		defer f.run()()
		f.at(time.Minute)
		f.store.FailWith(errGone)
		f.backend.Set("key", "key-2")
		f.at(time.Hour)
		f.wantServed(apiKey, "key-2", "gsm", false)
		f.store.FailWith(nil)
		f.at(time.Hour + time.Minute)
		f.wantSteps(domain.ActionRotationDetected, "success 2")
	})
}

// Nor is a rotation lost because the version that brought it was followed, before it was counted, by one with the same value.
func TestDetectionOfTheSecondVersionSinceTheLastCount(t *testing.T) {
	for name, second := range map[string]string{"with the value of the first": "key-2", "with another value": "key-3"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := rotating(t)
				defer f.run()()
				f.apply("injected", time.Minute)
				f.at(2 * time.Minute)
				f.store.FailWith(errGone)
				for _, value := range []string{"key-2", second} {
					f.backend.Set("key", value)
					refreshOn(f)
				}
				f.store.FailWith(nil)
				f.at(time.Hour)
				f.wantSteps(domain.ActionRotationDetected, "success 3")
				if st := f.status(apiKey); st.LastRotatedAt.IsZero() || st.FollowUps != 0 {
					t.Errorf("last rotated %v, %d follow-ups", st.LastRotatedAt, st.FollowUps)
				}
				f.backend.Set("key", second) // once that is counted, the same value is no rotation again
				refreshOn(f)
				f.at(2 * time.Hour)
				f.wantSteps(domain.ActionRotationDetected, "success 3")
			})
		})
	}
}

func TestRotationReachesEveryReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplicas(t)
		defer a.run()()
		defer b.run()()
		a.backend.Set("key", "key-2")
		a.begin("2")
		a.at(time.Hour)
		a.wantServed(apiKey, "key-1", "gsm", false)
		b.wantServed(apiKey, "key-1", "gsm", false)
		if st := b.status(apiKey); st.Status != domain.RotationRotating || st.InProgress.To != "2" {
			t.Errorf("status at the other: %+v", st)
		}
		_, err := b.BeginRotation(t.Context(), operator, apiKey, "2")
		b.wantCode(err, domain.CodeRotationInProgress)

		b.promote() // whichever replica is asked
		b.wantServed(apiKey, "key-2", "gsm", false)
		synctest.Wait()
		a.wantServed(apiKey, "key-2", "gsm", false)
		if got := len(a.recorded(domain.ActionRotationPromote)); got != 1 {
			t.Errorf("%d promote events", got)
		}
		a.at(10 * time.Hour)
		a.wantServed(apiKey, "key-2", "gsm", false)
		if got := len(a.recorded(domain.ActionRotationDetected)); got != 0 {
			t.Errorf("%d detected events", got)
		}
	})
}

// A replica that cannot read the promoted version serves the old one for half a second more, and then none.
func TestReplicaThatCannotReadThePromotedVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplicas(t)
		b.backend = memory.NewBackend() // as b sees it
		b.config.Backends = map[string]ports.SecretBackend{"gsm": b.backend}
		b.build()
		b.backend.Set("key", "key-1")
		b.backend.Set("hook", "hook-1")
		defer a.run()()
		defer b.run()()
		a.backend.Set("key", "key-2")
		b.backend.Set("key", "key-2")
		a.begin("2")
		w, err := b.Watch(t.Context(), reader, []domain.SecretType{apiKey})
		if err != nil {
			t.Fatal(err)
		}
		next := func() service.Update {
			t.Helper()
			u, ok, err := w.Next(t.Context(), time.Minute)
			if err != nil || !ok {
				t.Fatalf("Next: %v, %v", ok, err)
			}
			return u
		}
		if u := next(); u.Served.Version != "1" {
			t.Errorf("first state: %+v", u)
		}
		b.backend.Fail("key", domain.ReasonUnavailable)
		a.promote()
		synctest.Wait()
		a.wantServed(apiKey, "key-2", "gsm", false)
		b.wantServed(apiKey, "key-1", "gsm", false)
		b.at(500 * time.Millisecond)
		_, err = b.read(apiKey)
		b.wantCode(err, domain.CodeSecretUnavailable)
		if u := next(); u.Available() || u.Withdrawn || time.Since(b.start) != 500*time.Millisecond {
			t.Errorf("after %v a watcher is told %+v", time.Since(b.start), u)
		}
		if st := b.status(apiKey); st.Source != domain.SourceEmpty || st.CachedSource != "" {
			t.Errorf("status: %+v", st)
		}
		b.backend.Recover("key")
		if u := next(); u.Served.Version != "2" {
			t.Errorf("a watcher is told %+v", u)
		}
		b.wantServed(apiKey, "key-2", "gsm", false)
	})
}

// Further steps give the version that was replaced no further half second.
func TestStepsAfterAPromoteDoNotProlongTheOldVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplicas(t)
		defer a.run()()
		apart(b)
		defer b.run()()
		a.backend.Set("key", "key-2")
		a.backend.Set("key", "key-3")
		a.begin("2")
		b.backend.Fail("key", domain.ReasonUnavailable)
		synctest.Wait()
		a.promote()
		a.at(400 * time.Millisecond)
		b.wantServed(apiKey, "key-1", "gsm", false)
		a.begin("3")
		a.at(600 * time.Millisecond)
		_, err := b.read(apiKey)
		b.wantCode(err, domain.CodeSecretUnavailable)
		a.abort() // nor does one bring it back
		synctest.Wait()
		_, err = b.read(apiKey)
		b.wantCode(err, domain.CodeSecretUnavailable)
		b.backend.Set("key", "key-2")
		b.backend.Recover("key")
		a.at(10 * time.Second)
		b.wantServed(apiKey, "key-2", "gsm", false)
	})
}

func TestRotationBehindTheAliasIsCountedByOneReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplicas(t)
		defer a.run()()
		defer b.run()()
		a.backend.Set("key", "key-2")
		a.at(time.Hour)
		a.wantServed(apiKey, "key-2", "gsm", false)
		b.wantServed(apiKey, "key-2", "gsm", false)
		if got := len(a.recorded(domain.ActionRotationDetected)); got != 1 {
			t.Errorf("%d detected events", got)
		}
		a.backend.Set("key", "key-3")
		a.at(2 * time.Hour)
		if got := len(a.recorded(domain.ActionRotationDetected)); got != 2 {
			t.Errorf("%d detected events", got)
		}
		if x, y := a.status(apiKey).RotationDueAt, b.status(apiKey).RotationDueAt; !x.Equal(y) {
			t.Errorf("deadlines differ: %v, %v", x, y)
		}
	})
}
