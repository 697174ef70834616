package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestHelp(t *testing.T) {
	for _, command := range []string{
		"breakglass", "breakglass clear", "breakglass follow-ups", "breakglass follow-ups close",
		"rotate", "rotate preview", "rotate begin", "rotate promote", "rotate abort", "rotate status", "rotate due", "rotate done", "refresh", "status", "get", "audit", "audit list", "audit verify", "audit checkpoints", "keygen", "token", "version", "health", "doctor",
	} {
		t.Run(command, func(t *testing.T) {
			o := process{}.run(t, append(strings.Fields(command), "--help")...)
			o.want(t, exitOK)
			golden(t, "help/"+strings.ReplaceAll(command, " ", "_")+".golden", o.out)
		})
	}
}

func TestRootHelpDocumentsEveryExitCode(t *testing.T) {
	o := process{}.run(t)
	o.want(t, exitOK)
	for _, c := range ExitCodes {
		o.want(t, exitOK, fmt.Sprintf("%2d  %s", c.Code, c.Meaning))
	}
}

func TestEveryCommandIsInTheHelp(t *testing.T) {
	o := process{}.run(t, "--help")
	for _, command := range []string{
		"dev", "serve", "migrate", "health", "doctor", "breakglass", "refresh", "status", "get", "rotate", "audit", "keygen", "token", "version", "completion",
	} {
		o.want(t, exitOK, "\n  "+command+" ")
	}
}

func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		t.Run(shell, func(t *testing.T) {
			process{}.run(t, "completion", shell).want(t, exitOK, "omni-secrets")
		})
	}
}

func TestCompletionOfValues(t *testing.T) {
	for _, tc := range []struct{ name, args, want string }{
		{"output", "status --output ", "json\n"},
		{"action", "audit list --action ", "break_glass_apply\n"},
		{"result", "audit list --result ", "denied\n"},
		{"scope", "token --scope ", "svc.omni.secrets.read\n"},
		{"subcommand", "breakglass ", "clear\t"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := append([]string{"__complete"}, strings.Split(tc.args, " ")...)
			o := process{}.run(t, args...)
			if !strings.Contains(o.out, tc.want) {
				t.Errorf("completions:\n%s", o.out)
			}
		})
	}
}

func TestUsageErrors(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		want []string
	}{
		{"unknown command", []string{"statsu"}, []string{"omni-secrets: unknown command \"statsu\" for \"omni-secrets\"\n  next: did you mean 'omni-secrets status'?\n  run 'omni-secrets --help'\n"}},
		{"unknown subcommand", []string{"audit", "lst"}, []string{`"omni-secrets audit" has no such command`, "next: did you mean 'omni-secrets audit list'?", "run 'omni-secrets audit --help'"}},
		{"no subcommand", []string{"audit"}, []string{"audit needs a command: list"}},
		{"no subcommand of rotate", []string{"rotate"}, []string{"rotate needs a command: preview, begin, promote"}},
		{"no subcommand of migrate", []string{"migrate"}, []string{"migrate needs a command: up or status"}},
		{"no version", []string{"rotate", "begin", "--secret-type", "trading_api_key"}, []string{"--version is missing"}},
		{"an alias for a version", []string{"rotate", "preview", "--secret-type", "trading_api_key", "--version", "latest"}, []string{"--version must be a number", "an alias such as latest"}},
		{"no secret type to promote", []string{"rotate", "promote"}, []string{"--secret-type is missing"}},
		{"a time that is none", []string{"rotate", "done", "--secret-type", "trading_api_key", "--at", "yesterday"}, []string{"--at", "neither a time nor a duration"}},
		{"no override", []string{"breakglass", "follow-ups", "close", "--reason", "x"}, []string{"give the id of one override"}},
		{"an override that is a path", []string{"breakglass", "follow-ups", "close", "bg-1/../..", "--reason", "x"}, []string{"give the id of one override"}},
		{"no reason", []string{"breakglass", "follow-ups", "close", "bg-1"}, []string{"--reason is missing"}},
		{"a reason of two lines", []string{"breakglass", "follow-ups", "close", "bg-1", "--reason", "a\nb"}, []string{"--reason: reason must be one line"}},
		{"unknown flag", []string{"status", "--colour"}, []string{"unknown flag: --colour", "run 'omni-secrets status --help'"}},
		{"unknown output format", []string{"version", "-o", "xml"}, []string{"it is one of text, json"}},
		{"flag without its value", []string{"get", "--secret-type"}, []string{"flag needs an argument", "run 'omni-secrets get --help'"}},
		{"secret type with dashes", []string{"get", "--secret-type", "trading-api-key"}, []string{"did you mean trading_api_key?"}},
		{"secret type that is a path", []string{"get", "--secret-type", "../status"}, []string{"lower-case letters"}},
		{"a secret type without its flag", []string{"get", "trading_api_key"}, []string{"takes flags only", "next: name the secret by --secret-type TYPE"}},
		{"no secret type", []string{"get"}, []string{"--secret-type is missing"}},
		{"empty secret type", []string{"refresh", "--secret-type", ""}, []string{"--secret-type is missing"}},
		{"token twice", []string{"status", "--token", "a", "--token-file", "b"}, []string{"token-file"}},
		{"no time for an answer", []string{"status", "--timeout", "0s"}, []string{"--timeout must be more than 0"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := process{}.run(t, tc.args...)
			o.want(t, exitUsage, tc.want...)
			if o.out != "" {
				t.Errorf("standard output: %q", o.out)
			}
			if strings.Contains(o.err, "Flags:") {
				t.Error("the usage text was printed with the error")
			}
		})
	}
}

