//go:build !linux

package main

import "errors"

func wipeEnvironment([]string) error { return errors.ErrUnsupported }

func refuseDumps() error { return errors.ErrUnsupported }
