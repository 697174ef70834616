package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apex-tradebill/omni-secrets/client/clienttest"
)

// execProcess is one whose environment leads to a server.
func execProcess(omni *clienttest.Server) process {
	return process{env: map[string]string{"OMNI_API_URL": omni.URL(), "OMNI_TOKEN": clienttest.Token}}
}

func TestExecHelp(t *testing.T) {
	o := process{}.run(t, "exec", "--help")
	o.want(t, exitOK)
	golden(t, "help/exec.golden", o.out)
	process{}.run(t, "--help").want(t, exitOK, "\n  exec ")
}

func TestExecUsage(t *testing.T) {
	const key = "A=trading_api_key"
	for _, tc := range []struct {
		name string
		args []string
		want string
	}{
		{"no command", []string{"--env", key}, "there is no command to run"},
		{"no command after the dashes", []string{"--env", key, "--"}, "there is no command to run"},
		{"empty command", []string{"--env", key, "--", ""}, "there is no command to run"},
		{"nothing to fetch", []string{"--", "true"}, "there is nothing to fetch"},
		{"no =", []string{"--env", plaintext, "true"}, "--env is NAME=TYPE"},
		{"no name", []string{"--env", "=trading_api_key", "true"}, "--env: what stands before the = is no name"},
		{"name with a digit first", []string{"--file", "1A=trading_api_key", "true"}, "--file: what stands before the = is no name"},
		{"name with a dash", []string{"--env", "A-B=trading_api_key", "true"}, "no name of a variable"},
		{"name that is a path", []string{"--file", "../A=trading_api_key", "true"}, "no name of a variable"},
		{"value in place of a type", []string{"--env", "A=" + plaintext, "true"}, "--env A=…: what follows the = is no secret type"},
		{"type with dashes", []string{"--file", "A=trading-api-key", "true"}, "underscores only"},
		{"name twice", []string{"--env", key, "--file", "A=zk_signing_seed", "true"}, "the name A is given twice"},
		{"unknown reaction", []string{"--env", key, "--on-change", "stop", "true"}, "it is one of ignore, restart, signal"},
		{"empty reaction", []string{"--env", key, "--on-change", "", "true"}, "it is one of ignore, restart, signal"},
		{"unknown signal", []string{"--env", key, "--on-change", "signal", "--signal", "STOP", "true"}, "it is one of HUP, INT, QUIT, TERM, USR1, USR2, WINCH"},
		{"signal that is never sent", []string{"--env", key, "--signal", "HUP", "true"}, "--signal does nothing without --on-change signal"},
		{"timeout that is never used", []string{"--env", key, "--on-change", "signal", "--stop-timeout", "1s", "true"}, "--stop-timeout does nothing without --on-change restart"},
		{"no time to stop", []string{"--env", key, "--on-change", "restart", "--stop-timeout", "0s", "true"}, "--stop-timeout must be more than 0"},
		{"directory for no files", []string{"--env", key, "--file-dir", "/tmp", "true"}, "--file-dir does nothing without --file"},
		{"variable that is passed anyway", []string{"--env", key, "--pass-env", "PATH", "true"}, "it is one of OMNI_TOKEN"},
		{"directory that is not there", []string{"--file", key, "--file-dir", "/no/such", "true"}, "make a directory for --file"},
		{"no time for an answer", []string{"--env", key, "--timeout", "0s", "true"}, "--timeout must be more than 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := process{env: map[string]string{"OMNI_API_URL": "http://127.0.0.1:1", "OMNI_TOKEN": testToken}}.
				run(t, append([]string{"exec"}, tc.args...)...)
			o.want(t, exitUsage, tc.want)
		})
	}
}

func TestExecTakesWhatFollowsTheCommandForTheCommands(t *testing.T) {
	omni := clienttest.NewServer(t)
	omni.Set("trading_api_key", plaintext)
	for _, args := range [][]string{
		{"--", "echo", "--env", "-o", "x"},
		{"echo", "--env", "-o", "x"},
		{"echo", "--env", "--", "x"},
	} {
		o := execProcess(omni).run(t, append([]string{"exec", "--env", "A=trading_api_key"}, args...)...)
		o.want(t, exitOK)
		if want := strings.Join(args[len(args)-3:], " ") + "\n"; o.out != want {
			t.Errorf("%v: %q, want %q", args, o.out, want)
		}
	}
}

