package ports

import (
	"context"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// SecretBackend is where secrets live: Google Secret Manager, or local files.
type SecretBackend interface {
	// Fetch returns the given version of the secret that reference names; domain.LatestVersion asks for the
	// newest. Fetched.Version is always the concrete version, so that two different values never share one.
	//
	// A failure is a *domain.FetchError. Neither it nor any log line holds a payload. Values larger than
	// domain.MaxValueBytes or empty are ReasonInvalidPayload. Fetch bounds its own time to a few seconds and
	// returns soon after ctx is done. It is safe for concurrent use.
	Fetch(ctx context.Context, reference, version string) (domain.Fetched, error)
}
