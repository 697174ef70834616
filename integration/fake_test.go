package integration_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	omni "github.com/apex-tradebill/omni-secrets/client"
	"github.com/apex-tradebill/omni-secrets/client/clienttest"
	"github.com/apex-tradebill/omni-secrets/domain"
)

// side is a server that the client cannot tell from another one, and what is done to it.
type side struct {
	config func(types ...string) omni.Config

	rotate        func(value string)
	override      func(value string)
	clearOverride func()
	disable       func()
}

const (
	forbidden = domain.SecretType("zk_signing_seed")
	revoked   = "trading_client_secret" // from the start
)

// TestTheFakeServerIsFaithful does the same to the fake server of package clienttest and to the built one, and compares
// what the Go client makes of it.
func TestTheFakeServerIsFaithful(t *testing.T) {
	t.Parallel()
	fake, built := fakeSide(t).observe(t), builtSide(t).observe(t)
	if diff := cmp.Diff(built, fake); diff != "" {
		t.Errorf("the built server (-) and the fake (+) differ:\n%s", diff)
	}
	if len(built) < 25 {
		t.Errorf("only saw %q", built)
	}
}

// observe is the script. What it returns is what a service could see.
func (s side) observe(t *testing.T) []string {
	t.Helper()
	var seen []string
	note := func(what, state string) { seen = append(seen, what+": "+state) }

	c := follow(t, s.config(string(apiKey)))
	get := func(c *followed, name string) string {
		secret, err := c.Get(t.Context(), name)
		return stateOf(secret, err)
	}
	change := func(what string, cause func()) {
		t.Helper()
		cause()
		told := c.next()
		note(what+", told", stateOf(told.Secret, told.Err))
		note(what+", got", get(c, string(apiKey)))
	}
	note("the first state", get(c, string(apiKey)))
	change("rotated", func() { s.rotate("value-2") })
	change("overridden", func() { s.override("injected-1") })
	change("overridden again", func() { s.override("injected-2") })
	change("the override has ended", s.clearOverride)
	change("disabled", s.disable)
	change("overridden without a value", func() { s.override("injected-3") })
	change("and that has ended", s.clearOverride)
	change("rotated again", func() { s.rotate("value-3") })

	all := follow(t, s.config())
	for _, name := range []string{string(apiKey), string(webhook), string(forbidden), revoked, "nothing"} {
		note("of all, "+name, get(all, name))
	}
	some := follow(t, s.config(string(webhook), string(forbidden), "nothing"))
	for _, name := range []string{string(apiKey), string(webhook), string(forbidden), "nothing"} {
		note("of some, "+name, get(some, name))
	}
	some.Close()
	note("closed", get(some, string(webhook)))

	cfg := s.config(string(apiKey))
	cfg.Token = omni.StaticToken("eyJhbGciOiJub25lIn0.e30.")
	stranger, err := omni.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	note("without a valid token", stateOf(omni.Secret{}, stranger.Ready(t.Context())))
	return seen
}

// stateOf describes what a service can tell from a secret, or from an error. Ids and words for people differ.
func stateOf(secret omni.Secret, err error) string {
	if err == nil {
		version, value := secret.Version, string(secret.Value.Reveal())
		if strings.HasPrefix(version, "bg-") {
			version = "bg-…"
		}
		return fmt.Sprintf("%s = %s, version %s from %s, stale %v", secret.Type, value, version, secret.Source, secret.Stale)
	}
	e, ok := errors.AsType[*omni.Error](err)
	if !ok {
		return fmt.Sprintf("%T", err)
	}
	text := fmt.Sprintf("%s has none: %s, with a request id %v", e.SecretType, e.Code, e.RequestID != "")
	for _, sentinel := range []error{omni.ErrUnavailable, omni.ErrStale, omni.ErrRefused, omni.ErrNotFollowed, omni.ErrClosed} {
		if errors.Is(err, sentinel) {
			text += ", " + sentinel.Error()
		}
	}
	return text
}

func fakeSide(t *testing.T) side {
	t.Helper()
	fake := clienttest.NewServer(t)
	fake.Set(string(apiKey), "gsm-value-of-trading_api_key-v1") // as in the emulator
	fake.Set(string(webhook), "gsm-value-of-webhook_shared_secret-v1")
	fake.Set(string(forbidden), "seed")
	fake.Forbid(string(forbidden))
	fake.Set(revoked, "revoked")
	fake.Withdraw(revoked)
	return side{
		config: func(types ...string) omni.Config {
			cfg := fake.Config()
			cfg.SecretTypes = types
			return cfg
		},
		rotate:        func(value string) { fake.Set(string(apiKey), value) },
		override:      func(value string) { fake.Override(string(apiKey), value, 20*time.Minute) },
		clearOverride: func() { fake.ClearOverride(string(apiKey)) },
		disable:       func() { fake.Withdraw(string(apiKey)) },
	}
}

func builtSide(t *testing.T) side {
	t.Helper()
	catalog := "secrets:\n"
	for _, name := range []string{string(apiKey), string(webhook), string(forbidden), revoked} {
		catalog += fmt.Sprintf("  - {type: %s, owner: Security Engineering, backend: gsm, reference: 'projects/omni-test/secrets/%s', version: latest, rotationMonths: 12", name, secretID(domain.SecretType(name)))
		if name == string(forbidden) {
			catalog += ", readers: [somebody-else]"
		}
		catalog += "}\n"
	}
	file := filepath.Join(t.TempDir(), "catalog.yaml")
	if err := os.WriteFile(file, []byte(catalog), 0o600); err != nil {
		t.Fatal(err)
	}
	gsm := startEmulator(t)
	gsm.steer("POST", "/secrets/omni-test/"+secretID(revoked)+"/versions/1/disable", "")
	s := prepareServe(t, gsm.endpoint, "OMNI_CATALOG_FILE="+file).start(t)
	refresh := func(status int) {
		t.Helper()
		s.do("POST", refreshPath, s.service, fmt.Sprintf(`{"secretType":%q}`, apiKey)).want(status, "")
	}
	version := 1
	return side{
		config: func(types ...string) omni.Config {
			return omni.Config{BaseURLs: []string{s.api}, Token: omni.StaticToken(sign(t, s.secret, "svc-trading", domain.ScopeRead.String())), SecretTypes: types}
		},
		rotate: func(value string) {
			t.Helper()
			gsm.rotate(apiKey, value)
			version++
			refresh(http.StatusAccepted)
		},
		override: func(value string) {
			t.Helper()
			s.do("POST", glassPath, s.ops, sealedBody(t, s, value)).want(http.StatusCreated, "")
		},
		clearOverride: func() {
			t.Helper()
			s.do("DELETE", glassPath+"/"+string(apiKey), s.ops, "").want(http.StatusNoContent, "")
		},
		disable: func() {
			t.Helper()
			gsm.steer("POST", fmt.Sprintf("/secrets/omni-test/%s/versions/%d/disable", secretID(apiKey), version), "")
			refresh(http.StatusServiceUnavailable)
		},
	}
}
