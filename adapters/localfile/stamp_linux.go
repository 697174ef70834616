package localfile

import (
	"io/fs"
	"syscall"
)

// identity is the file's ctime, in nanoseconds since 1970, and the number of its inode.
func identity(info fs.FileInfo) (changed int64, inode uint64) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return info.ModTime().UnixNano(), 0
	}
	return st.Ctim.Nano(), st.Ino
}
