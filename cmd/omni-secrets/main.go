// Command omni-secrets is Omni Secrets: the server, and the command line that operators and scripts use against
// one. It is the only place that wires the parts together.
//
// Every command is tested in-process: main does nothing but hand the process's surroundings to run.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // so that a second signal ends a process that does not stop by itself
	os.Exit(run(ctx, os.Args[1:], os.LookupEnv, os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program. It returns the exit code, one of ExitCodes, and has printed the error if there was
// one. It ends soon after ctx is done.
func run(
	ctx context.Context, args []string, lookupEnv func(string) (string, bool),
	stdin io.Reader, stdout, stderr io.Writer,
) int {
	s := &streams{in: stdin, out: stdout, err: stderr, lookupEnv: lookupEnv}
	root := newRootCommand(s)
	root.SetArgs(append([]string{}, args...)) // never nil: cobra would read os.Args
	failed, err := root.ExecuteContextC(ctx)
	if _, ok := errors.AsType[*exitError](err); err != nil && !ok && failed == root {
		err = suggest(root, usageErrorf("%w", err), args)
	}
	return report(stderr, failed, err)
}
