package service_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/service"
)

// validators answers for webhooks and probes by their URLs.
type validators map[string]error

func (v validators) Validate(_ context.Context, rule domain.Validator, _ domain.Candidate) error {
	return v[rule.URL()]
}

const goodHook, badHook, oddHook = "https://hooks.example.com/good", "https://hooks.example.com/bad", "not a URL"

var errOddHook = errors.New("webhook: the URL is malformed")

// rotating is a fixture whose first secret has a second version, which follows the rule of the catalog.
func rotating(t *testing.T, adapt ...func(*service.Config)) *fixture {
	t.Helper()
	f := newFixture(t, append([]func(*service.Config){func(cfg *service.Config) {
		cfg.Catalog[0].Validators = []domain.Validator{{Format: &domain.FormatRule{Pattern: "key-[0-9]+"}}}
		cfg.Validator = validators{
			badHook: &domain.CheckError{Check: "webhook", Code: domain.CheckWebhookRejected, Message: "it answered 403"},
			oddHook: errOddHook,
		}
	}}, adapt...)...)
	return f
}

func (f *fixture) preview(version, webhook string) (service.Preview, error) {
	return f.PreviewRotation(f.t.Context(), operator, apiKey, version, webhook)
}

func (f *fixture) begin(version string) service.SecretStatus {
	f.t.Helper()
	st, err := f.BeginRotation(f.t.Context(), operator, apiKey, version)
	if err != nil {
		f.t.Fatalf("begin: %v", err)
	}
	return st
}

func (f *fixture) promote() service.SecretStatus {
	f.t.Helper()
	st, err := f.PromoteRotation(f.t.Context(), operator, apiKey)
	if err != nil {
		f.t.Fatalf("promote: %v", err)
	}
	return st
}

func (f *fixture) abort() service.SecretStatus {
	f.t.Helper()
	st, err := f.AbortRotation(f.t.Context(), operator, apiKey)
	if err != nil {
		f.t.Fatalf("abort: %v", err)
	}
	return st
}

// wantSteps checks the events of an action: "result version code" each.
func (f *fixture) wantSteps(action domain.Action, want ...string) {
	f.t.Helper()
	synctest.Wait()
	f.at(time.Since(f.start) + time.Second) // the drain
	var got []string
	for _, e := range f.recorded(action) {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Result, e.Version, e.ErrorCode)))
	}
	slices.Sort(got) // refusals come by way of the journal, so later
	slices.Sort(want)
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		f.t.Errorf("%s: %q, want %q", action, got, want)
	}
}

func TestPreview(t *testing.T) {
	for _, c := range []struct {
		name             string
		prepare          func(f *fixture)
		version, webhook string
		failed           domain.CheckCode // "" when it passes
		says             string
	}{
		{"a good version", nil, "2", "", "", ""},
		{"a good version, and the webhook agrees", nil, "2", goodHook, "", ""},
		{"the webhook refuses", nil, "2", badHook, domain.CheckWebhookRejected, "it answered 403"},
		{"no such version", nil, "9", "", domain.CheckVersionUnreadable, "its backend answered not_found"},
		{"a disabled version", func(f *fixture) { f.backend.Disable("key", 2) }, "2", "", domain.CheckVersionUnreadable, "version_disabled"},
		{"an empty version", func(f *fixture) { f.backend.Set("key", "") }, "3", "", domain.CheckVersionUnreadable, "invalid_payload"},
		{"an outage", func(f *fixture) { f.backend.Fail("key", domain.ReasonUnavailable) }, "2", "", domain.CheckVersionUnreadable, "unavailable"},
		{"a damaged version", func(f *fixture) { f.backend.Fail("key", domain.ReasonChecksumMismatch) }, "2", "", domain.CheckVersionUnreadable, "checksum_mismatch"},
		{"the version that is served", nil, "1", "", domain.CheckVersionUnchanged, "the one that is served"},
		{"another version with the same value", func(f *fixture) { f.backend.Set("key", "key-1") }, "3", "", domain.CheckVersionUnchanged, "has its value"},
		{"a value of another form", func(f *fixture) { f.backend.Set("key", "no key") }, "3", "", domain.CheckFormatMismatch, "pattern"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := rotating(t)
				defer f.run()()
				f.backend.Set("key", "key-2")
				if c.prepare != nil {
					c.prepare(f)
				}
				before := f.status(apiKey)
				p, err := f.preview(c.version, c.webhook)
				if err != nil || p.Version != c.version {
					t.Fatalf("%+v, %v", p, err)
				}
				switch {
				case c.failed == "" && p.Failed != nil:
					t.Errorf("failed: %v", p.Failed)
				case c.failed != "" && (p.Failed == nil || p.Failed.Code != c.failed || !strings.Contains(p.Failed.Message, c.says)):
					t.Errorf("failed: %v, want %s", p.Failed, c.failed)
				}
				f.wantServed(apiKey, "key-1", "gsm", false)
				if after := f.status(apiKey); after.Status != domain.RotationActive || after.Version != before.Version || after.RotationDueAt != before.RotationDueAt {
					t.Errorf("it changed the status: %+v", after)
				}
				if c.failed == "" {
					f.wantSteps(domain.ActionRotationPreview, "success "+c.version)
				} else {
					f.wantSteps(domain.ActionRotationPreview, "failure "+c.version+" "+string(c.failed))
				}
			})
		})
	}
}

func TestPreviewRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t)
		defer f.run()()
		f.backend.Set("key", "key-2")
		f.backend.Set("key", "key-3")
		for _, version := range []string{"", "latest", "0", "-1", "02", "2; drop", strings.Repeat("1", 100)} {
			_, err := f.preview(version, "")
			f.wantCode(err, domain.CodeInvalidRequest)
			_, err = f.BeginRotation(t.Context(), operator, apiKey, version)
			f.wantCode(err, domain.CodeInvalidRequest)
		}
		_, err := f.preview("2", oddHook)
		f.wantCode(err, domain.CodeInvalidRequest)
		_, err = f.PreviewRotation(t.Context(), reader, apiKey, "2", "")
		f.wantCode(err, domain.CodeForbidden)
		_, err = f.PreviewRotation(t.Context(), operator, "unknown", "2", "")
		f.wantCode(err, domain.CodeUnknownSecretType)

		f.begin("2")
		if p, err := f.preview("2", ""); err != nil || p.Failed != nil {
			t.Errorf("a preview of the version that it rotates to: %+v, %v", p, err)
		}
		_, err = f.preview("3", "")
		f.wantCode(err, domain.CodeRotationInProgress)
		f.store.FailWith(errGone)
		_, err = f.preview("2", "")
		f.wantCode(err, domain.CodeStateUnavailable)
	})
}

func TestRotationFromBeginToPromote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t)
		defer f.run()()
		f.at(time.Hour)
		due := f.status(apiKey).RotationDueAt
		f.backend.Set("key", "key-2")

		if st := f.begin("2"); st.Status != domain.RotationRotating || st.InProgress.To != "2" || st.InProgress.From != "1" || st.Version != "1" {
			t.Errorf("begun: %+v", st)
		}
		f.at(3 * time.Hour) // refreshed many times
		f.wantServed(apiKey, "key-1", "gsm", false)
		if at := f.status(apiKey).LastValidatedAt; at.Before(f.start.Add(3*time.Hour - 5*time.Minute)) {
			t.Errorf("fetched last at %v, as the status says", at)
		}

		st := f.promote()
		if !st.LastValidatedAt.Equal(f.start.Add(3 * time.Hour)) {
			t.Errorf("fetched last at %v, as the answer says", st.LastValidatedAt)
		}
		if st.Status != domain.RotationActive || st.InProgress.ID != "" || st.Version != "2" || !st.LastRotatedAt.Equal(f.start.Add(3*time.Hour)) {
			t.Errorf("promoted: %+v", st)
		}
		if want := domain.RotationDue(f.start.Add(3*time.Hour), 12); !st.RotationDueAt.Equal(want) || !want.After(due) {
			t.Errorf("due at %v, want %v", st.RotationDueAt, want)
		}
		f.wantServed(apiKey, "key-2", "gsm", false)
		f.at(8 * time.Hour)
		f.wantServed(apiKey, "key-2", "gsm", false)
		f.wantSteps(domain.ActionRotationBegin, "success 2")
		f.wantSteps(domain.ActionRotationPromote, "success 2")
		f.wantSteps(domain.ActionRotationDetected)
		f.wantLogged(domain.EventRotationBegun, 1)
		if line := f.wantLogged(domain.EventRotationPromoted, 1)[0]; line["fromVersion"] != "1" || line["toVersion"] != "2" || line["by"] != "sre" {
			t.Errorf("log: %v", line)
		}
	})
}

func TestAbortedVersionIsNotServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t)
		defer f.run()()
		due := f.status(apiKey).RotationDueAt
		f.backend.Set("key", "key-2")
		f.begin("2")
		if st := f.abort(); st.Status != domain.RotationActive || st.InProgress.ID != "" || st.Version != "1" || !st.RotationDueAt.Equal(due) {
			t.Errorf("aborted: %+v", st)
		}
		f.at(time.Hour) // latest is still version 2
		f.wantServed(apiKey, "key-1", "gsm", false)
		f.wantSteps(domain.ActionRotationAbort, "success 2")

		f.backend.Set("key", "key-3") // somebody mended it
		f.at(2 * time.Hour)
		f.wantServed(apiKey, "key-3", "gsm", false)
		f.wantSteps(domain.ActionRotationDetected, "success 3")
	})
}

func TestRotationBackToAnOlderVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t)
		f.backend.Set("key", "key-2")
		f.backend.Set("key", "key-3")
		defer f.run()()
		f.begin("1")
		f.promote()
		f.at(time.Hour)
		f.wantServed(apiKey, "key-1", "gsm", false)
		f.wantLogged(domain.AlertVersionRollback, 0) // it was decided, it did not happen
	})
}

// Where the catalog names a number, a version is served once it was promoted, and not before.
func TestRotationOfAnEntryWithANumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t, func(cfg *service.Config) { cfg.Catalog[0].Version = "1" })
		stop := f.run()
		f.backend.Set("key", "key-2")
		f.at(time.Hour)
		f.wantServed(apiKey, "key-1", "gsm", false)
		f.begin("2")
		f.promote()
		f.backend.Set("key", "key-3")
		f.at(2 * time.Hour)
		f.wantServed(apiKey, "key-2", "gsm", false)
		stop()
		f.build()
		defer f.run()()
		f.wantServed(apiKey, "key-2", "gsm", false)
		f.wantSteps(domain.ActionRotationDetected)
	})
}

// Every step that is not legal is refused with the code that says how things stand, is audited, and changes nothing.
func TestIllegalSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t)
		defer f.run()()
		f.backend.Set("key", "key-2")
		begin := func() error { _, err := f.BeginRotation(t.Context(), operator, apiKey, "2"); return err }
		promote := func() error { _, err := f.PromoteRotation(t.Context(), operator, apiKey); return err }
		abort := func() error { _, err := f.AbortRotation(t.Context(), operator, apiKey); return err }
		record := func() error { _, err := f.RecordRotation(t.Context(), operator, apiKey, time.Now()); return err }

		f.wantCode(promote(), domain.CodeNoRotation)
		f.wantCode(abort(), domain.CodeNoRotation)
		f.begin("2")
		f.wantCode(begin(), domain.CodeRotationInProgress)
		f.wantCode(record(), domain.CodeRotationInProgress)
		f.promote()
		f.wantCode(promote(), domain.CodeNoRotation)
		f.wantSteps(domain.ActionRotationPromote, "failure  NO_ROTATION", "success 2", "failure  NO_ROTATION")
		f.wantSteps(domain.ActionRotationBegin, "success 2", "failure 2 ROTATION_IN_PROGRESS")
		for _, step := range []func(service.Call) error{
			func(c service.Call) error { _, err := f.BeginRotation(t.Context(), c, apiKey, "2"); return err },
			func(c service.Call) error { _, err := f.PromoteRotation(t.Context(), c, apiKey); return err },
			func(c service.Call) error { _, err := f.AbortRotation(t.Context(), c, apiKey); return err },
			func(c service.Call) error { _, err := f.RecordRotation(t.Context(), c, apiKey, time.Now()); return err },
		} {
			f.wantCode(step(reader), domain.CodeForbidden)
			f.store.FailWith(errGone)
			f.wantCode(step(operator), domain.CodeStateUnavailable)
			f.store.FailWith(nil)
		}
		f.wantServed(apiKey, "key-2", "gsm", false)
	})
}

func TestVersionThatDoesNotPassIsNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t)
		defer f.run()()
		f.backend.Set("key", "no key")
		_, err := f.BeginRotation(t.Context(), operator, apiKey, "2")
		e := f.wantCode(err, domain.CodeVersionRejected)
		if !strings.Contains(e.Message, "format: ") || !strings.Contains(e.Message, "FORMAT_MISMATCH") || strings.Contains(e.Message, "no key") {
			t.Errorf("message: %s", e.Message)
		}
		_, err = f.BeginRotation(t.Context(), operator, apiKey, "3")
		f.wantCode(err, domain.CodeVersionRejected)
		f.backend.Fail("key", domain.ReasonUnavailable)
		_, err = f.BeginRotation(t.Context(), operator, apiKey, "2")
		if e := f.wantCode(err, domain.CodeVersionUnavailable); e.RetryAfter == 0 {
			t.Error("it does not say when to try again")
		}
		if st := f.status(apiKey); st.Status != domain.RotationActive {
			t.Errorf("status: %+v", st)
		}
	})
}

