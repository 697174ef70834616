package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/integration/output"
)

// patience is how long a test waits for something that takes moments.
const patience = 30 * time.Second

var (
	buildFlags []string
	bin        string // directory of the built programs
)

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "omni-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	bin = dir
	args := append([]string{"build", "-o", dir}, buildFlags...)
	if err := os.Chmod(dir, 0o755); err != nil { // for tests that give up root
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	build := exec.CommandContext(context.Background(), "go", append(args, "../cmd/omni-secrets", "../cmd/gsm-emulator")...)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s%v\n", out, err)
		return 1
	}
	return m.Run()
}

// program is a running process.
type program struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdout *output.Lines
	stderr *output.Lines
	exited chan struct{}
}

// start runs one of the built programs with exactly this environment until the test ends.
func start(t testing.TB, env []string, name string, args ...string) *program {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), filepath.Join(bin, name), args...)
	cmd.Env = append(slices.Clip(env), "HOME="+t.TempDir(), "GORACE=halt_on_error=1")
	return startCommand(t, name, cmd)
}

// startCommand runs any program until the test ends.
func startCommand(t testing.TB, name string, cmd *exec.Cmd) *program {
	t.Helper()
	p := &program{t: t, cmd: cmd, stdout: output.New(), stderr: output.New(), exited: make(chan struct{})}
	stdout, err := cmd.StdoutPipe()
	stderr, err2 := cmd.StderrPipe()
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() { p.stdout.Follow(stdout) })
	reading.Go(func() { p.stderr.Follow(stderr) })
	go func() {
		reading.Wait()
		_ = cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s wrote to stderr:\n%s", name, p.stderr.Text())
		}
	})
	return p
}

// kill ends the process with SIGKILL.
func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// stop ends the process with SIGTERM and checks that it exits with 0.
func (p *program) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	p.wantExit(0)
}

func (p *program) wantExit(code int) {
	p.t.Helper()
	select {
	case <-p.exited:
		if got := p.cmd.ProcessState.ExitCode(); got != code {
			p.t.Fatalf("exit code %d, want %d:\n%s", got, code, p.stderr.Text())
		}
	case <-time.After(patience):
		p.t.Fatalf("still running after %v:\n%s", patience, p.stderr.Text())
	}
}

// logged waits for a log event and returns its attributes.
func (p *program) logged(name string, attrs ...any) map[string]any {
	p.t.Helper()
	var found map[string]any
	if !p.stderr.Await(0, patience, func(line string) bool {
		var m map[string]any
		if json.Unmarshal([]byte(line), &m) != nil || m["msg"] != name {
			return false
		}
		for i := 0; i < len(attrs); i += 2 {
			if m[attrs[i].(string)] != attrs[i+1] {
				return false
			}
		}
		found = m
		return true
	}) {
		p.t.Fatalf("no log event %s %v in:\n%s", name, attrs, p.stderr.Text())
	}
	return found
}

// result is what a finished command left.
type result struct {
	code           int
	stdout, stderr string
}

// run runs omni-secrets to its end.
func run(t testing.TB, env []string, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "omni-secrets"), args...)
	cmd.Env = append(slices.Clip(env), "HOME="+t.TempDir())
	cmd.Stdin = strings.NewReader(stdin)
	return finish(t, cmd)
}

// runUnprivileged runs omni-secrets as somebody who may not use dir.
func runUnprivileged(t testing.TB, dir string, args ...string) result {
	t.Helper()
	if err := os.Chmod(dir, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "omni-secrets"), args...)
	cmd.Dir = "/"
	if os.Getuid() == 0 {
		const nobody = 65534
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return finish(t, cmd)
}

func finish(t testing.TB, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func (r result) want(t testing.TB, code int, parts ...string) result {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit code %d, want %d\n%s%s", r.code, code, r.stdout, r.stderr)
	}
	for _, part := range parts {
		if !strings.Contains(r.stdout+r.stderr, part) {
			t.Fatalf("no %q in:\n%s%s", part, r.stdout, r.stderr)
		}
	}
	return r
}

// skipUnlessCI skips a test on a machine that lacks something; CI must have everything.
func skipUnlessCI(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// eventually polls until ok; for what announces itself by no event.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		<-tick.C
	}
}
