//go:build unix

package main

import (
	"io/fs"
	"os"
	"syscall"
)

// hasPermissions says that the modes of files tell who may read them.
const hasPermissions = true

func ownedByRoot(about fs.FileInfo) bool {
	stat, ok := about.Sys().(*syscall.Stat_t)
	return ok && stat.Uid == 0
}

// likeOwner gives a file the owner and the group of the one that it is to replace.
func likeOwner(file *os.File, about fs.FileInfo) error {
	stat, ok := about.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return file.Chown(int(stat.Uid), int(stat.Gid))
}
