package gsm_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log" //nolint:depguard // its global logger is one of the ways out that are watched
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/apex-tradebill/omni-secrets/adapters/gsm"
	"github.com/apex-tradebill/omni-secrets/adapters/gsm/emulator"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports/porttest"
)

const (
	secret    = "projects/omni-dev/secrets/apex-omni-trading-api-key"
	plaintext = "plaintext-of-the-trading-api-key"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts an emulator at address, "127.0.0.1:0" for any port, and returns where it is.
func serve(t *testing.T, address string) (*emulator.Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := emulator.New()
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return server, l.Addr().String()
}

// open returns a backend that gives up early.
func open(t *testing.T, config gsm.Config) *gsm.Backend {
	t.Helper()
	if config.Timeout == 0 {
		config.Timeout, config.BackoffMin, config.BackoffMax = time.Second, 10*time.Millisecond, 100*time.Millisecond
	}
	b, err := gsm.New(t.Context(), config)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return b
}

func start(t *testing.T) (*gsm.Backend, *emulator.Server) {
	t.Helper()
	server, address := serve(t, "127.0.0.1:0")
	return open(t, gsm.Config{Endpoint: address, AllowLatest: true}), server
}

func put(t *testing.T, server *emulator.Server, secret, value string) {
	t.Helper()
	if _, err := server.Put(secret, []byte(value)); err != nil {
		t.Fatal(err)
	}
}

func setFault(t *testing.T, server *emulator.Server, f emulator.Fault) {
	t.Helper()
	if err := server.SetFault(f); err != nil {
		t.Fatal(err)
	}
}

func TestSecretBackend(t *testing.T) {
	for name, reference := range map[string]string{
		"global":   secret,
		"regional": "projects/omni-dev/locations/europe-west3/secrets/apex-omni-trading-api-key",
	} {
		t.Run(name, func(t *testing.T) {
			porttest.RunSecretBackend(t, func(t *testing.T) porttest.BackendHarness { return harness(t, reference) })
		})
	}
}

func harness(t *testing.T, reference string) porttest.BackendHarness {
	t.Helper()
	b, server := start(t)
	do := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fault := func(mode emulator.Mode) func(*testing.T, bool) {
		return func(t *testing.T, on bool) {
			t.Helper()
			if server.ClearFaults(); on {
				do(t, server.SetFault(emulator.Fault{Mode: mode}))
			}
		}
	}
	return porttest.BackendHarness{
		Backend: b, Reference: reference, Unknown: reference + "-that-is-not-there",
		Put: func(t *testing.T, value []byte) string {
			number, err := server.Plant(reference, value)
			do(t, err)
			return strconv.Itoa(number)
		},
		Disable: func(t *testing.T, version string) { do(t, server.Disable(reference+"/versions/"+version)) },
		Destroy: func(t *testing.T, version string) { do(t, server.Destroy(reference+"/versions/"+version)) },
		Remove:  func(t *testing.T) { do(t, server.Delete(reference)) },
		Outage:  fault(emulator.Unavailable),
		Hang: func(t *testing.T) func() {
			fault(emulator.Hang)(t, true)
			return func() {
				for deadline := time.Now().Add(time.Minute); server.Calls()["AccessSecretVersion"] == 0; runtime.Gosched() {
					if time.Now().After(deadline) {
						t.Fatal("no call came")
					}
				}
			}
		},
		Deny:    fault(emulator.Deny),
		Corrupt: fault(emulator.Corrupt),
	}
}

func TestReasonsOfCalls(t *testing.T) {
	for mode, want := range map[emulator.Mode]domain.Reason{
		emulator.Unavailable:       domain.ReasonUnavailable,
		emulator.Internal:          domain.ReasonInternal,
		emulator.ResourceExhausted: domain.ReasonResourceExhausted,
		emulator.Hang:              domain.ReasonDeadlineExceeded,
		emulator.Deny:              domain.ReasonPermissionDenied,
		emulator.Unauthenticated:   domain.ReasonUnauthenticated,
		emulator.Corrupt:           domain.ReasonChecksumMismatch,
	} {
		t.Run(string(mode), func(t *testing.T) {
			b, server := start(t)
			put(t, server, secret, plaintext)
			connected(t, b)
			setFault(t, server, emulator.Fault{Mode: mode})
			if _, err := b.Fetch(t.Context(), secret, domain.LatestVersion); domain.ReasonOf(err) != want {
				t.Errorf("the reason is %s, want %s: %v", domain.ReasonOf(err), want, err)
			}
		})
	}
}

// connected waits until there is a connection, which on a busy machine may take longer than a fetch of the tests has.
func connected(t *testing.T, b *gsm.Backend) {
	t.Helper()
	for {
		if _, err := b.Fetch(t.Context(), secret, domain.LatestVersion); err == nil {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal("there is no connection to the emulator")
		}
	}
}

// The library would wait 2 s before its second attempt, longer than the whole Fetch may take.
func TestAFailureThatPassesIsRetriedInTime(t *testing.T) {
	b, server := start(t)
	put(t, server, secret, plaintext)
	setFault(t, server, emulator.Fault{Mode: emulator.Unavailable})
	if _, err := b.Fetch(t.Context(), secret, domain.LatestVersion); domain.ReasonOf(err) != domain.ReasonUnavailable {
		t.Fatalf("Fetch failed with %v, want %s", err, domain.ReasonUnavailable)
	}
	if calls := server.Calls()["AccessSecretVersion"]; calls < 2 {
		t.Errorf("%d attempts were made, want several", calls)
	}
}

func TestAFailureThatDoesNotPassIsNotRetried(t *testing.T) {
	for _, mode := range []emulator.Mode{emulator.Deny, emulator.Unauthenticated, emulator.Corrupt} {
		t.Run(string(mode), func(t *testing.T) {
			b, server := start(t)
			put(t, server, secret, plaintext)
			setFault(t, server, emulator.Fault{Mode: mode})
			if _, err := b.Fetch(t.Context(), secret, domain.LatestVersion); err == nil {
				t.Fatal("Fetch succeeded")
			}
			if calls := server.Calls()["AccessSecretVersion"]; calls != 1 {
				t.Errorf("%d attempts were made, want 1", calls)
			}
		})
	}
}

func TestForbiddenLatestMakesNoCall(t *testing.T) {
	server, address := serve(t, "127.0.0.1:0")
	b := open(t, gsm.Config{Endpoint: address})
	put(t, server, secret, plaintext)
	if _, err := b.Fetch(t.Context(), secret, domain.LatestVersion); domain.ReasonOf(err) != domain.ReasonLatestForbidden {
		t.Errorf("Fetch failed with %v, want %s", err, domain.ReasonLatestForbidden)
	}
	if calls := server.Calls(); len(calls) != 0 {
		t.Errorf("calls were made: %v", calls)
	}
	if _, err := b.Fetch(t.Context(), secret, "1"); err != nil {
		t.Errorf("a numbered version: %v", err)
	}
}

func TestAnAliasGivesTheVersionBehindIt(t *testing.T) {
	b, server := start(t)
	put(t, server, secret, plaintext)
	put(t, server, secret, "another")
	if err := server.SetAlias(secret, "stable", 1); err != nil {
		t.Fatal(err)
	}
	got, err := b.Fetch(t.Context(), secret, "stable")
	if err != nil || got.Version != "1" || string(got.Value.Reveal()) != plaintext {
		t.Errorf("Fetch gave version %q (%v), want 1 with its value", got.Version, err)
	}
}

func TestTheBackendReconnectsAfterAnOutage(t *testing.T) {
	server, address := serve(t, "127.0.0.1:0")
	b := open(t, gsm.Config{Endpoint: address, AllowLatest: true})
	put(t, server, secret, "before")
	if _, err := b.Fetch(t.Context(), secret, domain.LatestVersion); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	if _, err := b.Fetch(t.Context(), secret, domain.LatestVersion); domain.ReasonOf(err) != domain.ReasonUnavailable {
		t.Fatalf("without a server Fetch failed with %v, want %s", err, domain.ReasonUnavailable)
	}
	server, _ = serve(t, address)
	put(t, server, secret, "after")
	var got domain.Fetched
	err := errors.New("not tried")
	for deadline := time.Now().Add(time.Minute); err != nil && time.Now().Before(deadline); {
		got, err = b.Fetch(t.Context(), secret, domain.LatestVersion) // paces itself by its back-off
	}
	if err != nil || string(got.Value.Reveal()) != "after" {
		t.Errorf("with the server back, Fetch gave version %q (%v)", got.Version, err)
	}
}

// With GOOGLE_SDK_GO_LOGGING_LEVEL=debug the library writes responses to standard error, payloads in base64.
func TestTheLibraryLogsNoPayload(t *testing.T) {
	t.Setenv("GOOGLE_SDK_GO_LOGGING_LEVEL", "debug")
	written := capture(t)
	b, server := start(t)
	put(t, server, secret, plaintext)
	if _, err := b.Fetch(t.Context(), secret, domain.LatestVersion); err != nil {
		t.Fatal(err)
	}
	out := written()
	for _, form := range []string{plaintext, base64.StdEncoding.EncodeToString([]byte(plaintext)), "AccessSecretVersion"} {
		if strings.Contains(out, form) {
			t.Errorf("the process wrote %q", form)
		}
	}
}

// capture redirects all that a process can write to by default; written returns it.
func capture(t *testing.T) (written func() string) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	stdout, stderr, logger := os.Stdout, os.Stderr, slog.Default() //nolint:forbidigo // what the library would use
	os.Stdout, os.Stderr = file, file
	slog.SetDefault(slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))) //nolint:forbidigo // as above
	t.Cleanup(func() {
		os.Stdout, os.Stderr = stdout, stderr
		slog.SetDefault(logger) //nolint:forbidigo // as it was
		log.SetOutput(stderr)
		file.Close()
	})
	return func() string {
		content, err := os.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(content) + logged.String()
	}
}

