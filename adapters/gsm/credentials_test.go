package gsm

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/apex-tradebill/omni-secrets/adapters/gsm/emulator"
	"github.com/apex-tradebill/omni-secrets/domain"
)

// tokenProvider is an auth.TokenProvider that fails.
type tokenProvider struct{ err error }

func (p tokenProvider) Token(context.Context) (*auth.Token, error) { return nil, p.err }

// perCall puts a token on each call, as the library's transport does.
type perCall struct{ from auth.TokenProvider }

func (p perCall) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	if _, err := p.from.Token(ctx); err != nil {
		return nil, err
	}
	return nil, nil
}

func (perCall) RequireTransportSecurity() bool { return false }

func TestAnOutageOfTheTokenEndpointIsNoDenial(t *testing.T) {
	answered := func(code int) error {
		return &auth.Error{Response: &http.Response{StatusCode: code}, Body: []byte("{}")}
	}
	for name, c := range map[string]struct {
		err  error
		want domain.Reason
	}{
		"it cannot be reached":        {&net.OpError{Op: "dial", Err: errors.New("connection refused")}, domain.ReasonUnavailable},
		"it takes too long":           {context.DeadlineExceeded, domain.ReasonUnavailable},
		"it answers 503":              {answered(http.StatusServiceUnavailable), domain.ReasonUnavailable},
		"it answers 429":              {answered(http.StatusTooManyRequests), domain.ReasonUnavailable},
		"it answers 502":              {answered(http.StatusBadGateway), domain.ReasonUnavailable},
		"it refuses the credentials":  {answered(http.StatusBadRequest), domain.ReasonUnauthenticated},
		"it does not know the caller": {answered(http.StatusUnauthorized), domain.ReasonUnauthenticated},
		"it forbids it":               {answered(http.StatusForbidden), domain.ReasonUnauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			server := emulator.New()
			served := make(chan error, 1)
			go func() { served <- server.Serve(l) }()
			defer func() { server.Stop(); <-served }()
			conn, err := grpc.NewClient(l.Addr().String(),
				grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithPerRPCCredentials(perCall{tokens{tokenProvider{c.err}}}))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, err = secretmanagerpb.NewSecretManagerServiceClient(conn).AccessSecretVersion(t.Context(),
				&secretmanagerpb.AccessSecretVersionRequest{Name: "projects/omni-dev/secrets/key/versions/1"})
			if got := classify(err).Reason; got != c.want {
				t.Errorf("the reason is %s, want %s: %v", got, c.want, err)
			}
		})
	}
}

func TestRegionalSecretsHaveTheirHost(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials.json")
	if err := os.WriteFile(file, []byte(`{"type":"authorized_user","client_id":"id","client_secret":"x","refresh_token":"x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	c, err := newClients(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	if len(c.byLocation) != 1 {
		t.Errorf("%d clients were made ahead of their use", len(c.byLocation)-1)
	}
	for location, want := range map[string]string{
		"":             "secretmanager.googleapis.com:443",
		"europe-west3": "secretmanager.europe-west3.rep.googleapis.com:443",
		"us-central1":  "secretmanager.us-central1.rep.googleapis.com:443",
	} {
		client, err := c.at(t.Context(), location)
		if err != nil {
			t.Fatal(err)
		}
		//nolint:staticcheck // deprecated because there may be several: they have one address, which nothing else tells
		if got := client.Connection().CanonicalTarget(); !strings.HasSuffix(got, "/"+want) {
			t.Errorf("location %q is at %s, want %s", location, got, want)
		}
		if again, _ := c.at(t.Context(), location); again != client {
			t.Errorf("location %q got a second client", location)
		}
	}
}
