package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

const statusRoute = "GET /ops/apex-omni/secrets/status"

func TestSettings(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{statusRoute: answer(http.StatusOK, `{"data":[]}`)})
	tokenFile := privateFile(t, testToken+"\n", 0o600)
	for _, tc := range []struct {
		name string
		env  map[string]string
		args []string
		code int
		want string
	}{
		{"environment", map[string]string{"OMNI_API_URL": api.url, "OMNI_TOKEN": testToken}, nil, exitOK, ""},
		{"flags", nil, []string{"--api-url", api.url, "--token", testToken}, exitOK, ""},
		{"flags win", map[string]string{"OMNI_API_URL": "http://127.0.0.1:1", "OMNI_TOKEN": "x"}, []string{"--api-url", api.url, "--token", testToken}, exitOK, ""},
		{"token file", map[string]string{"OMNI_TOKEN": "x"}, []string{"--api-url", api.url, "--token-file", tokenFile}, exitOK, ""},
		{"address ends in a slash", nil, []string{"--api-url", api.url + "/", "--token", testToken}, exitOK, ""},
		{"no address", nil, nil, exitConfig, "set OMNI_API_URL"},
		{"no token", map[string]string{"OMNI_API_URL": api.url}, nil, exitConfig, "set OMNI_TOKEN"},
		{"empty token counts as none", map[string]string{"OMNI_API_URL": api.url, "OMNI_TOKEN": ""}, nil, exitConfig, "there is no token to send"},
		{"token file that is not there", nil, []string{"--api-url", api.url, "--token-file", "/no/such/file"}, exitUsage, "/no/such/file"},
		{"token with Bearer", map[string]string{"OMNI_API_URL": api.url, "OMNI_TOKEN": "Bearer " + testToken}, nil, exitConfig, "without the word Bearer"},
		{"token flag with a line break", nil, []string{"--api-url", api.url, "--token", testToken + "\nx"}, exitUsage, "--token: the token has"},
		{"address without a scheme", nil, []string{"--api-url", "localhost:8080"}, exitUsage, "--api-url: this is no http://"},
		{"address of another scheme", map[string]string{"OMNI_API_URL": "ftp://omni.example.com"}, nil, exitConfig, "OMNI_API_URL: this is no http://"},
		{"address with a password", nil, []string{"--api-url", "https://ana:" + plaintext + "@omni.example.com"}, exitUsage, "user name or password"},
		{"address with a query", nil, []string{"--api-url", "https://omni.example.com/?a=b"}, exitUsage, "must end before any ?"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			process{env: tc.env}.run(t, append([]string{"status"}, tc.args...)...).want(t, tc.code, tc.want)
		})
	}
}

func TestTokenFileThatOthersCanRead(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{statusRoute: answer(http.StatusOK, `{"data":[]}`)})
	path := privateFile(t, testToken, 0o640)
	process{}.run(t, "status", "--api-url", api.url, "--token-file", path).want(t, exitOK, "chmod 600 "+path)
}

