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
	os.Exit(runIn(ctx, os.Args[1:], &streams{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, lookupEnv: os.LookupEnv, protect: protectProcess,
	}))
}

// run is the whole program, for tests: of the process that it runs in it changes nothing. It returns the exit code, one of ExitCodes, and has printed the error if there was
// one. It ends soon after ctx is done.
func run(
	ctx context.Context, args []string, lookupEnv func(string) (string, bool),
	stdin io.Reader, stdout, stderr io.Writer,
) int {
	return runIn(ctx, args, &streams{in: stdin, out: stdout, err: stderr, lookupEnv: lookupEnv})
}

func runIn(ctx context.Context, args []string, s *streams) int {
	root := newRootCommand(s)
	root.SetArgs(append([]string{}, args...)) // never nil: cobra would read os.Args
	failed, err := root.ExecuteContextC(ctx)
	if _, ok := errors.AsType[*exitError](err); err != nil && !ok && failed == root {
		err = suggest(root, usageErrorf("%w", err), args)
	}
	return report(s.err, failed, err)
}
