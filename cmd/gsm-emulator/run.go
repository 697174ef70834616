package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/apex-tradebill/omni-secrets/adapters/gsm/emulator"
)

const (
	exitOK    = 0
	exitServe = 1
	exitUsage = 2
)

// run serves until ctx is done and returns the exit code. When it serves, it prints one line to stdout that
// contains "ready" and both addresses. Logs, as JSON, and errors go to stderr; neither holds a payload.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	o, err := parse(args, getenv, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintln(stderr, "gsm-emulator:", err)
		return exitUsage
	case o.version:
		fmt.Fprintln(stdout, "gsm-emulator", buildVersion())
		return exitOK
	case o.health != "":
		if err := health(ctx, o.health); err != nil {
			fmt.Fprintln(stderr, "gsm-emulator:", err)
			return exitServe
		}
		return exitOK
	}
	if err := serve(ctx, o, stdout, slog.New(slog.NewJSONHandler(stderr, nil))); err != nil {
		fmt.Fprintln(stderr, "gsm-emulator:", err)
		return exitServe
	}
	return exitOK
}

func serve(ctx context.Context, o options, stdout io.Writer, logger *slog.Logger) error {
	server := emulator.New()
	if err := seed(server, o, logger); err != nil {
		return err
	}
	api, err := listen(ctx, "listen", o.listen)
	if err != nil {
		return err
	}
	defer api.Close() // closed already once it was served
	control, err := listen(ctx, "control", o.control)
	if err != nil {
		return err
	}
	defer control.Close()

	steering := &http.Server{
		Handler:           logged(server.Control(), logger),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Serve(api) })
	group.Go(func() error {
		if err := steering.Serve(control); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		server.Stop()
		return steering.Close()
	})

	// Both sockets accept connections already.
	fmt.Fprintf(stdout, "gsm-emulator is ready: gRPC on %s, control on http://%s\n", api.Addr(), control.Addr())
	logger.InfoContext(ctx, "emulator.ready", "grpcAddress", api.Addr().String(), "controlAddress", control.Addr().String())
	err = group.Wait()
	logger.InfoContext(context.WithoutCancel(ctx), "emulator.stopped")
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// listen opens the address of a flag.
func listen(ctx context.Context, name, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is in use: end the other program, or choose another address with --%s: %w", address, name, err)
	case err != nil:
		return nil, fmt.Errorf("--%s %s: %w", name, address, err)
	}
	return l, nil
}

// logged logs what changes the emulator: method, path and status, never a body.
func logged(next http.Handler, logger *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			next.ServeHTTP(w, r)
			return
		}
		answer := &answer{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(answer, r)
		logger.InfoContext(r.Context(), "emulator.control", "method", r.Method, "path", r.URL.Path, "status", answer.status)
	})
}

// answer remembers the status that was sent.
type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// version is the release, set by the linker: -ldflags '-X main.version=v1.2.3'.
var version string

func buildVersion() string {
	if version != "" {
		return version
	}
	if build, ok := debug.ReadBuildInfo(); ok && build.Main.Version != "" {
		return build.Main.Version
	}
	return "(unknown)"
}
