package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// output is a buffer that tells when it has a line that is waited for.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	ready chan struct{} // closed once "ready" was written
}

func newOutput() *output { return &output{ready: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	before := strings.Contains(o.text.String(), "ready")
	o.text.Write(p)
	if !before && strings.Contains(o.text.String(), "ready") {
		close(o.ready)
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func noEnvironment(string) string { return "" }

// running is an emulator that serves, and stop ends it and returns its exit code and all that it logged.
type running struct {
	api, control string
	stdout       *output
	stop         func() (code int, logged string)
}

var readyLine = regexp.MustCompile(`(?m)^.*ready: gRPC on (\S+), control on (http://\S+)$`)

func begin(t *testing.T, getenv func(string) string, args ...string) running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	stdout, stderr := newOutput(), newOutput()
	code := make(chan int, 1)
	go func() { code <- run(ctx, args, getenv, stdout, stderr) }()
	stop := sync.OnceValues(func() (int, string) {
		cancel()
		return <-code, stderr.String()
	})
	t.Cleanup(func() { stop() })
	select {
	case <-stdout.ready:
	case c := <-code:
		code <- c
		t.Fatalf("it ended with %d: %s", c, stderr)
	}
	m := readyLine.FindStringSubmatch(stdout.String())
	if m == nil {
		t.Fatalf("the output %q has no line with the addresses", stdout)
	}
	return running{api: m[1], control: m[2], stdout: stdout, stop: stop}
}

func access(t *testing.T, address, version string) string {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got, err := secretmanagerpb.NewSecretManagerServiceClient(conn).AccessSecretVersion(t.Context(),
		&secretmanagerpb.AccessSecretVersionRequest{Name: version})
	if err != nil {
		t.Fatal(err)
	}
	return string(got.GetPayload().GetData())
}

func TestServesWhatWasSeededAndPut(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"apex-omni-trading-api-key": "seeded-plaintext\n",
		".hidden":                   "x",
		"folder/inside":             "x",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e := begin(t, noEnvironment, "--listen", "127.0.0.1:0", "--control=127.0.0.1:0", "--seed-dir", dir)
	const secret = "projects/omni-dev/secrets/apex-omni-trading-api-key"
	if got := access(t, e.api, secret+"/versions/latest"); got != "seeded-plaintext\n" {
		t.Errorf("the seeded secret is %q", got)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, e.control+"/secrets/omni-dev/apex-omni-trading-api-key", strings.NewReader("put-plaintext"))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := access(t, e.api, secret+"/versions/2"); got != "put-plaintext" {
		t.Errorf("the put version is %q", got)
	}
	code, logged := e.stop()
	if code != 0 {
		t.Errorf("the exit code is %d: %s", code, logged)
	}
	if strings.Contains(logged+e.stdout.String(), "plaintext") {
		t.Errorf("a payload was written: %s", logged)
	}
	for _, want := range []string{`"msg":"emulator.seeded","project":"omni-dev","secrets":1`, `"method":"PUT"`, `"msg":"emulator.stopped"`} {
		if !strings.Contains(logged, want) {
			t.Errorf("the log has no %s:\n%s", want, logged)
		}
	}
}

func TestTheEnvironmentStandsInForFlags(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "key"), []byte("value"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := begin(t, func(name string) string {
		return map[string]string{
			"OMNI_EMULATOR_LISTEN":   "127.0.0.1:0",
			"OMNI_EMULATOR_CONTROL":  "127.0.0.1:0",
			"OMNI_EMULATOR_PROJECT":  "not-this-one",
			"OMNI_EMULATOR_SEED_DIR": dir,
		}[name]
	}, "--project", "other-project")
	if got := access(t, e.api, "projects/other-project/secrets/key/versions/1"); got != "value" {
		t.Errorf("the seeded secret is %q", got)
	}
}

func TestRefusals(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "not.a.secret"), []byte("plaintext"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := t.TempDir()
	if err := os.WriteFile(filepath.Join(empty, "key"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"the gRPC port is in use", []string{"--listen", taken.Addr().String(), "--control", "127.0.0.1:0"}, 1, "in use: end the other program, or choose another address with --listen"},
		{"the control port is in use", []string{"--listen", "127.0.0.1:0", "--control", taken.Addr().String()}, 1, "with --control"},
		{"an address that is none", []string{"--listen", "nonsense"}, 1, "--listen nonsense"},
		{"a seed folder that is not there", []string{"--seed-dir", dir + "-missing"}, 1, "--seed-dir"},
		{"a seed file that cannot be a secret", []string{"--seed-dir", dir}, 1, "not.a.secret"},
		{"an empty seed file", []string{"--seed-dir", empty}, 1, "cannot be empty"},
		{"a project that cannot be one", []string{"--project", "X", "--seed-dir", empty}, 1, "--seed-dir"},
		{"an unknown flag", []string{"--lissen", "x"}, 2, "gsm-emulator -h explains the flags"},
		{"an argument", []string{"serve"}, 2, `unexpected argument "serve"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stderr bytes.Buffer
			code := run(t.Context(), c.args, noEnvironment, io.Discard, &stderr)
			if code != c.code || !strings.Contains(stderr.String(), c.want) {
				t.Errorf("the exit code is %d and stderr %q, want %d and %q", code, &stderr, c.code, c.want)
			}
			if strings.Contains(stderr.String(), "plaintext") {
				t.Error("stderr holds a payload")
			}
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	for args, want := range map[string][]string{
		"-h":        {"--listen ADDRESS", "$OMNI_EMULATOR_LISTEN", "default 127.0.0.1:9085", "--seed-dir FOLDER", "curl -X POST -d '{\"mode\":\"unavailable\"}'", "/state"},
		"--help":    {"--control ADDRESS", "--health URL"},
		"--version": {"gsm-emulator "},
	} {
		t.Run(args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), []string{args}, noEnvironment, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
				t.Errorf("the exit code is %d, stderr %q", code, &stderr)
			}
			for _, w := range want {
				if !strings.Contains(stdout.String(), w) {
					t.Errorf("no %q in:\n%s", w, &stdout)
				}
			}
		})
	}
}
