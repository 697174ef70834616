package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	rpc "connectrpc.com/connect"

	"github.com/apex-tradebill/omni-secrets/adapters/certificate"
	"github.com/apex-tradebill/omni-secrets/domain"
	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
	"github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1/secretsv1connect"
	"github.com/apex-tradebill/omni-secrets/service"
)

// refusal is why an edge did not answer: "" when it did.
type edgeAnswer struct {
	code       domain.Code
	retryAfter time.Duration
}

// asked sends the same call to both edges' kind: one of them.
type edgeCall struct {
	rest func(*testing.T, *running, string) edgeAnswer
	rpc  func(*testing.T, *running, string) edgeAnswer
}

func restCall(method, path, body string) func(*testing.T, *running, string) edgeAnswer {
	return func(t *testing.T, s *running, token string) edgeAnswer {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.address+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		response, err := httpClient(t, false).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode < 300 {
			return edgeAnswer{}
		}
		var p struct {
			Code   domain.Code `json:"code"`
			Status int         `json:"status"`
		}
		if err := json.NewDecoder(response.Body).Decode(&p); err != nil || p.Status != response.StatusCode {
			t.Fatalf("status %d: %v", response.StatusCode, err)
		}
		if (p.Code == domain.CodeRateLimited) != (response.StatusCode == http.StatusTooManyRequests) {
			t.Errorf("status %d of %s", response.StatusCode, p.Code)
		}
		seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
		return edgeAnswer{p.Code, time.Duration(seconds) * time.Second}
	}
}

// rpcCall makes a call and reads the ErrorInfo of its error.
func rpcCall(call func(context.Context, *running, *http.Client) error) func(*testing.T, *running, string) edgeAnswer {
	return func(t *testing.T, s *running, token string) edgeAnswer {
		t.Helper()
		ctx, headers := rpc.NewClientContext(t.Context())
		headers.RequestHeader().Set("Authorization", "Bearer "+token)
		err := call(ctx, s, httpClient(t, true))
		if err == nil {
			return edgeAnswer{}
		}
		e, ok := errors.AsType[*rpc.Error](err)
		if !ok {
			t.Fatal(err)
		}
		for _, d := range e.Details() {
			value, err := d.Value()
			if err != nil {
				t.Fatal(err)
			}
			if info, ok := value.(*secretsv1.ErrorInfo); ok {
				if (info.GetCode() == string(domain.CodeRateLimited)) != (e.Code() == rpc.CodeResourceExhausted) {
					t.Errorf("code %v of %s", e.Code(), info.GetCode())
				}
				return edgeAnswer{domain.Code(info.GetCode()), time.Duration(info.GetRetryAfterSeconds()) * time.Second}
			}
		}
		t.Fatalf("%v has no ErrorInfo", err)
		return edgeAnswer{}
	}
}

func TestLimitsAreTheSameOnBothEdges(t *testing.T) {
	refresh := edgeCall{
		restCall("POST", "/internal/apex-omni/secrets/cache/refresh", `{"secretType":"trading_api_key"}`),
		rpcCall(func(ctx context.Context, s *running, hc *http.Client) error {
			_, err := secretsv1connect.NewSecretsServiceClient(hc, "http://"+s.address).RefreshCache(ctx, &secretsv1.RefreshCacheRequest{SecretType: new("trading_api_key")})
			return err
		}),
	}
	apply := edgeCall{
		restCall("POST", "/ops/apex-omni/secrets/break-glass", `{"secretType":"trading_api_key","ciphertext":"x","expiresAt":"2026-01-01T00:00:00Z"}`),
		rpcCall(func(ctx context.Context, s *running, hc *http.Client) error {
			_, err := secretsv1connect.NewOpsServiceClient(hc, "http://"+s.address, rpc.WithGRPC()).ApplyBreakGlass(ctx,
				&secretsv1.ApplyBreakGlassRequest{SecretType: "trading_api_key", Ciphertext: "x", ExpiresAt: "2026-01-01T00:00:00Z"})
			return err
		}),
	}
	for _, c := range []struct {
		limit  string
		call   edgeCall
		scopes domain.Scope // 0: a token that is not valid
		within domain.Code  // of a call within the limit
	}{
		{service.LimitRefresh, refresh, domain.ScopeCacheRefresh, ""},
		{service.LimitBreakGlass, apply, domain.ScopeBreakGlass, domain.CodeInvalidBreakGlassTTL},
		{service.LimitFailedToken, refresh, 0, domain.CodeUnauthenticated},
	} {
		t.Run(c.limit, func(t *testing.T) {
			for edge, call := range map[string]func(*testing.T, *running, string) edgeAnswer{"REST": c.call.rest, "RPC": c.call.rpc} {
				t.Run(edge, func(t *testing.T) {
					s := start(t, func(c *config) { c.RefreshLimit, c.OverrideLimit, c.FailedTokenLimit = 1, 1, 1 }, usualPatience)
					token := "not-a-token"
					if c.scopes != 0 {
						token = s.sign(t, "caller", c.scopes)
					}
					if got := call(t, s, token); got.code != c.within {
						t.Fatalf("the first: %+v", got)
					}
					got := call(t, s, token)
					if got.code != domain.CodeRateLimited || got.retryAfter < time.Second || got.retryAfter > time.Minute {
						t.Errorf("the second: %+v", got)
					}
					metrics := fetch(t, httpClient(t, false), "http://"+s.address+"/metrics").body
					if want := `omni_rate_limited_total{limit="` + c.limit + `"} 1`; !strings.Contains(metrics, want) {
						t.Errorf("the metrics lack %s", want)
					}
				})
			}
		})
	}
}

