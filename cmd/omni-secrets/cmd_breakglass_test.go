package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/envelope"
	"github.com/apex-tradebill/omni-secrets/domain"
)

const (
	applyRoute = "POST /ops/apex-omni/secrets/break-glass"
	clearRoute = "DELETE /ops/apex-omni/secrets/break-glass/trading_api_key"
)

// breakGlassAPI is a server that opens envelopes and serves what was in the last one.
type breakGlassAPI struct {
	*fakeAPI
	publicKey string

	mu      sync.Mutex
	applied struct {
		SecretType, Ciphertext, ExpiresAt, Reason string
	}
	opened domain.Opened
}

// newBreakGlassAPI starts a server whose status tells of an override once it was asked late times before.
func newBreakGlassAPI(t *testing.T, late int) *breakGlassAPI {
	t.Helper()
	key, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	opener, err := envelope.NewOpener(key, true)
	if err != nil {
		t.Fatal(err)
	}
	api := &breakGlassAPI{publicKey: key.Public().String()}
	api.fakeAPI = newFakeAPI(t, map[string]http.HandlerFunc{
		applyRoute: func(w http.ResponseWriter, r *http.Request) {
			api.mu.Lock()
			defer api.mu.Unlock()
			decoder := json.NewDecoder(r.Body)
			decoder.DisallowUnknownFields()
			if err := decoder.Decode(&api.applied); err != nil {
				t.Errorf("request: %v", err)
			}
			e := domain.Envelope{Type: domain.SecretType(api.applied.SecretType), Ciphertext: api.applied.Ciphertext, ExpiresAt: api.applied.ExpiresAt}
			if api.opened, err = opener.Open(e); err != nil {
				refuse(w, 422, "INVALID_BREAK_GLASS_PAYLOAD", err.Error())
				return
			}
			answer(201, fmt.Sprintf(`{"secretType":%q,"expiresAt":%q}`, e.Type, e.ExpiresAt))(w, r)
		},
		statusRoute: func(w http.ResponseWriter, r *http.Request) {
			api.mu.Lock()
			defer api.mu.Unlock()
			if late--; late >= 0 {
				answer(200, `{"data":[{"secretType":"trading_api_key","cacheSource":"gsm"}],"updatedAt":"2026-03-01T12:00:00.000Z"}`)(w, r)
				return
			}
			expires, _ := time.Parse(time.RFC3339, api.applied.ExpiresAt)
			answer(200, fmt.Sprintf(`{"data":[{"secretType":%q,"cacheSource":"break_glass","breakGlassExpiresAt":%q}],"updatedAt":%q}`,
				api.applied.SecretType, expires.Format("2006-01-02T15:04:05.000Z"), expires.Add(-24*time.Minute).Format(time.RFC3339)))(w, r)
		},
	})
	return api
}

func (a *breakGlassAPI) process() process {
	p := a.fakeAPI.process()
	p.env[publicKeyEnv] = a.publicKey
	return p
}

func TestBreakGlassAsTheRunbookSays(t *testing.T) {
	api := newBreakGlassAPI(t, 0)
	path := privateFile(t, plaintext, 0o600)
	before := time.Now()
	o := process{env: map[string]string{publicKeyEnv: api.publicKey}}.run(t, "breakglass",
		"--secretType", "trading_api_key", "--secret-value-file", path, "--ttl", "25m", "--api-url", api.url, "--token", testToken)
	after := time.Now()

	o.want(t, exitOK, "The override of trading_api_key is in place", `cacheSource="break_glass" until `+api.applied.ExpiresAt+" (24m0s left)",
		"omni-secrets breakglass clear --secret-type trading_api_key --api-url "+api.url,
		"omni-secrets refresh --secret-type trading_api_key --api-url "+api.url, "shred -u "+path)
	if o.err != "" {
		t.Errorf("warnings:\n%s", o.err)
	}
	if got := string(api.opened.Value.Reveal()); got != plaintext || api.opened.Version != 2 {
		t.Errorf("the server decrypted %q from version %d", got, api.opened.Version)
	}
	expires, err := time.Parse("2006-01-02T15:04:05Z", api.applied.ExpiresAt)
	if err != nil || expires.Before(before.Add(25*time.Minute-time.Second)) || expires.After(after.Add(25*time.Minute)) {
		t.Errorf("expiresAt %s, %v", api.applied.ExpiresAt, err)
	}
	requests := api.requests()
	if len(requests) != 2 || requests[0].Method+" "+requests[0].Path != applyRoute || requests[1].Method+" "+requests[1].Path != statusRoute {
		t.Fatalf("requests: %v", requests)
	}
	if requests[0].ContentType != "application/json" || strings.Contains(requests[0].Body, plaintext) || strings.Contains(requests[0].Body, "reason") {
		t.Errorf("request: %v", requests[0])
	}
}

