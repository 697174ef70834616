package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// stack is docker-compose.yml, brought up under a name and on ports of its own.
type stack struct {
	t          *testing.T
	env        []string
	control    string // of the emulator
	prometheus string

	secret    []byte // that signs tokens
	publicKey string
	a, b      *server
}

// upPatience is enough for a build of the images without a cache on a small machine.
const upPatience = 8 * time.Minute

// startStack builds the images, starts every service and waits until all are healthy.
func startStack(t *testing.T, project string) *stack {
	t.Helper()
	requireDocker(t)
	st := &stack{t: t, env: append(os.Environ(),
		"COMPOSE_PROJECT_NAME="+project,
		"DOCKER_BUILDKIT=1", // the default since Docker 23
		"OMNI_VERSION=integration", "OMNI_REVISION=revision-under-test",
	)}
	st.env = append(st.env, moduleSources(t)...)
	st.readKeys()
	ctx, cancel := context.WithTimeout(t.Context(), upPatience)
	defer cancel()
	if out, err := st.command(ctx, "build").CombinedOutput(); err != nil {
		t.Fatalf("docker compose build: %v\n%s", err, out)
	}
	// Found after the minutes of the build, in which others might take them. That Docker picks them will not do: it
	// would give a container that is started again another one.
	ports := freePorts(t, 4)
	st.env = append(st.env, "OMNI_A_PORT="+ports[0], "OMNI_B_PORT="+ports[1], "EMULATOR_CONTROL_PORT="+ports[2], "PROMETHEUS_PORT="+ports[3])
	st.control, st.prometheus = "http://127.0.0.1:"+ports[2], "http://127.0.0.1:"+ports[3]
	st.a = &server{api: "http://127.0.0.1:" + ports[0]}
	st.b = &server{api: "http://127.0.0.1:" + ports[1]}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if t.Failed() {
			logs, err := st.command(ctx, "logs", "--no-color", "--timestamps", "--tail", "200").CombinedOutput()
			t.Logf("the containers wrote (%v):\n%s", err, logs)
		}
		if out, err := st.command(ctx, "down", "--volumes", "--remove-orphans", "--timeout", "5").CombinedOutput(); err != nil {
			t.Errorf("docker compose down: %v\n%s", err, out)
		}
	})
	if out, err := st.command(ctx, "up", "--detach", "--wait").CombinedOutput(); err != nil {
		t.Fatalf("docker compose up: %v\n%s", err, out)
	}
	return st
}

// requireDocker skips the test where nobody asked for it, since it builds images for minutes, and on a machine
// without Docker and Compose. In CI that is a failure.
func requireDocker(t *testing.T) {
	t.Helper()
	if os.Getenv("OMNI_TEST_COMPOSE") == "" && os.Getenv("CI") != "true" {
		t.Skip("set OMNI_TEST_COMPOSE=1 to have the compose stack built and tried, which takes minutes")
	}
	for _, args := range [][]string{{"version"}, {"compose", "version"}} {
		out, err := exec.CommandContext(t.Context(), "docker", args...).CombinedOutput()
		if err == nil {
			continue
		}
		skipUnlessCI(t, fmt.Sprintf("a Docker engine and the Compose plugin are needed: docker %s: %v\n%s", strings.Join(args, " "), err, out))
	}
}

// freePorts finds TCP ports on which nobody listens.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var ports []string
	for range n {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() //nolint:gocritic // after the last one was found, so that all differ
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, port)
	}
	return ports
}

// moduleSources makes the image build fetch modules from where this machine does.
func moduleSources(t *testing.T) []string {
	t.Helper()
	var env []string
	for _, name := range []string{"GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE"} {
		value, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(value)))
	}
	return env
}

// command is a docker compose command about the stack.
func (st *stack) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", append([]string{"compose", "--progress", "plain"}, args...)...)
	cmd.Dir = ".."
	cmd.Env = st.env
	return cmd
}

// compose runs a docker compose command and returns what it prints.
func (st *stack) compose(args ...string) string {
	st.t.Helper()
	ctx, cancel := context.WithTimeout(st.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := st.command(ctx, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		st.t.Fatalf("docker compose %s: %v\n%s%s", strings.Join(args, " "), err, out, &stderr)
	}
	return string(out)
}

// docker runs a docker command and returns what it prints.
func (st *stack) docker(args ...string) []byte {
	st.t.Helper()
	out, err := exec.CommandContext(st.t.Context(), "docker", args...).Output()
	if err != nil {
		st.t.Fatalf("docker %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// emulate steers the emulator.
func (st *stack) emulate(method, path, body string) {
	st.t.Helper()
	(&emulator{program: &program{t: st.t}, control: st.control}).steer(method, path, body)
}

// readKeys takes the keys from the file as Compose understands it.
func (st *stack) readKeys() {
	st.t.Helper()
	var file struct {
		Services map[string]struct{ Environment map[string]string }
	}
	if err := json.Unmarshal([]byte(st.compose("config", "--format", "json")), &file); err != nil {
		st.t.Fatal(err)
	}
	env := file.Services["omni-a"].Environment
	st.secret, st.publicKey = []byte(env["JWT_SECRET"]), env["OMNI_BREAKGLASS_PUBLIC_KEY"]
}

// in is the stack as a subtest uses it.
func (st *stack) in(t *testing.T) *stack {
	t.Helper()
	sub := *st
	sub.t = t
	for _, replica := range []**server{&sub.a, &sub.b} {
		*replica = &server{
			program: &program{t: t}, api: (*replica).api, secret: st.secret, publicKey: st.publicKey,
			service: sign(t, st.secret, "svc-trading", domain.ScopeRead.String(), domain.ScopeCacheRefresh.String()),
			ops:     sign(t, st.secret, "sre", allOps...),
		}
	}
	return &sub
}

// sql runs a query as the tables' owner and returns its lines, fields separated by |.
func (st *stack) sql(query string) []string {
	st.t.Helper()
	out := st.compose("exec", "-T", "postgres", "psql", "-U", "omni_owner", "-d", "omni", "-v", "ON_ERROR_STOP=1", "-Atqc", query)
	if out = strings.TrimSpace(out); out == "" {
		return nil
	}
	return strings.Split(out, "\n")
}

// wantSQL waits until a query has this result.
func (st *stack) wantSQL(query string, want ...string) {
	st.t.Helper()
	eventually(st.t, fmt.Sprintf("%s gives %q", query, want), func() bool {
		return strings.Join(st.sql(query), "\n") == strings.Join(want, "\n")
	})
}

// wantHealthy waits until a container's health check, which is `omni-secrets health`, passes.
func (st *stack) wantHealthy(service string) {
	st.t.Helper()
	eventually(st.t, service+" is healthy", func() bool {
		return strings.TrimSpace(st.compose("ps", "--format", "{{.Health}}", service)) == "healthy"
	})
}

// promQL asks Prometheus and returns the labels of the series that it answers with.
func (st *stack) promQL(query string) (series []map[string]string) {
	st.t.Helper()
	body, err := fetch(st.t, st.prometheus+"/api/v1/query?query="+url.QueryEscape(query))
	if err != nil {
		st.t.Fatal(err)
	}
	var a struct {
		Status, Error string
		Data          struct {
			Result []struct{ Metric map[string]string }
		}
	}
	if err := json.Unmarshal(body, &a); err != nil || a.Status != "success" {
		st.t.Fatalf("%s: %v %s", query, err, body)
	}
	for _, r := range a.Data.Result {
		series = append(series, r.Metric)
	}
	return series
}

func fetch(t *testing.T, address string) ([]byte, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	return body, errors.Join(err, resp.Body.Close())
}
