package connect_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	rpc "connectrpc.com/connect"
	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/goleak"

	"github.com/apex-tradebill/omni-secrets/adapters/connect"
	"github.com/apex-tradebill/omni-secrets/adapters/memory"
	"github.com/apex-tradebill/omni-secrets/domain"
	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
	"github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1/secretsv1connect"
	"github.com/apex-tradebill/omni-secrets/ports"
	"github.com/apex-tradebill/omni-secrets/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Tokens of the fixture, and what they allow.
const (
	tokenRead    = "read"
	tokenCache   = "cache"
	tokenOps     = "ops"
	tokenNothing = "nothing"
)

const (
	apiKey  = "trading_api_key"
	seed    = "zk_signing_seed"
	missing = "webhook_shared_secret" // its backend does not have it
)

// fixture is the API over a running service with in-memory parts, behind a real server.
type fixture struct {
	t       testing.TB
	service *service.Service
	backend *memory.Backend
	store   *memory.Store
	journal *memory.Journal
	tokens  *namedTokens
	logs    *lockedBuffer
	server  *httptest.Server
	dial    func(context.Context) (net.Conn, error) // connects to it
	closed  chan string                             // addresses of the clients whose connections the server has closed
}

type setting func(*connect.Config)

func newFixture(t testing.TB, settings ...setting) *fixture {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	dialer := new(net.Dialer)
	return start(t, server, func(ctx context.Context) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", server.Listener.Addr().String())
	}, settings)
}

// newInMemory is the same with a server that is reached by pipes, for bubbles of testing/synctest, where its deadlines
// pass in no time.
func newInMemory(t testing.TB, settings ...setting) *fixture {
	t.Helper()
	ln := newPipes()
	server := &httptest.Server{Listener: ln, Config: new(http.Server)}
	return start(t, server, ln.dial, settings)
}

// start runs the service, and the API in it on the server.
func start(t testing.TB, server *httptest.Server, dial func(context.Context) (net.Conn, error), settings []setting) *fixture {
	t.Helper()
	f := &fixture{
		server: server, dial: dial,
		t: t, backend: memory.NewBackend(), store: memory.New(), journal: memory.NewJournal(),
		tokens: &namedTokens{refused: make(map[string]bool)}, logs: new(lockedBuffer), closed: make(chan string, 100),
	}
	f.backend.Set("key", "key-1")
	f.backend.Set("seed", "\xff\x00seed")
	log := slog.New(slog.NewJSONHandler(f.logs, nil))
	entry := func(t domain.SecretType, reference string) domain.Entry {
		return domain.Entry{Type: t, Backend: "gsm", Reference: reference, Version: domain.LatestVersion, Owner: "Security Engineering", RotationMonths: 12}
	}
	var err error
	f.service, err = service.New(service.Config{
		Catalog: domain.Catalog{entry(apiKey, "key"), entry(seed, "seed"), entry(missing, "missing")},
		Policy:  domain.DefaultCachePolicy(), Environment: "test", ReplicaID: "replica-1",
		Backends: map[string]ports.SecretBackend{"gsm": f.backend},
		Metadata: f.store, Overrides: f.store, Rotations: f.store, FollowUps: f.store, Audit: f.store, Journal: f.journal, Drain: f.journal,
		Envelopes: plainEnvelopes{}, Tokens: f.tokens, Leadership: memory.NewAlone(), Meter: memory.NewMeter(), Logger: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := connect.Config{Service: f.service, Meters: noop.NewMeterProvider(), Logger: log}
	for _, s := range settings {
		s(&cfg)
	}
	handler, err := connect.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.run()
	f.serve(handler)
	return f
}

func (f *fixture) run() {
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
}

// serve runs the handler with the deadlines of the real server.
func (f *fixture) serve(handler http.Handler) {
	f.server.Config.Handler = handler
	f.server.Config.ReadTimeout, f.server.Config.WriteTimeout = 15*time.Second, time.Minute
	f.server.Config.Protocols = new(http.Protocols)
	f.server.Config.Protocols.SetHTTP1(true)
	f.server.Config.Protocols.SetUnencryptedHTTP2(true)
	f.server.Config.ConnState = func(c net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			f.closed <- c.RemoteAddr().String()
		}
	}
	f.server.Start()
	f.t.Cleanup(f.server.Close)
}

// pipes is a listener within the process.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
	close    sync.Once
	dialled  atomic.Int64
}

func newPipes() *pipes { return &pipes{accepted: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.accepted:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.close.Do(func() { close(p.closed) })
	return nil
}

func (*pipes) Addr() net.Addr { return pipeEnd("omni.localhost") }

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	server, address := pipeEnd("omni.localhost"), pipeEnd(fmt.Sprint("client-", p.dialled.Add(1)))
	select {
	case p.accepted <- pipe{theirs, server, address}:
		return pipe{ours, address, server}, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pipe is one end of a connection.
type pipe struct {
	net.Conn
	local, remote pipeEnd
}

func (p pipe) LocalAddr() net.Addr  { return p.local }
func (p pipe) RemoteAddr() net.Addr { return p.remote }

type pipeEnd string

func (pipeEnd) Network() string  { return "pipe" }
func (e pipeEnd) String() string { return string(e) }

// protocol is a way to reach the API.
type protocol struct {
	name    string
	http2   bool
	options []rpc.ClientOption
}

var protocols = []protocol{
	{"Connect with protobuf", false, nil},
	{"Connect with JSON", false, []rpc.ClientOption{rpc.WithProtoJSON()}},
	{"Connect over HTTP/2", true, nil},
	{"gRPC", true, []rpc.ClientOption{rpc.WithGRPC()}},
	{"gRPC-Web", false, []rpc.ClientOption{rpc.WithGRPCWeb()}},
	{"gRPC-Web with JSON over HTTP/2", true, []rpc.ClientOption{rpc.WithGRPCWeb(), rpc.WithProtoJSON()}},
}

// each runs a test over every protocol.
func each(t *testing.T, test func(*testing.T, *fixture, protocol)) {
	t.Helper()
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) { test(t, newFixture(t), p) })
	}
}

