package integration_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
)

// certificate makes one for 127.0.0.1 that signs itself, and returns the files' paths and who trusts it.
func certificate(t testing.TB) (certFile, keyFile string, trust *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "omni-secrets"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		URIs:      []*url.URL{{Scheme: "spiffe", Host: "test", Path: "/trader"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for path, content := range map[string][]byte{
		certFile: certPEM, keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trust = x509.NewCertPool()
	trust.AppendCertsFromPEM(certPEM)
	return certFile, keyFile, trust
}

// With a certificate every API is on the one port, with HTTP/1.1 and HTTP/2, by TLS 1.3 and not without.
func TestTLS(t *testing.T) {
	gsm := startEmulator(t)
	certFile, keyFile, trust := certificate(t)
	s := prepareServe(t, gsm.endpoint, "OMNI_TLS_CERT_FILE="+certFile, "OMNI_TLS_KEY_FILE="+keyFile).start(t)
	plain := s.api
	s.api = strings.Replace(s.api, "http:", "https:", 1)

	over := func(http2 bool) *http.Client {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust}, Protocols: new(http.Protocols)}
		transport.Protocols.SetHTTP1(!http2)
		transport.Protocols.SetHTTP2(http2)
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport, Timeout: patience}
	}
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run("REST over "+name, func(t *testing.T) {
			a, err := s.tryWith(over(http2), "GET", readPath+string(apiKey), s.service, "")
			if err != nil {
				t.Fatal(err)
			}
			a.want(200, "")
		})
	}
	for name, c := range map[string]struct {
		http2   bool
		options []connect.ClientOption
	}{
		"Connect":  {false, nil},
		"gRPC":     {true, []connect.ClientOption{connect.WithGRPC()}},
		"gRPC-Web": {false, []connect.ClientOption{connect.WithGRPCWeb()}},
	} {
		t.Run(name, func(t *testing.T) {
			old := streaming
			defer func() { streaming = old }()
			streaming = over(c.http2)
			r, err := s.secrets(s.service, c.options...).GetSecret(t.Context(), &secretsv1.GetSecretRequest{SecretType: string(apiKey)})
			if err != nil || string(r.GetSecret().GetValue()) != gsm.values[apiKey] {
				t.Error(err)
			}
		})
	}
	t.Run("plain HTTP is told so", func(t *testing.T) {
		response, err := client.Get(plain + "/livez")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("status %d", response.StatusCode)
		}
	})
	t.Run("TLS 1.2 is refused", func(t *testing.T) {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.api, "https://"), &tls.Config{RootCAs: trust, MaxVersion: tls.VersionTLS12})
		if err == nil {
			_ = conn.Close()
			t.Error("it is accepted")
		}
	})
	t.Run("the command line", func(t *testing.T) {
		env := []string{"OMNI_API_URL=" + s.api, "OMNI_TOKEN=" + s.service, "SSL_CERT_FILE=" + certFile}
		run(t, env, "", "get", "--secret-type", string(apiKey)).want(t, 0, gsm.values[apiKey])
		run(t, env[:2], "", "get", "--secret-type", string(apiKey)).want(t, 5, "certificate")
	})
}

// With client certificates nobody gets in without one, and one that the file of scopes names needs no token; for the
// command line and the Go client too. A new certificate is served without a restart.
func TestClientCertificates(t *testing.T) {
	gsm := startEmulator(t)
	certFile, keyFile, trust := certificate(t)
	scopes := filepath.Join(t.TempDir(), "clients.yaml")
	if err := os.WriteFile(scopes, []byte("clients:\n  - uri: spiffe://test/trader\n    scopes: [svc.omni.secrets.read]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := prepareServe(t, gsm.endpoint, "OMNI_TLS_CERT_FILE="+certFile, "OMNI_TLS_KEY_FILE="+keyFile,
		"OMNI_TLS_CLIENT_CA_FILE="+certFile, "OMNI_TLS_CLIENT_SCOPES_FILE="+scopes).start(t)
	https := strings.Replace(s.api, "http:", "https:", 1)
	trusted := []string{"OMNI_API_URL=" + https, "SSL_CERT_FILE=" + certFile}
	own := append([]string{"OMNI_TLS_CLIENT_CERT_FILE=" + certFile, "OMNI_TLS_CLIENT_KEY_FILE=" + keyFile}, trusted...)
	get := []string{"get", "--secret-type", string(apiKey)}

	run(t, own, "", get...).want(t, 0, gsm.values[apiKey])
	run(t, trusted, "", append(get, "--client-cert", certFile, "--client-key", keyFile)...).want(t, 0, gsm.values[apiKey])
	run(t, append([]string{"PATH=" + os.Getenv("PATH")}, own...), "", "exec", "--env", "KEY="+string(apiKey), "--", "sh", "-c", "printf %s \"$KEY\"").want(t, 0, gsm.values[apiKey])
	run(t, own, "", "status").want(t, 3, "FORBIDDEN")
	run(t, append([]string{"OMNI_TOKEN=" + s.ops}, own...), "", "status").want(t, 0, string(apiKey))
	run(t, append([]string{"OMNI_TOKEN=" + s.service}, trusted...), "", get...).want(t, 5) // the alert may be lost, since the server hangs up with it
	run(t, trusted, "", append(get, "--client-cert", certFile)...).want(t, 2, "--client-key")
	run(t, trusted, "", append(get, "--client-cert", certFile, "--client-key", scopes)...).want(t, 2, "--client-cert")

	renewed, renewedKey, renewedTrust := certificate(t)
	for _, f := range []struct{ from, to string }{{renewed, certFile}, {renewedKey, keyFile}} {
		content, err := os.ReadFile(f.from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.to, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := tls.LoadX509KeyPair(renewed, renewedKey)
	if err != nil {
		t.Fatal(err)
	}
	dial := func(trust *x509.CertPool) error {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.api, "http://"), &tls.Config{RootCAs: trust, Certificates: []tls.Certificate{pair}})
		if err == nil {
			err = conn.Close()
		}
		return err
	}
	eventually(t, "the new certificate is served", func() bool { return dial(renewedTrust) == nil })
	if dial(trust) == nil {
		t.Error("the old one is served too")
	}
}

func TestTLSSettingsThatAreRefused(t *testing.T) {
	certFile, keyFile, _ := certificate(t)
	_, otherKey, _ := certificate(t)
	prepared := prepareServe(t, "127.0.0.1:1")
	for name, c := range map[string]struct {
		env  []string
		says string
	}{
		"a certificate without a key": {[]string{"OMNI_TLS_CERT_FILE=" + certFile}, "belong together"},
		"a key without a certificate": {[]string{"OMNI_TLS_KEY_FILE=" + keyFile}, "belong together"},
		"a file that is not there":    {[]string{"OMNI_TLS_CERT_FILE=/nowhere", "OMNI_TLS_KEY_FILE=" + keyFile}, "no such file"},
		"the key of another":          {[]string{"OMNI_TLS_CERT_FILE=" + certFile, "OMNI_TLS_KEY_FILE=" + otherKey}, "does not match"},
		"files that are no PEM":       {[]string{"OMNI_TLS_CERT_FILE=/dev/null", "OMNI_TLS_KEY_FILE=/dev/null"}, "PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, append(append([]string(nil), prepared.env...), c.env...), "", "serve").want(t, 78, "OMNI_TLS_CERT_FILE", c.says)
		})
	}
}
