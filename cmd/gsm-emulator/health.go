package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// healthTimeout is how long an emulator may take to answer --health.
const healthTimeout = 2 * time.Second

// health asks the emulator whose control API is at address whether it serves. It is the health check of the
// container image, which has no shell and no curl.
func health(ctx context.Context, address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return fmt.Errorf("--health %q is no address such as http://127.0.0.1:9086", address)
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.JoinPath("healthz").String(), nil)
	if err != nil {
		return fmt.Errorf("--health: %w", err)
	}
	request.Close = true // the process ends with the answer
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("not healthy: %w", err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<10))
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("not healthy: %s answered %s", u.Host, response.Status)
	}
	return nil
}