func TestBreakGlassOptions(t *testing.T) {
	file := privateFile(t, plaintext+"\n", 0o600)
	for _, tc := range []struct {
		name    string
		args    []string
		stdin   string
		value   string
		version int
		reason  string
		want    string
	}{
		{"newline kept", []string{"--secret-value-file", file}, "", plaintext + "\n", 2, "", "--trim-newline leaves it out"},
		{"newline trimmed", []string{"--secret-value-file", file, "--trim-newline"}, "", plaintext, 2, "", "in place"},
		{"carriage return trimmed", []string{"--secret-value-file", "-", "--trim-newline"}, plaintext + "\r\n", plaintext, 2, "", "in place"},
		{"lone carriage return kept", []string{"--secret-value-file", "-", "--trim-newline"}, plaintext + "\r", plaintext + "\r", 2, "", "in place"},
		{"one newline trimmed", []string{"--secret-value-file", "-", "--trim-newline"}, plaintext + "\n\n", plaintext + "\n", 2, "", "in place"},
		{"standard input", []string{"--secret-value-file", "-"}, plaintext, plaintext, 2, "", "in place"},
		{"largest value", []string{"--secret-value-file", "-"}, strings.Repeat("x", 64<<10), strings.Repeat("x", 64<<10), 2, "", "in place"},
		{"largest value and its newline", []string{"--secret-value-file", "-", "--trim-newline"}, strings.Repeat("x", 64<<10) + "\r\n", strings.Repeat("x", 64<<10), 2, "", "in place"},
		{"version 1", []string{"--secret-value-file", "-", "--envelope-version", "1"}, plaintext, plaintext, 1, "", "in place"},
		{"reason", []string{"--secret-value-file", "-", "--reason", " INC-1234 "}, plaintext, plaintext, 2, "INC-1234", "in place"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api := newBreakGlassAPI(t, 0)
			p := api.process()
			p.stdin = tc.stdin
			p.run(t, append([]string{"breakglass", "--secret-type", "trading_api_key", "--ttl", "25m"}, tc.args...)...).want(t, exitOK, tc.want)
			if got := string(api.opened.Value.Reveal()); got != tc.value || api.opened.Version != tc.version || api.applied.Reason != tc.reason {
				t.Errorf("the server got %d bytes in version %d because of %q", len(got), api.opened.Version, api.applied.Reason)
			}
		})
	}
}

func TestBreakGlassFromStdinHasNothingToShred(t *testing.T) {
	api := newBreakGlassAPI(t, 0)
	p := api.process()
	p.stdin = plaintext
	o := p.run(t, "breakglass", "--secret-type", "trading_api_key", "--ttl", "25m", "--secret-value-file", "-")
	o.want(t, exitOK)
	if strings.Contains(o.out, "shred") {
		t.Errorf("standard output:\n%s", o.out)
	}
}

func TestBreakGlassAsJSON(t *testing.T) {
	api := newBreakGlassAPI(t, 0)
	p := api.process()
	p.stdin = plaintext
	o := p.run(t, "breakglass", "--secret-type", "trading_api_key", "--ttl", "25m", "--secret-value-file", "-", "-o", "json")
	o.want(t, exitOK)
	var got map[string]string
	if err := json.Unmarshal([]byte(o.out), &got); err != nil || got["cacheSource"] != "break_glass" || got["expiresAt"] != api.applied.ExpiresAt || got["secretType"] != "trading_api_key" {
		t.Errorf("%v: %s", err, o.out)
	}
}

