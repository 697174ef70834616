package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

func TestHealth(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		body   string
		code   int
		want   []string
	}{
		{"ready", 200, `{"status":"ready","missing":[]}`, exitOK, []string{"ready\n"}},
		{
			"not ready: says what is missing", 503, `{"status":"not ready","missing":["the database","2 of 5 secrets"]}`,
			exitFailure,
			[]string{"not ready: the database; 2 of 5 secrets"},
		},
		{"not ready, without a reason", 503, `{"status":"not ready"}`, exitFailure, []string{"not ready", "answered 503"}},
		{"another server", 200, `<html>`, exitFailure, []string{"answered 200, and not as Omni Secrets does"}},
		{"another server that speaks JSON", 200, `{}`, exitFailure, []string{"not as Omni Secrets does"}},
		{"control characters", 503, `{"status":"not ready","missing":["a\u001b[2Jb"]}`, exitFailure, []string{"not ready: a [2Jb"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got = r.Method + " " + r.URL.Path + r.Header.Get("Authorization")
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			}))
			t.Cleanup(server.Close)
			// A token of the environment is not sent: it is not needed.
			o := process{env: map[string]string{"OMNI_TOKEN": testToken}}.run(t, "health", "--url", server.URL)
			o.want(t, tc.code, tc.want...)
			if got != "GET /readyz" {
				t.Errorf("the request is %q", got)
			}
			if (o.out == "") != (tc.code != exitOK) {
				t.Errorf("standard output: %q", o.out)
			}
		})
	}
}

func TestHealthFollowsNoRedirect(t *testing.T) {
	elsewhere := newFakeAPI(t, nil)
	server := httptest.NewServer(http.RedirectHandler(elsewhere.url, http.StatusFound))
	t.Cleanup(server.Close)
	process{}.run(t, "health", "--url", server.URL).want(t, exitFailure, "answered 302")
	if got := elsewhere.requests(); len(got) > 0 {
		t.Errorf("it asked elsewhere: %v", got)
	}
}

func TestHealthAsJSON(t *testing.T) {
	const document = `{"status":"ready","missing":[]}`
	server := httptest.NewServer(answer(200, document))
	t.Cleanup(server.Close)
	o := process{}.run(t, "health", "--api-url", server.URL, "-o", "json")
	o.want(t, exitOK)
	if o.out != document+"\n" {
		t.Errorf("standard output: %q", o.out)
	}
}

func TestHealthOfAServerThatIsSilentOrGone(t *testing.T) {
	release := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(silent.Close)
	t.Cleanup(func() { close(release) })
	process{}.run(t, "health", "--url", silent.URL, "--timeout", "20ms").want(t, exitFailure, "no answer from 127.0.0.1")

	gone := httptest.NewServer(nil)
	gone.Close()
	process{}.run(t, "health", "--url", gone.URL).want(t, exitFailure, "no answer from 127.0.0.1")
}

func TestHealthUsage(t *testing.T) {
	for _, args := range [][]string{{"--url", "127.0.0.1:8080"}, {"--url", ""}, {"--timeout", "0s"}} {
		process{}.run(t, append([]string{"health"}, args...)...).want(t, exitUsage)
	}
}

// readyServer counts what it was asked. secure is nil for plain HTTP.
func readyServer(t *testing.T, secure *tls.Config) (port string, asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = io.WriteString(w, `{"status":"ready","missing":[]}`)
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	if server.TLS = secure; secure == nil {
		server.Start()
	} else {
		server.StartTLS()
	}
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()[len("127.0.0.1:"):], asked
}

// certificateFiles keeps a new certificate in files.
func certificateFiles(t *testing.T) (pair tls.Certificate, certFile, keyFile string) {
	t.Helper()
	certificate, key := selfSigned(t)
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, text := range map[string][]byte{certFile: certificate, keyFile: key} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return pair, certFile, keyFile
}

