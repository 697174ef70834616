//go:build unix && !linux

package postgrestest

import "syscall"

// endWithUs does nothing: only Linux offers it. A server stays when the tests are killed.
func endWithUs(*syscall.SysProcAttr) {}
