package main

import (
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"unsafe"
)

// forwardedSignals are those that the child gets when this process gets them.
var forwardedSignals = []struct {
	name   string
	signal syscall.Signal
}{
	{"HUP", syscall.SIGHUP},
	{"INT", syscall.SIGINT},
	{"QUIT", syscall.SIGQUIT},
	{"TERM", syscall.SIGTERM},
	{"USR1", syscall.SIGUSR1},
	{"USR2", syscall.SIGUSR2},
	{"WINCH", syscall.SIGWINCH},
	{"TSTP", syscall.SIGTSTP},
	{"CONT", syscall.SIGCONT},
}

// signalNames are the names that --signal takes: no use has a signal that stops a process for later.
func signalNames() []string {
	var names []string
	for _, f := range forwardedSignals {
		if f.signal != syscall.SIGTSTP && f.signal != syscall.SIGCONT {
			names = append(names, f.name)
		}
	}
	return names
}

// signalByName takes HUP, SIGHUP and hup.
func signalByName(name string) (syscall.Signal, bool) {
	name = strings.TrimPrefix(strings.ToUpper(name), "SIG")
	for _, f := range forwardedSignals {
		if f.name == name && slices.Contains(signalNames(), name) {
			return f.signal, true
		}
	}
	return 0, false
}

// notifySignals begins to put the signals to forward into c. One that this process was started to ignore, as nohup
// does with HUP, stays ignored, and is for the child too: catching it would give the child the default back.
func notifySignals(c chan<- os.Signal) {
	for _, f := range forwardedSignals {
		if !signal.Ignored(f.signal) {
			signal.Notify(c, f.signal)
		}
	}
}

// endsProgram reports whether a signal asks a program to end, so that nobody wants it started again.
func endsProgram(sig syscall.Signal) bool {
	return sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGQUIT
}

// sentByTerminal reports whether the terminal has sent a signal to the child as well. What the keyboard and a change
// of the window's size make goes to every process of the group in the foreground, and the child is in this one's.
// Which of them a signal comes from is not known: one of these kinds that somebody sent to this process alone while
// it is in the foreground is taken for the terminal's.
func sentByTerminal(sig syscall.Signal) bool {
	switch sig {
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP, syscall.SIGWINCH:
		return inForeground()
	default:
		return false
	}
}

// inForeground reports whether this process is one of those that the keyboard of its terminal reaches.
func inForeground() bool {
	terminal, err := syscall.Open("/dev/tty", syscall.O_RDONLY|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return false // it has no terminal
	}
	defer func() { _ = syscall.Close(terminal) }()
	var group int32
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(terminal), syscall.TIOCGPGRP, uintptr(unsafe.Pointer(&group))) //nolint:gosec // tcgetpgrp, which the standard library does not have
	return errno == 0 && int(group) == syscall.Getpgrp()
}
