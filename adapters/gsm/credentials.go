package gsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"
	secretmanager "cloud.google.com/go/secretmanager/apiv1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// detectCredentials finds the Application Default Credentials
// (https://cloud.google.com/docs/authentication/application-default-credentials).
func detectCredentials() (*auth.Credentials, error) {
	found, err := credentials.DetectDefault(&credentials.DetectOptions{
		Scopes:           secretmanager.DefaultAuthScopes(),
		UseSelfSignedJWT: true, // as the client itself would
		Logger:           slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, fmt.Errorf("no usable Google Cloud credentials: set GOOGLE_APPLICATION_CREDENTIALS to a credentials file, "+
			"run where workload identity gives them, or set OMNI_GSM_ENDPOINT to use the emulator: %w", err)
	}
	return auth.NewCredentials(&auth.CredentialsOptions{
		TokenProvider:          tokens{found},
		JSON:                   found.JSON(),
		ProjectIDProvider:      auth.CredentialsPropertyFunc(found.ProjectID),
		QuotaProjectIDProvider: auth.CredentialsPropertyFunc(found.QuotaProjectID),
		UniverseDomainProvider: auth.CredentialsPropertyFunc(found.UniverseDomain),
	}), nil
}

// tokens gives failures to fetch an access token the status that they deserve. gRPC turns every one that has no
// status into UNAUTHENTICATED, so that an outage of the token endpoint would look like a denial.
type tokens struct{ from auth.TokenProvider }

func (t tokens) Token(ctx context.Context) (*auth.Token, error) {
	token, err := t.from.Token(ctx)
	if err != nil {
		return nil, &tokenError{err}
	}
	return token, nil
}

// tokenError is a failure to fetch an access token, with a gRPC status.
type tokenError struct{ err error }

func (e *tokenError) Error() string { return "fetch an access token: " + e.err.Error() }
func (e *tokenError) Unwrap() error { return e.err }

// GRPCStatus is what status.FromError finds. Only an answer that refuses the credentials is UNAUTHENTICATED.
func (e *tokenError) GRPCStatus() *status.Status {
	code := codes.Unavailable
	if answered, ok := errors.AsType[*auth.Error](e.err); ok && answered.Response != nil {
		switch answered.Response.StatusCode {
		case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
			code = codes.Unauthenticated
		}
	}
	return status.New(code, e.Error())
}
