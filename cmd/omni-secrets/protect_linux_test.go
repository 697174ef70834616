package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/envelope"
)

// nobody is a user that tests that run as root start the server as, since root may see everything.
const nobody = 65534

// deployment is a server in a process of its own, with its keys in its environment.
type deployment struct {
	t    *testing.T
	dir  string
	cmd  *exec.Cmd
	out  logBuffer
	log  logBuffer
	keys map[string]string // by the variable
}

func startDeployment(t *testing.T, arguments ...string) *deployment {
	t.Helper()
	dir, err := os.MkdirTemp("", "omni-secrets-test-") //nolint:usetesting // another user must be able to reach it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	key, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	previous, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	d := &deployment{t: t, dir: dir, keys: map[string]string{
		jwtSecretEnv:    "secret-of-tokens-that-nobody-may-see",
		previousJWTEnv:  "secret-before-it-that-nobody-may-see",
		privateKeyEnv:   key.Base64(),
		previousKeysEnv: previous.Base64(),
	}}
	d.write("catalog.yaml", doctorCatalog)
	d.write("secrets/key", plaintext)
	d.write("secrets/hook", plaintext)
	database := "sqlite:" + filepath.Join(dir, "state.db")
	process{env: map[string]string{"DATABASE_URL": database}}.run(t, "migrate", "up").want(t, exitOK)
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	d.write("program", string(program))

	// No test waits this long: it is for one that would hang.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	d.cmd = exec.CommandContext(ctx, filepath.Join(dir, "program"), append([]string{partProgram}, arguments...)...)
	d.cmd.Dir = dir
	d.cmd.Env = []string{
		"HOME=" + dir, "DATABASE_URL=" + database, "OMNI_CATALOG_FILE=" + filepath.Join(dir, "catalog.yaml"), "OMNI_REPLICA_ID=replica-1",
		"OMNI_LOCAL_FILE_DIR=" + filepath.Join(dir, "secrets"), "OMNI_LISTEN=127.0.0.1:0", "GCP_PROJECT_ID=omni-test", "GORACE=atexit_sleep_ms=0",
	}
	for name, value := range d.keys {
		d.cmd.Env = append(d.cmd.Env, name+"="+value)
	}
	d.cmd.Env = append(d.cmd.Env, "LAST=is-left-alone")
	d.cmd.Stdout, d.cmd.Stderr = &d.out, &d.log
	d.cmd.SysProcAttr = asNobody()
	if os.Getuid() == 0 {
		if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Chown(path, nobody, nobody)
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		if err := d.cmd.Wait(); err != nil {
			t.Errorf("the server did not stop as it should: %v", err)
		}
		cancel()
		if t.Failed() {
			t.Logf("standard error:\n%s", d.log.String())
		}
	})
	return d
}

// asNobody starts a process as another user than root.
func asNobody() *syscall.SysProcAttr {
	if os.Getuid() != 0 {
		return nil
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
}

func (d *deployment) write(name, content string) {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
		d.t.Fatal(err)
	}
}

func (d *deployment) proc(file string) string {
	return fmt.Sprintf("/proc/%d/%s", d.cmd.Process.Pid, file)
}

// Of another user's process root sees what that user would if there were no second defence.
func TestKeysAreNotInTheEnvironmentOfARunningServer(t *testing.T) {
	asRoot(t, "only root can look")
	d := startDeployment(t, "serve")
	d.log.wait(t, `"msg":"ready"`)
	environment, err := os.ReadFile(d.proc("environ"))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range d.keys {
		if bytes.Contains(environment, []byte(value)) {
			t.Errorf("%s is shown", name)
		}
		if strings.Contains(d.log.String(), value) {
			t.Errorf("%s was logged", name)
		}
	}
	for _, kept := range []string{"\x00OMNI_REPLICA_ID=replica-1\x00", "\x00LAST=is-left-alone\x00"} {
		if !bytes.Contains(environment, []byte(kept)) {
			t.Errorf("%q is not there any more", kept)
		}
	}
}

func TestTheMemoryOfAServerIsClosedToItsOwnUser(t *testing.T) {
	for _, command := range [][]string{{"serve"}, {"dev", "--listen", "127.0.0.1:0"}} {
		t.Run(command[0], func(t *testing.T) {
			d := startDeployment(t, command...)
			if command[0] == "dev" {
				d.out.wait(t, "is ready on")
			} else {
				d.log.wait(t, `"msg":"ready"`)
			}
			for _, file := range []string{"environ", "mem", "maps"} {
				look := exec.CommandContext(t.Context(), "head", "-c", "1", d.proc(file))
				look.Env = append(os.Environ(), "LC_ALL=C")
				look.SysProcAttr = asNobody()
				if out, err := look.CombinedOutput(); err == nil || !bytes.Contains(out, []byte("Permission denied")) {
					t.Errorf("its user can read %s: %v, %s", file, err, out)
				}
			}
			limits, err := os.ReadFile(d.proc("limits"))
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(limits)) {
				if rest, ok := strings.CutPrefix(line, "Max core file size"); ok && strings.Join(strings.Fields(rest), " ") != "0 0 bytes" {
					t.Errorf("core dumps: %s", line)
				}
			}
		})
	}
}
