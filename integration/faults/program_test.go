//go:build linux

package faults_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
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
	output *lines // both of its streams
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
	p := &program{t: t, cmd: cmd, output: newLines(), exited: make(chan struct{})}
	go func() {
		p.output.readFrom(r)
		_ = r.Close()
		_ = cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("the end of what %s wrote:\n%s", filepath.Base(path), p.output.tail(60))
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
	if !p.output.await(from, func(line string) bool {
		var m struct{ Msg string }
		return json.Unmarshal([]byte(line), &m) == nil && m.Msg == event && strings.Contains(line, part)
	}) {
		t.Fatalf("no log event %s with %q in:\n%s", event, part, p.output.tail(60))
	}
}

// lines collects what a process writes and wakes who waits for a line.
type lines struct {
	mu    sync.Mutex
	list  []string
	grown *sync.Cond
	ended bool
}

func newLines() *lines {
	l := new(lines)
	l.grown = sync.NewCond(&l.mu)
	return l
}

func (l *lines) readFrom(r io.Reader) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		l.mu.Lock()
		l.list = append(l.list, scanner.Text())
		l.mu.Unlock()
		l.grown.Broadcast()
	}
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.grown.Broadcast()
}

// await waits for a line that want accepts; it reports false when the process ended or patience did.
func (l *lines) await(from int, want func(string) bool) bool {
	over := false
	late := time.AfterFunc(patience, func() {
		l.mu.Lock()
		over = true
		l.mu.Unlock()
		l.grown.Broadcast()
	})
	defer late.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for seen := from; ; {
		for ; seen < len(l.list); seen++ {
			if want(l.list[seen]) {
				return true
			}
		}
		if l.ended || over {
			return false
		}
		l.grown.Wait()
	}
}

func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.list)
}

func (l *lines) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.list[max(0, len(l.list)-n):], "\n")
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
