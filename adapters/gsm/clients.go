package gsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	secretmanager "cloud.google.com/go/secretmanager/apiv1"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

// reconnect bounds the pause between attempts to connect. gRPC's own would grow to two minutes in an outage,
// and calls fail without being tried during the pause.
var reconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
	MinConnectTimeout: 5 * time.Second,
}

var errClosed = errors.New("the backend is closed")

// clients holds one client of Secret Manager for each location, made when it is first needed, because regional
// secrets are served by hosts of their own
// (https://cloud.google.com/secret-manager/regional-secrets/create-regional-secret). An emulator serves all.
type clients struct {
	options []option.ClientOption
	single  bool // one client serves every location

	mu         sync.Mutex
	byLocation map[string]*secretmanager.Client // "" is the global one; nil once closed
}

// newClients makes the global client, so that missing credentials are found out at start.
func newClients(ctx context.Context, endpoint string) (*clients, error) {
	c := &clients{
		byLocation: make(map[string]*secretmanager.Client),
		options: []option.ClientOption{
			// Without it the library logs requests, responses and their payloads as
			// GOOGLE_SDK_GO_LOGGING_LEVEL says.
			option.WithLogger(slog.New(slog.DiscardHandler)),
			option.WithGRPCDialOption(grpc.WithConnectParams(reconnect)),
			option.WithTelemetryDisabled(), // fetches are measured where they are counted, under the names of the design
		},
	}
	if endpoint != "" {
		// Only the three together reach a plain server: with credentials but without TLS gRPC refuses to send
		// them, and TLS is the default.
		c.single = true
		c.options = append(c.options,
			option.WithEndpoint(endpoint),
			option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		)
	} else {
		credentials, err := detectCredentials()
		if err != nil {
			return nil, err
		}
		c.options = append(c.options, option.WithAuthCredentials(credentials))
	}
	if _, err := c.at(ctx, ""); err != nil {
		return nil, err
	}
	return c, nil
}

// at returns the client for a location, "" for global secrets.
func (c *clients) at(ctx context.Context, location string) (*secretmanager.Client, error) {
	if c.single {
		location = ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byLocation == nil {
		return nil, errClosed
	}
	if client, ok := c.byLocation[location]; ok {
		return client, nil
	}
	options := c.options
	if location != "" {
		options = append(slices.Clip(options), option.WithEndpoint(regionalEndpoint(location)))
	}
	client, err := secretmanager.NewClient(ctx, options...) // it does not connect yet
	if err != nil {
		return nil, fmt.Errorf("make a client of Secret Manager: %w", err)
	}
	client.CallOptions.AccessSecretVersion = nil // one attempt a call; Config.retry makes the next one
	c.byLocation[location] = client
	return client, nil
}

// regionalEndpoint is the host that serves the secrets of a location
// (https://cloud.google.com/secret-manager/docs/reference/rest#regional-service-endpoint).
func regionalEndpoint(location string) string {
	return "secretmanager." + location + ".rep.googleapis.com:443"
}

func (c *clients) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, client := range c.byLocation {
		errs = append(errs, client.Close())
	}
	c.byLocation = nil
	return errors.Join(errs...)
}
