package integration_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/apex-tradebill/omni-secrets/adapters/envelope"
	"github.com/apex-tradebill/omni-secrets/domain"
)

const pasted = "a-secret-that-someone-pasted-in-the-wrong-place"

// TestHostileRequests sends what must be refused to the built server.
func TestHostileRequests(t *testing.T) {
	gsm := startEmulator(t)
	prepared := prepareServe(t, gsm.endpoint, "JWT_ISSUER=https://issuer.test", "JWT_AUDIENCE=omni-secrets")
	s := prepared.start(t)
	claims := func(change func(jwt.MapClaims)) jwt.MapClaims {
		c := jwt.MapClaims{
			"sub": "sre", "iss": "https://issuer.test", "aud": "omni-secrets", "exp": time.Now().Add(time.Hour).Unix(),
			"scope": strings.Join(append(allOps, domain.ScopeRead.String(), domain.ScopeCacheRefresh.String()), " "),
		}
		if change != nil {
			change(c)
		}
		return c
	}
	signed := func(method jwt.SigningMethod, key any, change func(jwt.MapClaims)) string {
		text, err := jwt.NewWithClaims(method, claims(change)).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	hs256 := func(change func(jwt.MapClaims)) string { return signed(jwt.SigningMethodHS256, s.secret, change) }
	good := hs256(nil)
	s.service, s.ops = good, good
	s.wantRead(apiKey, gsm.values[apiKey], "gsm", false)

	t.Run("tokens", func(t *testing.T) {
		s.t = t
		for name, token := range map[string]string{
			"none":             "",
			"garbage":          "garbage",
			"alg none":         signed(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil),
			"another key":      signed(jwt.SigningMethodHS256, []byte(strings.Repeat("k", 48)), nil),
			"another alg":      signed(jwt.SigningMethodHS512, s.secret, nil),
			"cut off":          good[:len(good)-2],
			"expired":          hs256(func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Second).Unix() }),
			"no exp":           hs256(func(c jwt.MapClaims) { delete(c, "exp") }),
			"no sub":           hs256(func(c jwt.MapClaims) { delete(c, "sub") }),
			"not yet valid":    hs256(func(c jwt.MapClaims) { c["nbf"] = time.Now().Add(time.Hour).Unix() }),
			"wrong audience":   hs256(func(c jwt.MapClaims) { c["aud"] = "another-service" }),
			"wrong issuer":     hs256(func(c jwt.MapClaims) { c["iss"] = "https://elsewhere.test" }),
			"without audience": hs256(func(c jwt.MapClaims) { delete(c, "aud") }),
		} {
			a := s.do("GET", readPath+string(apiKey), token, "").want(401, domain.CodeUnauthenticated)
			if token != "" && strings.Contains(a.body, token) {
				t.Errorf("%s: the answer repeats the token", name)
			}
		}
		for scope, paths := range map[string][]string{
			domain.ScopeRead.String():   {"POST " + refreshPath, "GET " + statusPath, "POST " + glassPath},
			"omni:manage":               {"POST " + refreshPath, "GET " + readPath + string(apiKey)},
			"svc.omni.secrets":          {"GET " + readPath + string(apiKey)},
			domain.ScopeStatus.String(): {"POST " + glassPath, "DELETE " + glassPath + "/trading_api_key", "GET /ops/apex-omni/secrets/audit-events"},
		} {
			for _, p := range paths {
				method, path, _ := strings.Cut(p, " ")
				s.do(method, path, hs256(func(c jwt.MapClaims) { c["scope"] = scope }), "").want(403, domain.CodeForbidden)
			}
		}
		byRole := hs256(func(c jwt.MapClaims) { c["scope"] = []string{}; c["roles"] = []string{"omni-ops"} })
		s.do("GET", statusPath, byRole, "").want(200, "")
		s.do("GET", readPath+string(apiKey), byRole, "").want(403, domain.CodeForbidden)
		s.wantEvents(13, "action = 'access_denied' AND error_code = 'UNAUTHENTICATED' AND actor_id = 'anonymous'")
		s.wantEvents(10, "action = 'access_denied' AND error_code = 'FORBIDDEN' AND result = 'denied'")
	})

	t.Run("types and bodies", func(t *testing.T) {
		s.t = t
		s.do("GET", readPath+"no_such_secret", good, "").want(404, domain.CodeUnknownSecretType)
		s.do("GET", readPath+"%2e%2e%2fetc%2fpasswd", good, "").want(404, domain.CodeUnknownSecretType)
		s.do("GET", readPath+pasted, good, "").want(404, domain.CodeUnknownSecretType)
		s.do("POST", refreshPath, good, `{"secretType":"no_such_secret"}`).want(404, domain.CodeUnknownSecretType)
		for _, body := range []string{
			`{`, `[]`, `"` + pasted + `"`, `{"` + pasted + `":1}`, `{"secretType":["` + pasted + `"]}`, `{"secretType":"trading_api_key"} x`,
			`{"secretType":"` + strings.Repeat("x", 128<<10) + `"}`,
		} {
			s.do("POST", refreshPath, good, body).want(400, domain.CodeInvalidRequest)
		}
	})

	t.Run("break-glass", func(t *testing.T) {
		s.t = t
		const injected = "injected-by-a-hostile-request"
		key, err := envelope.ParsePublicKey(s.publicKey)
		if err != nil {
			t.Fatal(err)
		}
		in := func(ttl time.Duration) string { return time.Now().Add(ttl).UTC().Format(time.RFC3339Nano) }
		seal := func(secret domain.SecretType, expiresAt string, version int) string {
			text, err := envelope.Seal(key, secret, expiresAt, domain.NewValue([]byte(injected)), version)
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		send := func(secret domain.SecretType, ciphertext, expiresAt string) answer {
			body, _ := json.Marshal(map[string]string{"secretType": string(secret), "ciphertext": ciphertext, "expiresAt": expiresAt})
			return s.do("POST", glassPath, good, string(body))
		}
		for _, ttl := range []time.Duration{0, -time.Minute, 31 * time.Minute} { // service has the edge to the nanosecond
			expiresAt := in(ttl)
			send(apiKey, seal(apiKey, expiresAt, 2), expiresAt).want(422, domain.CodeInvalidBreakGlassTTL)
		}
		soon, later := in(10*time.Minute), in(20*time.Minute)
		other, _ := envelope.GenerateKey()
		foreign, _ := envelope.Seal(other.Public(), apiKey, soon, domain.NewValue([]byte(injected)), 2)
		valid := seal(apiKey, soon, 2)
		for name, a := range map[string]answer{
			"garbage":           send(apiKey, "garbage", soon),
			"plaintext":         send(apiKey, pasted, soon),
			"truncated":         send(apiKey, valid[:len(valid)-8], soon),
			"another key":       send(apiKey, foreign, soon),
			"another type":      send(webhook, valid, soon),
			"a later expiry":    send(apiKey, valid, later),
			"unknown version":   send(apiKey, base64.StdEncoding.EncodeToString([]byte(`{"version":3}`)), soon),
			"changed in flight": send(apiKey, flip(t, valid), soon),
		} {
			if code := a.want(422, domain.CodeInvalidBreakGlassPayload); strings.Contains(code.body, valid) {
				t.Errorf("%s: the answer repeats the envelope", name)
			}
		}
		s.wantRead(apiKey, gsm.values[apiKey], "gsm", false)

		send(apiKey, valid, soon).want(201, "")
		send(apiKey, valid, soon).want(422, domain.CodeInvalidBreakGlassPayload) // replayed
		s.do("DELETE", glassPath+"/trading_api_key", good, "").want(204, "")
		send(apiKey, valid, soon).want(422, domain.CodeInvalidBreakGlassPayload)
		s.wantMetric("2", "omni_secret_failures_total", "secret_type", string(apiKey), "reason", "break_glass_replay")
		s.wantMetric("3", "omni_secret_failures_total", "secret_type", string(apiKey), "reason", "break_glass_ttl")

		send(apiKey, seal(apiKey, soon, 1), soon).want(201, "") // what existing clients send
		s.wantRead(apiKey, injected, "break_glass", false)
		s.wantNoTrace(injected)
	})
	s.t = t
	s.wantNoTrace(pasted, gsm.values[apiKey], string(s.secret), prepared.key.Base64())
	s.stop()
}

