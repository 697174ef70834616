//go:build !linux && !darwin && !freebsd && !netbsd

package localfile

import "io/fs"

// identity is the modification time, in nanoseconds since 1970, for want of better.
func identity(info fs.FileInfo) (changed int64, inode uint64) { return info.ModTime().UnixNano(), 0 }
