package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// The exit codes of every command. Scripts rely on them: a meaning is never changed.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotAllowed  = 3
	exitNotFound    = 4
	exitUnavailable = 5
	exitRefused     = 6
	exitUnhealthy   = 7
	exitNotValid    = 8
	exitTampered    = 9
	exitConfig      = 78 // EX_CONFIG of sysexits.h
)

// ExitCodes is what the exit codes mean, as the help and the documentation list them.
var ExitCodes = []struct {
	Code    int
	Meaning string
}{
	{exitOK, "done"},
	{exitFailure, "failed, for any reason that has no code of its own"},
	{exitUsage, "the command line, or an input file that it names, is wrong; nothing was sent"},
	{exitNotAllowed, "the server did not accept the token, or the token does not allow this"},
	{exitNotFound, "the server knows no such secret type, override or follow-up"},
	{exitUnavailable, "the server cannot be reached, or cannot answer now"},
	{exitRefused, "the server refused the request as it stands"},
	{exitUnhealthy, "'doctor' found something that does not work"},
	{exitNotValid, "the version did not pass the checks of a preview; nothing was changed"},
	{exitTampered, "'audit verify' found that the audit trail was changed"},
	{exitConfig, "a setting from the environment is missing or wrong"},
}

// exitError is an error that says how the process is to exit and what the user can do next.
type exitError struct {
	code int
	err  error
	next string // what to do about it, one line; may be empty

	notSent bool // the server cannot have done what it was asked
	silent  bool // the exit code says it all, as that of a child that said itself what went wrong
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func usageErrorf(format string, args ...any) *exitError {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

func configErrorf(format string, args ...any) *exitError {
	return &exitError{code: exitConfig, err: fmt.Errorf(format, args...)}
}

func failuref(format string, args ...any) *exitError {
	return &exitError{code: exitFailure, err: fmt.Errorf(format, args...)}
}

// try adds what the user can do next.
func (e *exitError) try(format string, args ...any) *exitError {
	e.next = fmt.Sprintf(format, args...)
	return e
}

// asFailures makes sure that what a command of the tree returns is an exitError, a plain failure unless the
// command said otherwise. What is left without one then came from cobra: it is about the command line.
func asFailures(cmd *cobra.Command) {
	if inner := cmd.RunE; inner != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			err := inner(cmd, args)
			if err == nil {
				return nil
			}
			if _, ok := errors.AsType[*exitError](err); ok {
				return err
			}
			return &exitError{code: exitFailure, err: err}
		}
	}
	for _, sub := range cmd.Commands() {
		asFailures(sub)
	}
}

// report prints err, which cmd ended with, and returns the exit code for it.
func report(w io.Writer, cmd *cobra.Command, err error) int {
	if err == nil {
		return exitOK
	}
	e, ok := errors.AsType[*exitError](err)
	if !ok {
		e = &exitError{code: exitUsage, err: err}
	}
	if e.silent {
		return e.code
	}
	message := strings.TrimSpace(err.Error())
	if errors.Is(err, context.Canceled) {
		message = "interrupted"
	}
	for line := range strings.SplitSeq(message, "\n") { // joined errors are one a line
		_, _ = fmt.Fprintf(w, "omni-secrets: %s\n", oneLine(line))
	}
	if e.next != "" {
		_, _ = fmt.Fprintf(w, "  next: %s\n", e.next)
	}
	if e.code == exitUsage {
		_, _ = fmt.Fprintf(w, "  run '%s --help'\n", cmd.CommandPath())
	}
	return e.code
}

// exitCodeTable is ExitCodes as the help shows them.
func exitCodeTable() string {
	var b strings.Builder
	for _, c := range ExitCodes {
		fmt.Fprintf(&b, "  %2d  %s\n", c.Code, c.Meaning)
	}
	return b.String()
}
