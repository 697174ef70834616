package main

import (
	"os"
	"runtime"
	"syscall"
	"testing"
)

func TestDoctorOfAJournalThatCannotBeWritten(t *testing.T) {
	p := newPatient(t)
	p.write("journal/LOCK", "")
	if err := os.Chmod(p.path("journal"), 0o500); err != nil {
		t.Fatal(err)
	}
	unprivileged(t, func() {
		p.examine().want(t, exitUnhealthy, "failed   journal: this user may not write")
	})
}

// unprivileged does something as a user for whom modes count. Root stays who may open files: only its real user, for
// whom access(2) answers, becomes another one, and only on this thread.
func unprivileged(t *testing.T, do func()) {
	t.Helper()
	if os.Getuid() != 0 {
		do()
		return
	}
	const nobody, same = 65534, ^uintptr(0)
	become := func(user uintptr) {
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, user, same, same); errno != 0 {
			t.Fatal(errno)
		}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	become(nobody)
	defer become(0)
	do()
}
