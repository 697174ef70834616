package main

import (
	"context"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

const defaultStopTimeout = 10 * time.Second

// What exec does when a value changes while the child runs.
const (
	changeIgnored  = "ignore"
	changeRestarts = "restart"
	changeSignals  = "signal"
)

var changeReactions = []string{changeIgnored, changeRestarts, changeSignals}

// execFlags are the flags of exec.
type execFlags struct {
	clientFlags
	env, files, passEnv       []string
	fileDir, onChange, signal string
	stopTimeout               time.Duration
}

func newExecCommand(s *streams) *cobra.Command {
	var f execFlags
	cmd := &cobra.Command{
		Use:   "exec [flags] -- COMMAND [ARGUMENT]...",
		Short: "Run a command with secrets in its environment or in private files",
		Long: `Fetches secrets, and runs a command that finds them in its environment (--env) or in files (--file). It starts the
command only when it has every value, and waits for all of them together, for at most --timeout. Nothing secret is on a
command line, and nothing is written to a disk.

--file NAME=TYPE writes the value, byte for byte, into a file of a new directory that only you can enter, and sets
the variable NAME to its path. The directory is on a tmpfs: in XDG_RUNTIME_DIR, or else in /dev/shm. It is removed
when the command has ended. (A SIGKILL of exec ends the command too, on Linux, but leaves the directory.)

--on-change says what is done when a value changes while the command runs:

  ignore   nothing: the command keeps the values that it was started with
  restart  the command is sent SIGTERM, after --stop-timeout SIGKILL, and is started again with the new values;
           changes within half a second of each other make one restart
  signal   the files are replaced, each as a whole, and the command is sent --signal; its environment stays as it
           was, since nobody can change the environment of a running process

When a secret changes to none, since it was revoked or its backend is away, a warning is printed and the command goes
on with the value that it has. To follow changes past the end of a token, give --token-file and renew the file: it is
read again whenever a token is needed.

The command has the standard streams of exec. It gets the signals TERM, INT, HUP, QUIT, USR1, USR2 and WINCH, TSTP
and CONT that exec gets; those that the keyboard makes reach it from the terminal itself and are not sent again. The
command does not get OMNI_TOKEN and OMNI_BREAKGLASS_PRIVATE_KEY from the environment, unless --pass-env names them.

exec ends as the command does: with its exit code, or 128 plus the number of the signal that killed it. It ends with
127 when there is no such command and with 126 when it cannot be run. When exec itself fails, it says so on standard
error and ends with a code that 'omni-secrets --help' lists.

The reads are audited under the subject of the token, which needs the scope svc.omni.secrets.read and a subject among
the readers of each secret.`,
		Example: `  omni-secrets exec --env TRADING_API_KEY=trading_api_key --api-url $API --token-file ./token -- ./trader --market BTC-USDT
  omni-secrets exec --env KEY=trading_api_key --env SECRET=trading_client_secret --on-change restart -- ./trader
  omni-secrets exec --file SEED_FILE=zk_signing_seed --on-change signal --signal USR1 -- ./signer
  omni-secrets exec --file SEED_FILE=zk_signing_seed -- sh -c 'sha256sum "$SEED_FILE"'`,
		Args:              oneCommand,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			for flag, reaction := range map[string]string{"signal": changeSignals, "stop-timeout": changeRestarts} {
				if cmd.Flags().Changed(flag) && f.onChange != reaction {
					return usageErrorf("--%s does nothing without --on-change %s", flag, reaction)
				}
			}
			return execute(cmd.Context(), s, f, args)
		},
	}
	f.register(cmd)
	flags := cmd.Flags()
	flags.Lookup("timeout").Usage = "wait at most this `DURATION` for all values together"
	flags.SetInterspersed(false) // what follows the command's name is the command's
	flags.StringArrayVar(&f.env, "env", nil, "put a value into the environment: `NAME=TYPE`, as often as needed")
	flags.StringArrayVar(&f.files, "file", nil, "put a value into a file and its path into the environment: `NAME=TYPE`, as often as needed")
	flags.StringVar(&f.fileDir, "file-dir", "", "make the directory for --file in `DIR`, which need not be a tmpfs")
	flags.StringVar(&f.onChange, "on-change", changeIgnored, "when a value changes: `REACTION` ignore, restart or signal")
	flags.StringVar(&f.signal, "signal", "HUP", "with --on-change signal, the `SIGNAL` to send: "+strings.Join(signalNames(), ", "))
	flags.DurationVar(&f.stopTimeout, "stop-timeout", defaultStopTimeout, "with --on-change restart, wait this `DURATION` before SIGKILL")
	flags.StringArrayVar(&f.passEnv, "pass-env", nil, "leave the credential `NAME`, such as OMNI_TOKEN, in the environment")
	complete := func(flag string, values []string) {
		must(cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)))
	}
	complete("on-change", changeReactions)
	complete("signal", signalNames())
	complete("pass-env", ownCredentials)
	complete("env", nil)
	complete("file", nil)
	return cmd
}

