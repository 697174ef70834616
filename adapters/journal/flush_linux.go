package journal

import (
	"os"
	"syscall"
)

// syncData makes what was written outlive a power cut, and of the file's metadata only what it takes to read that:
// fdatasync(2).
func syncData(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
