package certificate_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/certificate"
	"github.com/apex-tradebill/omni-secrets/domain"
)

// served is the common name of the certificate that a client gets.
func (f *fixture) served(a *authority) string {
	f.t.Helper()
	_, own, err := f.shake(trusting(a, pair{}))
	if err != nil {
		f.t.Fatal(err)
	}
	return own.PeerCertificates[0].Subject.CommonName
}

func TestNewCertificateIsServedWithoutRestart(t *testing.T) {
	a := newAuthority(t)
	f := newFixture(t, a.issue(names{commonName: "first"}), nil, "")
	if got := f.served(a); got != "first" {
		t.Fatal(got)
	}
	until := time.Now().Add(3 * time.Hour).Truncate(time.Second)
	f.writeServer(a.issue(names{commonName: "second", until: until}))
	f.reload()
	if got := f.served(a); got != "second" || !f.files.Expires().Equal(until) || f.files.ReloadFailed() {
		t.Errorf("%s is served, expires %v, failed %v", got, f.files.Expires(), f.files.ReloadFailed())
	}
}

func TestBrokenFilesLeaveTheOldCertificateInUse(t *testing.T) {
	a := newAuthority(t)
	for name, spoil := range map[string]func(*fixture){
		"no PEM":              func(f *fixture) { f.write(f.cfg.CertFile, []byte("x")) },
		"half written":        func(f *fixture) { f.write(f.cfg.CertFile, a.issue(names{}).cert) },
		"an expired one":      func(f *fixture) { f.writeServer(a.issue(names{commonName: "late", until: time.Now().Add(-time.Hour)})) },
		"a file gone":         func(f *fixture) { _ = os.Remove(f.cfg.KeyFile) },
		"no authority":        func(f *fixture) { f.write(f.cfg.ClientCAFile, []byte("x")) },
		"half an authority":   func(f *fixture) { f.write(f.cfg.ClientCAFile, append(bytes.Clone(a.pem), a.pem[:len(a.pem)/2]...)) },
		"scopes of nobody":    func(f *fixture) { f.write(f.cfg.ClientScopesFile, []byte("clients: []")) },
		"scopes with mistake": func(f *fixture) { f.write(f.cfg.ClientScopesFile, []byte("clients: [{dns: x, scopes: [svc.typo]}]")) },
	} {
		t.Run(name, func(t *testing.T) {
			client := a.issue(names{commonName: "client"})
			f := newFixture(t, a.issue(names{commonName: "first"}), a.pem, "clients: [{commonName: client, scopes: [svc.omni.secrets.read]}]")
			before := make(map[string][]byte)
			for _, path := range []string{f.cfg.CertFile, f.cfg.KeyFile, f.cfg.ClientCAFile, f.cfg.ClientScopesFile} {
				before[path], _ = os.ReadFile(path)
			}
			spoil(f)
			f.reload()
			f.reload()
			if _, own, err := f.shake(trusting(a, client)); err != nil || own.PeerCertificates[0].Subject.CommonName != "first" {
				t.Errorf("a handshake: %v", err)
			}
			if n := bytes.Count(f.logs.text, []byte(`"level":"ERROR"`)); n != 1 || !f.files.ReloadFailed() || !bytes.Contains(f.logs.text, []byte("OMNI_TLS_")) {
				t.Errorf("%d errors logged, failed %v:\n%s", n, f.files.ReloadFailed(), f.logs.text)
			}
			for path, content := range before {
				f.write(path, content)
			}
			f.reload()
			if f.files.ReloadFailed() {
				t.Error("it has still failed when the files are as they were")
			}
		})
	}
}

