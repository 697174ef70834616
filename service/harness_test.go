package service_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/apex-tradebill/omni-secrets/adapters/memory"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
	"github.com/apex-tradebill/omni-secrets/service"
)

func TestMain(m *testing.M) {
	// The same sequences every time and few of them, unless -rapid.seed=N (0 for chance) or -rapid.checks=N ask for others.
	for name, value := range map[string]string{"rapid.seed": "1", "rapid.checks": "50"} {
		if f := flag.Lookup(name); os.Getenv(strings.ToUpper(strings.ReplaceAll(name, ".", "_"))) == "" {
			_ = f.Value.Set(value)
		}
	}
	goleak.VerifyTestMain(m)
}

const (
	apiKey  domain.SecretType = "trading_api_key"
	webhook domain.SecretType = "webhook_shared_secret"
)

var (
	reader   = service.Call{Principal: domain.Principal{Subject: "svc-trading", Scopes: domain.ScopeRead}, RequestID: "r-1"}
	cacher   = service.Call{Principal: domain.Principal{Subject: "svc-trading", Scopes: domain.ScopeCacheRefresh}, RequestID: "r-2"}
	operator = service.Call{Principal: domain.Principal{Subject: "sre", Scopes: domain.ScopeOps}, RequestID: "r-3"}
)

// fixture is a service over in-memory parts.
type fixture struct {
	*service.Service
	t       *testing.T
	config  service.Config
	backend *memory.Backend
	store   *memory.Store
	journal *memory.Journal
	meter   *memory.Meter
	logs    *logLines
	start   time.Time
}

// newFixture makes a service whose refreshes have no jitter, with a value for each secret.
func newFixture(t *testing.T, adapt ...func(*service.Config)) *fixture {
	t.Helper()
	f := &fixture{
		t: t, backend: memory.NewBackend(), store: memory.New(), journal: memory.NewJournal(),
		meter: memory.NewMeter(), logs: new(logLines), start: time.Now(),
	}
	f.backend.Set("key", "key-1")
	f.backend.Set("hook", "hook-1")
	f.config = service.Config{
		Catalog: domain.Catalog{
			{Type: apiKey, Backend: "gsm", Reference: "key", Version: domain.LatestVersion, Owner: "Security Engineering", RotationMonths: 12},
			{Type: webhook, Backend: "gsm", Reference: "hook", Version: domain.LatestVersion, Owner: "Platform Reliability", RotationMonths: 12},
		},
		Policy: domain.DefaultCachePolicy(), Environment: "test", ReplicaID: "replica-1",
		Backends: map[string]ports.SecretBackend{"gsm": f.backend},
		Metadata: f.store, Overrides: f.store, Rotations: f.store, FollowUps: f.store, Audit: f.store, Chains: f.store, Journal: f.journal, Drain: f.journal,
		Envelopes: plainEnvelopes{}, Leadership: memory.NewAlone(), Meter: f.meter, Logger: slog.New(slog.NewJSONHandler(f.logs, nil)),
		Spread: func() float64 { return 0 },
	}
	for _, a := range adapt {
		a(&f.config)
	}
	f.build()
	return f
}

func (f *fixture) build() {
	f.t.Helper()
	var err error
	if f.Service, err = service.New(f.config); err != nil {
		f.t.Fatal(err)
	}
}

// run starts the service and returns how to stop it. It must be called inside a bubble.
func (f *fixture) run() (stop func()) {
	f.t.Helper()
	if err := f.Start(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	synctest.Wait()
	return func() {
		cancel()
		if err := <-done; err != nil {
			f.t.Errorf("Run: %v", err)
		}
	}
}

// at moves the bubble's clock to d after the start.
func (f *fixture) at(d time.Duration) {
	f.t.Helper()
	wait := time.Until(f.start.Add(d))
	if wait < 0 {
		f.t.Fatalf("the clock is past %v", d)
	}
	time.Sleep(wait) //nolint:forbidigo // simulated: in a bubble
	synctest.Wait()
}

func (f *fixture) read(t domain.SecretType) (domain.Served, error) {
	return f.Read(f.t.Context(), reader, t)
}

// wantServed checks what a reader gets.
func (f *fixture) wantServed(t domain.SecretType, value, source string, stale bool) domain.Served {
	f.t.Helper()
	s, err := f.read(t)
	if err != nil {
		f.t.Fatalf("after %v: read %s: %v", time.Since(f.start), t, err)
	}
	if got := string(s.Value.Reveal()); got != value || s.Source != source || s.Stale != stale {
		f.t.Fatalf("after %v: read %s = %q from %s, stale %v; want %q from %s, stale %v",
			time.Since(f.start), t, got, s.Source, s.Stale, value, source, stale)
	}
	return s
}

func (f *fixture) wantCode(err error, want domain.Code) *domain.Error {
	f.t.Helper()
	e, ok := errors.AsType[*domain.Error](err)
	if !ok || e.Code != want {
		f.t.Fatalf("after %v: error %v, want code %s", time.Since(f.start), err, want)
	}
	return e
}

func (f *fixture) wantCalls(reference string, want int) {
	f.t.Helper()
	if got := f.backend.Calls(reference); got != want {
		f.t.Fatalf("after %v: %d fetches of %s, want %d", time.Since(f.start), got, reference, want)
	}
}

// recorded returns the events of an action that are in SQL, oldest first.
func (f *fixture) recorded(action domain.Action) []domain.Event {
	var list []domain.Event
	for _, e := range f.store.Events() {
		if e.Action == action {
			list = append(list, e)
		}
	}
	return list
}

func (f *fixture) status(t domain.SecretType) service.SecretStatus {
	f.t.Helper()
	all, err := f.Status(f.t.Context(), operator)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, s := range all {
		if s.Type == t {
			return s
		}
	}
	f.t.Fatalf("status does not list %s", t)
	return service.SecretStatus{}
}

// seal makes an envelope that plainEnvelopes opens.
func seal(t domain.SecretType, value string, ttl time.Duration) domain.Envelope {
	return domain.Envelope{Type: t, Ciphertext: "sealed:" + value, ExpiresAt: time.Now().Add(ttl).Format(time.RFC3339Nano)}
}

func (f *fixture) apply(value string, ttl time.Duration) domain.Override {
	f.t.Helper()
	o, err := f.ApplyOverride(f.t.Context(), operator, seal(apiKey, value, ttl), "drill")
	if err != nil {
		f.t.Fatal(err)
	}
	return o
}

// plainEnvelopes stands in for the cryptography: what is after "sealed:" is the value.
type plainEnvelopes struct{}

func (plainEnvelopes) Open(e domain.Envelope) (domain.Opened, error) {
	value, ok := strings.CutPrefix(e.Ciphertext, "sealed:")
	if !ok {
		return domain.Opened{}, errors.New("the envelope does not open with this server's key")
	}
	return domain.Opened{Value: domain.NewValue([]byte(value)), Version: 2, Digest: e.Ciphertext}, nil
}

// logLines collects JSON log lines.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// named returns the lines whose msg is name.
func (l *logLines) named(name string) []map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []map[string]any
	for line := range strings.Lines(l.buf.String()) {
		var m map[string]any
		if json.Unmarshal([]byte(line), &m) == nil && m["msg"] == name {
			list = append(list, m)
		}
	}
	return list
}

func (f *fixture) wantLogged(name string, want int) []map[string]any {
	f.t.Helper()
	got := f.logs.named(name)
	if len(got) != want {
		f.t.Fatalf("after %v: %d lines %s, want %d: %v", time.Since(f.start), len(got), name, want, got)
	}
	return got
}