func TestNewRefusesAWrongConfig(t *testing.T) {
	for name, c := range map[string]struct {
		config gsm.Config
		want   string
	}{
		"an endpoint without a port":    {gsm.Config{Endpoint: "localhost"}, "host:port"},
		"an endpoint with a scheme":     {gsm.Config{Endpoint: "http://localhost:9085"}, "host:port"},
		"an endpoint with no such port": {gsm.Config{Endpoint: "localhost:99999"}, "host:port"},
		"a negative timeout":            {gsm.Config{Endpoint: "localhost:1", Timeout: -1}, "negative"},
		"back-offs in disorder":         {gsm.Config{Endpoint: "localhost:1", BackoffMin: time.Hour}, "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := gsm.New(t.Context(), c.config); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("New failed with %v, want something about %q", err, c.want)
			}
		})
	}
}

func TestNewWithoutCredentialsSaysWhatToDo(t *testing.T) {
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", filepath.Join(t.TempDir(), "missing.json"))
	_, err := gsm.New(t.Context(), gsm.Config{})
	if err == nil {
		t.Fatal("New succeeded")
	}
	for _, want := range []string{"GOOGLE_APPLICATION_CREDENTIALS", "workload identity", "OMNI_GSM_ENDPOINT", "missing.json"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error %q does not mention %s", err, want)
		}
	}
}

func TestAClosedBackendFails(t *testing.T) {
	_, address := serve(t, "127.0.0.1:0")
	b, err := gsm.New(t.Context(), gsm.Config{Endpoint: address, AllowLatest: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = b.Fetch(context.WithoutCancel(t.Context()), secret, domain.LatestVersion)
	if _, ok := errors.AsType[*domain.FetchError](err); !ok {
		t.Errorf("Fetch failed with %v, want a *domain.FetchError", err)
	}
}
