package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/apex-tradebill/omni-secrets/client"
	"github.com/apex-tradebill/omni-secrets/domain"
)

const (
	defaultTimeout = 30 * time.Second

	// maxAnswerBytes is far above the largest answer: a page of 1,000 audit events.
	maxAnswerBytes = 8 << 20
	maxTokenBytes  = 64 << 10
)

// clientFlags are the flags of every command that talks to a server.
type clientFlags struct {
	apiURL, token, tokenFile string
	certFile, keyFile        string
	insecureHTTP             bool
	timeout                  time.Duration
}

func (f *clientFlags) register(cmd *cobra.Command) { f.registerPatient(cmd, defaultTimeout) }

// registerPatient is register for a command whose answers may take as long as timeout.
func (f *clientFlags) registerPatient(cmd *cobra.Command, timeout time.Duration) {
	flags := cmd.Flags()
	flags.StringVar(&f.apiURL, "api-url", "", "`URL` of the server, such as https://omni.example.com (OMNI_API_URL)")
	flags.StringVar(&f.token, "token", "", "bearer `TOKEN` (OMNI_TOKEN); other users may see it in the process list")
	flags.StringVar(&f.tokenFile, "token-file", "", "read the bearer token from `FILE`")
	flags.StringVar(&f.certFile, "client-cert", "", "PEM `FILE` of the client certificate and its chain (OMNI_TLS_CLIENT_CERT_FILE)")
	flags.StringVar(&f.keyFile, "client-key", "", "PEM `FILE` of its key (OMNI_TLS_CLIENT_KEY_FILE)")
	flags.BoolVar(&f.insecureHTTP, "insecure-http", false, "send the token over plain http to another machine")
	flags.DurationVar(&f.timeout, "timeout", timeout, "wait at most this `DURATION` for each answer")
	cmd.MarkFlagsMutuallyExclusive("token", "token-file")
	must(cmd.RegisterFlagCompletionFunc("api-url", cobra.NoFileCompletions))
	must(cmd.RegisterFlagCompletionFunc("token", cobra.NoFileCompletions))
}

// again is the flag that leads the next command to the same server, with a space before it.
func (f *clientFlags) again() string {
	if f.apiURL == "" {
		return ""
	}
	return " --api-url " + shellWord(f.apiURL)
}

// client checks the settings and sends nothing yet.
func (f *clientFlags) client(s *streams) (*apiClient, error) {
	if f.timeout <= 0 {
		return nil, usageErrorf("--timeout must be more than 0")
	}
	address := s.setting("api-url", f.apiURL, "OMNI_API_URL")
	if address.value == "" {
		return nil, configErrorf("the server's address is not set").try("set OMNI_API_URL or pass --api-url, such as --api-url http://127.0.0.1:8080")
	}
	base, wrong := serverURL(address, f.insecureHTTP)
	if wrong != nil {
		return nil, wrong
	}
	certificate, err := f.certificate(s)
	if err != nil {
		return nil, err
	}
	token, err := f.bearer(s, certificate != nil)
	if err != nil {
		return nil, err
	}
	return &apiClient{base: base, token: token, http: &http.Client{
		Timeout:   f.timeout,
		Transport: transportWith(certificate),
		// A redirect could carry the token, or a break-glass request, somewhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// serverURL checks the address of a server.
func serverURL(address setting, insecureHTTP bool) (*url.URL, *exitError) {
	u, err := url.Parse(address.value)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, address.wrong("this is no http:// or https:// address").try("give one such as https://omni.example.com")
	case u.User != nil:
		return nil, address.wrong("an address with a user name or password in it is not taken").try("authenticate by --token-file or OMNI_TOKEN")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, address.wrong("the address must end before any ? or #")
	case u.Scheme == "http" && !insecureHTTP && !isLoopback(u.Hostname()):
		return nil, address.wrong("the token would cross the network to %s in the clear, for anyone on the way to read and use", u.Host).
			try("use https://, or --insecure-http where something else protects the connection")
	}
	return u, nil
}

// isLoopback reports whether host is this machine (RFC 6761, section 6.3 for the name).
func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// clientCertificate is asked for the certificate at every handshake.
type clientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error)

// certificate is the client certificate to show, nil for none.
func (f *clientFlags) certificate(s *streams) (clientCertificate, error) {
	cert := s.setting("client-cert", f.certFile, "OMNI_TLS_CLIENT_CERT_FILE")
	key := s.setting("client-key", f.keyFile, "OMNI_TLS_CLIENT_KEY_FILE")
	switch {
	case cert.value == "" && key.value == "":
		return nil, nil //nolint:nilnil // there is none, and that is all right
	case key.value == "":
		return nil, cert.wrong("the certificate needs its key").try("pass --client-key or set OMNI_TLS_CLIENT_KEY_FILE")
	case cert.value == "":
		return nil, key.wrong("the key needs its certificate").try("pass --client-cert or set OMNI_TLS_CLIENT_CERT_FILE")
	}
	if _, err := tls.LoadX509KeyPair(cert.value, key.value); err != nil {
		return nil, cert.wrong("%w", err).try("give two PEM files: the certificate with its chain, and its key")
	}
	return client.CertificateFiles(cert.value, key.value), nil
}

// transportWith is what everybody uses, with a client certificate when there is one.
func transportWith(certificate clientCertificate) http.RoundTripper {
	usual, ok := http.DefaultTransport.(*http.Transport)
	if certificate == nil || !ok {
		return http.DefaultTransport
	}
	own := usual.Clone()
	own.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetClientCertificate: certificate}
	return own
}