// Scripts go by the exit code: a command that did nothing has not succeeded.
func TestACommandOfCommandsNeedsOne(t *testing.T) {
	root := newRootCommand(&streams{})
	var check func(parent *cobra.Command)
	check = func(parent *cobra.Command) {
		for _, cmd := range parent.Commands() {
			if !cmd.HasSubCommands() {
				continue
			}
			t.Run(cmd.CommandPath(), func(t *testing.T) {
				words := strings.Fields(cmd.CommandPath())[1:]
				if o := (process{}).run(t, words...); o.code == exitOK || o.out != "" {
					t.Errorf("alone: exit code %d, standard output:\n%s", o.code, o.out)
				}
				first := cmd.Commands()[0]
				o := process{}.run(t, append(words, first.Name()+"z")...)
				o.want(t, exitUsage, fmt.Sprintf("%q has no such command", cmd.CommandPath()), "did you mean '"+first.CommandPath()+"'?")
				process{}.run(t, append(words, plaintext)...).want(t, exitUsage, "has no such command")
			})
			check(cmd)
		}
	}
	check(root)
}

func TestHelpOfWhatIsNotThere(t *testing.T) {
	process{}.run(t, "help", "statsu").want(t, exitUsage, `"omni-secrets" has no such command`, "did you mean 'omni-secrets status'?")
	process{}.run(t, "help", "migrate", "upp").want(t, exitUsage, `"omni-secrets migrate" has no such command`, "did you mean 'omni-secrets migrate up'?")
	process{}.run(t, "help", plaintext).want(t, exitUsage, "run 'omni-secrets help --help'")
	process{}.run(t, "help", "migrate", "up").want(t, exitOK, "Applies the migrations")
	process{}.run(t, "help").want(t, exitOK, "Exit codes:")
}

func TestArgumentsAreNotRepeated(t *testing.T) {
	for _, args := range [][]string{
		{"status", testToken},
		{"breakglass", "--secret-type", "trading_api_key", plaintext},
		{"audit", testToken},
		{"rotate", testToken},
		{"rotate", "promote", testToken},
		{"breakglass", "follow-ups", testToken},
		{"breakglass", "follow-ups", "close", plaintext, "--reason", "x"},
	} {
		process{}.run(t, args...).want(t, exitUsage)
	}
}

func TestBothSpellingsOfSecretType(t *testing.T) {
	for _, flag := range []string{"--secretType", "--secret-type"} {
		for _, args := range [][]string{
			{"breakglass", flag, "NOT-ONE"},
			{"breakglass", "clear", flag, "NOT-ONE"},
			{"refresh", flag, "NOT-ONE"},
			{"get", flag + "=NOT-ONE"},
			{"audit", "list", flag, "NOT-ONE"},
			{"rotate", "preview", flag, "NOT-ONE"},
			{"rotate", "begin", flag, "NOT-ONE"},
			{"rotate", "promote", flag, "NOT-ONE"},
			{"rotate", "abort", flag, "NOT-ONE"},
			{"rotate", "status", flag, "NOT-ONE"},
			{"rotate", "done", flag, "NOT-ONE"},
		} {
			t.Run(strings.Join(args, " "), func(t *testing.T) {
				process{}.run(t, args...).want(t, exitUsage, "did you mean not_one?")
			})
		}
	}
}
