//go:build !linux

package main

import (
	"os/exec"
	"time"
)

// Only Linux has what these need. Tables and JSON leave out what is not known.

func endWithUs(*exec.Cmd) {}

func (*process) cpuTime() (time.Duration, bool) { return 0, false }

func (*process) residentBytes() (float64, bool) { return 0, false }
