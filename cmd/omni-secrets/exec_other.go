//go:build !linux

package main

import "syscall"

// inMemory reports whether a directory is on a file system that has no disk, which only Linux says.
func inMemory(string) bool { return false }

// childAttributes are none where the kernel does not tie a child to its parent.
func childAttributes() *syscall.SysProcAttr { return nil }
