// Package certificate holds the server's certificate, and what client certificates are checked against, and keeps them as
// their files are: a new certificate needs no restart.
//
// The files are read anew every few seconds, and all of them are taken over together when any has changed:
//
//	            all can be used
//	files read -----------------> new handshakes have them
//	     |
//	     | one is broken
//	     +----------------------> what was in use stays, an error is logged, ReloadFailed
//
// Connections that are open stay open. What their client certificates allow is looked up for each request, by the files
// as they are then.
package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// reloadEvery is how often the files are read. They are small, and what a file system says of their times need not be
// trusted.
const reloadEvery = 10 * time.Second

// Config names the files. CertFile and KeyFile are required.
type Config struct {
	CertFile, KeyFile string // PEM; the certificate with its chain

	ClientCAFile     string // PEM authorities; every client must have a certificate of one of them. "" asks for none
	ClientScopesFile string // YAML, what clients may do by their certificates alone; needs ClientCAFile. "" is nothing
}

// Files is what the files said when they could last be used. It is safe for concurrent use.
type Files struct {
	cfg    Config
	inUse  atomic.Pointer[content]
	failed atomic.Bool
	seen   [][]byte // the files as they were read last, nil when they could not be; of New, then of Run alone
}

// content is one state of the files.
type content struct {
	tls     *tls.Config
	expires time.Time // of the server's certificate
	clients clients
}

// New reads the files and reports everything that is wrong with them at once.
func New(cfg Config) (*Files, error) {
	f := &Files{cfg: cfg}
	text, err := f.read()
	if err != nil {
		return nil, err
	}
	c, err := parse(cfg, text)
	if err != nil {
		return nil, err
	}
	f.seen = text
	f.inUse.Store(c)
	return f, nil
}

// Run looks at the files until ctx is done.
func (f *Files) Run(ctx context.Context, log *slog.Logger) error {
	every := time.NewTicker(reloadEvery)
	defer every.Stop()
	for {
		select {
		case <-every.C:
			f.reload(ctx, log)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *Files) reload(ctx context.Context, log *slog.Logger) {
	text, err := f.read()
	switch {
	case err != nil && f.seen == nil, err == nil && slices.EqualFunc(text, f.seen, bytes.Equal): //nolint:forbidigo // files against what they were: nobody else has a say
		return // nothing new
	case err != nil:
		f.seen = nil
	default:
		f.seen = text
		err = f.use(text)
	}
	f.failed.Store(err != nil)
	if err != nil {
		log.ErrorContext(ctx, "the TLS files have changed and cannot be used; what they were goes on being used", "err", err)
		return
	}
	log.InfoContext(ctx, "the TLS files have changed and are in use", "certificateExpiresAt", f.Expires())
}

func (f *Files) use(text [][]byte) error {
	c, err := parse(f.cfg, text)
	if err != nil {
		return err
	}
	if !time.Now().Before(c.expires) {
		return fmt.Errorf("OMNI_TLS_CERT_FILE: the certificate expired at %s", c.expires.UTC().Format(time.RFC3339))
	}
	f.inUse.Store(c)
	return nil
}

// Server is the configuration of a server that has, for each handshake, the files as they are then. Only TLS 1.3 is spoken.
func (f *Files) Server() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.inUse.Load().tls, nil },
	}
}

// Expires is when the certificate in use expires.
func (f *Files) Expires() time.Time { return f.inUse.Load().expires }

// ReloadFailed reports whether the files are such as cannot be used, so that older ones are in use.
func (f *Files) ReloadFailed() bool { return f.failed.Load() }

// KnowsClients reports whether client certificates let anybody in by themselves.
func (f *Files) KnowsClients() bool { return f.cfg.ClientScopesFile != "" }

// Verify implements ports.CertificateVerifier.
func (f *Files) Verify(chain []*x509.Certificate) (domain.Principal, error) {
	return f.inUse.Load().clients.verify(chain, time.Now())
}

func (f *Files) read() ([][]byte, error) {
	var text [][]byte
	var errs []error
	for _, file := range []struct{ variable, path string }{
		{"OMNI_TLS_CERT_FILE", f.cfg.CertFile},
		{"OMNI_TLS_KEY_FILE", f.cfg.KeyFile},
		{"OMNI_TLS_CLIENT_CA_FILE", f.cfg.ClientCAFile},
		{"OMNI_TLS_CLIENT_SCOPES_FILE", f.cfg.ClientScopesFile},
	} {
		var content []byte
		if file.path != "" {
			var err error
			if content, err = os.ReadFile(file.path); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", file.variable, err))
			}
		}
		text = append(text, content)
	}
	return text, errors.Join(errs...)
}

func parse(cfg Config, text [][]byte) (*content, error) {
	certificate, err := tls.X509KeyPair(text[0], text[1])
	if err != nil {
		err = fmt.Errorf("OMNI_TLS_CERT_FILE, OMNI_TLS_KEY_FILE: %w; both are PEM, the certificate with its chain", err)
	}
	errs := []error{err}
	c := &content{tls: &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"},
	}}
	if certificate.Leaf != nil {
		c.expires = certificate.Leaf.NotAfter
	}
	if cfg.ClientCAFile != "" {
		if c.clients.roots, err = parseAuthorities(text[2]); err != nil {
			errs = append(errs, fmt.Errorf("OMNI_TLS_CLIENT_CA_FILE %w", err))
		}
		c.tls.ClientAuth, c.tls.ClientCAs = tls.RequireAndVerifyClientCert, c.clients.roots
	}
	if cfg.ClientScopesFile != "" {
		if c.clients.entries, err = parseClients(text[3]); err != nil {
			errs = append(errs, fmt.Errorf("OMNI_TLS_CLIENT_SCOPES_FILE: %w", err))
		}
	}
	return c, errors.Join(errs...)
}

// parseAuthorities reads every certificate of a file, or none. The library passes over what it cannot read: clients of
// that authority would be refused, and nobody told why.
func parseAuthorities(text []byte) (*x509.CertPool, error) {
	roots := x509.NewCertPool()
	found := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		found++
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("has a %s in it; it is for certificates alone", block.Type)
		}
		authority, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("cannot be used: certificate %d: %w", found, err)
		}
		roots.AddCert(authority)
	}
	begun, ended := bytes.Count(text, []byte("BEGIN CERTIFICATE")), bytes.Count(text, []byte("END CERTIFICATE"))
	switch {
	case max(begun, ended) != found:
		return nil, fmt.Errorf("has %d certificates in it, and %d of them can be read; it is PEM, each with its first and last line", max(begun, ended), found)
	case found == 0:
		return nil, errors.New("has no certificate in it; it is PEM")
	}
	return roots, nil
}