func TestExecEnvironment(t *testing.T) {
	omni := clienttest.NewServer(t)
	omni.Set("trading_api_key", "key \n'\xff=\"$x")
	omni.Set("zk_signing_seed", "seed")
	t.Setenv("OMNI_TOKEN", testToken)
	t.Setenv("OMNI_BREAKGLASS_PRIVATE_KEY", plaintext)
	t.Setenv("OMNI_SYMBOLS", "of the command")
	t.Setenv("KEY", "before")
	show := `printf '%s|' "$KEY" "$SEED" "${OMNI_TOKEN-none}" "${OMNI_BREAKGLASS_PRIVATE_KEY-none}" "$OMNI_SYMBOLS"`
	for _, tc := range []struct {
		name, flags, want string
	}{
		{"values", "--env KEY=trading_api_key --env SEED=zk_signing_seed", "key \n'\xff=\"$x|seed|none|none|of the command|"},
		{"a value twice", "--env KEY=zk_signing_seed --env SEED=zk_signing_seed", "seed|seed|none|none|of the command|"},
		{"a credential that is asked for", "--env KEY=zk_signing_seed --pass-env OMNI_BREAKGLASS_PRIVATE_KEY", "seed||none|" + plaintext + "|of the command|"},
		{"a credential that is a secret", "--env OMNI_TOKEN=zk_signing_seed", "before||seed|none|of the command|"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := execProcess(omni).run(t, append(append([]string{"exec"}, strings.Fields(tc.flags)...), "sh", "-c", show)...)
			o.want(t, exitOK)
			if o.out != tc.want || o.err != "" {
				t.Errorf("the command saw %q, want %q\n%s", o.out, tc.want, o.err)
			}
		})
	}
}

func TestExecKeepsTheKeysOfAServer(t *testing.T) {
	omni := clienttest.NewServer(t)
	omni.Set("zk_signing_seed", "seed")
	t.Setenv(privateKeyEnv, plaintext)
	t.Setenv(previousKeysEnv, plaintext)
	o := execProcess(omni).run(t, "exec", "--env", "KEY=zk_signing_seed", "--", "env")
	o.want(t, exitOK, "KEY=seed\n")
	if strings.Contains(o.out, plaintext) {
		t.Error("the command got a key of the server")
	}
}

func TestExecFiles(t *testing.T) {
	omni := clienttest.NewServer(t)
	omni.Set("trading_api_key", "a\x00b\n")
	omni.Set("zk_signing_seed", plaintext)
	onDisk := t.TempDir()
	for _, tc := range []struct {
		name, flags, parent string
	}{
		{"in memory", "", ""},
		{"where the user says", "--file-dir " + onDisk, onDisk},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newProgram(t, omni, append(append([]string{"exec", "--file", "KEY=trading_api_key", "--file", "SEED=zk_signing_seed"}, strings.Fields(tc.flags)...),
				"sh", "-c", `stat -c %a "$KEY" "$(dirname "$KEY")"; dirname "$(dirname "$SEED")"; od -An -c "$KEY"; cat "$SEED"; umask`)...)
			if tc.parent == "" {
				tc.parent = p.runtime
			}
			p.start()
			p.wantLine("400")
			p.wantLine("700")
			p.wantLine(tc.parent)
			p.wantLine(`   a  \0   b  \n`)
			out, _ := io.ReadAll(p.out)
			if !strings.HasPrefix(string(out), plaintext) {
				t.Errorf("the second file has %q", out)
			}
			p.wantEnd(exitOK)
			if left, _ := os.ReadDir(tc.parent); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestExecFilesNeedATmpfs(t *testing.T) {
	if !inMemory(sharedMemory) || inMemory("/proc") || inMemory("/no/such") {
		t.Error("what is a tmpfs and what is not is told wrong")
	}
	for _, tc := range []struct {
		name, runtimeDir, fallback, want string
	}{
		{"the user's", sharedMemory, "/proc", sharedMemory},
		{"everyone's, when there is none of the user", "", sharedMemory, sharedMemory},
		{"everyone's, when the user's is on a disk", "/proc", sharedMemory, sharedMemory},
		{"everyone's, when the user's is a relative path", "../../../../../../../dev/shm/.", sharedMemory, sharedMemory},
		{"none", "/proc", "/proc", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tmpfs(tc.runtimeDir, tc.fallback)
			if got != tc.want || (err != nil) != (tc.want == "") {
				t.Errorf("%q, %v", got, err)
			}
			if err != nil && !strings.Contains(err.next, "--file-dir DIR") {
				t.Errorf("next step: %s", err.next)
			}
		})
	}
}

func TestExecWarnsOfADirectoryOnADisk(t *testing.T) {
	p := process{env: map[string]string{"OMNI_API_URL": "http://127.0.0.1:1", "OMNI_TOKEN": testToken}}
	p.run(t, "exec", "--file", "A=trading_api_key", "--file-dir", "/proc", "true").want(t, exitUsage, "--file-dir /proc is not known to be a tmpfs")
}

// Whatever fails, the command is not started, and nothing is left behind.
func TestExecThatCannotFetch(t *testing.T) {
	for _, tc := range []struct {
		name    string
		prepare func(*clienttest.Server)
		args    []string
		code    int
		want    string
	}{
		{"no valid token", func(o *clienttest.Server) { o.AcceptOnly() }, nil, exitNotAllowed, "check that the token has not expired"},
		{"not a reader", func(o *clienttest.Server) { o.Forbid("zk_signing_seed") }, nil, exitNotAllowed, "its subject is not among the readers"},
		{"unknown type", nil, []string{"--env", "C=trading_api_kee"}, exitNotFound, "lists the secret types"},
		{"no value", func(o *clienttest.Server) { o.MakeUnavailable("zk_signing_seed", "unavailable") }, nil, exitUnavailable, "omni-secrets breakglass --help"},
		{"revoked value", func(o *clienttest.Server) { o.Withdraw("zk_signing_seed") }, nil, exitUnavailable, "the value was revoked"},
		{"value that is still being fetched", func(o *clienttest.Server) { o.MakeUnavailable("zk_signing_seed", "") }, []string{"--timeout", "100ms"}, exitUnavailable, "--timeout"},
		{"no server", (*clienttest.Server).Stop, []string{"--timeout", "100ms"}, exitUnavailable, "is the server running"},
		{"value with a NUL byte", func(o *clienttest.Server) { o.Set("zk_signing_seed", plaintext+"\x00") }, nil, exitFailure, "give it by --file B=zk_signing_seed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			omni := clienttest.NewServer(t)
			omni.Set("trading_api_key", plaintext)
			omni.Set("zk_signing_seed", plaintext)
			if tc.prepare != nil {
				tc.prepare(omni)
			}
			p := newProgram(t, omni, append(append([]string{"exec", "--file", "A=trading_api_key", "--env", "B=zk_signing_seed"}, tc.args...), "echo", "started")...)
			p.start()
			p.wantEnd(tc.code)
			if log := p.log.String(); !strings.Contains(log, tc.want) || strings.Contains(log, plaintext) || strings.Count(log, "\n") != 2 {
				t.Errorf("standard error:\n%s", log)
			}
		})
	}
}

