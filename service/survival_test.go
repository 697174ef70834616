package service_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// What the status foretells comes true: with the backend gone, a reader gets something for exactly that long.
func TestSurvivalIsHowLongReadersAreServedInAnOutage(t *testing.T) {
	for _, c := range []struct {
		name  string
		until func(*fixture) // the outage begins where it ends
		want  time.Duration
	}{
		{"just fetched: TTL and MaxStale", func(*fixture) {}, 35 * time.Minute},
		{"fetched a while ago", func(f *fixture) { f.at(3 * time.Minute) }, 32 * time.Minute},
		{"denied: the grace", func(f *fixture) {
			f.backend.Fail("key", domain.ReasonPermissionDenied)
			f.at(6 * time.Minute) // refused since 4 min
		}, 3 * time.Minute},
		{"revoked", func(f *fixture) {
			f.backend.Fail("key", domain.ReasonNotFound)
			f.at(5 * time.Minute)
		}, 0},
		{"an override that ends before the value underneath", func(f *fixture) { f.apply("injected", 10*time.Minute) }, 35 * time.Minute},
		{"an override that ends after the value underneath", func(f *fixture) {
			f.backend.Fail("key", domain.ReasonUnavailable)
			f.at(30 * time.Minute)
			f.apply("injected", 20*time.Minute)
		}, 20 * time.Minute},
		{"an override on nothing", func(f *fixture) {
			f.backend.Fail("key", domain.ReasonNotFound)
			f.at(5 * time.Minute)
			f.apply("injected", 10*time.Minute)
		}, 10 * time.Minute},
		{"an override that has ended", func(f *fixture) {
			f.apply("injected", time.Minute)
			f.at(3 * time.Minute)
		}, 32 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				defer f.run()()
				c.until(f)
				began := time.Since(f.start)
				f.backend.Fail("key", domain.ReasonUnavailable)
				if got := f.status(apiKey).Survival; got != c.want {
					t.Fatalf("Survival is %v, want %v", got, c.want)
				}
				if c.want > 0 {
					f.at(began + c.want - instant)
					if _, err := f.read(apiKey); err != nil {
						t.Errorf("in the last instant: %v", err)
					}
					f.at(began + c.want)
				}
				_, err := f.read(apiKey)
				f.wantCode(err, domain.CodeSecretUnavailable)
				if got := f.status(apiKey).Survival; got != 0 {
					t.Errorf("afterwards Survival is %v", got)
				}
			})
		})
	}
}
