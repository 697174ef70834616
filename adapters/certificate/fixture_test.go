package certificate_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/apex-tradebill/omni-secrets/adapters/certificate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key}
	a.pem = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, key)
	block, _ := pem.Decode(a.pem)
	if a.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) sign(template *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	a.t.Helper()
	template.SerialNumber, _ = rand.Int(rand.Reader, big.NewInt(1<<62))
	template.NotBefore = time.Now().Add(-48 * time.Hour)
	parent := a.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// pair is a certificate and its key, in PEM.
type pair struct{ cert, key []byte }

// names are what a certificate is for.
type names struct {
	uri, dns, commonName string
	until                time.Time // in an hour when zero
}

func (a *authority) issue(n names) pair {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: n.commonName}, NotAfter: n.until, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if n.until.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	if n.dns != "" {
		template.DNSNames = []string{n.dns}
	}
	if n.uri != "" {
		uri, err := url.Parse(n.uri)
		if err != nil {
			a.t.Fatal(err)
		}
		template.URIs = []*url.URL{uri}
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return pair{a.sign(template, key), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}
}

// fixture is the files, and what has read them.
type fixture struct {
	t     *testing.T
	cfg   certificate.Config
	files *certificate.Files
	logs  *logs
}

func (f *fixture) write(path string, content []byte) {
	f.t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) writeServer(p pair) {
	f.t.Helper()
	f.write(f.cfg.CertFile, p.cert)
	f.write(f.cfg.KeyFile, p.key)
}

// newFixture has a certificate of server. clientCA, scopes: "" for none.
func newFixture(t *testing.T, server pair, clientCA []byte, scopes string) *fixture {
	t.Helper()
	dir := t.TempDir()
	f := &fixture{t: t, logs: new(logs), cfg: certificate.Config{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key")}}
	f.writeServer(server)
	if clientCA != nil {
		f.cfg.ClientCAFile = filepath.Join(dir, "ca.crt")
		f.write(f.cfg.ClientCAFile, clientCA)
	}
	if scopes != "" {
		f.cfg.ClientScopesFile = filepath.Join(dir, "clients.yaml")
		f.write(f.cfg.ClientScopesFile, []byte(scopes))
	}
	var err error
	if f.files, err = certificate.New(f.cfg); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) reload() {
	certificate.Reload(f.files, f.t.Context(), slog.New(slog.NewJSONHandler(f.logs, nil)))
}

// logs collects lines.
type logs struct{ text []byte }

func (l *logs) Write(p []byte) (int, error) {
	l.text = append(l.text, p...)
	return len(p), nil
}

// shake does a handshake, and one read after it: in TLS 1.3 a client hears by that whether it was accepted.
func (f *fixture) shake(client *tls.Config) (server, own tls.ConnectionState, err error) {
	f.t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", f.files.Server())
	if err != nil {
		f.t.Fatal(err)
	}
	defer ln.Close()
	states := make(chan tls.ConnectionState, 1)
	go func() {
		defer close(states)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		accepted := conn.(*tls.Conn)
		if accepted.Handshake() == nil {
			states <- accepted.ConnectionState()
			_, _ = accepted.Write([]byte("."))
		}
	}()
	conn, err := tls.Dial("tcp", ln.Addr().String(), client)
	if err == nil {
		defer conn.Close()
		_, err = io.ReadFull(conn, make([]byte, 1))
		own = conn.ConnectionState()
	}
	_ = ln.Close()
	return <-states, own, err
}

// trusting is a client that trusts an authority and, unless p is zero, has a certificate.
func trusting(a *authority, p pair) *tls.Config {
	c := &tls.Config{RootCAs: x509.NewCertPool()}
	c.RootCAs.AddCert(a.cert)
	if p.cert != nil {
		own, err := tls.X509KeyPair(p.cert, p.key)
		if err != nil {
			a.t.Fatal(err)
		}
		// Whatever the server asks for.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
	}
	return c
}
