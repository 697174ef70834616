package certificate

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const (
	maxKnown = 4096 // certificates whose check is remembered
	maxName  = 255  // characters, as of a token's subject
)

// clients says who client certificates are.
type clients struct {
	roots   *x509.CertPool
	entries []entry
	known   sync.Map // *x509.Certificate -> domain.Principal: chains that lead to roots
	count   atomic.Int64
}

// entry is a line of the file: one kind of name, and what its owner may do. The kinds are kept apart, because an authority
// that vouches for a URI may let everybody choose a common name.
type entry struct {
	URI        string   `yaml:"uri"`
	DNS        string   `yaml:"dns"`
	CommonName string   `yaml:"commonName"`
	Scopes     []string `yaml:"scopes"`

	allows domain.Scope
}

func (e entry) names() []string {
	return slices.DeleteFunc([]string{e.URI, e.DNS, e.CommonName}, func(name string) bool { return name == "" })
}

func (e entry) matches(c *x509.Certificate) bool {
	switch {
	case e.URI != "":
		for _, uri := range c.URIs {
			if uri.String() == e.URI {
				return true
			}
		}
		return false
	case e.DNS != "":
		return slices.ContainsFunc(c.DNSNames, func(name string) bool { return strings.EqualFold(name, e.DNS) })
	default:
		return c.Subject.CommonName == e.CommonName
	}
}

func parseClients(text []byte) ([]entry, error) {
	var file struct {
		Clients []entry `yaml:"clients"`
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("it goes on after its first document; it is one document, with all clients under clients")
	}
	if len(file.Clients) == 0 {
		return nil, errors.New("it lists no clients; leave the variable out when certificates let nobody in by themselves")
	}
	var errs []error
	for i := range file.Clients {
		e := &file.Clients[i]
		if err := e.check(); err != nil {
			errs = append(errs, fmt.Errorf("client %d: %w", i+1, err))
		}
	}
	return file.Clients, errors.Join(errs...)
}

func (e *entry) check() error {
	names := e.names()
	if len(names) != 1 {
		return errors.New("it needs one of uri, dns and commonName")
	}
	switch name := names[0]; {
	case domain.ReservedSubject(name):
		return fmt.Errorf("%q is a name that the audit trail uses for itself", name)
	case len([]rune(name)) > maxName || strings.TrimSpace(name) != name || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("its name must be at most %d printable characters without space around them", maxName)
	}
	if len(e.Scopes) == 0 {
		return errors.New("it has no scopes")
	}
	for _, name := range e.Scopes {
		scope := domain.ParseScope(name)
		if scope == 0 {
			return fmt.Errorf("there is no scope %q", name)
		}
		e.allows |= scope
	}
	return nil
}

// Errors for callers.
var (
	errNotTrusted = errors.New("the client certificate is not of an authority that this server trusts now, or has expired; connect again with a new one")
	errNotListed  = errors.New("send a token (Authorization: Bearer <JWT>): no entry of the server's client scopes names this certificate")
)

// verify finds the first entry that names the certificate. That its chain leads to a trusted authority was checked in the
// handshake, by the authorities of that time; here it is checked by those of now, once for each certificate.
func (c *clients) verify(chain []*x509.Certificate, now time.Time) (domain.Principal, error) {
	if len(chain) == 0 || c.roots == nil || len(c.entries) == 0 {
		return domain.Principal{}, errNotListed
	}
	leaf := chain[0]
	if now.After(leaf.NotAfter) {
		return domain.Principal{}, errNotTrusted
	}
	if known, ok := c.known.Load(leaf); ok {
		return known.(domain.Principal), nil //nolint:errcheck,forcetypeassert // nothing else is in it
	}
	between := x509.NewCertPool()
	for _, one := range chain[1:] {
		between.AddCert(one)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: c.roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return domain.Principal{}, errNotTrusted
	}
	for _, e := range c.entries {
		if !e.matches(leaf) {
			continue
		}
		p := domain.Principal{Subject: e.names()[0], Scopes: e.allows}
		if c.count.Add(1) > maxKnown {
			c.known.Clear()
			c.count.Store(0)
		}
		c.known.Store(leaf, p)
		return p, nil
	}
	return domain.Principal{}, errNotListed
}
