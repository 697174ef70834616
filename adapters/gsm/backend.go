package gsm

import (
	"context"
	"errors"
	"fmt"

	secretmanager "cloud.google.com/go/secretmanager/apiv1"
	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// Backend implements ports.SecretBackend. It is safe for concurrent use, and must be closed.
type Backend struct {
	config  Config
	clients *clients
}

var _ ports.SecretBackend = (*Backend)(nil)

// New prepares to read from Secret Manager, or from the emulator at config.Endpoint. It fails when config is
// wrong or no credentials are found; it does not call Secret Manager yet. Away from Google Cloud the search for
// credentials may take some seconds. ctx is for New alone.
func New(ctx context.Context, config Config) (*Backend, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("gsm: %w", err)
	}
	clients, err := newClients(ctx, config.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("gsm: %w", err)
	}
	return &Backend{config: config, clients: clients}, nil
}

// Close ends the connections. A Fetch that is under way or follows fails.
func (b *Backend) Close() error { return b.clients.close() }

// Fetch implements ports.SecretBackend. version is "latest", a number or an alias.
//
// It makes attempts of at most Config.AttemptTimeout, with back-off between them, until one succeeds, one fails
// in a way that another cannot mend, or Config.Timeout or ctx is over. Latest is the version created last; when
// that one is disabled, the reason is domain.ReasonVersionDisabled although older ones are enabled
// (https://cloud.google.com/secret-manager/docs/access-secret-version).
func (b *Backend) Fetch(ctx context.Context, reference, version string) (domain.Fetched, error) {
	ref, err := parseReference(reference)
	if err == nil {
		err = checkVersion(version)
	}
	if err != nil {
		return domain.Fetched{}, &domain.FetchError{Reason: domain.ReasonNotFound, Err: err}
	}
	if version == domain.LatestVersion && !b.config.AllowLatest {
		return domain.Fetched{}, &domain.FetchError{
			Reason: domain.ReasonLatestForbidden,
			Err:    errors.New(`the version "latest" is not allowed; name one by its number`),
		}
	}

	var fetched domain.Fetched
	err = b.config.retry(ctx, func(ctx context.Context) error {
		var err error
		fetched, err = b.attempt(ctx, ref, version)
		return err
	})
	if err != nil {
		return domain.Fetched{}, explain(err, ref.name(version))
	}
	return fetched, nil
}

// attempt makes one call. Its error is a *domain.FetchError.
func (b *Backend) attempt(ctx context.Context, ref reference, version string) (domain.Fetched, error) {
	client, err := b.clients.at(ctx, ref.location)
	if err != nil {
		return domain.Fetched{}, classify(err)
	}
	return access(ctx, client, ref, version)
}

func access(ctx context.Context, client *secretmanager.Client, ref reference, version string) (domain.Fetched, error) {
	resp, err := client.AccessSecretVersion(ctx, &secretmanagerpb.AccessSecretVersionRequest{Name: ref.name(version)})
	if err != nil {
		if ctx.Err() != nil { // the status does not wrap it
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		return domain.Fetched{}, classify(err)
	}
	defer clear(resp.GetPayload().GetData()) // the value has a copy, and the answer is nobody else's
	return open(resp, ref)
}