// bearer is the token to send; "" when there is none and it is optional.
func (f *clientFlags) bearer(s *streams, optional bool) (string, error) {
	token := s.setting("token", f.token, "OMNI_TOKEN")
	if f.tokenFile != "" {
		content, err := readTokenFile(s, f.tokenFile)
		if err != nil {
			return "", err
		}
		token = setting{value: content, from: "--token-file", fromFlag: true}
	}
	token.value = strings.TrimSpace(token.value)
	if token.value == "" && optional {
		return "", nil
	}
	if token.value == "" {
		return "", configErrorf("there is no token to send").try("set OMNI_TOKEN, or pass --token-file FILE or --token TOKEN")
	}
	for _, r := range token.value {
		if r <= ' ' || r > '~' {
			return "", token.wrong("the token has a space or another character in it that no token has").
				try("give the token alone, without the word Bearer")
		}
	}
	return token.value, nil
}

func readTokenFile(s *streams, path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", usageErrorf("--token-file: %w", err)
	}
	defer file.Close()
	warnIfShared(s, file, "the token")
	content, err := io.ReadAll(io.LimitReader(file, maxTokenBytes+1))
	if err != nil {
		return "", usageErrorf("--token-file: %w", err)
	}
	if len(content) > maxTokenBytes {
		return "", usageErrorf("--token-file: %s is too large to be a token", path)
	}
	return string(content), nil
}

// apiClient speaks the REST API of one server.
type apiClient struct {
	base  *url.URL
	token string // "" where a client certificate stands for it
	http  *http.Client
}

// call is one request.
type call struct {
	doing  string // what it is for, as errors begin: "refresh the cache"
	method string
	path   string
	query  url.Values
	body   any          // sent as JSON; nil for none
	scope  domain.Scope // that the token needs

	invalid string // what to do when the server finds the request invalid; "" for the general advice
}

// do sends one request and returns the body of a 2xx answer. Any other answer is an *exitError with the exit
// code that belongs to it.
func (c *apiClient) do(ctx context.Context, r call) ([]byte, error) {
	req, err := c.request(ctx, r)
	if err != nil {
		return nil, failuref("%s: %w", r.doing, err)
	}
	var connected atomic.Bool // the hook runs in whatever goroutine connects
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	}))
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(r, err, connected.Load())
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes+1))
	switch {
	case err != nil:
		return nil, c.unreachable(r, err, true)
	case len(body) > maxAnswerBytes:
		return nil, failuref("%s: the answer is larger than %d MiB", r.doing, maxAnswerBytes>>20).try("check that %s is the address of Omni Secrets", c.base)
	case res.StatusCode/100 != 2:
		return nil, c.refusal(r, res, body)
	}
	return body, nil
}

func (c *apiClient) request(ctx context.Context, r call) (*http.Request, error) {
	u := c.base.JoinPath(r.path)
	u.RawQuery = r.query.Encode()
	var body io.Reader
	if r.body != nil {
		encoded, err := json.Marshal(r.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	req.Header.Set("User-Agent", "omni-secrets/"+thisBuild().Version)
	return req, nil
}

// get decodes the answer to r into answer and returns it as it came, too.
func (c *apiClient) get(ctx context.Context, r call, answer any) ([]byte, error) {
	body, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return nil, c.foreign(r)
	}
	return body, nil
}

// foreign is the error for an answer that cannot be one of ours. It does not repeat it, nor the decoder's
// error, which may quote it: the answer may be a secret.
func (c *apiClient) foreign(r call) *exitError {
	return failuref("%s: the answer is not one of Omni Secrets", r.doing).
		try("check that %s is its address, and compare 'omni-secrets version' with %s", c.base, c.base.JoinPath("version"))
}

var errInterrupted = errors.New("interrupted")

// unreachable is the error for a request without an answer. sent is false when there was no connection to send it on.
func (c *apiClient) unreachable(r call, err error, sent bool) *exitError {
	sent = sent && !refusedCertificate(err)
	if errors.Is(err, context.Canceled) {
		e := failuref("%s: %w", r.doing, errInterrupted)
		if !sent {
			e = failuref("%s: %w; nothing was sent", r.doing, errInterrupted)
			e.notSent = true
		}
		return e
	}
	// The URL that *url.Error would repeat is in the next step already.
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	e := &exitError{code: exitUnavailable, notSent: !sent, next: c.connectAdvice(err)}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		err = op.Err // without the address, which is said before it
	} else if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		e.err = fmt.Errorf("%s: %s did not answer within %s", r.doing, c.base.Host, c.http.Timeout)
		return e
	}
	if sent {
		e.err = fmt.Errorf("%s: no answer from %s: %w", r.doing, c.base.Host, err)
	} else {
		e.err = fmt.Errorf("%s: cannot connect to %s: %w", r.doing, c.base.Host, err)
	}
	return e
}

// refusedCertificate reports whether the server ended the handshake for want of a client certificate that it takes. With
// TLS 1.3 the client believes by then that it has a connection.
func refusedCertificate(err error) bool {
	alert, _ := errors.AsType[tls.AlertError](err)
	switch alert { // RFC 8446, section 6.2
	case 42, 43, 44, 45, 46, 48, 49, 116:
		return true
	default:
		return false
	}
}
