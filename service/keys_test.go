package service_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
	"github.com/apex-tradebill/omni-secrets/service"
)

// keyedEnvelopes has keys that come and go: what is after "sealed:" begins with the key.
type keyedEnvelopes struct{ keys atomic.Pointer[[]string] }

func (k *keyedEnvelopes) use(keys ...string) { k.keys.Store(&keys) }

func (k *keyedEnvelopes) Open(e domain.Envelope) (domain.Opened, error) {
	opened, err := plainEnvelopes{}.Open(e)
	keys := k.keys.Load()
	if keys == nil {
		return domain.Opened{}, ports.ErrNoKey
	}
	for _, key := range *keys {
		if err == nil && strings.HasPrefix(string(opened.Value.Reveal()), key) {
			return opened, nil
		}
	}
	return domain.Opened{}, errors.New("sealed for another key")
}

const (
	notDecrypted = "an override cannot be decrypted and is not served; was the break-glass key changed?"
	orphaned     = "an open override was sealed for a break-glass key that is no longer here: this replica serves it until it ends, or until a restart; others do not"
)

func TestAnOverrideWhoseKeyComesBackIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := new(keyedEnvelopes)
		keys.use("old")
		f := newFixture(t, func(c *service.Config) { c.Envelopes = keys })
		stop := f.run()
		f.apply("old key's value", 25*time.Minute)
		stop()

		keys.use("new")
		f.build()
		defer f.run()()
		f.wantServed(apiKey, "key-1", "gsm", false)
		f.wantLogged(notDecrypted, 1)
		f.ReopenOverrides(t.Context())
		f.wantServed(apiKey, "key-1", "gsm", false)

		keys.use("new", "old")
		f.ReopenOverrides(t.Context())
		f.wantServed(apiKey, "old key's value", domain.SourceBreakGlass, false)
		f.at(25 * time.Minute)
		f.wantServed(apiKey, "key-1", "gsm", false)
	})
}

func TestAnOverrideIsServedOnWhenItsKeyIsTakenAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := new(keyedEnvelopes)
		keys.use("old", "new")
		f := newFixture(t, func(c *service.Config) { c.Envelopes = keys })
		defer f.run()()
		f.apply("old key's value", 25*time.Minute)
		f.ReopenOverrides(t.Context())
		f.wantLogged(orphaned, 0)

		keys.use("new")
		f.ReopenOverrides(t.Context())
		f.wantServed(apiKey, "old key's value", domain.SourceBreakGlass, false)
		if line := f.wantLogged(orphaned, 1)[0]; line["secretType"] != string(apiKey) {
			t.Errorf("the warning: %v", line)
		}
	})
}

func TestUntilThereIsAKeyBreakGlassIsDisabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := new(keyedEnvelopes)
		f := newFixture(t, func(c *service.Config) { c.Envelopes = keys })
		defer f.run()()
		_, err := f.ApplyOverride(t.Context(), operator, seal(apiKey, "new key's value", time.Minute), "")
		f.wantCode(err, domain.CodeBreakGlassDisabled)
		keys.use("new")
		f.apply("new key's value", time.Minute)
		f.wantServed(apiKey, "new key's value", domain.SourceBreakGlass, false)
	})
}
