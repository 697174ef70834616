//go:build linux

package faults_test

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
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/integration/output"
)

// patience is how long a drill waits for what takes moments.
const patience = 2 * time.Minute

// long is the long form.
var long = os.Getenv("OMNI_DRILL") == "long"

// hold is how long a fault lasts.
func hold() time.Duration {
	if long {
		return 20 * time.Second
	}
	return 1500 * time.Millisecond
}

var bin string // directory of the built programs

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "omni-faults-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	bin = dir
	if err := goBuild("-o", dir, "../../cmd/omni-secrets", "../../cmd/gsm-emulator"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func goBuild(args ...string) error {
	build := exec.CommandContext(context.Background(), "go", append([]string{"build"}, args...)...)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%s%w", out, err)
	}
	return nil
}

// program is a running process.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	output *output.Lines // both of its streams
	exited chan struct{}
}

// start runs a program with exactly this environment until the test ends.
func start(t *testing.T, env []string, path string, args ...string) *program {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), path, args...)
	cmd.Env = append(slices.Clip(env), "HOME="+t.TempDir())
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := errors.Join(cmd.Start(), w.Close()); err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, cmd: cmd, output: output.New(), exited: make(chan struct{})}
	go func() {
		p.output.Follow(r)
		_ = r.Close()
		_ = cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("the end of what %s wrote:\n%s", filepath.Base(path), p.output.Tail(60))
		}
	})
	return p
}

// kill ends the process with SIGKILL.
func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// run runs omni-secrets to its end.
func run(t *testing.T, env []string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "omni-secrets"), args...)
	cmd.Env = append(slices.Clip(env), "HOME="+t.TempDir())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("omni-secrets %s: %v\n%s", strings.Join(args, " "), err, &out)
	}
	return out.String()
}

// logged waits for a line of the log with this event, from the given line on, whose text has part.
func (p *program) logged(t *testing.T, from int, event, part string) {
	t.Helper()
	if !p.output.Await(from, patience, func(line string) bool {
		var m struct{ Msg string }
		return json.Unmarshal([]byte(line), &m) == nil && m.Msg == event && strings.Contains(line, part)
	}) {
		t.Fatalf("no log event %s with %q in:\n%s", event, part, p.output.Tail(60))
	}
}

// eventually polls until ok; for what announces itself by no event.
func eventually(t *testing.T, what string, ok func() bool) {
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

// last lets a fault last.
func last(d time.Duration) { <-time.After(d) }
