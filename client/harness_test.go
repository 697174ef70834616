package client_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/apex-tradebill/omni-secrets/client"
	"github.com/apex-tradebill/omni-secrets/client/clienttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	apiKey  = "trading_api_key"
	webhook = "webhook_shared_secret"
)

// bubble runs test with a fake server and a harness round it, in a time of its own.
func bubble(t *testing.T, test func(h *harness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		omni := clienttest.NewInMemory(t)
		omni.Set(apiKey, "key-1")
		omni.Set(webhook, "hook-1")
		test(&harness{t: t, omni: omni, logs: &logBuffer{}})
	})
}

// harness is a client of a fake server.
type harness struct {
	*client.Client

	t    *testing.T
	omni *clienttest.Server
	logs *logBuffer

	mu      sync.Mutex
	changes []client.Change
}

// follow makes the client, whose configuration adapt changes, and lets it do all that it does at once.
func (h *harness) follow(adapt ...func(*client.Config)) {
	h.t.Helper()
	cfg := h.omni.Config()
	cfg.Logger = slog.New(slog.NewTextHandler(h.logs, nil))
	cfg.OnChange = func(change client.Change) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.changes = append(h.changes, change)
	}
	for _, change := range adapt {
		change(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(c.Close)
	h.Client = c
	synctest.Wait()
}

// pass lets that much time pass, and everything happen that is due by then.
func (h *harness) pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // simulated: in a bubble
	synctest.Wait()
}

// wantValue gets a secret without waiting, and checks it.
func (h *harness) wantValue(secretType, value string, stale bool) {
	h.t.Helper()
	s, err := h.Get(done(h.t), secretType)
	if err != nil {
		h.t.Errorf("Get(%s): %v, want %q", secretType, err, value)
		return
	}
	if got := string(s.Value.Reveal()); got != value || s.Stale != stale || s.Type != secretType {
		h.t.Errorf("Get(%s) = %q, stale %v, type %s; want %q, stale %v", secretType, got, s.Stale, s.Type, value, stale)
	}
}

// wantNone gets a secret without waiting, and checks that there is none.
func (h *harness) wantNone(secretType string, is error, code string) {
	h.t.Helper()
	s, err := h.Get(done(h.t), secretType)
	if err == nil {
		h.t.Errorf("Get(%s) = %q, want code %s", secretType, s.Value.Reveal(), code)
		return
	}
	wantError(h.t, err, is, code)
}

func wantError(t *testing.T, err, is error, code string) {
	t.Helper()
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Code != code || !errors.Is(err, is) {
		t.Errorf("failed with %v; want code %s, and %v", err, code, is)
	}
}

// wantChanges checks, and forgets, what OnChange was told: "type=value", or "type!code" for none.
func (h *harness) wantChanges(want ...string) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	var got []string
	for _, change := range h.changes {
		if e, ok := errors.AsType[*client.Error](change.Err); ok {
			got = append(got, change.Secret.Type+"!"+e.Code)
		} else {
			got = append(got, change.Secret.Type+"="+string(change.Secret.Value.Reveal()))
		}
	}
	h.changes = nil
	if strings.Join(got, " ") != strings.Join(want, " ") {
		h.t.Errorf("OnChange was told %q, want %q", got, want)
	}
}

// done is a context with which nothing waits.
func done(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func only(types ...string) func(*client.Config) {
	return func(cfg *client.Config) { cfg.SecretTypes = types }
}

func maxStale(d time.Duration) func(*client.Config) {
	return func(cfg *client.Config) { cfg.MaxStale = d }
}

// logBuffer keeps what is logged.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// outcome is what Get returned.
type outcome struct {
	client.Secret

	err error
}

// getLater calls Get with a context that never ends, and lets it wait.
func (h *harness) getLater(secretType string) <-chan outcome {
	got := make(chan outcome, 1)
	go func() {
		s, err := h.Get(context.WithoutCancel(h.t.Context()), secretType)
		got <- outcome{s, err}
	}()
	synctest.Wait()
	return got
}

// wantLogged checks how many lines of the log have text in them.
func (h *harness) wantLogged(text string, times int) {
	h.t.Helper()
	if n := strings.Count(h.logs.String(), text); n != times {
		h.t.Errorf("%d lines with %q, want %d:\n%s", n, text, times, h.logs)
	}
}