// fetched is an answer to a GET.
type fetched struct {
	status int
	header http.Header
	body   string
}

func fetch(t *testing.T, hc *http.Client, url string, headers ...string) fetched {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header[headers[i]] = append(r.Header[headers[i]], headers[i+1])
	}
	response, err := hc.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fetched{response.StatusCode, response.Header, string(text)}
}

// withTLS gives a server a certificate, and clients who trust it one that is the same.
func withTLS(t *testing.T, clientScopes string) (change func(*config), client func(withCertificate bool) *http.Client) {
	t.Helper()
	cert, key := selfSigned(t)
	dir := t.TempDir()
	cfg := certificate.Config{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key")}
	files := map[string][]byte{cfg.CertFile: cert, cfg.KeyFile: key}
	if clientScopes != "" {
		cfg.ClientCAFile, cfg.ClientScopesFile = cfg.CertFile, filepath.Join(dir, "clients.yaml")
		files[cfg.ClientScopesFile] = []byte(clientScopes)
	}
	for path, content := range files {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read, err := certificate.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *config) { c.certificates = read }, func(withCertificate bool) *http.Client {
		own, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		secure := &tls.Config{RootCAs: x509.NewCertPool()}
		secure.RootCAs.AppendCertsFromPEM(cert)
		if withCertificate {
			secure.Certificates = []tls.Certificate{own}
		}
		transport := &http.Transport{TLSClientConfig: secure}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport, Timeout: atMost}
	}
}

func TestEveryAnswerHasSecurityHeaders(t *testing.T) {
	secure, client := withTLS(t, "")
	for name, c := range map[string]struct {
		change func(*config)
		client *http.Client
		scheme string
		hsts   string
	}{
		"plain HTTP": {func(*config) {}, httpClient(t, false), "http://", ""},
		"TLS":        {secure, client(false), "https://", "max-age=31536000"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, func(cfg *config) {
				c.change(cfg)
				cfg.DebugListen = "127.0.0.1:0"
			}, usualPatience)
			base := c.scheme + s.address
			debug := "http://" + s.sides[0].ln.Addr().String()
			for _, url := range []string{
				base + "/livez", base + "/readyz", base + "/version", base + "/metrics", base + "/openapi.yaml", base + "/nowhere",
				base + "/internal/apex-omni/secrets/trading_api_key", base + "/ops/apex-omni/secrets/status", base + "//livez",
				base + secretsv1connect.SecretsServiceGetSecretProcedure, base + "/grpc.health.v1.Health/Check", base + "/omni.secrets.v1.Nothing/Get",
				debug + "/debug/pprof/goroutine", debug + "/",
			} {
				got := fetch(t, c.client, url, "Authorization", "Bearer "+s.sign(t, "svc", domain.ScopeRead))
				want := map[string]string{
					"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
					"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Strict-Transport-Security": c.hsts,
				}
				if strings.HasPrefix(url, debug) {
					want["Strict-Transport-Security"] = ""
				}
				for header, value := range want {
					if got.header.Get(header) != value {
						t.Errorf("%s: %s is %q, want %q", url, header, got.header.Get(header), value)
					}
				}
			}
		})
	}
}

