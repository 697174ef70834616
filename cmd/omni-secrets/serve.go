package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"syscall"

	"github.com/spf13/cobra"
)

const serveLong = `Run the server with what the environment says. Everything that is wrong with the settings is reported at once,
with exit code 78.

Required:
  DATABASE_URL                 postgres://... for any number of replicas, or sqlite:PATH for one process; create or
                               update it with 'omni-secrets migrate up'
  GCP_PROJECT_ID               the project of the catalog's secrets
  JWT_SECRET, OMNI_JWKS_URL    what tokens are checked with: a shared secret of 32 bytes or more, a key set's URL, or both

Often set:
  OMNI_ENVIRONMENT             production, or anything else (default development)
  OMNI_LISTEN                  host:port (default 127.0.0.1:8080)
  OMNI_TLS_CERT_FILE           PEM certificate with its chain, and OMNI_TLS_KEY_FILE its key; without them plain HTTP
  OMNI_TLS_CLIENT_CA_FILE      PEM authorities; every client must have a certificate of one of them
  OMNI_METRICS_LISTEN          host:port of /metrics and the probes alone; without it they are on OMNI_LISTEN
  OMNI_BREAKGLASS_PRIVATE_KEY  from 'omni-secrets keygen'; without it break-glass is disabled
  OMNI_BREAKGLASS_PRIVATE_KEY_FILE, JWT_SECRET_FILE
                               the same from files, one key a line, the current one first; read again when they change
  OMNI_AUDIT_SIGNING_KEY       from 'omni-secrets keygen --audit'; without it the audit trail has no signed checkpoints
  OMNI_GSM_ENDPOINT            host:port of a gsm-emulator
  OMNI_PRODUCTION_PROJECTS     projects that only production may use

The README has the whole table.`

func newServeCommand(s *streams) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long:  serveLong,
		Example: `  omni-secrets migrate up
  omni-secrets serve`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), s) },
	}
}

func serve(ctx context.Context, s *streams) error {
	c, err := readConfig(s.lookupEnv)
	if err != nil {
		return &exitError{code: exitConfig, err: err}
	}
	log := newLogger(s.err, c.LogLevel)
	s.prepareServer(ctx, log)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a, err := newApp(ctx, c, log)
	if err != nil {
		return err
	}
	if err := a.listenBeside(ctx, c); err != nil {
		return errors.Join(err, a.Close())
	}
	ln, err := listen(ctx, c.Listen, "OMNI_LISTEN")
	if err != nil {
		return errors.Join(err, a.Close())
	}
	log.InfoContext(ctx, "listening", "address", ln.Addr().String(), "tls", c.certificates != nil, "environment", c.Environment, "replicaId", c.ReplicaID)
	err = a.Run(ctx, ln, func() { log.InfoContext(ctx, "ready", "address", ln.Addr().String()) })
	return errors.Join(err, a.Close())
}

func newLogger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
}

// listen listens on the address that a setting gave.
func listen(ctx context.Context, address, setting string) (net.Listener, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, failuref("another process listens on %s", address).
			try("stop it, or choose another address with %s", setting)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return ln, nil
}
