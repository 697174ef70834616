package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
	"unsafe"
)

// endWithUs ends the process when we are killed, which leaves us no time to.
func endWithUs(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }

// cpuTime is what all threads of the process have run, those that ended too, by its CPU clock: in nanoseconds, where
// /proc/PID/stat counts ticks of 10 ms, and /proc/PID/schedstat one thread.
func (p *process) cpuTime() (time.Duration, bool) {
	const scheduled = 2 // CPUCLOCK_SCHED, see clock_getcpuclockid(3)
	clock := (^p.pid << 3) | scheduled
	var t syscall.Timespec
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&t)), 0)
	return time.Duration(t.Nano()), errno == 0
}

// residentBytes is the memory that the process has in RAM.
func (p *process) residentBytes() (float64, bool) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.pid))
	var size, resident float64
	if err == nil {
		_, err = fmt.Sscan(string(content), &size, &resident)
	}
	return resident * float64(os.Getpagesize()), err == nil
}
