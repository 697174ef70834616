package http_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"go.uber.org/goleak"

	api "github.com/apex-tradebill/omni-secrets/adapters/http"
	"github.com/apex-tradebill/omni-secrets/adapters/memory"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
	"github.com/apex-tradebill/omni-secrets/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	tokenRead    = "read"
	tokenCache   = "cache"
	tokenOps     = "ops"
	tokenNothing = "nothing"
	refreshPath  = "/internal/apex-omni/secrets/cache/refresh"
	statusPath   = "/ops/apex-omni/secrets/status"
	glassPath    = "/ops/apex-omni/secrets/break-glass"
	auditPath    = "/ops/apex-omni/secrets/audit-events"
)

// fixture is the API over a running service with in-memory parts. Every answer is checked against the OpenAPI
// document.
type fixture struct {
	t       testing.TB
	handler http.Handler
	service *service.Service
	backend *memory.Backend
	store   *memory.Store
	journal *memory.Journal
	logs    *lockedBuffer
	spec    validator.Validator

	mu       sync.Mutex
	observed []string
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{
		t: t, backend: memory.NewBackend(), store: memory.New(), journal: memory.NewJournal(), logs: new(lockedBuffer), spec: openSpec(t),
	}
	f.backend.Set("key", "key-1")
	f.backend.Set("seed", "\xff\x00seed")
	log := slog.New(slog.NewJSONHandler(f.logs, nil))
	catalog := domain.Catalog{
		{Type: "trading_api_key", Backend: "gsm", Reference: "key", Version: domain.LatestVersion, Owner: "Security Engineering", RotationMonths: 12},
		{Type: "zk_signing_seed", Backend: "gsm", Reference: "seed", Version: domain.LatestVersion, Owner: "Security Engineering", RotationMonths: 12},
		{Type: "webhook_shared_secret", Backend: "gsm", Reference: "missing", Version: domain.LatestVersion, Owner: "Platform Reliability", RotationMonths: 12},
	}
	var err error
	f.service, err = service.New(service.Config{
		Catalog: catalog, Policy: domain.DefaultCachePolicy(), Environment: "test", ReplicaID: "replica-1",
		Backends: map[string]ports.SecretBackend{"gsm": f.backend},
		Metadata: f.store, Overrides: f.store, Rotations: f.store, FollowUps: f.store, Audit: f.store, Journal: f.journal, Drain: f.journal,
		Envelopes: plainEnvelopes{}, Tokens: namedTokens{}, Leadership: memory.NewAlone(), Meter: memory.NewMeter(), Logger: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	f.handler = api.New(api.Config{
		Service: f.service, Logger: log,
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; version=0.0.4")
			_, _ = io.WriteString(w, "omni_leader 1\n")
		}),
		Observe: f.observe,
		Build:   api.Build{Version: "v1.2.3", Revision: "abc", GoVersion: "go1.26"},
	})
	return f
}

// run starts the service.
func (f *fixture) run() *fixture {
	f.t.Helper()
	if err := f.service.Start(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = f.service.Run(ctx) })
	f.t.Cleanup(func() { cancel(); running.Wait() })
	if err := f.service.AwaitFirstFetches(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	return f
}

func (f *fixture) observe(method, route string, status int, _ time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.observed = append(f.observed, method+" "+route+" "+http.StatusText(status))
}

// spec is the document, read once: it takes longer than all requests together.
var spec = sync.OnceValues(func() (validator.Validator, error) {
	document, err := libopenapi.NewDocument(api.Spec)
	if err != nil {
		return nil, err
	}
	v, errs := validator.NewValidator(document)
	return v, errors.Join(errs...)
})

func openSpec(t testing.TB) validator.Validator {
	t.Helper()
	v, err := spec()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

type answer struct {
	t      testing.TB
	status int
	header http.Header
	body   []byte
}

// do sends a request and checks the answer against the OpenAPI document.
func (f *fixture) do(method, path, token, body string, headers ...string) answer {
	f.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	result := w.Result()
	text, _ := io.ReadAll(result.Body)
	f.validate(method, path, result, text)
	if result.Header.Get("X-Request-Id") == "" {
		f.t.Errorf("%s %s: no X-Request-Id", method, path)
	}
	return answer{f.t, result.StatusCode, result.Header, text}
}

func (f *fixture) validate(method, path string, result *http.Response, body []byte) {
	f.t.Helper()
	result.Body = io.NopCloser(bytes.NewReader(body))
	described := httptest.NewRequest(method, path, nil)
	ok, problems := f.spec.ValidateHttpResponse(described, result)
	if ok || result.StatusCode == http.StatusMethodNotAllowed || !f.described(path) {
		return
	}
	for _, p := range problems {
		f.t.Errorf("%s %s: the answer is not as /openapi.yaml says: %s: %s %v\n%s", method, path, p.Message, p.Reason, p.SchemaValidationErrors, body)
	}
}

// described reports whether the path is one of the API's.
func (f *fixture) described(path string) bool { return !strings.HasPrefix(path, "/nowhere") }

func (a answer) json() map[string]any {
	a.t.Helper()
	var m map[string]any
	if err := json.Unmarshal(a.body, &m); err != nil {
		a.t.Fatalf("%s: %v", a.body, err)
	}
	return m
}

// want checks the status and, for a problem, its code.
func (a answer) want(status int, code domain.Code) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	if code == "" {
		return a
	}
	m := a.json()
	if a.header.Get("Content-Type") != "application/problem+json" || m["code"] != string(code) || m["requestId"] != a.header.Get("X-Request-Id") {
		a.t.Fatalf("want problem %s: %s", code, a.body)
	}
	return a
}

// namedTokens stands in for JWTs: the token is the name of what it may do.
type namedTokens struct{}

func (namedTokens) Verify(_ context.Context, token string) (domain.Principal, error) {
	scopes, ok := map[string]domain.Scope{
		tokenRead: domain.ScopeRead, tokenCache: domain.ScopeCacheRefresh, tokenOps: domain.ScopeOps, tokenNothing: 0,
	}[token]
	if !ok {
		return domain.Principal{}, errors.New("the token has expired")
	}
	return domain.Principal{Subject: "subject-" + token, Scopes: scopes}, nil
}

type plainEnvelopes struct{}

func (plainEnvelopes) Open(e domain.Envelope) (domain.Opened, error) {
	value, ok := strings.CutPrefix(e.Ciphertext, "sealed:")
	if !ok {
		return domain.Opened{}, errors.New("the envelope does not open with this server's key")
	}
	return domain.Opened{Value: domain.NewValue([]byte(value)), Version: 2, Digest: e.Ciphertext}, nil
}

// lockedBuffer collects log lines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
