package main

import "syscall"

// Magic numbers of file systems, from statfs(2).
const (
	tmpfsMagic = 0x01021994
	ramfsMagic = 0x858458f6
)

// inMemory reports whether a directory is on a file system that has no disk. (A tmpfs can be swapped out.)
func inMemory(dir string) bool {
	var about syscall.Statfs_t
	if syscall.Statfs(dir, &about) != nil {
		return false
	}
	kind := uint32(about.Type) //nolint:gosec // as wide as the magic numbers; its type is another on each architecture
	return kind == tmpfsMagic || kind == ramfsMagic
}

// childAttributes have the kernel kill the child when the thread that started it ends, which is locked until then,
// so that a SIGKILL of this process does not leave the child behind with secrets and without anyone who stops it.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
