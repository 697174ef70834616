package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/envelope"
	"github.com/apex-tradebill/omni-secrets/adapters/memory"
	"github.com/apex-tradebill/omni-secrets/adapters/sqlite"
	"github.com/apex-tradebill/omni-secrets/adapters/token"
	"github.com/apex-tradebill/omni-secrets/domain"
)

const (
	jwtOne = "the-first-secret-that-signs-tokens"
	jwtTwo = "the-second-secret-that-signs-tokens"
)

func generate(t *testing.T) envelope.PrivateKey {
	t.Helper()
	key, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sealedTo is an envelope for key.
func sealedTo(t *testing.T, key envelope.PrivateKey, expiresAt time.Time) domain.Envelope {
	t.Helper()
	e := domain.Envelope{Type: "trading_api_key", ExpiresAt: expiresAt.UTC().Format(time.RFC3339)}
	var err error
	if e.Ciphertext, err = envelope.Seal(key.Public(), e.Type, e.ExpiresAt, domain.NewValue([]byte(plaintext)), 2); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestKeysOfTheEnvironmentAndOfFiles(t *testing.T) {
	one, two := generate(t), generate(t)
	for name, settings := range map[string]map[string]string{
		"of the environment": {
			privateKeyEnv: one.Base64(), previousKeysEnv: two.Base64(), jwtSecretEnv: jwtOne, previousJWTEnv: jwtTwo,
		},
		"of files": {
			privateKeyFileEnv: privateFile(t, one.Base64()+"\n"+two.Base64()+"\n", 0o600),
			jwtSecretEnv:      "", jwtFileEnv: privateFile(t, jwtOne+"\r\n"+jwtTwo, 0o400),
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := configOf(settings)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := strings.Join(c.breakGlass.KeyIDs(), " "), one.Public().ID()+" "+two.Public().ID(); got != want {
				t.Errorf("break-glass keys %s, want %s", got, want)
			}
			tokens, err := token.New(t.Context(), token.Config{HMACSecret: c.JWTSecret.Reveal(), Previous: c.Keys.jwtPrevious})
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{jwtOne, jwtTwo} {
				if err := accepts(t, tokens, secret); err != nil {
					t.Errorf("a token of %s: %v", secret, err)
				}
			}
		})
	}
}

// accepts is what the verifier says of a token that is signed with secret.
func accepts(t *testing.T, tokens *token.Verifier, secret string) error {
	t.Helper()
	text, err := token.Sign([]byte(secret), token.Claims{Subject: "svc", Scopes: []string{"svc.omni.secrets.read"}, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = tokens.Verify(t.Context(), text)
	return err
}

func TestKeySettingsThatCannotBeUsed(t *testing.T) {
	key, other := generate(t).Base64(), generate(t).Base64()
	const production = "projects/prod/secrets/key/versions/latest"
	for name, c := range map[string]struct {
		settings map[string]string
		want     []string
	}{
		"a file for everybody": {
			map[string]string{privateKeyFileEnv: privateFile(t, key, 0o644)}, []string{privateKeyFileEnv, "0644", "chmod 600"},
		},
		"a file that others may write": {
			map[string]string{jwtSecretEnv: "", jwtFileEnv: privateFile(t, jwtOne, 0o602)}, []string{jwtFileEnv, "0602", "chmod 600"},
		},
		"no file":           {map[string]string{privateKeyFileEnv: "/nowhere/key"}, []string{privateKeyFileEnv, "/nowhere/key"}},
		"a folder":          {map[string]string{privateKeyFileEnv: t.TempDir()}, []string{privateKeyFileEnv, "not a regular file"}},
		"an empty file":     {map[string]string{privateKeyFileEnv: privateFile(t, "\n", 0o600)}, []string{privateKeyFileEnv, "is empty"}},
		"a damaged line":    {map[string]string{privateKeyFileEnv: privateFile(t, key+"\n"+plaintext, 0o600)}, []string{privateKeyFileEnv, "key 2", "base64"}},
		"two places":        {map[string]string{privateKeyEnv: key, privateKeyFileEnv: privateFile(t, key, 0o600)}, []string{privateKeyEnv + " and " + privateKeyFileEnv}},
		"a secret and more": {map[string]string{privateKeyEnv: key, privateKeySecretEnv: production}, []string{privateKeyEnv + " and " + privateKeySecretEnv}},
		"a previous key without a current one": {
			map[string]string{previousKeysEnv: key}, []string{previousKeysEnv + " goes with " + privateKeyEnv},
		},
		"a damaged previous key": {
			map[string]string{privateKeyEnv: key, previousKeysEnv: other + "," + plaintext}, []string{previousKeysEnv, "key 3"},
		},
		"a short previous secret": {map[string]string{previousJWTEnv: "short"}, []string{previousJWTEnv, "5 bytes"}},
		"a previous secret alone": {
			map[string]string{jwtSecretEnv: "", "OMNI_JWKS_URL": "https://example.com/keys", previousJWTEnv: jwtOne},
			[]string{previousJWTEnv + " is set without " + jwtSecretEnv},
		},
		"a short secret in a file": {
			map[string]string{jwtSecretEnv: "", jwtFileEnv: privateFile(t, jwtOne+"\nshort\n", 0o600)}, []string{jwtFileEnv, "secret 2 has 5 bytes"},
		},
		"a secret and a file":          {map[string]string{jwtFileEnv: privateFile(t, jwtOne, 0o600)}, []string{jwtFileEnv, "unset " + jwtSecretEnv}},
		"a secret without a version":   {map[string]string{privateKeySecretEnv: "projects/p/secrets/key"}, []string{privateKeySecretEnv, "/versions/VERSION"}},
		"a secret that cannot be":      {map[string]string{privateKeySecretEnv: "key/versions/1"}, []string{privateKeySecretEnv}},
		"a secret of production's":     {map[string]string{privateKeySecretEnv: production, "OMNI_PRODUCTION_PROJECTS": "prod"}, []string{privateKeySecretEnv, "environment violation"}},
		"a file that is much too long": {map[string]string{privateKeyFileEnv: privateFile(t, strings.Repeat(key+"\n", 2000), 0o600)}, []string{privateKeyFileEnv, "larger than"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := configOf(c.settings)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
			for _, secret := range []string{key, other, plaintext, jwtOne} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("a key is repeated: %v", err)
				}
			}
		})
	}
}

// asRoot skips a test that needs root, but where CI runs, which has to run it.
func asRoot(t *testing.T, why string) {
	t.Helper()
	if os.Getuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func TestAFileOfRootMayBeReadByItsGroup(t *testing.T) {
	asRoot(t, "only root makes files of root")
	file := privateFile(t, generate(t).Base64(), 0o440)
	if _, err := readKeyFile(file); err != nil {
		t.Error(err)
	}
	if err := os.Chown(file, 1, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := readKeyFile(file); err == nil {
		t.Error("the same file of another user is taken")
	}
}

func TestAFileOfTokenSecretsIsReadAgain(t *testing.T) {
	file := privateFile(t, jwtOne, 0o600)
	c, err := configOf(map[string]string{jwtSecretEnv: "", jwtFileEnv: file})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := token.New(t.Context(), token.Config{HMACSecret: c.JWTSecret.Reveal(), Previous: c.Keys.jwtPrevious})
	if err != nil {
		t.Fatal(err)
	}
	var log logBuffer
	place := tokenKeys(c, tokens)
	look := func(content string, mode os.FileMode, changed bool, accepted ...string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(file, []byte(content), 0o600), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
		if got := place.look(t.Context(), newLogger(&log, 0)); got != changed {
			t.Errorf("changed is %v, want %v", got, changed)
		}
		for _, secret := range []string{jwtOne, jwtTwo} {
			want := strings.Contains(strings.Join(accepted, " "), secret)
			if err := accepts(t, tokens, secret); (err == nil) != want {
				t.Errorf("a token of %s: %v, want it accepted: %v", secret, err, want)
			}
		}
	}
	look(jwtOne, 0o600, true, jwtOne) // for the first time
	look(jwtOne+"\n", 0o600, false, jwtOne)
	look(jwtTwo+"\n"+jwtOne+"\n", 0o600, true, jwtOne, jwtTwo)
	look("", 0o600, false, jwtOne, jwtTwo) // while it is being written
	look("short", 0o600, false, jwtOne, jwtTwo)
	look(jwtTwo, 0o644, false, jwtOne, jwtTwo)
	look(jwtTwo, 0o600, true, jwtTwo)
	if text := log.String(); strings.Contains(text, jwtOne) || strings.Contains(text, jwtTwo) || !strings.Contains(text, token.SecretID([]byte(jwtTwo))) {
		t.Errorf("log:\n%s", text)
	}
}

func TestBreakGlassKeysOfASecret(t *testing.T) {
	one, two := generate(t), generate(t)
	c, err := configOf(map[string]string{privateKeySecretEnv: "projects/p/secrets/key/versions/latest"})
	if err != nil {
		t.Fatal(err)
	}
	secrets := memory.NewBackend()
	place := breakGlassKeys(c, secrets)
	var log logBuffer
	look := func(changed bool, ids ...string) {
		t.Helper()
		if got := place.look(context.Background(), newLogger(&log, 0)); got != changed {
			t.Errorf("changed is %v, want %v", got, changed)
		}
		if got, want := strings.Join(c.breakGlass.KeyIDs(), " "), strings.Join(ids, " "); got != want {
			t.Errorf("keys %q, want %q", got, want)
		}
	}
	look(false) // it is not there yet: a server starts all the same
	secrets.Set("projects/p/secrets/key", one.Base64())
	look(true, one.Public().ID())
	secrets.Set("projects/p/secrets/key", two.Base64()+"\n"+one.Base64()+"\n")
	look(true, two.Public().ID(), one.Public().ID())
	secrets.Set("projects/p/secrets/key", plaintext)
	look(false, two.Public().ID(), one.Public().ID())
	for _, secret := range []string{one.Base64(), two.Base64(), plaintext} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("a key was logged:\n%s", log.String())
		}
	}
}

func TestASecretWithTheBreakGlassKeyIsReadAtTheStart(t *testing.T) {
	gsm, endpoint := startEmulator(t)
	p := newPatient(t)
	if _, err := gsm.Put("projects/omni-test/secrets/break-glass-key", []byte(p.key.Base64())); err != nil {
		t.Fatal(err)
	}
	delete(p.env, privateKeyEnv)
	p.env["OMNI_GSM_ENDPOINT"], p.env[privateKeySecretEnv] = endpoint, "projects/omni-test/secrets/break-glass-key/versions/latest"
	c, err := readConfig(func(name string) (string, bool) { value, ok := p.env[name]; return value, ok })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var log logBuffer
	a, err := newApp(ctx, c, newLogger(&log, 0))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(c.breakGlass.KeyIDs(), " "), p.key.Public().ID(); got != want || strings.Contains(log.String(), p.key.Base64()) {
		t.Errorf("keys %q, want %q; log:\n%s", got, want, log.String())
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	_ = os.RemoveAll(filepath.Join(p.dir, "journal")) // which doctor would find
	p.examine().want(t, exitOK, "ok       break-glass: the two keys are a pair; its id is "+p.key.Public().ID())
}

func TestDoctorTellsOfPreviousKeys(t *testing.T) {
	p := newPatient(t)
	next := generate(t)
	p.env[privateKeyEnv], p.env[previousKeysEnv] = next.Base64(), p.key.Base64()
	p.examine().want(t, exitOK, "warning  break-glass: OMNI_BREAKGLASS_PUBLIC_KEY is that of the previous key "+p.key.Public().ID(),
		"next: set OMNI_BREAKGLASS_PUBLIC_KEY to "+next.Public().String())
	p.env[publicKeyEnv] = next.Public().String()
	p.examine().want(t, exitOK, "ok       break-glass: the two keys are a pair; its id is "+next.Public().ID()+
		", and the server has 1 previous: "+p.key.Public().ID())
}

func TestDoctorTellsWhichOpenOverridesNeedWhichKey(t *testing.T) {
	p := newPatient(t)
	next := generate(t)
	now := time.Now()
	p.withDatabase(func(db *sqlite.Store) error {
		e := sealedTo(t, p.key, now.Add(25*time.Minute))
		return db.ApplyOverride(t.Context(), domain.Override{
			ID: "bg-OLD", Envelope: e, EnvelopeKind: 2, Digest: "d", ExpiresAt: now.Add(25 * time.Minute), Reason: "drill",
			AppliedBy: domain.Actor{Type: domain.ActorOperator, ID: "ana"}, AppliedAt: now,
		}, domain.Event{
			ID: domain.EventID{Start: 1, Seq: 1}, Type: e.Type, Action: domain.ActionBreakGlassApply, Actor: domain.Automation,
			Result: domain.ResultSuccess, ReplicaID: "replica-1", RecordedAt: now,
		}, nil)
	})
	if o := p.examine(); strings.Contains(o.out, "bg-OLD") {
		t.Errorf("the key that it was sealed for is the current one:\n%s", o.out)
	}
	p.env[privateKeyEnv], p.env[publicKeyEnv], p.env[previousKeysEnv] = next.Base64(), next.Public().String(), p.key.Base64()
	p.examine().want(t, exitOK, "warning  break-glass trading_api_key: the open override bg-OLD needs the previous key "+p.key.Public().ID())
	delete(p.env, previousKeysEnv)
	p.examine().want(t, exitUnhealthy, "failed   break-glass trading_api_key: the override bg-OLD cannot be opened with the keys here",
		"next: give the server the key that it was sealed for as a previous one")
}