// The health check of the image is a command without flags: it finds the server by the settings that this has.
func TestHealthFindsTheServerByItsSettings(t *testing.T) {
	port, asked := readyServer(t, nil)
	for name, tc := range map[string]struct {
		env  map[string]string
		code int
		want string
	}{
		"every IPv4 address":                 {map[string]string{"OMNI_LISTEN": "0.0.0.0:PORT"}, exitOK, "ready"},
		"every address":                      {map[string]string{"OMNI_LISTEN": ":PORT"}, exitOK, "ready"},
		"every IPv6 address":                 {map[string]string{"OMNI_LISTEN": "[::]:PORT"}, exitOK, "ready"},
		"one address":                        {map[string]string{"OMNI_LISTEN": "127.0.0.1:PORT"}, exitOK, "ready"},
		"metrics apart, which need no TLS":   {map[string]string{"OMNI_METRICS_LISTEN": ":PORT", "OMNI_LISTEN": "127.0.0.1:1", "OMNI_TLS_CERT_FILE": "/nowhere", "OMNI_TLS_CLIENT_CA_FILE": "/nowhere"}, exitOK, "ready"},
		"a server's settings go first":       {map[string]string{"OMNI_LISTEN": ":PORT", "OMNI_API_URL": "http://127.0.0.1:1"}, exitOK, "ready"},
		"an operator's":                      {map[string]string{"OMNI_API_URL": "http://127.0.0.1:PORT"}, exitOK, "ready"},
		"an operator's, which is no address": {map[string]string{"OMNI_API_URL": "127.0.0.1:PORT"}, exitConfig, "OMNI_API_URL: this is no http:// or https:// address"},
		"a server's with the default port":   {map[string]string{"DATABASE_URL": "sqlite:x", "OMNI_API_URL": "http://127.0.0.1:PORT", "OMNI_TLS_CERT_FILE": "/nowhere"}, exitConfig, "OMNI_TLS_CERT_FILE: "},
		"any free port":                      {map[string]string{"OMNI_LISTEN": "127.0.0.1:0"}, exitConfig, "OMNI_LISTEN has port 0"},
		"no address":                         {map[string]string{"OMNI_METRICS_LISTEN": "9090"}, exitConfig, `OMNI_METRICS_LISTEN "9090" must be host:port`},
		"client certificates and none here":  {map[string]string{"OMNI_LISTEN": ":PORT", "OMNI_TLS_CERT_FILE": "x", "OMNI_TLS_CLIENT_CA_FILE": "x"}, exitConfig, "next: set OMNI_METRICS_LISTEN"},
	} {
		t.Run(name, func(t *testing.T) {
			env := maps.Clone(tc.env)
			for name, value := range env {
				env[name] = strings.ReplaceAll(value, "PORT", port)
			}
			before := asked.Load()
			process{env: env}.run(t, "health").want(t, tc.code, tc.want)
			if was := asked.Load() - before; was != 1 && tc.code == exitOK || was != 0 && tc.code != exitOK {
				t.Errorf("the server was asked %d times", was)
			}
		})
	}
}

// Names and authorities are not looked at: the server that is meant is the one with the certificate in the file.
func TestHealthOverTLSTakesTheServersCertificateAlone(t *testing.T) {
	pair, certFile, keyFile := certificateFiles(t)
	_, otherCert, _ := certificateFiles(t)
	clients := x509.NewCertPool()
	clients.AddCert(pair.Leaf)
	server := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}}
	mutual := server.Clone()
	mutual.ClientAuth, mutual.ClientCAs = tls.RequireAndVerifyClientCert, clients

	port, asked := readyServer(t, server)
	env := map[string]string{"OMNI_LISTEN": "0.0.0.0:" + port, "OMNI_TLS_CERT_FILE": certFile, "OMNI_TLS_KEY_FILE": keyFile}
	process{env: env}.run(t, "health").want(t, exitOK, "ready")
	env["OMNI_TLS_CERT_FILE"] = otherCert
	process{env: env}.run(t, "health").want(t, exitFailure, "it has another certificate than OMNI_TLS_CERT_FILE")
	process{env: env}.run(t, "health", "--url", "https://127.0.0.1:"+port).want(t, exitFailure, "certificate signed by unknown authority")
	if got := asked.Load(); got != 1 {
		t.Errorf("the server was asked %d times, want once", got)
	}

	port, _ = readyServer(t, mutual)
	process{env: map[string]string{
		"OMNI_LISTEN": "0.0.0.0:" + port, "OMNI_TLS_CERT_FILE": certFile, "OMNI_TLS_KEY_FILE": keyFile, "OMNI_TLS_CLIENT_CA_FILE": certFile,
		"OMNI_TLS_CLIENT_CERT_FILE": certFile, "OMNI_TLS_CLIENT_KEY_FILE": keyFile,
	}}.run(t, "health").want(t, exitOK, "ready")
}