// flip changes one bit of the envelope's ciphertext.
func flip(t *testing.T, text string) string {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	sealed, err := base64.StdEncoding.DecodeString(m["ciphertext"].(string))
	if err != nil {
		t.Fatal(err)
	}
	sealed[0] ^= 1
	m["ciphertext"] = base64.StdEncoding.EncodeToString(sealed)
	raw, _ = json.Marshal(m)
	return base64.StdEncoding.EncodeToString(raw)
}

// TestV1CanBeSwitchedOff: OMNI_BREAKGLASS_ALLOW_V1=false.
func TestV1CanBeSwitchedOff(t *testing.T) {
	gsm := startEmulator(t)
	prepared := prepareServe(t, gsm.endpoint, "OMNI_BREAKGLASS_ALLOW_V1=false")
	s := prepared.start(t)
	expiresAt := time.Now().Add(time.Minute).UTC().Format(time.RFC3339)
	text, err := envelope.Seal(prepared.key.Public(), apiKey, expiresAt, domain.NewValue([]byte("v")), 1)
	if err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"secretType":"trading_api_key","ciphertext":%q,"expiresAt":%q}`, text, expiresAt)
	s.do("POST", glassPath, s.ops, body).want(422, domain.CodeInvalidBreakGlassPayload)
	s.stop()
}

// TestServeRefusesToStart checks exit codes and messages, and that nothing secret is in them.
func TestServeRefusesToStart(t *testing.T) {
	gsm := startEmulator(t)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busy.Close() }()
	without := func(env []string, name string) []string {
		var kept []string
		for _, v := range env {
			if !strings.HasPrefix(v, name+"=") {
				kept = append(kept, v)
			}
		}
		return kept
	}
	for _, c := range []struct {
		name   string
		change func(t *testing.T, s *serving)
		code   int
		parts  []string
	}{
		{"everything missing", func(_ *testing.T, s *serving) { s.env = nil }, 78, []string{"DATABASE_URL", "GCP_PROJECT_ID", "JWT_SECRET"}},
		{"several settings wrong", func(_ *testing.T, s *serving) {
			s.env = append(without(s.env, "DATABASE_URL"), "OMNI_CACHE_TTL_SECONDS=soon", "OMNI_MAX_STALE=-1m", "OMNI_AUDIT_FSYNC=perhaps",
				"OMNI_BREAKGLASS_PRIVATE_KEY="+pasted, "JWT_SECRET="+pasted[:20])
		}, 78, []string{"DATABASE_URL", "OMNI_CACHE_TTL_SECONDS", "OMNI_MAX_STALE", "OMNI_AUDIT_FSYNC", "OMNI_BREAKGLASS_PRIVATE_KEY", "JWT_SECRET"}},
		{"environment violation", func(_ *testing.T, s *serving) {
			s.env = append(s.env, "OMNI_ENVIRONMENT=staging", "OMNI_PRODUCTION_PROJECTS=omni-other,omni-test")
		}, 78, []string{domain.EventEnvironmentViolation, `"project":"omni-test"`, "OMNI_ENVIRONMENT"}},
		{"emulator in production", func(_ *testing.T, s *serving) { s.env = append(s.env, "OMNI_ENVIRONMENT=production") }, 78, []string{"OMNI_GSM_ENDPOINT", "production"}},
		{"port in use", func(_ *testing.T, s *serving) { s.env = append(s.env, "OMNI_LISTEN="+busy.Addr().String()) }, 1, []string{busy.Addr().String(), "OMNI_LISTEN"}},
		{"no schema", func(t *testing.T, s *serving) {
			s.env = append(s.env, "DATABASE_URL=sqlite:"+filepath.Join(t.TempDir(), "new.db"))
		}, 1, []string{"omni-secrets migrate up"}},
		{"schema of a newer version", func(t *testing.T, s *serving) {
			(&server{program: &program{t: t}, dir: s.dir}).execute("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)")
		}, 1, []string{"version 99", "newer omni-secrets", "nothing was changed"}},
		{"a file where the directory should be", func(t *testing.T, s *serving) {
			file := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			s.env = append(s.env, "DATABASE_URL=sqlite:"+filepath.Join(file, "state.db"))
		}, 1, []string{"not a directory"}},
		{"no database file", func(t *testing.T, s *serving) {
			file := filepath.Join(t.TempDir(), "text.db")
			if err := os.WriteFile(file, []byte(strings.Repeat("this is no database ", 100)), 0o600); err != nil {
				t.Fatal(err)
			}
			s.env = append(s.env, "DATABASE_URL=sqlite:"+file)
		}, 1, []string{"not a"}},
		{"catalog with a typing error", func(t *testing.T, s *serving) {
			file := filepath.Join(t.TempDir(), "catalog.yaml")
			if err := os.WriteFile(file, []byte("secrets:\n  - tpye: a\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			s.env = append(s.env, "OMNI_CATALOG_FILE="+file)
		}, 78, []string{"tpye", "line 2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := prepareServe(t, gsm.endpoint)
			c.change(t, s)
			r := run(t, s.env, "", "serve").want(t, c.code, c.parts...)
			for _, leak := range []string{pasted, pasted[:20], string(s.secret), s.key.Base64()} {
				if strings.Contains(r.stdout+r.stderr, leak) {
					t.Errorf("the output repeats a secret:\n%s", r.stderr)
				}
			}
		})
	}
}

func TestMigrateRefusesANewerSchema(t *testing.T) {
	s := prepareServe(t, "127.0.0.1:1")
	(&server{program: &program{t: t}, dir: s.dir}).execute("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)")
	run(t, s.env, "", "migrate", "up").want(t, 1, "newer omni-secrets")
	run(t, s.env, "", "migrate", "status").want(t, 0, "99")
}

// TestDevRefusesToStart checks what a newcomer may run into.
func TestDevRefusesToStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := startDev(t, dir)
	run(t, nil, "", "dev", "--data-dir", dir, "--listen", "127.0.0.1:0").want(t, 1, "a server already runs on "+dir)
	run(t, nil, "", "dev", "--data-dir", filepath.Join(t.TempDir(), "d"), "--listen", strings.TrimPrefix(s.api, "http://")).want(t, 1, "--listen")
	s.do("GET", readPath+string(apiKey), s.service, "").want(200, "") // the first one is unharmed
	s.stop()

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "", "dev", "--data-dir", file).want(t, 1, "not a directory")

	unreadable := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(unreadable, 0o700); err != nil {
		t.Fatal(err)
	}
	runUnprivileged(t, unreadable, "dev", "--data-dir", unreadable).want(t, 1, "permission denied")
}