func TestFilesAreLookedAtAllTheTime(t *testing.T) {
	a := newAuthority(t)
	f := newFixture(t, a.issue(names{}), nil, "")
	next := a.issue(names{until: time.Now().Add(5 * time.Hour)})
	old := f.files.Expires()
	f.writeServer(next)
	synctest.Test(t, func(t *testing.T) { // its clock begins in 2000: no certificate has expired
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.files.Run(ctx, slog.New(slog.DiscardHandler)) }()
		time.Sleep(15 * time.Second) //nolint:forbidigo // simulated: in a bubble
		synctest.Wait()
		if f.files.Expires().Equal(old) {
			t.Error("after 15 s the old certificate is in use")
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestOnlyTLS13(t *testing.T) {
	a := newAuthority(t)
	f := newFixture(t, a.issue(names{}), nil, "")
	client := trusting(a, pair{})
	if _, own, err := f.shake(client); err != nil || own.Version != tls.VersionTLS13 {
		t.Errorf("version %x: %v", own.Version, err)
	}
	client.MaxVersion = tls.VersionTLS12
	if _, _, err := f.shake(client); err == nil {
		t.Error("TLS 1.2 is accepted")
	}
}

func TestBothHTTPVersionsAreOffered(t *testing.T) {
	a := newAuthority(t)
	f := newFixture(t, a.issue(names{}), nil, "")
	for _, protocol := range []string{"h2", "http/1.1"} {
		client := trusting(a, pair{})
		client.NextProtos = []string{protocol}
		if _, own, err := f.shake(client); err != nil || own.NegotiatedProtocol != protocol {
			t.Errorf("%s: %q, %v", protocol, own.NegotiatedProtocol, err)
		}
	}
}

func TestClientCertificatesAreRequiredAndVerified(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	f := newFixture(t, a.issue(names{}), a.pem, "")
	for name, c := range map[string]struct {
		client pair
		ok     bool
	}{
		"of the authority": {a.issue(names{commonName: "x"}), true},
		"none":             {pair{}, false},
		"of another":       {stranger.issue(names{commonName: "x"}), false},
		"expired":          {a.issue(names{commonName: "x", until: time.Now().Add(-time.Hour)}), false},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := f.shake(trusting(a, c.client)); c.ok != (err == nil) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestWhoClientsAre(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	f := newFixture(t, a.issue(names{}), append(bytes.Clone(a.pem), stranger.pem...), `
clients:
  - uri: spiffe://prod/trader
    scopes: [svc.omni.secrets.read, svc.omni.secrets.cache]
  - dns: billing.internal
    scopes: [svc.omni.secrets.read]
  - commonName: legacy
    scopes: [omni:ops]
  - commonName: spiffe://prod/operator
    scopes: [svc.omni.secrets.read]
`)
	for name, c := range map[string]struct {
		is   names
		want domain.Principal // zero when it is nobody
	}{
		"by URI":                       {names{uri: "spiffe://prod/trader"}, domain.Principal{Subject: "spiffe://prod/trader", Scopes: domain.ScopeRead | domain.ScopeCacheRefresh}},
		"by DNS name":                  {names{dns: "Billing.Internal"}, domain.Principal{Subject: "billing.internal", Scopes: domain.ScopeRead}},
		"by common name":               {names{commonName: "legacy"}, domain.Principal{Subject: "legacy", Scopes: domain.ScopeOps}},
		"the first entry wins":         {names{commonName: "legacy", dns: "billing.internal"}, domain.Principal{Subject: "billing.internal", Scopes: domain.ScopeRead}},
		"a common name is not a URI":   {names{commonName: "spiffe://prod/trader"}, domain.Principal{}},
		"a URI is not a common name":   {names{uri: "spiffe://prod/operator"}, domain.Principal{}},
		"a DNS name is no common name": {names{dns: "legacy"}, domain.Principal{}},
		"only the beginning":           {names{uri: "spiffe://prod/trader/x"}, domain.Principal{}},
		"another":                      {names{commonName: "somebody"}, domain.Principal{}},
	} {
		t.Run(name, func(t *testing.T) {
			server, _, err := f.shake(trusting(a, a.issue(c.is)))
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time it is remembered
				got, err := f.files.Verify(server.PeerCertificates)
				if got != c.want || (c.want == domain.Principal{}) != (err != nil) {
					t.Errorf("%+v, %v; want %+v", got, err, c.want)
				}
			}
		})
	}

	t.Run("an authority that is taken away", func(t *testing.T) {
		server, _, err := f.shake(trusting(a, stranger.issue(names{commonName: "legacy"})))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.files.Verify(server.PeerCertificates); err != nil {
			t.Fatal(err)
		}
		f.write(f.cfg.ClientCAFile, a.pem)
		f.reload()
		if _, err := f.files.Verify(server.PeerCertificates); err == nil {
			t.Error("its certificate is still good on a connection that was there before")
		}
	})
	t.Run("a certificate that no handshake has verified", func(t *testing.T) {
		block, _ := pem.Decode(newAuthority(t).issue(names{commonName: "legacy"}).cert)
		forged, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.files.Verify([]*x509.Certificate{forged}); err == nil {
			t.Error("it is trusted")
		}
	})
}

func TestAuthoritiesThatAreRefused(t *testing.T) {
	a := newAuthority(t)
	f := newFixture(t, a.issue(names{}), a.pem, "")
	block := func(kind string, content []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
	}
	for name, c := range map[string]struct {
		text []byte
		says string
	}{
		"empty":                      {nil, "has no certificate in it"},
		"no PEM":                     {[]byte("x"), "has no certificate in it"},
		"half of the second":         {append(bytes.Clone(a.pem), a.pem[:len(a.pem)/2]...), "1 of them can be read"},
		"the first without its end":  {slices.Concat(a.pem[:len(a.pem)/2], []byte("\n"), a.pem), "1 of them can be read"},
		"one without its beginning":  {slices.Concat(a.pem, a.pem[1:]), "1 of them can be read"},
		"a certificate that is none": {append(bytes.Clone(a.pem), block("CERTIFICATE", []byte("x"))...), "certificate 2"},
		"a key":                      {append(bytes.Clone(a.pem), block("PRIVATE KEY", []byte("x"))...), "PRIVATE KEY"},
	} {
		t.Run(name, func(t *testing.T) {
			f.write(f.cfg.ClientCAFile, c.text)
			if _, err := certificate.New(f.cfg); err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "OMNI_TLS_CLIENT_CA_FILE") {
				t.Errorf("error %v, want %q", err, c.says)
			}
		})
	}
	f.write(f.cfg.ClientCAFile, slices.Concat([]byte("# the first\n"), a.pem, []byte("\n# the second\n"), newAuthority(t).pem, []byte("\n# that is all\n")))
	if _, err := certificate.New(f.cfg); err != nil {
		t.Errorf("with comments: %v", err)
	}
}

func TestScopesFilesThatAreRefused(t *testing.T) {
	a := newAuthority(t)
	f := newFixture(t, a.issue(names{}), a.pem, "clients: [{dns: x, scopes: [svc.omni.secrets.read]}]")
	for name, c := range map[string]struct{ text, says string }{
		"empty":            {"", "lists no clients"},
		"two documents":    {"clients: [{dns: x, scopes: [omni:ops]}]\n---\nclients: [{dns: y, scopes: [omni:ops]}]", "one document"},
		"an unknown field": {"clients: [{sub: x, scopes: [svc.omni.secrets.read]}]", "sub"},
		"two names":        {"clients: [{dns: x, uri: y, scopes: [svc.omni.secrets.read]}]", "one of uri, dns and commonName"},
		"no name":          {"clients: [{scopes: [svc.omni.secrets.read]}]", "one of uri, dns and commonName"},
		"no scope":         {"clients: [{dns: x}]", "has no scopes"},
		"unknown scope":    {"clients: [{dns: x, scopes: [svc.typo]}]", "svc.typo"},
		"reserved":         {"clients: [{commonName: Anonymous, scopes: [omni:ops]}]", "audit trail"},
		"not printable":    {`clients: [{commonName: "a\nb", scopes: [omni:ops]}]`, "printable"},
	} {
		t.Run(name, func(t *testing.T) {
			f.write(f.cfg.ClientScopesFile, []byte(c.text))
			if _, err := certificate.New(f.cfg); err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "OMNI_TLS_CLIENT_SCOPES_FILE") {
				t.Errorf("error %v, want %q", err, c.says)
			}
		})
	}
}