func TestMetricsOnAListenerOfTheirOwn(t *testing.T) {
	s := start(t, func(c *config) { c.MetricsListen = "127.0.0.1:0" }, usualPatience)
	hc := httpClient(t, false)
	main, own := "http://"+s.address, "http://"+s.sides[0].ln.Addr().String()
	for url, want := range map[string]int{
		main + "/metrics": 404, own + "/metrics": 200, own + "/readyz": 200, own + "/livez": 200, main + "/readyz": 200,
		own + "/internal/apex-omni/secrets/trading_api_key": 404, own + "/openapi.yaml": 404, own + secretsv1connect.SecretsServiceGetSecretProcedure: 404,
	} {
		if got := fetch(t, hc, url); got.status != want {
			t.Errorf("%s: %d, want %d", url, got.status, want)
		}
	}
	if text := fetch(t, hc, own+"/metrics").body; !strings.Contains(text, "omni_connections 1\n") || !strings.Contains(text, "omni_connections_refused_total 0") {
		t.Errorf("connections are not counted:\n%s", text)
	}
}

func TestProfilesAreForThisMachineAlone(t *testing.T) {
	s := start(t, func(c *config) { c.DebugListen, c.MetricsListen = "127.0.0.1:0", "127.0.0.1:0" }, usualPatience)
	hc := httpClient(t, false)
	metrics, debug := "http://"+s.sides[0].ln.Addr().String(), "http://"+s.sides[1].ln.Addr().String()
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/profile", "/debug/pprof/cmdline", "/debug/vars"} {
		for _, base := range []string{"http://" + s.address, metrics} {
			if got := fetch(t, hc, base+path); got.status != 404 {
				t.Errorf("%s%s: %d", base, path, got.status)
			}
		}
	}
	if _, pattern := http.DefaultServeMux.Handler(&http.Request{Method: http.MethodGet, URL: mustURL(t, "/debug/pprof/heap")}); pattern != "" { //nolint:forbidigo // to see that it is empty
		t.Errorf("something in the program has put profiles into the mux that everybody shares: %s", pattern)
	}
	for path, want := range map[string]int{
		"/debug/pprof/heap": 200, "/debug/pprof/goroutine?debug=1": 200, "/debug/pprof/profile?seconds=0.01": 200, "/debug/pprof/trace?seconds=0.01": 200,
		"/debug/pprof/profile?seconds=51": 400, "/debug/pprof/profile?seconds=x": 400, "/debug/pprof/nothing": 404, "/debug/pprof/cmdline": 404, "/metrics": 404,
	} {
		if got := fetch(t, hc, debug+path); got.status != want {
			t.Errorf("%s: %d, want %d", path, got.status, want)
		}
	}
	if got := fetch(t, hc, debug+"/debug/pprof/heap", "Host", "attacker.example"); got.status != http.StatusForbidden {
		t.Errorf("by a name that leads here: %d", got.status)
	}
}

func TestEdgeSettingsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		env  map[string]string
		says string
	}{
		"profiles for everybody":       {map[string]string{"OMNI_DEBUG_LISTEN": "0.0.0.0:6060"}, "OMNI_DEBUG_LISTEN"},
		"profiles on every address":    {map[string]string{"OMNI_DEBUG_LISTEN": ":6060"}, "OMNI_DEBUG_LISTEN"},
		"profiles on another machine":  {map[string]string{"OMNI_DEBUG_LISTEN": "10.0.0.1:6060"}, "OMNI_DEBUG_LISTEN"},
		"metrics without a port":       {map[string]string{"OMNI_METRICS_LISTEN": "localhost"}, "OMNI_METRICS_LISTEN"},
		"no connections":               {map[string]string{"OMNI_MAX_CONNECTIONS": "0"}, "OMNI_MAX_CONNECTIONS"},
		"less than no refreshes":       {map[string]string{"OMNI_REFRESHES_PER_MINUTE": "-1"}, "OMNI_REFRESHES_PER_MINUTE"},
		"less than no overrides":       {map[string]string{"OMNI_OVERRIDES_PER_MINUTE": "-1"}, "OMNI_OVERRIDES_PER_MINUTE"},
		"less than no failed tokens":   {map[string]string{"OMNI_FAILED_TOKENS_PER_MINUTE": "-1"}, "OMNI_FAILED_TOKENS_PER_MINUTE"},
		"an authority without TLS":     {map[string]string{"OMNI_TLS_CLIENT_CA_FILE": "ca.pem"}, "OMNI_TLS_CERT_FILE"},
		"scopes without an authority":  {map[string]string{"OMNI_TLS_CERT_FILE": "x", "OMNI_TLS_KEY_FILE": "x", "OMNI_TLS_CLIENT_SCOPES_FILE": "x"}, "OMNI_TLS_CLIENT_CA_FILE"},
		"an authority that is nowhere": {map[string]string{"OMNI_TLS_CERT_FILE": "x", "OMNI_TLS_KEY_FILE": "x", "OMNI_TLS_CLIENT_CA_FILE": "/nowhere"}, "OMNI_TLS_CLIENT_CA_FILE"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := configOf(c.env); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one of %s", err, c.says)
			}
			(process{env: c.env}).run(t, "serve").want(t, exitConfig, c.says)
		})
	}
	for _, address := range []string{"127.0.0.1:6060", "[::1]:6060", "localhost:6060"} {
		if _, err := configOf(map[string]string{"OMNI_DEBUG_LISTEN": address}); err != nil {
			t.Error(err)
		}
	}
}

