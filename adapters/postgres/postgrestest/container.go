package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"strings"
	"time"
)

// image is the newest PostgreSQL that the schema was made for.
const image = "postgres:18"

// dockerAnswers reports whether there is a Docker daemon. The client alone does not help.
func dockerAnswers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return docker(ctx, "info") == nil
}

// newContainer starts a server in a container, on a port of this machine that was free a moment ago. Docker
// would choose another whenever the container is started again.
func newContainer(ctx context.Context) (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return nil, err
	}
	admin := &url.URL{Scheme: "postgres", User: url.User("postgres"), Host: address, Path: "/postgres", RawQuery: "sslmode=disable"}
	name := "omni-postgres-" + random()

	detached := context.Background() // a container outlives the test that asked for it
	remove := func() error { return docker(detached, "rm", "--force", "--volumes", name) }
	start := func() error {
		if err := docker(detached, "start", name); err != nil {
			return err
		}
		return await(admin.String(), nil)
	}
	stop := func() error { return docker(detached, "stop", name) }

	err = docker(ctx, "create", "--name", name, "--publish", address+":5432", "--env", "POSTGRES_HOST_AUTH_METHOD=trust",
		image, "-c", "max_connections=200")
	if err != nil {
		return nil, err
	}
	if err := start(); err != nil {
		return nil, errors.Join(err, remove())
	}
	return &Server{admin: admin, start: start, stop: stop, remove: remove}, nil
}

func docker(ctx context.Context, args ...string) error {
	output, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("docker %s: %w: %s", args[0], err, strings.TrimSpace(string(output)))
	}
	return nil
}