// A promoted version that turns out unreadable is not put in place.
func TestPromoteOfAVersionThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t)
		defer f.run()()
		f.backend.Set("key", "key-2")
		f.begin("2")
		f.backend.Disable("key", 2)
		_, err := f.PromoteRotation(t.Context(), operator, apiKey)
		f.wantCode(err, domain.CodeVersionRejected)
		f.backend.Fail("key", domain.ReasonUnavailable)
		_, err = f.PromoteRotation(t.Context(), operator, apiKey)
		f.wantCode(err, domain.CodeVersionUnavailable)
		f.backend.Recover("key")
		f.at(time.Hour)
		f.wantServed(apiKey, "key-1", "gsm", false)
		if st := f.status(apiKey); st.Status != domain.RotationRotating {
			t.Errorf("status: %+v", st)
		}
		f.abort()
		f.at(2 * time.Hour)
		f.wantServed(apiKey, "key-1", "gsm", false)
	})
}

// The new version is served from the moment of the answer, whatever was being fetched meanwhile.
func TestPromoteDuringAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t)
		defer f.run()()
		f.backend.Set("key", "key-2")
		f.begin("2")
		f.at(4*time.Minute - time.Second)
		f.backend.SetDelay("key", 3*time.Second)
		f.at(4*time.Minute + time.Second) // the refresh of version 1 is under way
		f.backend.SetDelay("key", 0)
		f.promote()
		f.wantServed(apiKey, "key-2", "gsm", false)
		f.at(4*time.Minute + 10*time.Second) // its answer came
		f.wantServed(apiKey, "key-2", "gsm", false)
	})
}

// A rotation that was aborted, and followed by another one, while its version was being read is not promoted.
func TestPromoteIsOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t)
		defer f.run()()
		f.backend.Set("key", "key-2")
		f.backend.Set("key", "key-3")
		f.begin("2")
		f.backend.SetDelay("key", time.Second)
		promoted := make(chan error, 1)
		go func() {
			_, err := f.PromoteRotation(t.Context(), operator, apiKey)
			promoted <- err
		}()
		synctest.Wait()
		f.backend.SetDelay("key", 0)
		f.abort()
		f.begin("3")
		f.wantCode(<-promoted, domain.CodeStateUnavailable)
		f.wantServed(apiKey, "key-1", "gsm", false)
		if st := f.promote(); st.Version != "3" {
			t.Errorf("promoted: %+v", st)
		}
	})
}

func TestPromoteUnderAnOverride(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t)
		defer f.run()()
		f.backend.Set("key", "key-2")
		f.apply("injected", 25*time.Minute)
		f.begin("2")
		f.promote()
		f.wantServed(apiKey, "injected", domain.SourceBreakGlass, false)
		f.at(25 * time.Minute)
		f.wantServed(apiKey, "key-2", "gsm", false)
	})
}

func TestRotationSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t)
		stop := f.run()
		f.backend.Set("key", "key-2")
		f.begin("2")
		stop()
		f.build()
		stop = f.run()
		if st := f.status(apiKey); st.Status != domain.RotationRotating || st.InProgress.To != "2" {
			t.Errorf("status: %+v", st)
		}
		f.wantServed(apiKey, "key-1", "gsm", false)
		f.promote()
		f.backend.SetLatest("key", 1)
		stop()
		f.build()
		defer f.run()()
		f.wantServed(apiKey, "key-2", "gsm", false)
	})
}

func TestRecordedRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t)
		defer f.run()()
		f.at(48 * time.Hour)
		made := f.start.Add(24 * time.Hour)
		st, err := f.RecordRotation(t.Context(), operator, apiKey, made)
		if err != nil || !st.LastRotatedAt.Equal(made) || !st.RotationDueAt.Equal(domain.RotationDue(made, 12)) {
			t.Fatalf("%+v, %v", st, err)
		}
		_, err = f.RecordRotation(t.Context(), operator, apiKey, time.Now().Add(time.Minute))
		f.wantCode(err, domain.CodeInvalidRequest)
		_, err = f.RecordRotation(t.Context(), operator, apiKey, made.Add(-time.Second))
		f.wantCode(err, domain.CodeInvalidRequest)
		if got := f.status(apiKey).LastRotatedAt; !got.Equal(made) {
			t.Errorf("last rotated at %v", got)
		}
	})
}
