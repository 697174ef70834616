package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// The kernel ends the command with exec, whatever ends exec.
func TestExecThatIsKilledTakesTheCommandWithIt(t *testing.T) {
	omni := serving(t, "trading_api_key", "old")
	p := startExec(t, omni, "--env KEY=trading_api_key --on-change restart", playing("-deaf", "KEY")...)
	p.wantLine("began KEY=old")
	p.signal(syscall.SIGKILL)
	if rest, err := io.ReadAll(p.out); err != nil || len(rest) > 0 { // ends when the last process that can write has ended
		t.Errorf("%v: %q", err, rest)
	}
	_ = p.cmd.Wait()
}

// What the keyboard makes reaches the command from the terminal: a second time would end programs that ask before
// they end at the second Ctrl-C.
func TestExecDoesNotRepeatTheKeyboardsSignals(t *testing.T) {
	omni := serving(t, "trading_api_key", "old")
	p := newProgram(t, omni, append(strings.Fields("exec --env KEY=trading_api_key"), playing("KEY")...)...)
	keyboard, terminal := openTerminal(t)
	p.cmd.Stdin = terminal
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	p.start()
	p.wantLine("began KEY=old")
	for _, key := range []struct{ code, signal string }{{"\x03", "interrupt"}, {"\x1c", "quit"}} {
		if _, err := keyboard.WriteString(key.code); err != nil {
			t.Fatal(err)
		}
		p.wantLine(key.signal + " KEY=old")
		p.signal(syscall.SIGUSR1) // comes after whatever else was forwarded
		p.wantLine("user defined signal 1 KEY=old")
	}
	p.signal(syscall.SIGTERM)
	p.wantLine("terminated KEY=old")
	p.wantEnd(0)
}

// openTerminal makes a pseudo-terminal.
func openTerminal(t *testing.T) (keyboard, terminal *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	var number, unlocked int32
	for request, argument := range map[uintptr]*int32{syscall.TIOCGPTN: &number, syscall.TIOCSPTLCK: &unlocked} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, keyboard.Fd(), request, uintptr(unsafe.Pointer(argument))); errno != 0 {
			t.Fatal(errno)
		}
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = terminal.Close() })
	return keyboard, terminal
}
