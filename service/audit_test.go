package service_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/service"
)

const (
	saysLost     = "an audit event of a refused or failed call was lost"
	saysRefused  = "the audit journal does not take events; reads are refused"
	saysDatabase = "the database did not take a request"
)

// A caller that goes away has still done what it did, and is no fault of the journal.
func TestEventsAreKeptOfCallersThatWentAway(t *testing.T) {
	for name, c := range map[string]struct {
		call   func(ctx context.Context, f *fixture) error
		action domain.Action
		want   domain.Code // "" for success
	}{
		"a read": {func(ctx context.Context, f *fixture) error {
			_, err := f.Read(ctx, reader, apiKey)
			return err
		}, domain.ActionRead, ""},
		"a read of an unknown type": {func(ctx context.Context, f *fixture) error {
			_, err := f.Read(ctx, reader, "unknown")
			return err
		}, domain.ActionRead, domain.CodeUnknownSecretType},
		"a call without its scope": {func(ctx context.Context, f *fixture) error {
			_, err := f.ListEvents(ctx, reader, domain.EventFilter{})
			return err
		}, domain.ActionAccessDenied, domain.CodeForbidden},
		"a request without a token": {func(ctx context.Context, f *fixture) error {
			_, err := f.Authenticate(ctx, service.Credentials{}, "r-9")
			return err
		}, domain.ActionAccessDenied, domain.CodeUnauthenticated},
		"a preview": {func(ctx context.Context, f *fixture) error {
			_, err := f.PreviewRotation(ctx, operator, apiKey, "2", "")
			return err
		}, domain.ActionRotationPreview, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				defer f.run()()
				f.backend.Set("key", "key-2")
				before := len(f.recorded(c.action))
				gone, cancel := context.WithCancel(t.Context())
				cancel()
				if err := c.call(gone, f); c.want != "" {
					f.wantCode(err, c.want)
				} else if err != nil {
					t.Error(err)
				}
				f.at(time.Second)
				if n := len(f.recorded(c.action)) - before; n != 1 {
					t.Errorf("%d events, want 1", n)
				}
				for _, alarm := range []string{saysLost, saysRefused, saysDatabase} {
					f.wantLogged(alarm, 0)
				}
			})
		})
	}
}

// A preview is finished when its caller gives up meanwhile: it has asked the backend for a value.
func TestPreviewThatItsCallerGivesUpIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.run()()
		f.backend.Set("key", "key-2")
		f.backend.SetDelay("key", time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if p, err := f.PreviewRotation(ctx, operator, apiKey, "2", ""); err != nil || p.Failed != nil {
			t.Errorf("preview: %+v, %v, want that it passed", p, err)
		}
		f.at(3 * time.Second)
		events := f.recorded(domain.ActionRotationPreview)
		if len(events) != 1 || events[0].Result != domain.ResultSuccess {
			t.Errorf("events: %+v, want one of success", events)
		}
		f.wantLogged(saysRefused, 0)
	})
}

// Only a database that fails a caller who is still there is at fault.
func TestListingThatItsCallerGivesUpIsNoFaultOfTheDatabase(t *testing.T) {
	for name, list := range map[string]func(ctx context.Context, f *fixture) error{
		"events": func(ctx context.Context, f *fixture) error {
			_, err := f.ListEvents(ctx, operator, domain.EventFilter{})
			return err
		},
		"follow-ups": func(ctx context.Context, f *fixture) error {
			_, err := f.OpenFollowUps(ctx, operator)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			gone, cancel := context.WithCancel(t.Context())
			cancel()
			f.wantCode(list(gone, f), domain.CodeStateUnavailable)
			f.wantLogged(saysDatabase, 0)
			f.store.FailWith(errBroken)
			f.wantCode(list(t.Context(), f), domain.CodeStateUnavailable)
			f.wantLogged(saysDatabase, 1)
		})
	}
}
