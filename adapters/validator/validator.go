// Package validator checks new versions of secrets: by their form, by asking a receiver over a signed webhook, and
// by trying them as a credential over HTTP.
//
// It sends requests to URLs that a catalog or an operator names, one of the kinds with the secret in it. So it
// talks to listed hosts alone, over TLS, and looks at the address itself right before each connection is opened:
// a name that suddenly leads to this machine, its network or a cloud's metadata server is refused then. It follows
// no redirects, uses no proxy, and repeats nothing of what was answered.
package validator

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// allowedHostsVariable is where whoever runs the server lists the allowed hosts; errors send readers there.
const allowedHostsVariable = "OMNI_VALIDATION_ALLOWED_HOSTS"

// maxAnswerHeader bounds what is read of an answer. Its body is not read at all.
const maxAnswerHeader = 16 << 10

// Config says whom a Validator may talk to.
type Config struct {
	// AllowedHosts lists host names ("api.example.com"), all names below a domain at any depth
	// ("*.hooks.example.com"), addresses and networks ("10.1.0.0/16"), each for every port or for one
	// ("api.example.com:8443", "[fd00::/8]:8443"). None allows nothing.
	//
	// A name allows the public addresses that it leads to. One that is not public must be listed too, as an
	// address or in a network. Plain HTTP is allowed only to such an address that the URL itself holds.
	AllowedHosts []string

	RootCAs  *x509.CertPool // whose certificates are accepted; nil: the system's
	Resolver *net.Resolver  // nil: net.DefaultResolver
}

// Validator is a ports.CandidateValidator.
type Validator struct {
	allowed   allowedHosts
	transport *http.Transport
}

// New makes a Validator, or reports everything that is wrong with the list of hosts.
func New(c Config) (*Validator, error) {
	allowed, err := parseAllowed(c.AllowedHosts)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{
		Resolver: c.Resolver,
		// Called with the resolved address of each connection, which is then opened to that very address.
		Control: func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil || !allowed.mayConnect(at) {
				return &addressError{address}
			}
			return nil
		},
	}
	return &Validator{allowed: allowed, transport: &http.Transport{
		DialContext: dialer.DialContext,
		// Neither Proxy nor HTTP/2: one request a connection, to the host itself.
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.RootCAs},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxAnswerHeader,
	}}, nil
}

// addressError refuses to connect.
type addressError struct{ address string }

func (e *addressError) Error() string {
	return fmt.Sprintf("%s is not a public address, and is not among the allowed hosts; whoever runs the server can add it to %s",
		e.address, allowedHostsVariable)
}

// CheckURL reports whether the list of hosts lets a check be sent to url, as far as can be said without resolving
// its name. The error repeats neither path nor query.
func (v *Validator) CheckURL(url string) error {
	_, err := v.allowed.parseURL(url)
	return err
}

// Validate is as ports.CandidateValidator describes it.
func (v *Validator) Validate(ctx context.Context, rule domain.Validator, c domain.Candidate) error {
	name := rule.Name()
	if name != "" && len(c.Value.Reveal()) == 0 { // everybody can sign with an empty key
		return &domain.CheckError{Check: name, Code: domain.CheckVersionUnreadable, Message: "the version has no value"}
	}
	switch {
	case rule.Format != nil:
		return rule.Format.Check(c.Value)
	case rule.Webhook != nil:
		return v.webhook(ctx, *rule.Webhook, c)
	case rule.HTTPProbe != nil:
		return v.probe(ctx, *rule.HTTPProbe, c)
	default:
		return errors.New("the validator has no rule")
	}
}

// check is one request with its outcomes.
type check struct {
	name                             string
	rejected, unreachable, forbidden domain.CheckCode
}

func (c check) fail(code domain.CheckCode, cause error, format string, args ...any) error {
	return &domain.CheckError{Check: c.name, Code: code, Message: fmt.Sprintf(format, args...), Err: cause}
}

// request is what a check sends.
type request struct {
	method, url string
	header      http.Header
	body        []byte
	timeout     time.Duration // 0 is the default
}

// send returns nil when passed accepts the status that was answered.
func (v *Validator) send(ctx context.Context, c check, r request, passed func(status int) bool) error {
	target, err := v.allowed.parseURL(r.url)
	if err != nil {
		return c.fail(c.forbidden, nil, "%s", err)
	}
	timeout := timeLimit(r.timeout)
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	sent, err := http.NewRequestWithContext(limited, r.method, target.String(), bytes.NewReader(r.body))
	if err != nil {
		return fmt.Errorf("%s: the rule's method is malformed", c.name) // err holds the URL
	}
	sent.Header = r.header
	sent.Header.Set("User-Agent", "omni-secrets")

	// A connection that is still being opened when the time is over would else be opened on behind our back.
	defer v.transport.CloseIdleConnections()
	// The transport itself follows no redirects, and its errors hold no URL.
	answer, err := v.transport.RoundTrip(sent)
	if err != nil {
		return v.explain(ctx, c, err, target.Host, timeout)
	}
	defer answer.Body.Close()
	switch status := answer.StatusCode; {
	case passed(status):
		return nil
	case status/100 == 3:
		return c.fail(c.rejected, nil, "%s answered with a redirect (status %d), which is not followed; give the URL that it leads to", target.Host, status)
	default:
		return c.fail(c.rejected, nil, "%s answered with status %d", target.Host, status)
	}
}

// timeLimit is how long a check may take that its rule gives this time-out.
func timeLimit(timeout time.Duration) time.Duration {
	if timeout <= 0 {
		return domain.DefaultCheckTimeout
	}
	return min(timeout, domain.MaxCheckTimeout)
}

// explain says in our own words why there was no answer. The transport's words stay out: where the answer is not
// HTTP they repeat it, and an answer may repeat the request.
func (*Validator) explain(ctx context.Context, c check, err error, host string, timeout time.Duration) error {
	if e, ok := errors.AsType[*addressError](err); ok {
		return c.fail(c.forbidden, nil, "%s: %s", host, e)
	}
	if ctx.Err() != nil {
		return c.fail(c.unreachable, ctx.Err(), "the check of %s was broken off", host)
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		if e.IsNotFound {
			return c.fail(c.unreachable, nil, "there is no host of the name in %s", host)
		}
		return c.fail(c.unreachable, nil, "the name in %s cannot be resolved at the moment", host)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return c.fail(c.unreachable, context.DeadlineExceeded, "%s did not answer within %s", host, timeout)
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return c.fail(c.unreachable, nil, "the certificate of %s is not accepted: %s", host, certificateFault(e))
	}
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return c.fail(c.unreachable, e, "%s cannot be connected to, or broke the connection off", host)
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "remote error" { // an alert of TLS
		return c.fail(c.unreachable, nil, "%s refused the TLS connection; TLS 1.2 or 1.3 is needed, and no client certificate is sent", host)
	}
	return c.fail(c.unreachable, nil, "%s did not answer as an HTTP server should, with a header of at most %d bytes", host, maxAnswerHeader)
}

func certificateFault(err error) string {
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "it is for other names"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "it is signed by an authority that this machine does not know"
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired {
		return "it has expired or is not valid yet"
	}
	return "it is not valid"
}
