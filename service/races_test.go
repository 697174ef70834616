package service_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/memory"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// apart gives a replica a backend of its own, as if its view of it differed.
func apart(b *fixture) {
	b.backend = memory.NewBackend()
	b.config.Backends = map[string]ports.SecretBackend{"gsm": b.backend}
	b.build()
	b.backend.Set("key", "key-1")
	b.backend.Set("hook", "hook-1")
}

// A rotation that begins on a replica which has not seen the newest version yet holds what the others serve.
func TestBeginOnAReplicaThatIsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplicas(t)
		defer a.run()()
		defer b.run()()
		a.at(time.Minute)
		a.backend.Set("key", "key-2")
		a.backend.Disable("key", 1)
		refreshOn(a)
		b.at(time.Minute + time.Second)
		a.backend.Set("key", "key-3")
		b.begin("3")
		b.at(time.Hour)
		a.wantServed(apiKey, "key-2", "gsm", false)
		b.wantServed(apiKey, "key-2", "gsm", false)
		b.promote()
		b.at(2 * time.Hour)
		a.wantServed(apiKey, "key-3", "gsm", false)
		b.wantServed(apiKey, "key-3", "gsm", false)
	})
}

// refreshOn fetches here alone: a refresh that is asked for is announced to the others.
func refreshOn(f *fixture) {
	f.t.Helper()
	f.config.Replicas = nil
	if _, err := f.Refresh(f.t.Context(), cacher, apiKey); err != nil {
		f.t.Fatal(err)
	}
	synctest.Wait()
}

// A replica that has nothing to serve itself holds what the others serve, too.
func TestBeginOnAReplicaThatIsEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplicas(t)
		defer a.run()()
		apart(b)
		b.backend.Fail("key", domain.ReasonUnavailable)
		defer b.run()()
		a.backend.Set("key", "key-2")
		b.backend.Set("key", "key-2")
		b.backend.Recover("key")
		if st := b.begin("2"); st.InProgress.From != "1" {
			t.Errorf("begun: %+v", st)
		}
		a.at(time.Hour)
		a.wantServed(apiKey, "key-1", "gsm", false)
		b.wantServed(apiKey, "key-1", "gsm", false)
		b.abort()
		a.at(2 * time.Hour)
		a.wantServed(apiKey, "key-1", "gsm", false)
	})
}

// A replica that starts while a secret rotates is ready when that was promoted, even before its first fetch ends.
func TestPromoteBeforeTheFirstFetchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t)
		stop := f.run()
		f.backend.Set("key", "key-2")
		f.begin("2")
		stop()
		f.build()
		f.backend.SetDelay("key", 10*time.Second)
		defer f.run()()
		f.at(time.Second)
		f.backend.SetDelay("key", 0)
		f.promote()
		f.at(time.Minute)
		if missing := f.NotReady(); len(missing) > 0 {
			t.Errorf("not ready: %v", missing)
		}
		f.wantServed(apiKey, "key-2", "gsm", false)
	})
}

func TestPromoteHealsAFailingSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t)
		defer f.run()()
		f.backend.Set("key", "key-2")
		f.begin("2")
		f.backend.Disable("key", 1)
		f.at(10 * time.Minute)
		_, err := f.read(apiKey)
		f.wantCode(err, domain.CodeSecretUnavailable)
		f.promote()
		f.wantServed(apiKey, "key-2", "gsm", false)
		f.wantLogged(domain.AlertCacheRecovered, 1)
	})
}

// A promotion heals every replica within a second, also one that waits before it asks a failing backend again.
func TestPromoteHealsTheOtherReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplicas(t)
		defer a.run()()
		defer b.run()()
		a.backend.Set("key", "key-2")
		a.begin("2")
		a.backend.Disable("key", 1)
		a.at(10*time.Minute + 10*time.Second)
		_, err := b.read(apiKey)
		b.wantCode(err, domain.CodeSecretUnavailable)
		a.promote()
		a.at(10*time.Minute + 11*time.Second)
		b.wantServed(apiKey, "key-2", "gsm", false)
	})
}

// What an operator injected is served as well: the same value is no new one.
func TestPreviewOfTheInjectedValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t)
		defer f.run()()
		f.apply("key-2", 20*time.Minute)
		f.backend.Set("key", "key-2")
		if p, err := f.preview("2", ""); err != nil || p.Failed == nil || p.Failed.Code != domain.CheckVersionUnchanged {
			t.Errorf("%+v, %v", p, err)
		}
	})
}

// A pinned version is served on when what the alias stands for cannot be used.
func TestPinnedVersionOutlivesABadAlias(t *testing.T) {
	for name, spoil := range map[string]func(f *fixture){
		"an empty version":    func(f *fixture) { f.backend.Set("key", "") },
		"a disabled version":  func(f *fixture) { f.backend.Set("key", "key-3"); f.backend.Disable("key", 3) },
		"a version too large": func(f *fixture) { f.backend.Set("key", string(make([]byte, domain.MaxValueBytes+1))) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := rotating(t)
				defer f.run()()
				f.backend.Set("key", "key-2")
				f.begin("2")
				f.promote()
				spoil(f)
				f.at(10 * time.Hour)
				f.wantServed(apiKey, "key-2", "gsm", false)
			})
		})
	}
}

func TestEveryRollbackIsAlerted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t)
		f.backend.Set("key", "key-2")
		defer f.run()()
		for i := range 3 {
			f.backend.SetLatest("key", 1)
			f.at(time.Duration(2*i+1) * time.Hour)
			f.wantLogged(domain.AlertVersionRollback, i+1)
			f.backend.SetLatest("key", 2)
			f.at(time.Duration(2*i+2) * time.Hour)
		}
	})
}

// A version with the value of the one before is no rotation: its deadline and its follow-ups stay.
func TestSameValueIsNoRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t)
		stop := f.run()
		f.apply("injected", time.Minute)
		due := f.status(apiKey).RotationDueAt
		f.backend.Set("key", "key-1")
		f.at(time.Hour)
		f.wantServed(apiKey, "key-1", "gsm", false)
		stop()
		f.build()
		defer f.run()()
		f.at(2 * time.Hour)
		if st := f.status(apiKey); st.Version != "2" || st.NewestVersion != "2" || !st.RotationDueAt.Equal(due) || st.FollowUps != 1 {
			t.Errorf("status: %+v", st)
		}
		f.wantSteps(domain.ActionRotationDetected)
		f.backend.Set("key", "key-3")
		f.at(3 * time.Hour)
		f.wantSteps(domain.ActionRotationDetected, "success 3")
	})
}

// renaming gives versions names that are no numbers.
type renaming struct{ *memory.Backend }

func (r renaming) Fetch(ctx context.Context, reference, version string) (domain.Fetched, error) {
	got, err := r.Backend.Fetch(ctx, reference, version)
	got.Version = "of-" + got.Version
	return got, err
}

// What a file was before the process began is not known: it may have been written anew with the same value.
func TestNamedVersionAfterARestartIsNoRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t)
		f.config.Backends = map[string]ports.SecretBackend{"gsm": renaming{f.backend}}
		f.build()
		stop := f.run()
		f.at(time.Minute)
		stop()
		f.backend.Set("key", "key-1")
		f.build()
		defer f.run()()
		f.at(time.Hour)
		f.wantSteps(domain.ActionRotationDetected)
		f.backend.Set("key", "key-3") // before its eyes
		f.at(2 * time.Hour)
		f.wantSteps(domain.ActionRotationDetected, "success of-3")
	})
}
