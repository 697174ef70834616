//go:build unix

package postgrestest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
)

// oldest is the first major version that the schema is made for.
const oldest = 15

// installed is the directory of the PostgreSQL programs of this machine, "" without any.
func installed() string {
	if initdb, err := exec.LookPath("initdb"); err == nil {
		if initdb, err = filepath.EvalSymlinks(initdb); err == nil {
			return filepath.Dir(initdb)
		}
	}
	// Debian keeps them off the PATH, a directory for each major version.
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // fails for a bad pattern alone
	found = slices.DeleteFunc(found, func(path string) bool { return majorVersion(path) < oldest })
	if len(found) == 0 {
		return ""
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(majorVersion(a), majorVersion(b)) }))
}

func majorVersion(initdb string) int {
	v, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(initdb))))
	return v
}

// cluster is a PostgreSQL server on a Unix socket, which needs no free port, in a directory of its own.
type cluster struct {
	bin, dir string
	user     *syscall.Credential // nil for our own
	url      *url.URL
	process  *os.Process
	ended    chan struct{} // closed when the process is gone
}

func newCluster(ctx context.Context, bin string) (_ *Server, err error) {
	dir, err := os.MkdirTemp("", "omni-postgres-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(dir)
		}
	}()
	c := &cluster{bin: bin, dir: dir, url: &url.URL{
		Scheme: "postgres", User: url.User("postgres"), Path: "/postgres", RawQuery: url.Values{"host": {dir}}.Encode(),
	}}
	if os.Geteuid() == 0 { // as whom PostgreSQL refuses to run
		if c.user, err = ordinaryUser(); err != nil {
			return nil, err
		}
		if err := os.Chown(dir, int(c.user.Uid), int(c.user.Gid)); err != nil {
			return nil, err
		}
	}

	initdb := c.command(ctx, "initdb", "--pgdata", c.path("data"), "--username=postgres", "--auth=trust",
		"--encoding=UTF8", "--no-locale", "--no-sync")
	if output, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, output)
	}
	if err := c.start(); err != nil {
		return nil, err
	}
	remove := func() error { return errors.Join(c.stop(), os.RemoveAll(dir)) }
	return &Server{admin: c.url, start: c.start, stop: c.stop, remove: remove}, nil
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

func (c *cluster) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, program), args...)
	cmd.Dir = c.dir // ours may be closed to the other user
	cmd.Env = []string{"PATH=" + c.bin, "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.user, Setpgid: true} // an interrupt is for us to handle
	return cmd
}

func (c *cluster) start() error {
	log, err := os.OpenFile(c.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := c.command(context.Background(), "postgres", "-D", c.path("data"), "-k", c.dir, "-c", "listen_addresses=",
		"-c", "max_connections=200", "-c", "shared_buffers=32MB")
	cmd.Stdout, cmd.Stderr = log, log
	endWithUs(cmd.SysProcAttr)

	started := make(chan error)
	c.ended = make(chan struct{})
	go func() {
		// The system takes the end of the thread that started a process for the end of its parent.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(c.ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // the log says why it ended
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	c.process = cmd.Process
	if err := await(c.url.String(), c.ended); err != nil {
		output, _ := os.ReadFile(c.path("log"))
		return errors.Join(fmt.Errorf("%w: %s", err, output), c.stop())
	}
	return nil
}

// stop asks for a fast shutdown: sessions are ended, and what was committed stays.
func (c *cluster) stop() error {
	if err := c.process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-c.ended
	return nil
}
