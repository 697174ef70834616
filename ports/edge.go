package ports

import (
	"context"
	"crypto/x509"
	"errors"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// ErrNoKey is why no envelope can be opened at the moment.
var ErrNoKey = errors.New("there is no break-glass key")

// EnvelopeOpener decrypts break-glass envelopes. Safe for concurrent use.
type EnvelopeOpener interface {
	// Open decrypts and checks e. The error says what to mend without repeating any of the envelope's content; it is
	// ErrNoKey while there is no key to try.
	Open(e domain.Envelope) (domain.Opened, error)
}

// TokenVerifier checks bearer tokens. Safe for concurrent use.
type TokenVerifier interface {
	// Verify returns whose token it is and what it allows. The error is written for the caller and never holds
	// the token.
	Verify(ctx context.Context, token string) (domain.Principal, error)
}

// CertificateVerifier knows callers by their client certificates. Safe for concurrent use.
type CertificateVerifier interface {
	// Verify returns whose certificate chain[0] is and what it allows, as things stand now; the rest of the chain leads
	// to its authority. It trusts no earlier check of the chain, and is cheap when it is asked again. The error is
	// written for the caller.
	Verify(chain []*x509.Certificate) (domain.Principal, error)
}

// Meter counts what happens. Safe for concurrent use, and cheap: it is called on every read.
type Meter interface {
	// SecretRead counts a value taken from source: a backend's name, domain.SourceCache or
	// domain.SourceBreakGlass. stale says that it was served past its time.
	SecretRead(t domain.SecretType, source string, stale bool)
	// SecretFailed counts a fetch or an override that failed.
	SecretFailed(t domain.SecretType, reason domain.Reason)
	// FetchDone records how long a fetch from a backend took; outcome is "ok" or a domain.Reason.
	FetchDone(source, outcome string, took time.Duration)
}