func TestExecOfSomethingThatIsNotOmniSecrets(t *testing.T) {
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	o := process{env: map[string]string{"OMNI_API_URL": other.URL, "OMNI_TOKEN": testToken}}.
		run(t, "exec", "--timeout", "100ms", "--env", "A=trading_api_key", "echo", "started")
	if o.code == exitOK || o.out != "" {
		t.Errorf("exit code %d: %s", o.code, o.out)
	}
}

func TestExecExitCodes(t *testing.T) {
	omni := clienttest.NewServer(t)
	omni.Set("trading_api_key", plaintext)
	noProgram := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(noProgram, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		command []string
		code    int
		says    string // on standard error; nothing unless exec failed itself
	}{
		{"success", []string{"true"}, 0, ""},
		{"failure", []string{"sh", "-c", "exit 7"}, 7, ""},
		{"signal", []string{"sh", "-c", "kill -KILL $$"}, 128 + 9, ""},
		{"no such command", []string{"no-such-command"}, 127, "run no-such-command: executable file not found"},
		{"no such path", []string{"/no/such/command"}, 127, "run /no/such/command: no such file"},
		{"not executable", []string{privateFile(t, "", 0o600)}, 126, "permission denied"},
		{"directory", []string{"/"}, 126, "run /: "},
		{"neither program nor script", []string{noProgram}, 126, "a script begins with #!"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := startExec(t, omni, "--file A=trading_api_key", tc.command...)
			p.wantEnd(tc.code)
			if log := p.log.String(); !strings.Contains(log, tc.says) || (tc.says == "") != (log == "") {
				t.Errorf("standard error:\n%s", log)
			}
		})
	}
}

func TestExecPassesTheStandardStreams(t *testing.T) {
	omni := clienttest.NewServer(t)
	omni.Set("trading_api_key", plaintext)
	p := startExec(t, omni, "--env A=trading_api_key", "sh", "-c", "read -r line; echo \"out $line\"; echo err >&2")
	p.writeLine("in")
	p.wantLine("out in")
	p.wantEnd(exitOK)
	if p.log.String() != "err\n" {
		t.Errorf("standard error:\n%s", p.log.String())
	}
}

func TestExecThatIgnoresChangesHangsUp(t *testing.T) {
	omni := clienttest.NewServer(t)
	omni.Set("trading_api_key", "old")
	p := startExec(t, omni, "--env KEY=trading_api_key", playing("KEY")...)
	p.wantLine("began KEY=old")
	omni.Stop() // waits for streams that are open
	p.writeLine("exit 3")
	p.wantEnd(3)
	if p.log.String() != "" {
		t.Errorf("standard error:\n%s", p.log.String())
	}
}

func TestExecWarnsOfStaleValues(t *testing.T) {
	omni := clienttest.NewServer(t)
	omni.Set("trading_api_key", plaintext)
	omni.MarkStale("trading_api_key")
	execProcess(omni).run(t, "exec", "--env", "A=trading_api_key", "true").want(t, exitOK, "warning: the value of trading_api_key is stale")
}
