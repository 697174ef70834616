package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a server that was started.
type process struct {
	pid    int
	out    *lines
	end    context.CancelFunc
	exited chan struct{}
}

// start runs cmd, made with the context that end cancels, until stop. found returns what a line says of the server's
// address, "" for nothing. start returns once a line does.
func start(cmd *exec.Cmd, end context.CancelFunc, found func(line []byte) string) (*process, string, error) {
	p := &process{out: &lines{found: found, address: make(chan string, 1)}, end: end, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.out, p.out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	endWithUs(cmd)
	started := make(chan error)
	go func() {
		// Linux takes the end of the thread that started a process for the end of its parent.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // what it wrote says why it ended
		}
	}()
	if err := <-started; err != nil {
		end()
		return nil, "", err
	}
	p.pid = cmd.Process.Pid
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case address := <-p.out.address:
		return p, address, nil
	case <-p.exited:
	case <-late.C:
	}
	p.stop()
	return nil, "", fmt.Errorf("it did not get ready:\n%s", p.out.last())
}

func (p *process) stop() {
	p.end()
	<-p.exited
}

// lines looks through what a process writes and keeps the end of it.
type lines struct {
	found   func(line []byte) string
	address chan string

	mu   sync.Mutex
	rest []byte   // of a line that is not complete
	kept []string // the last ones
}

const keptLines = 20

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, b...)
	for {
		line, rest, whole := bytes.Cut(l.rest, []byte("\n"))
		if !whole {
			return len(b), nil
		}
		if address := l.found(line); address != "" {
			select {
			case l.address <- address:
			default:
			}
		}
		if l.kept = append(l.kept, string(line)); len(l.kept) > keptLines {
			l.kept = l.kept[1:]
		}
		l.rest = rest
	}
}

func (l *lines) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.kept, "\n")
}

var _ io.Writer = (*lines)(nil)
