package clienttest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apex-tradebill/omni-secrets/client"
	"github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1/secretsv1connect"
)

// Token is what Config sends and the server accepts from the start.
const Token = "clienttest-token"

// made counts servers without sockets, whose addresses differ.
var made atomic.Int64

// ttl is the time to live of the values that are served.
const ttl = 5 * time.Minute

// TB is what a server needs of the test that it belongs to. Every testing.TB is one; what has none, such as an example,
// can bring its own.
type TB interface {
	Helper()
	Cleanup(end func())
	Fatalf(format string, args ...any)
}

// Server is a fake Omni Secrets. It is safe for concurrent use. It ends with the test.
type Server struct {
	t       TB
	plain   http.Handler     // the server itself
	handler http.Handler     // front, as it is when a call comes
	memory  *transport       // of a server without sockets
	http    *httptest.Server // of one with, while it runs
	address string

	mu        sync.Mutex
	front     http.Handler // plain, or what Wrap put before it
	secrets   map[string]*secret
	accepted  []string
	keepAlive time.Duration
	holding   bool // streams get nothing
	skew      time.Duration
	revision  int // of everything, and of the secret that changed last
	requests  int
	watches   int
	changed   chan struct{} // closed and replaced at every change
	stopping  chan struct{} // closed when the server is to stop
}

// secret is one entry of the catalog.
type secret struct {
	revision  int
	versions  int
	value     string
	reason    string // why there is no value; empty when there is one
	withdrawn bool
	staleAt   time.Time // zero when it is not stale
	fetchedAt time.Time
	forbidden bool
	reads     int

	override   string
	overrideID int
	appliedAt  time.Time
	endsAt     time.Time // of the override; zero when there is none
}

// NewServer starts a server on a free port of this machine.
func NewServer(t TB) *Server {
	t.Helper()
	s := newServer(t)
	s.address = "127.0.0.1:0"
	s.Start()
	return s
}

// NewInMemory starts a server that uses no sockets: Config has an HTTPClient that calls it within the process. It works
// within a bubble of testing/synctest.
func NewInMemory(t TB) *Server {
	t.Helper()
	s := newServer(t)
	s.address = fmt.Sprintf("omni-secrets-%d.localhost", made.Add(1))
	s.memory = &transport{}
	s.Start()
	return s
}

func newServer(t TB) *Server {
	s := &Server{
		t: t, secrets: map[string]*secret{}, accepted: []string{Token}, keepAlive: 15 * time.Second,
		changed: make(chan struct{}),
	}
	mux := http.NewServeMux()
	mux.Handle(secretsv1connect.NewSecretsServiceHandler(&rpc{server: s}))
	s.plain, s.front = mux, mux
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.mu.Lock()
		front := s.front
		s.mu.Unlock()
		front.ServeHTTP(w, req)
	})
	t.Cleanup(s.Kill)
	return s
}

// URL is the base URL. It stays the same through Stop and Start.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return "http://" + s.address
}

// Config is a ready configuration of a client of this server, that follows every secret. Change what the test needs.
func (s *Server) Config() client.Config {
	cfg := client.Config{BaseURLs: []string{s.URL()}, Token: client.StaticToken(Token)}
	if s.memory != nil {
		cfg.HTTPClient = &http.Client{Transport: s.memory}
	}
	return cfg
}

// Wrap lets calls go through what wrap makes of the server, such as a proxy that misbehaves, from now on; nil ends that.
func (s *Server) Wrap(wrap func(http.Handler) http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.front = s.plain
	if wrap != nil {
		s.front = wrap(s.plain)
	}
}

// Start starts the server again after Stop or Kill, at the same address and with the same secrets.
func (s *Server) Start() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping != nil {
		s.t.Fatalf("clienttest: Start of a server that runs")
	}
	s.stopping = make(chan struct{})
	if s.memory != nil {
		s.memory.start(s.handler)
		return
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", s.address)
	if err != nil {
		s.t.Fatalf("clienttest: %v", err)
	}
	s.address = listener.Addr().String()
	s.http = &httptest.Server{Listener: listener, Config: &http.Server{Handler: s.handler, ReadHeaderTimeout: 10 * time.Second}}
	s.http.Start()
}

// Stop stops the server as a deployment does: streams end with SHUTTING_DOWN, then nothing answers any more.
func (s *Server) Stop() { s.stop(true) }

