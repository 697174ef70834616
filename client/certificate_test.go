package client_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apex-tradebill/omni-secrets/client"
)

func TestCertificateFilesSayWhatIsWrong(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "tls.crt")
	if _, err := client.CertificateFiles(nowhere, nowhere)(nil); err == nil || !strings.Contains(err.Error(), "read the client certificate") {
		t.Errorf("error %v", err)
	}
}

func TestClientsNeedATokenOrACertificate(t *testing.T) {
	some := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return new(tls.Certificate), nil }
	token := func(context.Context) (string, error) { return "t", nil }
	for name, c := range map[string]struct {
		config client.Config
		says   string // "" when it is fine
	}{
		"neither":                            {client.Config{}, "there is no Token"},
		"a certificate alone":                {client.Config{ClientCertificate: some}, ""},
		"both":                               {client.Config{ClientCertificate: some, Token: token}, ""},
		"a certificate and an HTTP client":   {client.Config{ClientCertificate: some, HTTPClient: new(http.Client)}, "Transport of that client"},
		"a token and an HTTP client with it": {client.Config{Token: token, HTTPClient: new(http.Client)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.config.BaseURLs = []string{"https://127.0.0.1:1"}
			made, err := client.New(c.config)
			if err == nil {
				made.Close()
			}
			if (c.says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want %q", err, c.says)
			}
		})
	}
}