func TestBreakGlassWarnsOfSharedPlaintext(t *testing.T) {
	for _, mode := range []struct {
		bits os.FileMode
		warn bool
	}{{0o600, false}, {0o400, false}, {0o640, true}, {0o604, true}, {0o644, true}, {0o622, false}} {
		t.Run(fmt.Sprintf("%04o", mode.bits), func(t *testing.T) {
			api := newBreakGlassAPI(t, 0)
			path := privateFile(t, plaintext, 0o600)
			if err := os.Chmod(path, mode.bits); err != nil {
				t.Fatal(err)
			}
			o := api.process().run(t, "breakglass", "--secret-type", "trading_api_key", "--ttl", "25m", "--secret-value-file", path)
			o.want(t, exitOK)
			if strings.Contains(o.err, "chmod 600 "+path) != mode.warn {
				t.Errorf("standard error:\n%s", o.err)
			}
		})
	}
}

// Nothing may be sent when something is wrong that can be seen here.
func TestBreakGlassChecksBeforeItSends(t *testing.T) {
	key, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	good := key.Public().String()
	file := privateFile(t, plaintext, 0o600)
	for _, tc := range []struct {
		name string
		key  string // in the environment
		args string
		code int
		want string
	}{
		{"no type", good, "--ttl 25m --secret-value-file FILE", exitUsage, "--secret-type is missing"},
		{"no file", good, "--ttl 25m --secret-type a", exitUsage, "--secret-value-file is missing"},
		{"no ttl", good, "--secret-type a --secret-value-file FILE", exitUsage, "--ttl is missing or 0"},
		{"ttl without a unit", good, "--ttl 25 --secret-type a --secret-value-file FILE", exitUsage, `invalid argument "25"`},
		{"ttl of words", good, "--ttl soon --secret-type a --secret-value-file FILE", exitUsage, `invalid argument "soon"`},
		{"ttl of zero", good, "--ttl 0s --secret-type a --secret-value-file FILE", exitUsage, "--ttl is missing or 0"},
		{"negative ttl", good, "--ttl=-5m --secret-type a --secret-value-file FILE", exitUsage, "too short"},
		{"ttl under a second", good, "--ttl 999ms --secret-type a --secret-value-file FILE", exitUsage, "too short"},
		{"ttl over the limit", good, "--ttl 30m1s --secret-type a --secret-value-file FILE", exitUsage, "--ttl 30m1s is too long: an override lasts at most 30m"},
		{"unknown envelope", good, "--envelope-version 3 --ttl 25m --secret-type a --secret-value-file FILE", exitUsage, "it is 1 or 2"},
		{"negative confirmation", good, "--confirm-timeout=-1s --ttl 25m --secret-type a --secret-value-file FILE", exitUsage, "--confirm-timeout"},
		{"reason of two lines", good, "--ttl 25m --secret-type a --secret-value-file FILE --reason INC-1\nb", exitUsage, "--reason: reason must be one line"},
		{"reason that is too long", good, "--ttl 25m --secret-type a --secret-value-file FILE --reason " + strings.Repeat("x", 501), exitUsage, "--reason: reason is longer than 500 characters"},
		{"no key", "", "--ttl 25m --secret-type a --secret-value-file FILE", exitConfig, "set OMNI_BREAKGLASS_PUBLIC_KEY"},
		{"bad key in the environment", "AAAA", "--ttl 25m --secret-type a --secret-value-file FILE", exitConfig, "OMNI_BREAKGLASS_PUBLIC_KEY: the public key has 3 bytes"},
		{"bad key in the flag", good, "--public-key !! --ttl 25m --secret-type a --secret-value-file FILE", exitUsage, "--public-key: the public key is not base64"},
		{"missing file", good, "--ttl 25m --secret-type a --secret-value-file /no/such/file", exitUsage, "/no/such/file"},
		{"directory", good, "--ttl 25m --secret-type a --secret-value-file .", exitUsage, "is a directory"},
		{"empty value", good, "--ttl 25m --secret-type a --secret-value-file -", exitUsage, "standard input is empty"},
		{"token in the clear", good, "--api-url http://omni.example.com --ttl 25m --secret-type a --secret-value-file FILE", exitUsage, "in the clear"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api := newFakeAPI(t, nil)
			p := api.process()
			p.env[publicKeyEnv] = tc.key
			args := strings.Split(strings.ReplaceAll(tc.args, "FILE", file), " ")
			p.run(t, append([]string{"breakglass"}, args...)...).want(t, tc.code, tc.want)
			if sent := api.requests(); len(sent) > 0 {
				t.Errorf("sent: %v", sent)
			}
		})
	}
}

