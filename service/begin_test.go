package service_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// A replica that is behind does not take the version that the others serve for a new one.
func TestBeginToWhatTheOthersServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplicas(t)
		defer a.run()()
		apart(b)
		defer b.run()()
		a.at(time.Minute)
		b.backend.Fail("key", domain.ReasonUnavailable)
		a.backend.Set("key", "key-2")
		refreshOn(a)
		b.wantServed(apiKey, "key-1", "gsm", false)
		b.backend.Recover("key")
		b.backend.Set("key", "key-2")
		if p, err := b.preview("2", ""); err != nil || p.Failed == nil || p.Failed.Code != domain.CheckVersionUnchanged {
			t.Errorf("preview: %+v, %v", p, err)
		}
		_, err := b.BeginRotation(t.Context(), operator, apiKey, "2")
		b.wantCode(err, domain.CodeVersionRejected)
		if st := b.status(apiKey); st.Status != domain.RotationActive {
			t.Errorf("status: %+v", st)
		}
	})
}

// A replica without a value begins although another one notes the first version meanwhile, and holds that.
func TestBeginWithoutAValueWhileTheFirstVersionIsNoted(t *testing.T) {
	for _, c := range []struct {
		version string
		want    domain.Code
	}{
		{"2", ""},
		{"1", domain.CodeVersionRejected}, // which the other serves
	} {
		t.Run(c.version, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, o := overtakenFixture(t)
				f.backend.Fail("key", domain.ReasonUnavailable)
				defer f.run()()
				f.backend.Set("key", "key-2")
				f.backend.Recover("key")
				o.afterStandings = func() {
					if err := o.Store.RecordServed(t.Context(), []domain.Account{{Type: apiKey, Source: "gsm", Version: "1", First: "1", Origin: f.config.Catalog[0].Origin()}}); err != nil {
						t.Error(err)
					}
				}
				st, err := f.BeginRotation(t.Context(), operator, apiKey, c.version)
				if c.want != "" {
					f.wantCode(err, c.want)
					return
				}
				if err != nil || st.InProgress.From != "1" {
					t.Fatalf("begun: %+v, %v", st.InProgress, err)
				}
				synctest.Wait()
				f.wantServed(apiKey, "key-1", "gsm", false)
			})
		})
	}
}
