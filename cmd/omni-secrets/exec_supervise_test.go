package main

import (
	"context"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/apex-tradebill/omni-secrets/client/clienttest"
)

func serving(t *testing.T, secrets ...string) *clienttest.Server {
	t.Helper()
	omni := clienttest.NewServer(t)
	for i := 0; i < len(secrets); i += 2 {
		omni.Set(secrets[i], secrets[i+1])
	}
	return omni
}

func TestExecForwardsSignals(t *testing.T) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP) // so that children do not ignore it, even if this process was started by nohup
	defer signal.Stop(hangup)
	omni := serving(t, "trading_api_key", "old")
	p := startExec(t, omni, "--env KEY=trading_api_key", playing("-stubborn", "KEY")...)
	p.wantLine("began KEY=old")
	for _, sig := range []syscall.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH,
		syscall.SIGINT, syscall.SIGTERM, syscall.SIGINT, // main lets go of the latter two after the first of them
	} {
		p.signal(sig)
		p.wantLine(sig.String() + " KEY=old")
	}
	p.signal(syscall.SIGTERM)
	p.wantLine("terminated KEY=old")
	p.wantEnd(7)
}

func TestExecEndsAsTheCommandThatASignalKills(t *testing.T) {
	omni := serving(t, "trading_api_key", "old")
	p := startExec(t, omni, "--file KEY=trading_api_key", "sh", "-c", "echo began; exec cat")
	p.wantLine("began")
	p.signal(syscall.SIGTERM)
	p.wantEnd(128 + 15)
}

func TestExecStopsAndContinuesTheCommand(t *testing.T) {
	omni := serving(t, "trading_api_key", "old")
	p := startExec(t, omni, "--env KEY=trading_api_key", playing()...)
	p.wantLine("began")
	p.signal(syscall.SIGTSTP)
	p.wantLine("stopped")
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(p.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("%v: exec did not stop: %v", err, status)
	}
	p.signal(syscall.SIGCONT)
	p.wantLine("continued")
	p.signal(syscall.SIGTERM)
	p.wantLine("terminated")
	p.wantEnd(0)
}

// nohup starts programs with HUP ignored, and the command is to be one of them.
func TestExecLeavesIgnoredSignalsIgnored(t *testing.T) {
	omni := serving(t, "trading_api_key", "old")
	p := newProgram(t, omni)
	p.cmd.Path = "/bin/sh"
	p.cmd.Args = []string{
		"sh", "-c", `trap '' HUP; exec "$0" "$@"`, os.Args[0], partProgram, "exec", "--env", "KEY=trading_api_key",
		"sh", "-c", `kill -HUP $PPID; kill -HUP $$; echo survived; read -r line; echo "$line"`,
	}
	p.start()
	p.wantLine("survived")
	p.writeLine("so did exec")
	p.wantLine("so did exec")
	p.wantEnd(0)
}

func TestExecRestartsAtAChange(t *testing.T) {
	omni := serving(t, "trading_api_key", "old", "zk_signing_seed", "same")
	p := startExec(t, omni, "--env KEY=trading_api_key --file SEED=zk_signing_seed --on-change restart", playing("KEY", "@SEED")...)
	p.wantLine("began KEY=old @SEED=same")
	omni.Set("trading_api_key", "new")
	p.wantLine("terminated KEY=old @SEED=same")
	p.wantLine("began KEY=new @SEED=same")
	omni.Set("zk_signing_seed", "another")
	p.wantLine("terminated KEY=new @SEED=same")
	p.wantLine("began KEY=new @SEED=another")
	p.writeLine("exit 5") // ended by itself: that is the end
	p.wantEnd(5)
}

// Versions that differ in their number alone change nothing for the command.
func TestExecDoesNotRestartForTheSameValue(t *testing.T) {
	omni := serving(t, "trading_api_key", "old", "zk_signing_seed", "old")
	p := startExec(t, omni, "--env KEY=trading_api_key --env SEED=zk_signing_seed --on-change restart", playing("KEY", "SEED")...)
	p.wantLine("began KEY=old SEED=old")
	omni.Set("trading_api_key", "old")
	omni.MakeUnavailable("trading_api_key", "unavailable")
	omni.Withdraw("trading_api_key")
	p.log.wait(t, "warning: trading_api_key has no value to use now, and the command goes on with the one it has: the value was revoked")
	omni.Set("trading_api_key", "old")
	omni.Set("zk_signing_seed", "new")
	p.wantLine("terminated KEY=old SEED=old")
	p.wantLine("began KEY=old SEED=new")
	p.signal(syscall.SIGTERM)
	p.wantLine("terminated KEY=old SEED=new")
	p.wantEnd(0)
}

func TestExecDoesNotRestartWithoutAValue(t *testing.T) {
	omni := serving(t, "trading_api_key", "old", "zk_signing_seed", "old")
	p := startExec(t, omni, "--env KEY=trading_api_key --env SEED=zk_signing_seed --on-change restart", playing("KEY", "SEED")...)
	p.wantLine("began KEY=old SEED=old")
	omni.Withdraw("trading_api_key")
	p.log.wait(t, "has no value to use now")
	omni.Set("zk_signing_seed", "new") // a restart for another reason keeps what was withdrawn
	p.wantLine("terminated KEY=old SEED=old")
	p.wantLine("began KEY=old SEED=new")
	omni.Set("trading_api_key", "a\x00b")
	p.log.wait(t, "has a NUL byte")
	omni.Set("trading_api_key", "new")
	p.wantLine("terminated KEY=old SEED=new")
	p.wantLine("began KEY=new SEED=new")
	p.writeLine("exit 0")
	p.wantEnd(0)
	if n := strings.Count(p.log.String(), "has no value to use now"); n != 2 {
		t.Errorf("%d warnings:\n%s", n, p.log.String())
	}
}

