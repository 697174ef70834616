package validator_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/apex-tradebill/omni-secrets/adapters/validator"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

var _ ports.CandidateValidator = (*validator.Validator)(nil)

func TestMain(m *testing.M) {
	// The environment's proxy is read once in a process. Nothing listens there.
	if err := errors.Join(os.Setenv("HTTP_PROXY", "http://127.0.0.1:1"), os.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// secret has characters that every encoding changes.
const secret = "candidate+value/that=nobody&may?see"

var candidate = domain.Candidate{Type: "webhook_shared_secret", Version: "8", Value: domain.NewValue([]byte(secret))}

func newValidator(t *testing.T, c validator.Config) *validator.Validator {
	t.Helper()
	v, err := validator.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// peer is a server on the loopback that remembers the requests that it got.
type peer struct {
	*httptest.Server
	mu   sync.Mutex
	got  []*http.Request // with their bodies read
	body []string
	raw  []string // as they came
}

func newPeer(t *testing.T, handler http.HandlerFunc) *peer {
	t.Helper()
	p := new(peer)
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := httputil.DumpRequest(r, true)
		if err != nil {
			t.Error(err)
		}
		body, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		p.got, p.body, p.raw = append(p.got, r), append(p.body, string(body)), append(p.raw, string(raw))
		p.mu.Unlock()
		handler(w, r)
	}))
	p.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of the handshakes that are to fail
	t.Cleanup(p.Close)
	return p
}

// plain and secure start p.
func (p *peer) plain() *peer  { p.Start(); return p }
func (p *peer) secure() *peer { p.StartTLS(); return p }

func (p *peer) requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.got)
}

func (p *peer) port() string {
	_, port, _ := net.SplitHostPort(p.Listener.Addr().String())
	return port
}

// trust is the certificate of a secure p.
func (p *peer) trust() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(p.Certificate())
	return pool
}

func answering(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "words of the other side")
	}
}

// both are the checks that send requests, to url.
func both(url string) map[string]domain.Validator {
	return map[string]domain.Validator{
		"webhook":    {Webhook: &domain.WebhookRule{URL: url}},
		"http-probe": {HTTPProbe: &domain.HTTPProbeRule{URL: url, Header: "X-API-Key"}},
	}
}

// failed checks that err is a CheckError with a code of this ending that says want and nothing secret.
func failed(t *testing.T, err error, rule domain.Validator, ending, want string) {
	t.Helper()
	e, ok := errors.AsType[*domain.CheckError](err)
	if !ok {
		t.Fatalf("error is %v, want a CheckError", err)
	}
	prefix := map[string]string{"webhook": "WEBHOOK_", "http-probe": "PROBE_"}[rule.Name()]
	if e.Check != rule.Name() || string(e.Code) != prefix+ending {
		t.Errorf("the check %s failed with %s, want %s with %s (%v)", e.Check, e.Code, rule.Name(), prefix+ending, e)
	}
	if !strings.Contains(e.Error(), want) {
		t.Errorf("%q does not say %q", e, want)
	}
	text := fmt.Sprintf("%v %+v %#v %v", e, e, e, e.Err)
	for _, hidden := range append(spellings(secret), "words of the other side", "hush") {
		if strings.Contains(text, hidden) {
			t.Errorf("the error holds %q: %s", hidden, text)
		}
	}
}

// spellings are the forms in which value could stand somewhere.
func spellings(value string) []string {
	b := []byte(value)
	reversed := bytes.Clone(b)
	for i, j := 0, len(reversed)-1; i < j; i, j = i+1, j-1 {
		reversed[i], reversed[j] = reversed[j], reversed[i]
	}
	return []string{
		value, string(reversed), url.QueryEscape(value), url.PathEscape(value), hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)),
		base64.RawStdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b), value[:8], value[len(value)-8:],
	}
}

