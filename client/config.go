package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// What Config stands for when it does not say.
const (
	DefaultMaxStale     = 30 * time.Minute
	DefaultPollInterval = 30 * time.Second
)

// NoStale is the MaxStale of a service that would rather have no value than one that nobody can confirm.
const NoStale time.Duration = -1

// maxSecretTypes is how many the server lets one stream follow.
const maxSecretTypes = 1000

// Config is what a Client is made of. BaseURLs is required, and Token unless there is a ClientCertificate.
type Config struct {
	// BaseURLs are the addresses of servers that serve the same secrets, such as https://omni.example.com. The first one
	// that works is used, and the next one when it fails. Only https, or http on this machine: see AllowPlaintext.
	BaseURLs []string

	// Token gives the bearer token. Its scope must have svc.omni.secrets.read. nil sends none: the certificate must then
	// be one that the server lets in by itself.
	Token TokenSource

	// ClientCertificate gives the certificate for a server that asks for one; it is asked at every handshake. Use
	// CertificateFiles or a function of your own. nil has none. It goes with the HTTP client of this package's own.
	ClientCertificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)

	// SecretTypes are the names of the secrets to follow, at most 1,000. None stands for all that the token may read;
	// name them where a proxy between client and server may hold back streams, since only named secrets can be polled
	// for when there never was a stream.
	SecretTypes []string

	// MaxStale is how long a value may still be used after the last moment at which it was known to be current. 0 stands
	// for DefaultMaxStale; NoStale for not at all.
	MaxStale time.Duration

	// PollInterval is how often secrets are asked for while they cannot be followed by a stream; at least a second.
	// 0 stands for DefaultPollInterval.
	PollInterval time.Duration

	// OnChange is called when a secret has another value than before, or none any more, and not for the first state of a
	// secret. Calls come one at a time, from a goroutine of their own and under no lock: a call that takes long delays
	// only the next one, which then skips what was overtaken meanwhile. It must not call Close, which waits for it.
	OnChange func(Change)

	// HTTPClient sends the requests; its Timeout is not used (it would cut the stream), and redirects are never followed.
	// nil stands for a client of this package's own, which has timeouts for connecting and for answers, speaks HTTP/2
	// over TLS, and uses no proxy.
	HTTPClient *http.Client

	// AllowPlaintext lets the token and the secrets cross the network unencrypted, to http:// addresses of other
	// machines. Only for where something else protects the connection.
	AllowPlaintext bool

	// Logger gets the transitions: the connection lost and restored, secrets refused, changed and gone. nil stands for
	// no log.
	Logger *slog.Logger
}

// checked returns cfg with its defaults in place, or everything that is wrong with it.
func (cfg Config) checked() (Config, error) {
	var wrong []error
	if len(cfg.BaseURLs) == 0 {
		wrong = append(wrong, errors.New("BaseURLs is empty: give at least one, such as https://omni.example.com"))
	}
	for i, raw := range cfg.BaseURLs {
		if err := checkBaseURL(raw, cfg.AllowPlaintext); err != nil {
			wrong = append(wrong, fmt.Errorf("BaseURLs[%d]: %w", i, err))
		}
	}
	if cfg.Token == nil && cfg.ClientCertificate == nil {
		wrong = append(wrong, errors.New("there is no Token: use TokenFile, StaticToken or a function of your own"))
	}
	if cfg.ClientCertificate != nil && cfg.HTTPClient != nil {
		wrong = append(wrong, errors.New("ClientCertificate and HTTPClient are both set: give the certificate to the Transport of that client"))
	}
	if slices.Contains(cfg.SecretTypes, "") {
		wrong = append(wrong, errors.New("SecretTypes has an empty name in it"))
	}
	cfg.SecretTypes = slices.Compact(slices.Sorted(slices.Values(cfg.SecretTypes)))
	if len(cfg.SecretTypes) > maxSecretTypes {
		wrong = append(wrong, fmt.Errorf("SecretTypes has %d names: at most %d can be followed, or all by naming none", len(cfg.SecretTypes), maxSecretTypes))
	}

	switch {
	case cfg.MaxStale == 0:
		cfg.MaxStale = DefaultMaxStale
	case cfg.MaxStale < 0:
		cfg.MaxStale = 0 // from here on it is just a duration
	}
	if cfg.PollInterval == 0 {
		cfg.PollInterval = DefaultPollInterval
	}
	if cfg.PollInterval < time.Second {
		wrong = append(wrong, errors.New("PollInterval is less than a second"))
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if len(wrong) > 0 {
		return Config{}, fmt.Errorf("client: %w", errors.Join(wrong...))
	}
	return cfg, nil
}

// checkBaseURL does not repeat the address, which may have a password in it.
func checkBaseURL(raw string, allowPlaintext bool) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("this is no http:// or https:// address; give one such as https://omni.example.com")
	case u.User != nil:
		return errors.New("an address with a user name or password in it is not taken; authenticate by Token")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("the address must end before any ? or #")
	case u.Scheme == "http" && !allowPlaintext && !isLoopback(u.Hostname()):
		return fmt.Errorf("the token and the secrets would cross the network to %s in the clear; use https, or AllowPlaintext where something else protects the connection", u.Host)
	}
	return nil
}

// isLoopback reports whether host is this machine (RFC 6761, section 6.3 for the name).
func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