func TestExecKillsACommandThatDoesNotStop(t *testing.T) {
	omni := serving(t, "trading_api_key", "old")
	p := startExec(t, omni, "--env KEY=trading_api_key --on-change restart --stop-timeout 100ms", playing("-deaf", "KEY")...)
	p.wantLine("began KEY=old")
	omni.Set("trading_api_key", "new")
	p.wantLine("terminated KEY=old")
	p.wantLine("began KEY=new")
	p.writeLine("exit 0")
	p.wantEnd(0)
	if !strings.Contains(p.log.String(), "did not end within 100ms of SIGTERM: it is killed") {
		t.Errorf("standard error:\n%s", p.log.String())
	}
}

// Who tells exec to end while it restarts the command does not want the command back.
func TestExecThatIsToldToEndDoesNotRestart(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT} {
		t.Run(sig.String(), func(t *testing.T) {
			omni := serving(t, "trading_api_key", "old")
			p := startExec(t, omni, "--env KEY=trading_api_key --on-change restart --stop-timeout 1h", playing("-stubborn", "KEY")...)
			p.wantLine("began KEY=old")
			omni.Set("trading_api_key", "new")
			p.wantLine("terminated KEY=old")
			p.signal(sig)
			p.wantLine(sig.String() + " KEY=old")
			if sig == syscall.SIGTERM {
				p.wantEnd(7)
				return
			}
			p.writeLine("exit 4")
			p.wantEnd(4)
		})
	}
}

func TestExecSignalsAtAChange(t *testing.T) {
	omni := serving(t, "trading_api_key", "old", "zk_signing_seed", "old")
	p := startExec(t, omni, "--env KEY=trading_api_key --file SEED=zk_signing_seed --on-change signal --signal usr1", playing("KEY", "@SEED")...)
	p.wantLine("began KEY=old @SEED=old")
	path := p.secretFile("SEED")
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	omni.Set("zk_signing_seed", "new")
	p.wantLine("user defined signal 1 KEY=old @SEED=new")
	after, err := os.Stat(path)
	if err != nil || os.SameFile(before, after) || after.Mode().Perm() != 0o400 {
		t.Errorf("%v: the file was written in place, or has mode %v", err, after.Mode())
	}
	if content := make([]byte, 3); readsAll(old, content) != "old" {
		t.Errorf("a reader that had opened the old file reads %q", content)
	}
	omni.Withdraw("zk_signing_seed")
	p.log.wait(t, "zk_signing_seed has no value to use now")
	if content, err := os.ReadFile(path); err != nil || string(content) != "new" {
		t.Errorf("%v: the file has %q after its secret was withdrawn", err, content)
	}
	p.signal(syscall.SIGTERM)
	p.wantLine("terminated KEY=old @SEED=new")
	p.wantEnd(0)
	if !strings.Contains(p.log.String(), "the environment of a running process cannot change") {
		t.Errorf("standard error:\n%s", p.log.String())
	}
}

func readsAll(file *os.File, content []byte) string {
	n, _ := file.Read(content)
	return string(content[:n])
}

// The server restarts and the token is replaced while the command runs.
func TestExecFollowsThroughRestartsAndTokens(t *testing.T) {
	omni := serving(t, "trading_api_key", "old")
	token := privateFile(t, clienttest.Token, 0o600)
	p := newProgram(t, omni, append(strings.Fields("exec --env KEY=trading_api_key --on-change restart --token-file "+token), playing("KEY")...)...)
	p.start()
	p.wantLine("began KEY=old")
	omni.Stop()
	p.log.wait(t, "warning: the secrets cannot be followed")
	if err := os.WriteFile(token, []byte("renewed-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	omni.AcceptOnly("renewed-token")
	omni.Set("trading_api_key", "new")
	omni.Start()
	p.wantLine("terminated KEY=old")
	p.wantLine("began KEY=new")
	p.signal(syscall.SIGTERM)
	p.wantLine("terminated KEY=new")
	p.wantEnd(0)
	if log := p.log.String(); strings.Contains(log, "renewed-token") || strings.Contains(log, clienttest.Token) {
		t.Errorf("standard error has the token:\n%s", log)
	}
}

// The caller of run may end it without a signal.
func TestExecTellsTheCommandThatItsContextEnded(t *testing.T) {
	omni := serving(t, "trading_api_key", "old")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, log logBuffer
	var ended sync.WaitGroup
	code := 0
	ended.Go(func() {
		env := execProcess(omni).env
		code = run(ctx, append([]string{"exec", "--env", "KEY=trading_api_key"}, playing("KEY")...),
			func(name string) (string, bool) { value, ok := env[name]; return value, ok }, strings.NewReader(""), &out, &log)
	})
	out.wait(t, "began KEY=old\n")
	cancel()
	ended.Wait()
	if code != 0 || out.String() != "began KEY=old\nterminated KEY=old\n" {
		t.Errorf("exit code %d: %s%s", code, out.String(), log.String())
	}
}

func TestExecThatIsInterruptedBeforeItHasTheValues(t *testing.T) {
	omni := serving(t, "trading_api_key", "old")
	omni.HoldStreams(true)
	omni.MakeUnavailable("trading_api_key", "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	env := execProcess(omni).env
	var out, log logBuffer
	code := run(ctx, []string{"exec", "--env", "KEY=trading_api_key", "echo", "started"},
		func(name string) (string, bool) { value, ok := env[name]; return value, ok }, strings.NewReader(""), &out, &log)
	if code != exitFailure || out.String() != "" || !strings.Contains(log.String(), "interrupted") {
		t.Errorf("exit code %d: %s%s", code, out.String(), log.String())
	}
}