func TestStatuses(t *testing.T) {
	for status, passes := range map[int]map[string]bool{
		200: {"webhook": true, "http-probe": true},
		204: {"webhook": true}, 299: {"webhook": true},
		400: {}, 401: {}, 404: {}, 429: {}, 500: {}, 503: {},
	} {
		p := newPeer(t, answering(status)).secure()
		v := newValidator(t, validator.Config{AllowedHosts: []string{"127.0.0.1"}, RootCAs: p.trust()})
		for name, rule := range both(p.URL + "/hush?token=hush") {
			t.Run(fmt.Sprintf("%s, %d", name, status), func(t *testing.T) {
				err := v.Validate(t.Context(), rule, candidate)
				if passes[name] {
					if err != nil {
						t.Errorf("refused: %v", err)
					}
					return
				}
				failed(t, err, rule, "REJECTED", fmt.Sprintf("answered with status %d", status))
			})
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	target := newPeer(t, answering(200)).plain()
	for _, status := range []int{301, 302, 303, 307, 308} {
		p := newPeer(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target.URL+"/?hush", status) }).plain()
		v := newValidator(t, validator.Config{AllowedHosts: []string{"127.0.0.0/8"}})
		for _, rule := range both(p.URL) {
			failed(t, v.Validate(t.Context(), rule, candidate), rule, "REJECTED", fmt.Sprintf("redirect (status %d), which is not followed", status))
		}
	}
	if n := target.requests(); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

func TestHostsThatAreNotListed(t *testing.T) {
	p := newPeer(t, answering(200)).plain()
	for name, list := range map[string][]string{"no list": nil, "another address": {"127.0.0.2"}, "another port": {"127.0.0.1:1"}, "a name": {"localhost"}} {
		v := newValidator(t, validator.Config{AllowedHosts: list})
		for _, rule := range both(p.URL + "/hush?hush") {
			t.Run(name+", "+rule.Name(), func(t *testing.T) {
				failed(t, v.Validate(t.Context(), rule, candidate), rule, "FORBIDDEN", "OMNI_VALIDATION_ALLOWED_HOSTS")
			})
		}
	}
	if n := p.requests(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// TestMain set a proxy.
func TestNoProxyOfTheEnvironment(t *testing.T) {
	p := newPeer(t, answering(200)).secure()
	v := newValidator(t, validator.Config{AllowedHosts: []string{"example.com", "127.0.0.1"}, RootCAs: p.trust(), Resolver: fakeDNS(t, "127.0.0.1")})
	for _, rule := range both("https://example.com:" + p.port() + "/") {
		if err := v.Validate(t.Context(), rule, candidate); err != nil {
			t.Error(err)
		}
	}
}

func TestOldTLS(t *testing.T) {
	p := newPeer(t, answering(200))
	p.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	p.secure()
	v := newValidator(t, validator.Config{AllowedHosts: []string{"127.0.0.1"}, RootCAs: p.trust()})
	for _, rule := range both(p.URL) {
		failed(t, v.Validate(t.Context(), rule, candidate), rule, "UNREACHABLE", "TLS 1.2 or 1.3 is needed")
	}
}

func TestUnreachable(t *testing.T) {
	closed := newPeer(t, answering(200)).plain()
	closed.Close()
	plain := newPeer(t, answering(200)).plain()
	secure := newPeer(t, answering(200)).secure()
	// It repeats what it was sent where an answer should be.
	echo := rawServer(t, func(c net.Conn) {
		buffer := make([]byte, 4096)
		n, _ := c.Read(buffer)
		_, _ = c.Write(buffer[:n])
	})
	echoHeader := rawServer(t, func(c net.Conn) {
		buffer := make([]byte, 4096)
		n, _ := c.Read(buffer)
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nhush %s", buffer[:n])
	})
	long := rawServer(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Long: %s\r\n\r\n", strings.Repeat("x", 64<<10))
	})
	hangUp := rawServer(t, func(net.Conn) {})

	for name, c := range map[string]struct{ url, want string }{
		"nothing listens":              {closed.URL, "connection refused"},
		"plain HTTP for https":         {"https://" + plain.Listener.Addr().String() + "/", "did not answer as an HTTP server should"},
		"another certificate":          {secure.URL, "authority that this machine does not know"},
		"the request as the answer":    {echo, "did not answer as an HTTP server should"},
		"the request in the header":    {echoHeader, "did not answer as an HTTP server should"},
		"a header without end":         {long, "with a header of at most 16384 bytes"},
		"a connection that ends early": {hangUp, "127.0.0.1"},
	} {
		v := newValidator(t, validator.Config{AllowedHosts: []string{"127.0.0.0/8"}})
		for _, rule := range both(c.url + "?hush") {
			t.Run(name+", "+rule.Name(), func(t *testing.T) {
				failed(t, v.Validate(t.Context(), rule, candidate), rule, "UNREACHABLE", c.want)
			})
		}
	}
}

// rawServer answers each connection as it likes, and returns its URL.
func rawServer(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			connections.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		connections.Wait()
	})
	return "http://" + ln.Addr().String() + "/"
}

