package main

import (
	"context"
	"io"
	"log/slog"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// streams is what commands reach of the process that they run in.
type streams struct {
	in        io.Reader
	out, err  io.Writer
	lookupEnv func(string) (string, bool)
	format    outputFormat // what --output asked for

	protect func(context.Context, *slog.Logger) // protects the process that is a server; nil when it has other parts
}

// env is the value of an environment variable; an empty one counts as not set.
func (s *streams) env(name string) string {
	value, _ := s.lookupEnv(name)
	return value
}

// gcPercent lets the heap of a server grow to four times what is in use before it is collected, where Go's default is
// twice. Some 5 MiB are in use, so that a busy server would otherwise collect more than ten times a second.
const gcPercent = 300

// prepareServer makes the process that of a server, once its settings were read.
func (s *streams) prepareServer(ctx context.Context, log *slog.Logger) {
	if s.protect == nil {
		return
	}
	if s.env("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	s.protect(ctx, log)
}

const rootLong = `Omni Secrets serves the exchange credentials of trading services from memory, keeps serving them through an
outage of Google Secret Manager, and lets an operator put a value in place for at most 30 minutes (break-glass).

The commands that talk to a server take its address and a token from --api-url and --token, or from OMNI_API_URL
and OMNI_TOKEN; flags win. Results go to standard output, warnings and errors to standard error.

To try everything on this machine, with nothing else installed:

  omni-secrets dev                 # in one terminal
  . .omni-dev/env                  # in another
  omni-secrets status --api-url $API --token $OPS_JWT

Exit codes:
`

// newRootCommand builds the whole command tree.
func newRootCommand(s *streams) *cobra.Command {
	root := &cobra.Command{
		Use:           "omni-secrets",
		Short:         "Serve, inspect and override the credentials of trading services",
		Long:          rootLong + exitCodeTable(),
		SilenceErrors: true, // report prints them
		SilenceUsage:  true,

		DisableSuggestions: true, // run says it in the next step
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.PersistentFlags().VarP(&s.format, "output", "o", "print `FORMAT`: text or json")
	must(root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(outputFormats, cobra.ShellCompDirectiveNoFileComp)))
	root.SetGlobalNormalizationFunc(oneSpelling)

	const running, using, making = "running", "using", "making"
	root.AddGroup(
		&cobra.Group{ID: using, Title: "Use a server:"},
		&cobra.Group{ID: running, Title: "Run a server:"},
		&cobra.Group{ID: making, Title: "Keys and tokens:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(using, newBreakGlassCommand(s), newRefreshCommand(s), newStatusCommand(s), newGetCommand(s), newExecCommand(s), newRotateCommand(s), newAuditCommand(s))
	add(running, newDevCommand(s), newServeCommand(s), newMigrateCommand(s), newHealthCommand(s), newDoctorCommand(s))
	add(making, newKeygenCommand(s), newTokenCommand(s))
	root.AddCommand(newVersionCommand(s))
	refuseUnknown(root)
	asFailures(root)
	return root
}

// refuseUnknown has the commands that cobra brings fail where it would print its help and succeed.
func refuseUnknown(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "completion":
			cmd.Args = noArguments
			cmd.RunE = func(*cobra.Command, []string) error {
				return usageErrorf("completion needs a command: bash, fish, powershell or zsh")
			}
		case "help":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				if found, unknown, _ := root.Find(args); len(unknown) > 0 {
					return suggest(found, usageErrorf("%q has no such command", found.CommandPath()), unknown)
				}
				return nil
			}
		}
	}
}

// oneSpelling lets --secretType, as the REST API spells it, stand for --secret-type.
func oneSpelling(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	if name == "secretType" {
		name = "secret-type"
	}
	return pflag.NormalizedName(name)
}

// must is for cobra's errors about flags that do not exist: mistakes of this package that any test run finds.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
