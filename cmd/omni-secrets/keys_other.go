//go:build !unix

package main

import (
	"io/fs"
	"os"
)

// hasPermissions says that the modes of files tell who may read them.
const hasPermissions = false

func ownedByRoot(fs.FileInfo) bool { return false }

func likeOwner(*os.File, fs.FileInfo) error { return nil }