// oneCommand wants a command to run. It repeats nothing: what stands there may be a value whose flag was forgotten.
func oneCommand(_ *cobra.Command, args []string) error {
	if len(args) == 0 || args[0] == "" {
		return usageErrorf("there is no command to run").try("give it after the flags: omni-secrets exec --env NAME=TYPE -- COMMAND")
	}
	return nil
}

// execution is what the flags of exec say, checked.
type execution struct {
	bindings    []binding
	passEnv     []string
	onChange    string
	signal      syscall.Signal
	stopTimeout time.Duration
	path        string   // of the program
	args        []string // with its name, as it was given
}

// check looks at everything that can be checked before anything is sent.
func (f execFlags) check(args []string) (execution, error) {
	bindings, err := parseBindings(f.env, f.files)
	if err != nil {
		return execution{}, err
	}
	x := execution{bindings: bindings, passEnv: f.passEnv, onChange: f.onChange, stopTimeout: f.stopTimeout, args: args}
	if f.onChange == "" {
		return x, usageErrorf("--on-change is empty").try("it is one of %s", strings.Join(changeReactions, ", "))
	}
	if err := oneOf("on-change", f.onChange, changeReactions); err != nil {
		return x, err
	}
	for _, name := range f.passEnv {
		if err := oneOf("pass-env", name, ownCredentials); err != nil {
			return x, err
		}
	}
	var ok bool
	if x.signal, ok = signalByName(f.signal); !ok {
		return x, usageErrorf("--signal %q is not known", f.signal).try("it is one of %s", strings.Join(signalNames(), ", "))
	}
	switch {
	case f.stopTimeout <= 0:
		return x, usageErrorf("--stop-timeout must be more than 0")
	case f.fileDir != "" && len(f.files) == 0:
		return x, usageErrorf("--file-dir does nothing without --file")
	}
	if x.path, err = exec.LookPath(args[0]); err != nil {
		return x, cannotRun(args[0], err)
	}
	return x, nil
}

// hasFiles reports whether a value goes into a file.
func (x execution) hasFiles() bool {
	return slices.ContainsFunc(x.bindings, func(b binding) bool { return b.file })
}

// execute runs a command with secrets until it ends. Its error says how it ended, unless that was with 0.
func execute(ctx context.Context, s *streams, f execFlags, args []string) (err error) {
	x, err := f.check(args)
	if err != nil {
		return err
	}
	if x.onChange == changeSignals && slices.ContainsFunc(x.bindings, func(b binding) bool { return !b.file }) {
		s.warn("the environment of a running process cannot change: after a change the command has the old value of each --env; --file and --on-change restart bring new ones")
	}
	var dir secretDir
	if x.hasFiles() {
		if dir, err = newSecretDir(s, f.fileDir); err != nil {
			return err
		}
		defer func() {
			if left := dir.remove(); left != nil {
				s.warn("%s could not be removed: %s", dir.path, oneLine(left.Error()))
			}
		}()
	}
	source, err := f.source(s, x)
	if err != nil {
		return err
	}
	defer source.close()
	values, err := source.first(ctx, x)
	if err != nil {
		return err
	}
	return supervise(ctx, s, x, dir, values, source)
}
