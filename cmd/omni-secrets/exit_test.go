package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/spf13/cobra"
)

func TestReport(t *testing.T) {
	root := &cobra.Command{Use: "omni-secrets"}
	cmd := &cobra.Command{Use: "serve"}
	root.AddCommand(cmd)
	for _, tc := range []struct {
		name string
		err  error
		code int
		want string
	}{
		{"none", nil, exitOK, ""},
		{"of cobra", errors.New("unknown flag: --x"), exitUsage, "omni-secrets: unknown flag: --x\n  run 'omni-secrets serve --help'\n"},
		{"with a next step", failuref("no").try("do %d", 1), exitFailure, "omni-secrets: no\n  next: do 1\n"},
		{"usage with a next step", usageErrorf("no").try("do"), exitUsage, "omni-secrets: no\n  next: do\n  run 'omni-secrets serve --help'\n"},
		{"wrapped", fmt.Errorf("more: %w", configErrorf("no")), exitConfig, "omni-secrets: more: no\n"},
		{
			"several at once", &exitError{code: exitConfig, err: errors.Join(errors.New("a is missing"), errors.New("b is\x1b wrong"))}, exitConfig,
			"omni-secrets: a is missing\nomni-secrets: b is  wrong\n",
		},
		{"interrupted", failuref("wait: %w", context.Canceled), exitFailure, "omni-secrets: interrupted\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var b bytes.Buffer
			if code := report(&b, cmd, tc.err); code != tc.code || b.String() != tc.want {
				t.Errorf("exit code %d:\n%s", code, &b)
			}
		})
	}
}

func TestErrorsOfCommandsAreFailures(t *testing.T) {
	plain, usage := errors.New("plain"), usageErrorf("usage")
	for _, tc := range []struct {
		err  error
		code int
	}{{plain, exitFailure}, {usage, exitUsage}, {nil, exitOK}} {
		root := &cobra.Command{Use: "a", SilenceErrors: true, SilenceUsage: true}
		root.AddCommand(&cobra.Command{Use: "b", RunE: func(*cobra.Command, []string) error { return tc.err }})
		root.SetArgs([]string{"b"})
		asFailures(root)
		cmd, err := root.ExecuteC()
		if code := report(&bytes.Buffer{}, cmd, err); code != tc.code || !errors.Is(err, tc.err) {
			t.Errorf("%v: exit code %d", err, code)
		}
	}
}

func TestExitCodesAreListedOnce(t *testing.T) {
	seen := map[int]bool{}
	for _, c := range ExitCodes {
		if seen[c.Code] || c.Meaning == "" {
			t.Errorf("exit code %d", c.Code)
		}
		seen[c.Code] = true
	}
}