func TestBreakGlassRefusesValues(t *testing.T) {
	for _, tc := range []struct{ name, stdin, flag, want string }{
		{"nothing but a newline, trimmed", "\n", "--trim-newline=true", "is empty"},
		{"too large", strings.Repeat("x", 64<<10+1), "--trim-newline=false", "more than 64 KiB"},
		{"too large by its newline", strings.Repeat("x", 64<<10) + "\n", "--trim-newline=false", "more than 64 KiB"},
		{"far too large", strings.Repeat("x", 1<<20), "--trim-newline=true", "more than 64 KiB"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api := newBreakGlassAPI(t, 0)
			p := api.process()
			p.stdin = tc.stdin
			p.run(t, "breakglass", "--secret-type", "trading_api_key", "--ttl", "25m", "--secret-value-file", "-", tc.flag).want(t, exitUsage, tc.want)
			if sent := api.requests(); len(sent) > 0 {
				t.Errorf("sent: %v", sent)
			}
		})
	}
}

// Who is asked for the value, or waits for a pipe, can change their mind.
func TestInterruptWhileTheValueIsRead(t *testing.T) {
	api := newBreakGlassAPI(t, 0)
	env := api.process().env
	ctx, cancel := context.WithCancel(t.Context())
	stdin, writer := io.Pipe()
	defer writer.Close() // which ends what still reads
	go func() {
		_, _ = io.WriteString(writer, plaintext) // returns when it was read
		cancel()
	}()
	var stderr strings.Builder
	code := run(ctx, []string{"breakglass", "--secret-type", "trading_api_key", "--ttl", "25m", "--secret-value-file", "-"},
		func(name string) (string, bool) { value, ok := env[name]; return value, ok }, stdin, io.Discard, &stderr)
	if want := "omni-secrets: read the value: interrupted; nothing was sent\n"; code != exitFailure || stderr.String() != want {
		t.Errorf("exit code %d:\n%s", code, stderr.String())
	}
	if sent := api.requests(); len(sent) > 0 {
		t.Errorf("sent: %v", sent)
	}
}

func TestBreakGlassWaitsForTheReplicaThatAnswers(t *testing.T) {
	api := newBreakGlassAPI(t, 2)
	p := api.process()
	p.stdin = plaintext
	p.run(t, "breakglass", "--secret-type", "trading_api_key", "--ttl", "25m", "--secret-value-file", "-", "--confirm-timeout", "1h").want(t, exitOK, "in place")
	if n := len(api.requests()); n != 4 {
		t.Errorf("%d requests, want 1 to apply and 3 for the status", n)
	}
}

func TestBreakGlassThatIsNotConfirmed(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status http.HandlerFunc
		code   int
		want   []string
	}{
		{
			"still the backend's value", answer(200, `{"data":[{"secretType":"trading_api_key","cacheSource":"gsm"}],"updatedAt":"2026-03-01T12:00:00Z"}`),
			exitFailure,
			[]string{`says cacheSource="gsm" and not the new override`, "omni.alert.break_glass_applied"},
		},
		{
			"an earlier override", answer(200, `{"data":[{"secretType":"trading_api_key","cacheSource":"break_glass","breakGlassExpiresAt":"2026-03-01T12:20:00Z"}],"updatedAt":"2026-03-01T12:00:00Z"}`),
			exitFailure,
			[]string{"not the new override"},
		},
		{"not in the status", answer(200, `{"data":[],"updatedAt":"2026-03-01T12:00:00Z"}`), exitFailure, []string{"not the new override"}},
		{
			"status not allowed", refusing(403, "FORBIDDEN", "the token does not allow this"), exitNotAllowed,
			[]string{"the server accepted the override, but reading the status back failed", "lacks scope ops.omni.secrets.read"},
		},
		{"status unavailable", refusing(503, "STATE_UNAVAILABLE", "no database"), exitUnavailable, []string{"the server accepted the override, but"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api := newBreakGlassAPI(t, 0)
			api.routes[statusRoute] = tc.status
			p := api.process()
			p.stdin = plaintext
			p.run(t, "breakglass", "--secret-type", "trading_api_key", "--ttl", "25m", "--secret-value-file", "-", "--confirm-timeout", "0").want(t, tc.code, tc.want...)
		})
	}
}