func TestClientCertificatesOnBothEdges(t *testing.T) {
	secure, client := withTLS(t, "clients: [{uri: spiffe://test/trader, scopes: [svc.omni.secrets.read]}]")
	s := start(t, secure, usualPatience)
	base := "https://" + s.address
	rest := fetch(t, client(true), base+"/internal/apex-omni/secrets/trading_api_key")
	if rest.status != 200 {
		t.Errorf("REST: %d %s", rest.status, rest.body)
	}
	if got := fetch(t, client(true), base+"/ops/apex-omni/secrets/status"); got.status != 403 {
		t.Errorf("what the certificate does not allow: %d", got.status)
	}
	if got := fetch(t, client(true), base+"/internal/apex-omni/secrets/trading_api_key", "Authorization", "Bearer bad"); got.status != 401 {
		t.Errorf("a bad token beside the certificate: %d", got.status)
	}
	if got, err := secretsv1connect.NewSecretsServiceClient(client(true), base).GetSecret(t.Context(), &secretsv1.GetSecretRequest{SecretType: "trading_api_key"}); err != nil || len(got.GetSecret().GetValue()) == 0 {
		t.Errorf("Connect: %v", err)
	}
	if response, err := client(false).Get(base + "/livez"); err == nil {
		_ = response.Body.Close()
		t.Error("a client without a certificate gets an answer")
	}
	if text := fetch(t, client(true), base+"/metrics").body; !strings.Contains(text, "omni_tls_certificate_expiry_timestamp_seconds ") || !strings.Contains(text, "omni_tls_reload_failed 0") {
		t.Error("the certificate's expiry is not shown")
	}

	// The audit trail has the certificate's name.
	if err := s.service.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	page, err := s.service.ListEvents(t.Context(), service.Call{Principal: domain.Principal{Subject: "auditor", Scopes: domain.ScopeAudit}},
		domain.EventFilter{ActorID: "spiffe://test/trader", Action: domain.ActionRead})
	if err != nil || len(page.Events) != 2 {
		t.Errorf("%d reads, want one of each edge; %v", len(page.Events), err)
	}
}

