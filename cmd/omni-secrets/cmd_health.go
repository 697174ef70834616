package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const (
	defaultHealthURL     = "http://127.0.0.1:8080"
	defaultHealthTimeout = 2 * time.Second
	maxReadinessBytes    = 64 << 10
)

// readiness is the answer of /readyz.
type readiness struct {
	Status  string   `json:"status"`
	Missing []string `json:"missing"`
}

func newHealthCommand(s *streams) *cobra.Command {
	var (
		address string
		timeout time.Duration
	)
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a server whether it is ready",
		Long: `Asks a server whether it is ready to serve, by GET /readyz, and prints what is missing if it is not. The exit
code is 0 if it is ready and 1 if it is not or cannot be reached. It sends no token: it is the health check of
the container image, in which there is no shell and no curl.`,
		Example: `  omni-secrets health
  omni-secrets health --url https://omni.example.com`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return usageErrorf("--timeout must be more than 0")
			}
			flag := "--url"
			if cmd.Flags().Changed("api-url") {
				flag = "--api-url"
			}
			return health(cmd.Context(), s, setting{value: address, from: flag, fromFlag: true}, timeout)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&address, "url", defaultHealthURL, "`URL` of the server")
	flags.StringVar(&address, "api-url", defaultHealthURL, "`URL` of the server, as --url")
	cmd.MarkFlagsMutuallyExclusive("url", "api-url")
	flags.DurationVar(&timeout, "timeout", defaultHealthTimeout, "wait at most this `DURATION` for the answer")
	must(cmd.RegisterFlagCompletionFunc("url", cobra.NoFileCompletions))
	must(cmd.RegisterFlagCompletionFunc("api-url", cobra.NoFileCompletions))
	return cmd
}

func health(ctx context.Context, s *streams, address setting, timeout time.Duration) error {
	// Plain http to any host will do: nothing confidential is sent.
	base, wrong := serverURL(address, true)
	if wrong != nil {
		return wrong
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("readyz").String(), nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultTransport.RoundTrip(req) // follows no redirect: another server's health is not ours
	if err != nil {
		return fmt.Errorf("no answer from %s: %w", base.Host, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxReadinessBytes))
	if err != nil {
		return fmt.Errorf("no answer from %s: %w", base.Host, err)
	}
	var state readiness
	if json.Unmarshal(body, &state) != nil || state.Status == "" {
		return failuref("%s answered %d, and not as Omni Secrets does", base.Host, res.StatusCode)
	}
	switch {
	case res.StatusCode != http.StatusOK && len(state.Missing) > 0:
		return failuref("not ready: %s", strings.Join(state.Missing, "; "))
	case res.StatusCode != http.StatusOK:
		return failuref("not ready: %s answered %d", base.Host, res.StatusCode)
	case s.json():
		return s.printDocument(body)
	}
	return s.print("ready\n")
}