func TestTimeouts(t *testing.T) {
	// It never answers, and ends when the other side does: a check that left something behind would hang the test.
	silent := rawServer(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	for name, address := range map[string]string{"no answer": silent, "no TLS handshake": strings.Replace(silent, "http:", "https:", 1)} {
		v := newValidator(t, validator.Config{AllowedHosts: []string{"127.0.0.1"}})
		for _, rule := range both(address) {
			t.Run(name+", "+rule.Name(), func(t *testing.T) {
				const timeout = 20 * time.Millisecond
				if rule.Webhook != nil {
					rule.Webhook.Timeout = timeout
				} else {
					rule.HTTPProbe.Timeout = timeout
				}
				failed(t, v.Validate(t.Context(), rule, candidate), rule, "UNREACHABLE", "did not answer within 20ms")
			})
		}
	}
}

func TestTimeLimit(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{
		0: 5 * time.Second, -1: 5 * time.Second, time.Millisecond: time.Millisecond, 10 * time.Second: 10 * time.Second, time.Hour: 10 * time.Second,
	} {
		if got := validator.TimeLimit(timeout); got != want {
			t.Errorf("a check with the time-out %s may take %s, want %s", timeout, got, want)
		}
	}
}

func TestCallerThatGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	silent := rawServer(t, func(c net.Conn) {
		cancel()
		_, _ = io.Copy(io.Discard, c)
	})
	v := newValidator(t, validator.Config{AllowedHosts: []string{"127.0.0.1"}})
	for _, rule := range both(silent) {
		err := v.Validate(ctx, rule, candidate)
		failed(t, err, rule, "UNREACHABLE", "broken off")
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v is not context.Canceled", err)
		}
	}
}

func TestAnswersBodyIsNotRead(t *testing.T) {
	endless := rawServer(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		for {
			if _, err := c.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	v := newValidator(t, validator.Config{AllowedHosts: []string{"127.0.0.1"}})
	for _, rule := range both(endless) {
		if err := v.Validate(t.Context(), rule, candidate); err != nil {
			t.Error(err)
		}
	}
}

func TestCandidateWithoutValue(t *testing.T) {
	p := newPeer(t, answering(200)).plain()
	v := newValidator(t, validator.Config{AllowedHosts: []string{"127.0.0.1"}})
	rules := both(p.URL)
	rules["format"] = domain.Validator{Format: &domain.FormatRule{MaxLength: 1}}
	for name, rule := range rules {
		err := v.Validate(t.Context(), rule, domain.Candidate{Type: "a", Version: "1"})
		if e, ok := errors.AsType[*domain.CheckError](err); !ok || e.Code != domain.CheckVersionUnreadable {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := p.requests(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestFormatAndNoRule(t *testing.T) {
	v := newValidator(t, validator.Config{})
	err := v.Validate(t.Context(), domain.Validator{Format: &domain.FormatRule{MaxLength: 1}}, candidate)
	if e, ok := errors.AsType[*domain.CheckError](err); !ok || e.Code != domain.CheckFormatMismatch {
		t.Errorf("%v, want a format mismatch", err)
	}
	err = v.Validate(t.Context(), domain.Validator{}, candidate)
	if _, ok := errors.AsType[*domain.CheckError](err); err == nil || ok {
		t.Errorf("%v, want an error that is no CheckError", err)
	}
}

func TestChecksAtTheSameTime(t *testing.T) {
	p := newPeer(t, answering(200)).secure()
	v := newValidator(t, validator.Config{AllowedHosts: []string{"127.0.0.1"}, RootCAs: p.trust()})
	var checks sync.WaitGroup
	for range 8 {
		for _, rule := range both(p.URL) {
			checks.Go(func() {
				if err := v.Validate(t.Context(), rule, candidate); err != nil {
					t.Error(err)
				}
			})
		}
	}
	checks.Wait()
}
