package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
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
the container image, in which there is no shell and no curl.

Without --url it asks the server that the environment describes, on this machine: at OMNI_METRICS_LISTEN, else at
OMNI_LISTEN, over TLS if there is an OMNI_TLS_CERT_FILE, and then it accepts the certificate in that file and no other.
Where nothing of a server is set it asks OMNI_API_URL, else http://127.0.0.1:8080. To a server that asks for client
certificates it shows that of OMNI_TLS_CLIENT_CERT_FILE and OMNI_TLS_CLIENT_KEY_FILE; OMNI_METRICS_LISTEN needs none.`,
		Example: `  omni-secrets health
  omni-secrets health --url https://omni.example.com`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return usageErrorf("--timeout must be more than 0")
			}
			for _, flag := range []string{"url", "api-url"} {
				if cmd.Flags().Changed(flag) {
					return health(cmd.Context(), s, setting{value: address, from: "--" + flag, fromFlag: true}, nil, timeout)
				}
			}
			own, secure, err := ownServer(s)
			if err != nil {
				return err
			}
			return health(cmd.Context(), s, own, secure, timeout)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&address, "url", "", "`URL` of the server, if not the one of the environment")
	flags.StringVar(&address, "api-url", "", "`URL` of the server, as --url")
	cmd.MarkFlagsMutuallyExclusive("url", "api-url")
	flags.DurationVar(&timeout, "timeout", defaultHealthTimeout, "wait at most this `DURATION` for the answer")
	must(cmd.RegisterFlagCompletionFunc("url", cobra.NoFileCompletions))
	must(cmd.RegisterFlagCompletionFunc("api-url", cobra.NoFileCompletions))
	return cmd
}

// ownServer is where the server that the environment describes is asked, and how its certificate is checked: nil for a
// server elsewhere.
func ownServer(s *streams) (setting, *tls.Config, error) {
	certFile := s.env("OMNI_TLS_CERT_FILE")
	listener, secure := "OMNI_METRICS_LISTEN", false // plain HTTP, also beside TLS
	if s.env(listener) == "" {
		listener, secure = "OMNI_LISTEN", certFile != ""
	}
	address := s.env(listener)
	switch {
	case address != "":
	case secure || serverSettings(s):
		address = strings.TrimPrefix(defaultHealthURL, "http://") // where serve listens by default
	case s.env("OMNI_API_URL") != "":
		return setting{value: s.env("OMNI_API_URL"), from: "OMNI_API_URL"}, nil, nil
	default:
		return setting{value: defaultHealthURL, from: "the default"}, nil, nil
	}
	host, port, _ := net.SplitHostPort(address)
	switch {
	case !isHostPort(address):
		return setting{}, nil, configErrorf("%s %q must be host:port", listener, address).try("set it as the server has it, or pass --url")
	case port == "0":
		return setting{}, nil, configErrorf("%s has port 0, and only the server knows which one it took", listener).try("pass --url with the address in its log")
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	own := setting{value: "http://" + net.JoinHostPort(host, port), from: listener}
	if !secure {
		return own, &tls.Config{MinVersion: tls.VersionTLS13}, nil
	}
	if s.env("OMNI_TLS_CLIENT_CA_FILE") != "" && s.env("OMNI_TLS_CLIENT_CERT_FILE") == "" {
		return setting{}, nil, configErrorf("the server asks every client for a certificate (OMNI_TLS_CLIENT_CA_FILE), and there is none to show").
			try("set OMNI_METRICS_LISTEN, where none is needed, or OMNI_TLS_CLIENT_CERT_FILE and OMNI_TLS_CLIENT_KEY_FILE")
	}
	config, err := onlyCertificate(certFile)
	if err != nil {
		return setting{}, nil, configErrorf("OMNI_TLS_CERT_FILE: %w", err)
	}
	own.value = "https://" + net.JoinHostPort(host, port)
	return own, config, nil
}

// onlyCertificate accepts a server that has the certificate in a file, whatever names it is for and whoever vouches for it:
// the server is asked by its address on this machine, which certificates seldom name.
func onlyCertificate(file string) (*tls.Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(text)
	for block != nil && block.Type != "CERTIFICATE" {
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return nil, errors.New("it has no certificate in it; it is PEM, the certificate with its chain")
	}
	expected, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection accepts one certificate, whose key the handshake has checked
		VerifyConnection: func(state tls.ConnectionState) error {
			if !state.PeerCertificates[0].Equal(expected) {
				return errors.New("it has another certificate than OMNI_TLS_CERT_FILE: a server takes over a new one within 10 s; if it does not, its log says why, or another program listens there")
			}
			return nil
		},
	}, nil
}

// health asks a server. secure is that of ownServer.
func health(ctx context.Context, s *streams, address setting, secure *tls.Config, timeout time.Duration) error {
	// Plain http to any host will do: nothing confidential is sent.
	base, wrong := serverURL(address, true)
	if wrong != nil {
		return wrong
	}
	transport, err := healthTransport(s, base.Scheme, secure)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("readyz").String(), nil)
	if err != nil {
		return err
	}
	res, err := transport.RoundTrip(req) // follows no redirect: another server's health is not ours
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

// healthTransport shows the client certificate, if there is one, and asks a server on this machine past any proxy.
func healthTransport(s *streams, scheme string, secure *tls.Config) (http.RoundTripper, error) {
	var certificate clientCertificate
	if scheme == "https" {
		var err error
		if certificate, err = new(clientFlags).certificate(s); err != nil {
			return nil, err
		}
	}
	usual, ok := http.DefaultTransport.(*http.Transport)
	if secure == nil || !ok {
		return transportWith(certificate), nil
	}
	own := usual.Clone()
	own.Proxy, own.DisableKeepAlives = nil, true
	own.TLSClientConfig = secure
	own.TLSClientConfig.GetClientCertificate = certificate
	return own, nil
}