// Kill ends the server as a power cut does: connections break without a word.
func (s *Server) Kill() { s.stop(false) }

func (s *Server) stop(gently bool) {
	s.mu.Lock()
	stopping, running := s.stopping, s.http
	s.stopping, s.http = nil, nil
	s.mu.Unlock()
	if stopping == nil {
		return
	}
	if gently {
		close(stopping)
	}
	switch {
	case s.memory != nil:
		s.memory.stop(gently)
	default:
		if !gently {
			running.CloseClientConnections()
		}
		running.Close()
	}
	if !gently {
		close(stopping)
	}
}

// change does what change says to a secret, which it makes if need be, and tells the streams.
func (s *Server) change(secretType string, change func(*secret)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.secrets[secretType]
	if one == nil {
		one = &secret{reason: "not_found", fetchedAt: time.Now()}
		s.secrets[secretType] = one
	}
	change(one)
	s.revision++
	one.revision = s.revision
	s.wake()
}

// wake has every stream look at the state. s.mu is held.
func (s *Server) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Set serves a new version of a secret, whose source is "gsm". It becomes part of the catalog with its first version.
// Versions count from 1. An override stays in place over it.
func (s *Server) Set(secretType, value string) {
	s.change(secretType, func(one *secret) {
		one.versions++
		one.value, one.reason, one.withdrawn = value, "", false
		one.staleAt, one.fetchedAt = time.Time{}, time.Now()
	})
}

// Override serves value in place of the secret for a time, as a break-glass override does.
func (s *Server) Override(secretType, value string, lasts time.Duration) {
	s.change(secretType, func(one *secret) {
		one.overrideID++
		one.override, one.appliedAt, one.endsAt = value, time.Now(), time.Now().Add(lasts)
	})
}

// ClearOverride ends an override early.
func (s *Server) ClearOverride(secretType string) {
	s.change(secretType, func(one *secret) { one.endsAt = time.Time{} })
}

// MarkStale serves the value as stale from now on: its time to live is over and the backend gives no newer one. Set ends
// that.
func (s *Server) MarkStale(secretType string) {
	s.change(secretType, func(one *secret) { one.staleAt = time.Now() })
}

// MakeUnavailable lets the server have no value, as after a restart while the backend is down. Set ends that. reason is
// one of docs/api.md, such as "unavailable"; empty while the first fetch goes on.
func (s *Server) MakeUnavailable(secretType, reason string) {
	s.change(secretType, func(one *secret) {
		one.value, one.reason, one.withdrawn = "", reason, false
	})
}

// Withdraw revokes the value: the backend says that it is disabled. Set ends that.
func (s *Server) Withdraw(secretType string) {
	s.change(secretType, func(one *secret) {
		one.value, one.reason, one.withdrawn = "", "version_disabled", true
	})
}

// Forbid takes the secret away from the readers, and Allow gives it back. Streams that are open go on with what they
// follow.
func (s *Server) Forbid(secretType string) {
	s.change(secretType, func(one *secret) { one.forbidden = true })
}

// Allow ends Forbid.
func (s *Server) Allow(secretType string) {
	s.change(secretType, func(one *secret) { one.forbidden = false })
}

// AcceptOnly accepts these tokens from now on, and no others; none at all without arguments. Streams that were opened
// with another one end as if their token had expired.
func (s *Server) AcceptOnly(tokens ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted = slices.Clone(tokens)
	s.wake()
}

// HoldStreams keeps back everything on streams, as a proxy does that buffers answers, until it is called with false.
func (s *Server) HoldStreams(hold bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holding = hold
	s.wake()
}

// SetKeepAlive sets the interval of keep-alives; 15 s from the start. It is sent in whole seconds.
func (s *Server) SetKeepAlive(interval time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keepAlive = interval
	s.wake()
}

// SkewClock lets the server's clock differ from that of the test.
func (s *Server) SkewClock(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skew = by
}

// Reads is how often the value of a secret was given out by GetSecret, which clients use while they have no stream.
func (s *Server) Reads(secretType string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one := s.secrets[secretType]; one != nil {
		return one.reads
	}
	return 0
}

// Watches is how many streams are open.
func (s *Server) Watches() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watches
}

// Requests is how many calls there were, with those that were refused.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// String keeps a server that is printed short.
func (s *Server) String() string {
	return fmt.Sprintf("clienttest.Server(%s)", strings.TrimPrefix(s.URL(), "http://"))
}