func TestTokenInTheClear(t *testing.T) {
	for _, tc := range []struct {
		address  string
		insecure bool
		refused  bool
	}{
		{"https://omni.example.com", false, false},
		{"http://omni.example.com", false, true},
		{"http://omni.example.com", true, false},
		{"http://10.1.2.3:8080", false, true},
		{"http://localhost.example.com", false, true},
		{"http://127.0.0.1.example.com", false, true},
		{"http://localhost:8080", false, false},
		{"http://omni.localhost:8080", false, false},
		{"http://127.0.0.1:8080", false, false},
		{"http://127.8.8.8:8080", false, false},
		{"http://[::1]:8080", false, false},
		{"http://[::ffff:127.0.0.1]:8080", false, false},
		{"http://[2001:db8::1]:8080", false, true},
		{"http://0.0.0.0:8080", false, true},
	} {
		_, err := serverURL(setting{value: tc.address, from: "--api-url", fromFlag: true}, tc.insecure)
		if (err != nil) != tc.refused {
			t.Errorf("%s with --insecure-http=%t: %v", tc.address, tc.insecure, err)
		}
		if err != nil && (err.code != exitUsage || !strings.Contains(err.Error(), "in the clear") || !strings.Contains(err.next, "--insecure-http")) {
			t.Errorf("%s: %v, next: %s", tc.address, err, err.next)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		code    int
		want    []string
	}{
		{"not authenticated", refusing(401, "UNAUTHENTICATED", "the token has expired"), exitNotAllowed, []string{"the token has expired (UNAUTHENTICATED, request id req-42)", "check that the token has not expired"}},
		{"not allowed", refusing(403, "FORBIDDEN", "the token does not allow this"), exitNotAllowed, []string{"the token lacks scope ops.omni.secrets.read"}},
		{"unknown type", refusing(404, "UNKNOWN_SECRET_TYPE", "there is no such secret type"), exitNotFound, []string{"lists the secret types"}},
		{"not our server", answer(404, "not here"), exitNotFound, []string{"404 Not Found", "is the address of Omni Secrets"}},
		{"unavailable", refusing(503, "STATE_UNAVAILABLE", "the database does not answer"), exitUnavailable, []string{"the database does not answer", "before you try again, when it is back"}},
		{"bad gateway", answer(502, "<html>"), exitUnavailable, []string{"502 Bad Gateway"}},
		{"bad request", refusing(400, "INVALID_REQUEST", "there is no such field"), exitRefused, []string{"compare the versions", "/version"}},
		{"conflict", refusing(409, "ROTATION_IN_PROGRESS", "a rotation is in progress"), exitRefused, []string{"ROTATION_IN_PROGRESS", "request id req-42"}},
		{"unprocessable", refusing(422, "INVALID_BREAK_GLASS_TTL", "too long"), exitRefused, []string{"give a shorter --ttl"}},
		{"internal", refusing(500, "INTERNAL", "internal error"), exitFailure, []string{"the server's log has the cause under request id req-42"}},
		{"problem that cannot be read", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"detail":`+plaintext)
		}, exitUnavailable, []string{"503 Service Unavailable"}},
		{"retry after", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			refuse(w, 503, "", "later")
		}, exitUnavailable, []string{"try again in 7 s"}},
		{"redirect", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://elsewhere.example.com/path?token="+plaintext)
			w.WriteHeader(http.StatusFound)
		}, exitFailure, []string{"redirects are not followed", "--api-url https://elsewhere.example.com meant"}},
		{"token in the problem", refusing(401, "UNAUTHENTICATED", "I do not know "+testToken), exitNotAllowed, []string{"I do not know [token]"}},
		{"secret in a foreign body", answer(500, plaintext), exitFailure, []string{"500 Internal Server Error"}},
		{"foreign body with a detail", answer(500, `{"detail":"`+plaintext+`"}`), exitFailure, []string{"500 Internal Server Error"}},
		{"control characters", refusing(400, "INVALID_REQUEST", "a\x1b[2Jb\nomni-secrets: c"), exitRefused, []string{"a [2Jb omni-secrets: c"}},
		{"answer that is not JSON", answer(200, plaintext), exitFailure, []string{"the answer is not one of Omni Secrets"}},
		{"answer of something else", answer(200, `{"hello":"`+plaintext+`"}`), exitFailure, []string{"the answer is not one of Omni Secrets"}},
		{"answer without end", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}, exitFailure, []string{"larger than 8 MiB"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api := newFakeAPI(t, map[string]http.HandlerFunc{statusRoute: tc.handler})
			o := api.process().run(t, "status")
			o.want(t, tc.code, tc.want...)
			if len(api.requests()) != 1 {
				t.Errorf("requests: %v", api.requests())
			}
			if lines := strings.Count(o.err, "\n"); lines != 2 {
				t.Errorf("%d lines were printed, want the error and the next step", lines)
			}
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer other.Close()
	api := newFakeAPI(t, map[string]http.HandlerFunc{
		statusRoute: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		},
	})
	api.process().run(t, "status").want(t, exitFailure, other.URL)
}

func TestServerThatCannotBeReached(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	o := process{env: map[string]string{"OMNI_TOKEN": testToken}}.run(t, "status", "--api-url", gone.URL)
	o.want(t, exitUnavailable, "cannot connect to "+gone.Listener.Addr().String(), "is the server running?", "curl -fsS "+gone.URL+"/readyz")
}

func TestServerThatDoesNotAnswerInTime(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{statusRoute: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }})
	api.process().run(t, "status", "--timeout", "20ms").want(t, exitUnavailable, "did not answer within 20ms")
}

func TestServerThatHangsUp(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{statusRoute: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }})
	api.process().run(t, "status").want(t, exitUnavailable, "no answer from")
}

func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	api := newFakeAPI(t, map[string]http.HandlerFunc{statusRoute: func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}})
	var stderr strings.Builder
	code := run(ctx, []string{"status", "--api-url", api.url, "--token", testToken},
		func(string) (string, bool) { return "", false }, strings.NewReader(""), io.Discard, &stderr)
	if code != exitFailure || !strings.Contains(stderr.String(), "read the status: interrupted") {
		t.Errorf("exit code %d:\n%s", code, stderr.String())
	}
}

func TestClockAdvice(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name, date, want string
	}{
		{"same time", "Sun, 01 Mar 2026 12:00:01 GMT", "give a shorter --ttl"},
		{"no date", "", "give a shorter --ttl"},
		{"server behind", "Sun, 01 Mar 2026 11:57:00 GMT", "the server's clock reads 2026-03-01T11:57:00Z and this machine's 2026-03-01T12:00:00Z"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := clockAdvice(http.Header{"Date": {tc.date}}, now); !strings.Contains(got, tc.want) {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestUnknownOutcome(t *testing.T) {
	client := &apiClient{base: &url.URL{Scheme: "https", Host: "omni.example.com"}, http: &http.Client{}}
	for _, tc := range []struct {
		name    string
		err     error
		unknown bool
	}{
		{"connection refused", client.unreachable(call{}, &net.OpError{Op: "dial", Err: errors.New("refused")}, false), false},
		{"connection lost", client.unreachable(call{}, io.ErrUnexpectedEOF, true), true},
		{"interrupted", client.unreachable(call{}, context.Canceled, true), true},
		{"interrupted before there was a connection", client.unreachable(call{}, context.Canceled, false), false},
		{"no client certificate", client.unreachable(call{}, &net.OpError{Op: "remote error", Err: tls.AlertError(116)}, true), false},
		{"connection lost by TLS", client.unreachable(call{}, &net.OpError{Op: "remote error", Err: tls.AlertError(80)}, true), true},
		{"refused by the server", &exitError{err: &refusalError{}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const next = "look before you try again"
			e, _ := errors.AsType[*exitError](orUnknownOutcome(tc.err, next))
			if (e.next == next) != tc.unknown {
				t.Errorf("next step %q", e.next)
			}
		})
	}
}

// What never had a connection had no effect: the operator is not sent to look for one, and is told what keeps it from
// being made.
func TestWhatIsNotSentHadNoEffect(t *testing.T) {
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the request was served") }))
	secure.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(t.Output(), nil), slog.LevelDebug)
	secure.StartTLS()
	defer secure.Close()
	elsewhere := secure.Client().Transport.(*http.Transport).Clone()
	elsewhere.TLSClientConfig.ServerName = "omni.example.org"
	later := secure.Client().Transport.(*http.Transport).Clone()
	later.TLSClientConfig.Time = func() time.Time { return time.Now().AddDate(200, 0, 0) }
	plain := newFakeAPI(t, nil)
	hangingUp := listenerThat(t, func(conn net.Conn) { _ = conn.Close() })
	for _, tc := range []struct {
		name, address string
		transport     http.RoundTripper
		want, next    string
	}{
		{"unknown authority", secure.URL, http.DefaultTransport, "cannot connect to 127.0.0.1:", "SSL_CERT_FILE"},
		{"certificate of another host", secure.URL, elsewhere, "certificate is valid for", "the name that its certificate is for"},
		{"certificate that is over", secure.URL, later, "certificate has expired", "have the server's certificate renewed"},
		{"no TLS there", strings.Replace(plain.url, "http:", "https:", 1), http.DefaultTransport, "HTTP response to HTTPS client", "is --api-url " + plain.url + " meant?"},
		{"hangs up", "https://" + hangingUp, http.DefaultTransport, "cannot connect to " + hangingUp, "is the server running?"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			base, err := url.Parse(tc.address)
			if err != nil {
				t.Fatal(err)
			}
			client := &apiClient{base: base, token: testToken, http: &http.Client{Transport: tc.transport}}
			e, ok := errors.AsType[*exitError](client.applyOverride(t.Context(), breakGlassFlags{secretType: "trading_api_key"}, "", time.Now()))
			if !ok || e.code != exitUnavailable || !strings.Contains(e.Error(), tc.want) || !strings.Contains(e.next, tc.next) {
				t.Fatalf("%v, next: %s", e, e.next)
			}
		})
	}

	p := process{env: map[string]string{"OMNI_API_URL": secure.URL, "OMNI_TOKEN": testToken}}
	o := p.run(t, "rotate", "promote", "--secret-type", "trading_api_key")
	o.want(t, exitUnavailable, "cannot connect", "SSL_CERT_FILE")
	if strings.Contains(o.err, "all the same") {
		t.Errorf("standard error:\n%s", o.err)
	}
}

func TestWhatIsGivenUpBeforeItIsSentHadNoEffect(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	silent := listenerThat(t, func(net.Conn) { cancel() })
	var stderr strings.Builder
	run(ctx, []string{"rotate", "promote", "--secret-type", "trading_api_key", "--api-url", "https://" + silent, "--token", testToken},
		func(string) (string, bool) { return "", false }, strings.NewReader(""), io.Discard, &stderr)
	if want := "omni-secrets: promote the rotation: interrupted; nothing was sent\n"; stderr.String() != want {
		t.Errorf("standard error:\n%s", stderr.String())
	}

	o := process{env: map[string]string{"OMNI_TOKEN": testToken}}.run(t, "rotate", "promote", "--secret-type", "trading_api_key",
		"--api-url", "https://"+silent, "--timeout", "20ms")
	o.want(t, exitUnavailable, "did not answer within 20ms", "is the server running?")
	if strings.Contains(o.err, "all the same") {
		t.Errorf("standard error:\n%s", o.err)
	}
}

// listenerThat is the address of a listener that does something with each connection.
func listenerThat(t *testing.T, does func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var open []net.Conn
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			open = append(open, conn)
			does(conn)
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
		for _, conn := range open {
			_ = conn.Close()
		}
	})
	return ln.Addr().String()
}
