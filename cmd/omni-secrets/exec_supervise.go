package main

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// signalCapacity is how many signals may wait to be forwarded.
const signalCapacity = 16

// supervisor keeps the child running.
//
//	            change                 ended
//	running ────────────► stopping ────────────► running, with new values
//	   │ ended               │ told to end
//	   ▼                     ▼
//	  exit                running, and never again started
type supervisor struct {
	execution
	s      *streams
	dir    secretDir
	source *secretSource
	values map[string]domain.Value // that the child has, or is to have when it is started next

	child    *child
	signals  chan os.Signal
	told     bool             // this process was told to end: the child is not started again
	stopping bool             // the child was told to end so that it can be started again
	patience <-chan time.Time // how long a stopping child has; nil when none is
	paused   bool             // the child was stopped by us, until CONT
}

// supervise runs the child until it ends by itself or is told to, and ends likewise.
func supervise(ctx context.Context, s *streams, x execution, dir secretDir, values map[string]domain.Value, source *secretSource) error {
	// The kernel kills the child when the thread ends that started it: see childAttributes.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	v := &supervisor{execution: x, s: s, dir: dir, source: source, values: values, signals: make(chan os.Signal, signalCapacity)}
	notifySignals(v.signals)
	defer signal.Stop(v.signals)
	if ctx.Err() != nil {
		return failuref("run the command: %w", errInterrupted)
	}
	if err := v.start(); err != nil {
		return err
	}
	done := ctx.Done()
	for {
		select {
		case waited := <-v.child.ended:
			if !v.stopping || v.told {
				return v.child.outcome(waited)
			}
			if err := v.start(); err != nil {
				return err
			}
		case sig := <-v.signals:
			v.forward(sig)
		case <-done:
			done = nil
			v.end()
		case <-source.changes():
			v.change()
		case <-v.patience:
			v.s.warn("the command did not end within %s of SIGTERM: it is killed", v.stopTimeout)
			v.send(syscall.SIGKILL)
			v.patience = nil
		}
	}
}

// start starts the child with the values that there are.
func (v *supervisor) start() (err error) {
	if err := v.writeFiles(v.dir, v.values); err != nil {
		return err
	}
	inherited := new(exec.Cmd).Environ()
	v.child, err = v.execution.start(v.s, v.environment(inherited, v.values, v.dir))
	v.stopping, v.patience, v.paused = false, nil, false
	return err
}

// forward passes a signal on, unless the child has it already.
func (v *supervisor) forward(caught os.Signal) {
	sig, ok := caught.(syscall.Signal)
	if !ok {
		return
	}
	if endsProgram(sig) {
		v.told, v.patience = true, nil // from now on only who tells it decides how long it may take
	}
	has := sentByTerminal(sig)
	switch {
	case sig == syscall.SIGTSTP:
		if !has {
			v.send(sig)
			v.paused = true
		}
		// Whoever waits for this process sees it stopped as well, as if the signal had not been caught.
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGSTOP)
	case sig == syscall.SIGCONT:
		if v.paused {
			v.send(sig)
			v.paused = false
		}
	case !has:
		v.send(sig)
	}
}

// end tells the child to end, if what ended the context was not one of the signals that are forwarded anyway.
func (v *supervisor) end() {
	// The signal that ended the context is delivered to all channels under one lock, which this call takes too: after
	// it, the signal is among v.signals, if it came since those are listened for.
	notifySignals(v.signals)
	for len(v.signals) > 0 {
		v.forward(<-v.signals)
	}
	if !v.told {
		v.forward(syscall.SIGTERM)
	}
}

// change takes new values, and lets the child have them.
func (v *supervisor) change() {
	changed := false
	for _, secretType := range v.secretTypes() {
		value, ok := v.source.newest(v.execution, secretType)
		if ok && !value.Equal(v.values[secretType]) {
			v.values[secretType] = value
			changed = true
		}
	}
	switch {
	case !changed || v.told || v.stopping:
	case v.onChange == changeSignals:
		if err := v.writeFiles(v.dir, v.values); err != nil {
			v.s.warn("%s", oneLine(err.Error()))
		}
		v.send(v.signal)
	default:
		v.stopping, v.patience = true, time.After(v.stopTimeout)
		v.send(syscall.SIGTERM)
	}
}

// send sends the child a signal; it has always started.
func (v *supervisor) send(sig syscall.Signal) {
	if err := v.child.send(sig); err != nil {
		v.s.warn("%s", oneLine(err.Error()))
	}
}