// Whatever a caller sends, a line of the log stays a line, and what is logged and recorded has no control characters.
func TestNothingThatIsSentBreaksTheLogOrTheAuditTrail(t *testing.T) {
	s := start(t, func(c *config) { c.FailedTokenLimit = 5 }, usualPatience)
	hc := httpClient(t, false)
	const mark = "INJECTED"
	hostile := []string{
		mark + "\x1b[2J", mark + "\u009b2J", mark + "\u202e", mark + "\u2028{}", mark + "\xff\xfe", mark + strings.Repeat("x", 5<<10),
		`{"level":"ERROR","msg":"` + mark + `"}`, mark + "%0a%1b",
	}
	base := "http://" + s.address
	read := s.sign(t, "svc", domain.ScopeRead)
	ops := s.sign(t, "sre", domain.ScopeOps)
	for _, text := range hostile {
		header := strings.Map(func(r rune) rune { // what net/http lets through
			if r < ' ' || r == 0x7f {
				return '?'
			}
			return r
		}, text)
		fetch(t, hc, base+"/internal/apex-omni/secrets/trading_api_key", "Authorization", "Bearer "+read, "X-Request-Id", header)
		fetch(t, hc, base+"/internal/apex-omni/secrets/trading_api_key", "Authorization", "Bearer "+header, "User-Agent", header)
		fetch(t, hc, base+"/internal/apex-omni/secrets/"+pathEscaped(text), "Authorization", "Bearer "+read)
		fetch(t, hc, base+"/ops/apex-omni/secrets/status?"+pathEscaped(text), "Authorization", header)
		body, _ := json.Marshal(map[string]string{"secretType": "trading_api_key", "ciphertext": text, "expiresAt": text, "reason": text})
		restCall("POST", "/ops/apex-omni/secrets/break-glass", string(body))(t, s, ops)
		// A subject is a claim, which the issuer has signed.
		fetch(t, hc, base+"/internal/apex-omni/secrets/trading_api_key", "Authorization", "Bearer "+s.sign(t, text, domain.ScopeRead))
	}
	for line := range strings.Lines(s.logs.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Errorf("a line of the log is no JSON: %v: %q", err, line)
		}
		if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), unsafeToShow) || len(line) > 4<<10 {
			t.Errorf("a line of the log may do harm where it is shown: %.200q", line)
		}
	}
	if err := s.service.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	page, err := s.service.ListEvents(t.Context(), service.Call{Principal: domain.Principal{Subject: "auditor", Scopes: domain.ScopeAudit}}, domain.EventFilter{Limit: domain.MaxEventPage})
	if err != nil || len(page.Events) < len(hostile) {
		t.Fatalf("%d events, %v", len(page.Events), err)
	}
	for _, e := range page.Events {
		for _, text := range []string{string(e.Type), e.ErrorCode, e.Version, e.RequestID, e.Reason} {
			if strings.Contains(text, mark) {
				t.Errorf("an event of %s holds what was sent: %.100q", e.Action, text)
			}
		}
		if strings.ContainsFunc(e.Actor.ID+e.Reason, unsafeToShow) { // a subject is the issuer's word, but may be strange
			t.Errorf("an event of %s may do harm where it is shown: %.100q", e.Action, e.Actor.ID)
		}
	}
}

func unsafeToShow(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
}

func pathEscaped(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		fmt.Fprintf(&b, "%%%02x", c)
	}
	return b.String()
}

// What a server sends cannot move the cursor of whoever looks at it: in tables, in JSON, in errors.
func TestNothingThatAServerSendsReachesTheTerminalRaw(t *testing.T) {
	const hostile = "\x1b[2Jgone\u009b1A\u202eback\u2028next\r\n\x7f"
	quoted, err := json.Marshal(hostile)
	if err != nil {
		t.Fatal(err)
	}
	text := bytes.ReplaceAll(quoted, []byte("\\u2028"), []byte("\u2028")) // as another encoder would write it
	row := `{"eventId":"1","secretType":` + string(text) + `,"action":"read","actorType":"service","actorId":` + string(text) + `,"result":"success","durationMs":1,` +
		`"replicaId":"r","reason":` + string(text) + `,"recordedAt":"2026-01-01T00:00:00.000Z"}`
	api := newFakeAPI(t, map[string]http.HandlerFunc{
		"GET /ops/apex-omni/secrets/audit-events": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"data":[`+row+`],"nextCursor":null}`)
		},
		"GET /ops/apex-omni/secrets/status": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"code":`+string(text)+`,"detail":`+string(text)+`,"requestId":`+string(text)+`}`)
		},
	})
	p := process{env: map[string]string{"OMNI_API_URL": api.url, "OMNI_TOKEN": testToken}}
	for _, args := range [][]string{{"audit", "list"}, {"audit", "list", "-o", "json"}, {"status"}, {"status", "-o", "json"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			o := p.run(t, args...)
			shown := strings.ReplaceAll(o.out+o.err, "\n", "")
			if strings.ContainsFunc(shown, unsafeToShow) || !strings.Contains(shown, "gone") {
				t.Errorf("%q", o.out+o.err)
			}
			if slices.Contains(args, "json") && o.code == exitOK {
				var document struct {
					Data []struct{ ActorID string }
				}
				if err := json.Unmarshal([]byte(o.out), &document); err != nil || len(document.Data) != 1 || document.Data[0].ActorID != hostile {
					t.Errorf("as JSON it says something else: %v %q", err, document)
				}
			}
		})
	}
}

func mustURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
