package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/apex-tradebill/omni-secrets/client/clienttest"
)

// The test binary plays two more parts: this program, where a test is about processes and signals, and the command
// that exec runs.
const (
	partProgram = "play-the-program"
	partCommand = "play-the-command"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		part, args := os.Args[1], os.Args[2:]
		switch part {
		case partProgram:
			os.Args = append(os.Args[:1], args...)
			main()
		case partCommand:
			os.Exit(playCommand(args))
		}
	}
	goleak.VerifyTestMain(m)
}

// playCommand is the command that exec runs. Its arguments are names of variables; one that begins with @ has the path
// of a file. It prints their values when it begins and after each signal that it gets. It ends with SIGTERM and code 0,
// unless the name is -stubborn, which has it wait for a second one and end with 7, or -deaf, which has it never end; or
// when standard input has a line "exit N".
func playCommand(args []string) int {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1,
		syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGCONT)
	lines := make(chan string)
	go func() {
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			lines <- in.Text()
		}
	}()
	names, stubborn, deaf, terms := args, false, false, 0
	if len(args) > 0 && strings.HasPrefix(args[0], "-") {
		names, stubborn, deaf = args[1:], args[0] == "-stubborn", args[0] == "-deaf"
	}
	fmt.Fprintln(os.Stdout, "began"+readBindings(names))
	for {
		select {
		case sig := <-signals:
			fmt.Fprintln(os.Stdout, sig.String()+readBindings(names))
			if sig != syscall.SIGTERM || deaf {
				continue
			}
			if terms++; !stubborn {
				return 0
			} else if terms == 2 {
				return 7
			}
		case line := <-lines:
			if code, ok := strings.CutPrefix(line, "exit "); ok {
				n, _ := strconv.Atoi(code)
				return n
			}
			fmt.Fprintln(os.Stdout, "read "+line)
		}
	}
}

func readBindings(names []string) string {
	var b strings.Builder
	for _, name := range names {
		value := os.Getenv(strings.TrimPrefix(name, "@"))
		if strings.HasPrefix(name, "@") {
			content, err := os.ReadFile(value)
			if err != nil {
				content = []byte(err.Error())
			}
			value = string(content)
		}
		fmt.Fprintf(&b, " %s=%s", name, value)
	}
	return b.String()
}

// playing is the command line by which exec runs playCommand.
func playing(args ...string) []string {
	return append([]string{"--", os.Args[0], partCommand}, args...)
}

// program is this program in a process of its own.
type program struct {
	t       *testing.T
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	log     logBuffer // standard error
	runtime string    // the directory that is XDG_RUNTIME_DIR
}

// newProgram prepares the program as the client of a server.
func newProgram(t *testing.T, omni *clienttest.Server, args ...string) *program {
	t.Helper()
	runtimeDir, err := os.MkdirTemp(sharedMemory, "omni-secrets-test-") //nolint:usetesting // t.TempDir need not be a tmpfs
	if err != nil {
		t.Fatal(err)
	}
	// No test waits this long: it is for one that would hang.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	p := &program{t: t, runtime: runtimeDir}
	p.cmd = exec.CommandContext(ctx, os.Args[0], append([]string{partProgram}, args...)...)
	p.cmd.Env = append(os.Environ(), "OMNI_API_URL="+omni.URL(), "OMNI_TOKEN="+clienttest.Token, "XDG_RUNTIME_DIR="+runtimeDir,
		"GORACE=atexit_sleep_ms=0") // which would be a second for each process
	p.cmd.Stderr = &p.log
	p.cmd.WaitDelay = time.Second // when the command outlives the program, in a test that fails
	t.Cleanup(func() {
		cancel()
		if p.cmd.Process != nil && p.cmd.ProcessState == nil {
			_ = p.cmd.Wait()
		}
		_ = os.RemoveAll(runtimeDir)
		if t.Failed() {
			t.Logf("standard error:\n%s", p.log.String())
		}
	})
	return p
}

// startExec starts exec with the flags before the command.
func startExec(t *testing.T, omni *clienttest.Server, flags string, command ...string) *program {
	t.Helper()
	p := newProgram(t, omni, append(append([]string{"exec"}, strings.Fields(flags)...), command...)...)
	p.start()
	return p
}

func (p *program) start() {
	p.t.Helper()
	var err error
	if p.cmd.Stdin == nil {
		if p.in, err = p.cmd.StdinPipe(); err != nil {
			p.t.Fatal(err)
		}
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

// wantLine waits for the next line of standard output.
func (p *program) wantLine(want string) {
	p.t.Helper()
	line, err := p.out.ReadString('\n')
	if line = strings.TrimSuffix(line, "\n"); line != want {
		p.t.Fatalf("standard output has %q (%v), want %q", line, err, want)
	}
}

func (p *program) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

func (p *program) writeLine(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		p.t.Fatal(err)
	}
}

// wantEnd waits for the end and checks that nothing more was printed and that nothing is left behind.
func (p *program) wantEnd(code int) {
	p.t.Helper()
	rest, _ := io.ReadAll(p.out)
	_ = p.cmd.Wait()
	if got := p.cmd.ProcessState.ExitCode(); got != code || len(rest) > 0 {
		p.t.Errorf("%v, want exit code %d; standard output has %q", p.cmd.ProcessState, code, rest)
	}
	if left, err := os.ReadDir(p.runtime); err != nil || len(left) > 0 {
		p.t.Errorf("%v, left behind: %v", err, left)
	}
}

// secretFile is the path of the file that exec made for a name.
func (p *program) secretFile(name string) string {
	p.t.Helper()
	found, err := filepath.Glob(filepath.Join(p.runtime, "*", name))
	if err != nil || len(found) != 1 {
		p.t.Fatalf("%v: %v", err, found)
	}
	return found[0]
}

// logBuffer is what a process writes while others look at it.
type logBuffer struct {
	mu      sync.Mutex
	b       bytes.Buffer
	written chan struct{} // closed at the next Write; nil when nobody waits
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.written != nil {
		close(l.written)
		l.written = nil
	}
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// wait waits until text was written.
func (l *logBuffer) wait(t *testing.T, text string) {
	t.Helper()
	for {
		l.mu.Lock()
		if strings.Contains(l.b.String(), text) {
			l.mu.Unlock()
			return
		}
		if l.written == nil {
			l.written = make(chan struct{})
		}
		written := l.written
		l.mu.Unlock()
		select {
		case <-written:
		case <-time.After(time.Minute):
			t.Fatalf("%q was not written, but:\n%s", text, l.String())
		}
	}
}