func TestBreakGlassThatIsRefused(t *testing.T) {
	for _, tc := range []struct {
		name  string
		apply http.HandlerFunc
		code  int
		want  []string
	}{
		{"wrong key", refusing(422, "INVALID_BREAK_GLASS_PAYLOAD", "the envelope does not decrypt"), exitRefused, []string{"apply the override: the envelope does not decrypt", publicKeyEnv}},
		{"not allowed", refusing(403, "FORBIDDEN", "no"), exitNotAllowed, []string{"lacks scope ops.omni.secrets.breakglass"}},
		{"break-glass off", refusing(503, "BREAK_GLASS_DISABLED", "there is no key"), exitUnavailable, []string{"OMNI_BREAKGLASS_PRIVATE_KEY"}},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, exitUnavailable, []string{"may be in place all the same"}},
		{"clock", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
			refuse(w, 422, "INVALID_BREAK_GLASS_TTL", "expiresAt is more than 30 minutes ahead")
		}, exitRefused, []string{"the server's clock reads "}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api := newBreakGlassAPI(t, 0)
			api.routes[applyRoute] = tc.apply
			p := api.process()
			p.stdin = plaintext
			p.run(t, "breakglass", "--secret-type", "trading_api_key", "--ttl", "25m", "--secret-value-file", "-").want(t, tc.code, tc.want...)
			if n := len(api.requests()); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		})
	}
}

func TestOverrideExpiry(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 999_999_999, time.FixedZone("", 3600))
	for _, tc := range []struct {
		ttl  time.Duration
		want string
	}{
		{25 * time.Minute, "2026-03-01T11:25:00Z"},
		{time.Second, "2026-03-01T11:00:01Z"},
		{30*time.Minute - 5*time.Second, "2026-03-01T11:29:55Z"},
		{30*time.Minute - time.Second, "2026-03-01T11:29:55Z"},
		{30 * time.Minute, "2026-03-01T11:29:55Z"},
	} {
		got := overrideExpiry(now, tc.ttl)
		if instant(&got) != tc.want {
			t.Errorf("--ttl %s: %s, want %s", tc.ttl, instant(&got), tc.want)
		}
		if _, err := domain.OverrideExpiry(instant(&got), now.Add(-4*time.Second)); err != nil {
			t.Errorf("--ttl %s, with a server that is 4 s behind: %v", tc.ttl, err)
		}
	}
}

func TestBreakGlassClear(t *testing.T) {
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		args    []string
		code    int
		want    string
	}{
		{"ended", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, nil, exitOK, "The override of trading_api_key has ended."},
		{"as JSON", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, []string{"-o", "json"}, exitOK, `"cleared":true`},
		{"none", refusing(404, "NO_BREAK_GLASS", "there is no override"), nil, exitNotFound, "no override is in place"},
		{"not allowed", refusing(403, "FORBIDDEN", "no"), nil, exitNotAllowed, "lacks scope ops.omni.secrets.breakglass"},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil, exitUnavailable, "may have ended all the same"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api := newFakeAPI(t, map[string]http.HandlerFunc{clearRoute: tc.handler})
			api.process().run(t, append([]string{"breakglass", "clear", "--secretType", "trading_api_key"}, tc.args...)...).want(t, tc.code, tc.want)
			if sent := api.requests(); len(sent) == 0 || sent[0].Body != "" || sent[0].ContentType != "" {
				t.Errorf("sent: %v", sent)
			}
		})
	}
}