// eachInMemory runs a test over every protocol, each in a bubble.
func eachInMemory(t *testing.T, test func(*testing.T, *fixture, protocol)) {
	t.Helper()
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, newInMemory(t), p) })
		})
	}
}

// httpClient speaks one version of HTTP.
func (f *fixture) httpClient(http2 bool) *http.Client {
	transport := &http.Transport{
		Protocols:   new(http.Protocols),
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return f.dial(ctx) },
	}
	transport.Protocols.SetHTTP1(!http2)
	transport.Protocols.SetUnencryptedHTTP2(http2)
	f.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// bearer sends a token, and keeps the headers of the answer.
type bearer struct {
	token string
	inner rpc.HTTPClient
	got   http.Header
}

func (b *bearer) Do(r *http.Request) (*http.Response, error) {
	if b.token != "" {
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	response, err := b.inner.Do(r)
	if err == nil {
		b.got = response.Header
	}
	return response, err
}

func (f *fixture) secrets(p protocol, token string) secretsv1connect.SecretsServiceClient {
	return secretsv1connect.NewSecretsServiceClient(&bearer{token: token, inner: f.httpClient(p.http2)}, f.server.URL, p.options...)
}

func (f *fixture) ops(p protocol, token string) secretsv1connect.OpsServiceClient {
	return secretsv1connect.NewOpsServiceClient(&bearer{token: token, inner: f.httpClient(p.http2)}, f.server.URL, p.options...)
}

// wantFailure checks the code of an error, and of its ErrorInfo.
func wantFailure(t testing.TB, err error, want rpc.Code, info domain.Code) *secretsv1.ErrorInfo {
	t.Helper()
	e, ok := errors.AsType[*rpc.Error](err)
	if !ok || e.Code() != want {
		t.Fatalf("error %v, want %v", err, want)
	}
	for _, d := range e.Details() {
		value, err := d.Value()
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := value.(*secretsv1.ErrorInfo); ok {
			if got.GetCode() != string(info) || got.GetRequestId() == "" {
				t.Fatalf("%v has %v, want %s", err, got, info)
			}
			return got
		}
	}
	if info != "" {
		t.Fatalf("%v has no ErrorInfo", err)
	}
	return nil
}

func (f *fixture) apply(value string, ttl time.Duration) {
	f.t.Helper()
	if _, err := f.service.ApplyOverride(f.t.Context(), operator, domain.Envelope{
		Type: apiKey, Ciphertext: "sealed:" + value, ExpiresAt: time.Now().Add(ttl).Format(time.RFC3339Nano),
	}, "drill"); err != nil {
		f.t.Fatal(err)
	}
}

var (
	operator  = service.Call{Principal: domain.Principal{Subject: "sre", Scopes: domain.ScopeOps}, RequestID: "r-1"}
	refresher = service.Call{Principal: domain.Principal{Subject: "svc", Scopes: domain.ScopeCacheRefresh}, RequestID: "r-2"}
)

// namedTokens accepts the tokens above, until they are refused.
type namedTokens struct {
	mu      sync.Mutex
	refused map[string]bool
}

func (n *namedTokens) refuse(token string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refused[token] = true
}

func (n *namedTokens) Verify(_ context.Context, token string) (domain.Principal, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	scopes, ok := map[string]domain.Scope{
		tokenRead: domain.ScopeRead, tokenCache: domain.ScopeCacheRefresh, tokenOps: domain.ScopeOps, tokenNothing: 0,
	}[token]
	if !ok || n.refused[token] {
		return domain.Principal{}, errors.New("the token has expired")
	}
	return domain.Principal{Subject: "subject-" + token, Scopes: scopes}, nil
}

// panics is a ciphertext that makes the program panic.
const panics = "panics"

// plainEnvelopes stands in for the cryptography: what is after "sealed:" is the value.
type plainEnvelopes struct{}

func (plainEnvelopes) Open(e domain.Envelope) (domain.Opened, error) {
	if e.Ciphertext == panics {
		panic("on purpose")
	}
	value, ok := strings.CutPrefix(e.Ciphertext, "sealed:")
	if !ok {
		return domain.Opened{}, errors.New("the envelope does not open with this server's key")
	}
	return domain.Opened{Value: domain.NewValue([]byte(value)), Version: 2, Digest: e.Ciphertext}, nil
}

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

// recorded counts the audit events that fit: those on their way to the database, and those that are there.
func (f *fixture) recorded(fits func(domain.Event) bool) int {
	ids := make(map[domain.EventID]bool)
	for _, e := range append(f.journal.Events(), f.store.Events()...) {
		if fits(e) {
			ids[e.ID] = true
		}
	}
	return len(ids)
}
