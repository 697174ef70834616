package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
)

// Exit codes of exec that shells use for the same.
const (
	exitCannotRun = 126
	exitNoSuch    = 127
	exitBySignal  = 128 // plus the number of the signal
)

// child is the running command.
type child struct {
	cmd   *exec.Cmd
	ended chan error // gets what Wait returned
}

// start runs the command. The thread that calls it must stay until the child has ended: see childAttributes.
func (x execution) start(s *streams, env []string) (*child, error) {
	cmd := exec.CommandContext(context.Background(), x.path) //nolint:gosec // to run what the user names is what this is for
	cmd.Args = x.args
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.in, s.out, s.err
	cmd.SysProcAttr = childAttributes()
	if err := cmd.Start(); err != nil {
		return nil, cannotRun(x.args[0], err)
	}
	c := &child{cmd: cmd, ended: make(chan error, 1)}
	go func() { c.ended <- cmd.Wait() }()
	return c, nil
}

// send sends a signal. A child that has ended takes none.
func (c *child) send(sig os.Signal) error {
	if err := c.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return failuref("send the command a signal: %w", err)
	}
	return nil
}

// outcome is nil for a child that ended with 0, and else the error by which this process ends likewise. waited is what
// ended got.
func (c *child) outcome(waited error) error {
	state := c.cmd.ProcessState
	if state == nil {
		return failuref("wait for the command: %w", waited)
	}
	code := state.ExitCode()
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		code = exitBySignal + int(status.Signal())
	}
	if code == 0 {
		return nil
	}
	return &exitError{code: code, err: errors.New("the command ended: " + state.String()), silent: true}
}

// cannotRun is the error for a command that cannot be started, with the exit code that shells have for it.
func cannotRun(name string, err error) *exitError {
	why := err // without the name, which these repeat
	if wrapped, ok := errors.AsType[*exec.Error](why); ok {
		why = wrapped.Err
	}
	if wrapped, ok := errors.AsType[*fs.PathError](why); ok {
		why = wrapped.Err
	}
	e := &exitError{code: exitCannotRun, err: fmt.Errorf("run %s: %w", name, why)}
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		e.code = exitNoSuch
		return e.try("check the name and PATH; a program of this directory begins with ./")
	case errors.Is(err, exec.ErrDot):
		return e.try("PATH leads to the current directory: if that program is meant, write ./ before its name")
	case errors.Is(err, syscall.E2BIG):
		return e.try("give the large values by --file")
	case errors.Is(err, syscall.ENOEXEC):
		return e.try("a script begins with #! and the path of its interpreter")
	case errors.Is(err, fs.ErrPermission):
		return e.try("is it a program, and may you run it? try: ls -l %s", shellWord(name))
	default:
		return e
	}
}
