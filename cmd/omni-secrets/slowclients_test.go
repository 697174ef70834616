package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	rpc "connectrpc.com/connect"

	"github.com/apex-tradebill/omni-secrets/adapters/token"
	"github.com/apex-tradebill/omni-secrets/domain"
	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
	"github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1/secretsv1connect"
	"github.com/apex-tradebill/omni-secrets/service"
)

// atMost bounds what a test waits for; nothing depends on how much sooner it comes.
const atMost = 30 * time.Second

// short is the patience of a server that tests are impatient with.
var short = patience{header: 100 * time.Millisecond, request: 200 * time.Millisecond, answer: 200 * time.Millisecond, idle: 100 * time.Millisecond}

// without is short with one of its parts as good as endless, to see which part it is that ends a connection.
func without(change func(*patience)) patience {
	p := patience{header: time.Hour, request: time.Hour, answer: time.Hour, idle: time.Hour}
	change(&p)
	return p
}

// serveWith runs a server and returns its address.
func serveWith(t *testing.T, handler http.Handler, tlsConfig *tls.Config, p patience) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := newServer(handler, tlsConfig, slog.New(slog.DiscardHandler), p)
	done := make(chan error, 1)
	go func() { done <- serveOn(server, ln) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

func connectTo(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, atMost)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(atMost)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// wantHungUp waits until the server ends a connection, and returns what it sent before.
func wantHungUp(t *testing.T, conn net.Conn) string {
	t.Helper()
	answer, err := io.ReadAll(conn)
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		t.Errorf("the server waits on")
	}
	return string(answer)
}

const (
	preface  = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
)

func TestSlowClientsAreCutOff(t *testing.T) {
	certificate, err := tls.X509KeyPair(selfSigned(t))
	if err != nil {
		t.Fatal(err)
	}
	readAll := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	for _, c := range []struct {
		name, sends string
		patience    patience
		tls         *tls.Config
	}{
		{"nothing sent", "", without(func(p *patience) { p.header = short.header }), nil},
		{"half of the headers", "GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ", without(func(p *patience) { p.header = short.header }), nil},
		{"half of the body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345", without(func(p *patience) { p.request = short.request }), nil},
		{"half of a chunk", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n12345", without(func(p *patience) { p.request = short.request }), nil},
		{"nothing after a request", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", without(func(p *patience) { p.idle = short.idle }), nil},
		{"no handshake", "", without(func(p *patience) { p.header = short.header }), &tls.Config{Certificates: []tls.Certificate{certificate}}},
		{"half of a handshake", "\x16\x03\x01\x02\x00", without(func(p *patience) { p.header = short.header }), &tls.Config{Certificates: []tls.Certificate{certificate}}},
		{"HTTP/2 without a request", preface + settings, without(func(p *patience) { p.idle = short.idle }), nil},
		{"HTTP/2 with half of a frame", preface + settings + "\x00\x00\x10\x01", without(func(p *patience) { p.idle = short.idle }), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := connectTo(t, serveWith(t, readAll, c.tls, c.patience))
			if _, err := io.WriteString(conn, c.sends); err != nil {
				t.Fatal(err)
			}
			wantHungUp(t, conn)
		})
	}
}

// A client that takes its answer slowly or not at all does not keep the server busy.
func TestClientsThatDoNotReadAreCutOff(t *testing.T) {
	for name, begin := range map[string]string{
		"HTTP/1.1": "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		// HEADERS on stream 1: GET, http, /, all from the static table.
		"HTTP/2": preface + settings + "\x00\x00\x03\x01\x05\x00\x00\x00\x01\x82\x86\x84",
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan error, 1)
			endless := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				piece := make([]byte, 64<<10)
				for {
					if _, err := w.Write(piece); err != nil {
						ended <- err
						return
					}
				}
			})
			conn := connectTo(t, serveWith(t, endless, nil, without(func(p *patience) { p.answer = short.answer })))
			if _, err := io.WriteString(conn, begin); err != nil {
				t.Fatal(err)
			}
			select {
			case <-ended:
			case <-time.After(atMost):
				t.Error("the server goes on writing")
			}
		})
	}
}

// The body of a stream of HTTP/2 has the same deadline as that of HTTP/1.1.
func TestSlowBodyOverHTTP2IsCutOff(t *testing.T) {
	ended := make(chan error, 1)
	address := serveWith(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		ended <- err
	}), nil, without(func(p *patience) { p.request = short.request }))
	conn := connectTo(t, address)
	// HEADERS without END_STREAM: POST, http, /.
	if _, err := io.WriteString(conn, preface+settings+"\x00\x00\x03\x01\x04\x00\x00\x00\x01\x83\x86\x84"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the body ended by itself")
		}
	case <-time.After(atMost):
		t.Error("the server waits on")
	}
}

func TestLargeHeadersAreRefused(t *testing.T) {
	address := serveWith(t, http.NotFoundHandler(), nil, usualPatience)
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Large", strings.Repeat("x", 2*maxHeaderBytes))
			response, err := httpClient(t, http2).Do(r)
			if err != nil {
				return // the server may hang up before all of it is sent
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("status %d", response.StatusCode)
			}
		})
	}
}

// httpClient speaks one version of HTTP without TLS.
func httpClient(t *testing.T, http2 bool) *http.Client {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(!http2)
	transport.Protocols.SetUnencryptedHTTP2(http2)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: atMost}
}

func TestConnectionsBeyondTheBoundAreRefusedAtOnce(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bounded := newBoundedListener(ln, 2, slog.New(slog.DiscardHandler))
	server := newServer(http.NotFoundHandler(), nil, slog.New(slog.DiscardHandler), usualPatience)
	done := make(chan error, 1)
	go func() { done <- serveOn(server, bounded) }()
	defer func() { _ = server.Close(); <-done }()
	ask := func(conn net.Conn) error {
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return err
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
		return err
	}

	first, second := connectTo(t, ln.Addr().String()), connectTo(t, ln.Addr().String())
	for _, conn := range []net.Conn{first, second} {
		if err := ask(conn); err != nil {
			t.Fatal(err)
		}
	}
	wantHungUp(t, connectTo(t, ln.Addr().String()))
	if n := bounded.refused.Load(); n != 1 || bounded.open.Load() != 2 {
		t.Errorf("%d refused, %d open", n, bounded.open.Load())
	}
	if err := ask(first); err != nil {
		t.Errorf("a connection that was there before: %v", err)
	}

	_ = first.Close()
	for until := time.Now().Add(atMost); ; { // until the server has noticed
		if ask(connectTo(t, ln.Addr().String())) == nil {
			break
		}
		if time.Now().After(until) {
			t.Fatal("there is no room after one has gone")
		}
	}
}

// running is a server as `serve` runs it, over a data directory of `dev`.
type running struct {
	*app
	config  config
	dir     string
	address string
	logs    *lockedLog
}

// start runs a server that change has changed.
func start(t *testing.T, change func(*config), p patience) *running {
	t.Helper()
	r := &running{dir: t.TempDir(), logs: new(lockedLog)}
	var err error
	if r.config, err = prepareDev(t.Context(), r.dir); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&r.config)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if r.app, err = newApp(ctx, r.config, slog.New(slog.NewJSONHandler(r.logs, nil))); err != nil {
		cancel()
		t.Fatal(err)
	}
	r.patience = p
	if err := r.listenBeside(ctx, r.config); err != nil {
		t.Fatal(err)
	}
	ln, err := listen(ctx, "127.0.0.1:0", "OMNI_LISTEN")
	if err != nil {
		t.Fatal(err)
	}
	r.address = ln.Addr().String()
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- r.Run(ctx, ln, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, r.Close()); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		done <- err
		t.Fatal(err)
	case <-time.After(atMost):
		t.Fatal("it does not get ready")
	}
	return r
}

func (r *running) sign(t *testing.T, subject string, scopes domain.Scope) string {
	t.Helper()
	signed, err := token.Sign(r.config.JWTSecret.Reveal(), token.Claims{Subject: subject, Scopes: scopes.Names(), ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// What ends slow clients leaves streams alone. The deadlines are such as requests on a busy machine keep; the servers wait
// side by side.
func TestStreamsAreNotCutOff(t *testing.T) {
	t.Parallel()
	deadlines := patience{header: 5 * time.Second, request: 5 * time.Second, answer: 5 * time.Second, idle: 5 * time.Second}
	for name, c := range map[string]struct {
		http2   bool
		options []rpc.ClientOption
	}{
		"Connect over HTTP/1.1": {false, nil}, "Connect over HTTP/2": {true, nil},
		"gRPC": {true, []rpc.ClientOption{rpc.WithGRPC()}}, "gRPC-Web": {false, []rpc.ClientOption{rpc.WithGRPCWeb()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, nil, deadlines)
			hc := httpClient(t, c.http2)
			hc.Timeout = 0
			client := secretsv1connect.NewSecretsServiceClient(hc, "http://"+s.address, c.options...)
			ctx, call := rpc.NewClientContext(t.Context())
			ctx, cancel := context.WithTimeout(ctx, atMost)
			defer cancel()
			call.RequestHeader().Set("Authorization", "Bearer "+s.sign(t, "svc", domain.ScopeRead))
			stream, err := client.WatchSecrets(ctx, &secretsv1.WatchSecretsRequest{SecretTypes: []string{"trading_api_key"}})
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			next := func(want string) {
				t.Helper()
				for stream.Receive() {
					if got := stream.Msg().GetSecret(); got != nil && (want == "" || string(got.GetValue()) == want) {
						return
					}
				}
				t.Fatalf("the stream ended: %v", stream.Err())
			}
			next("")

			// This takes longer than any deadline of a request that began before it.
			conn := connectTo(t, s.address)
			if _, err := io.WriteString(conn, "POST /internal/apex-omni/secrets/cache/refresh HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nAuthorization: Bearer "+
				s.sign(t, "svc", domain.ScopeCacheRefresh)+"\r\n\r\n{"); err != nil {
				t.Fatal(err)
			}
			wantHungUp(t, conn)
			if err := os.WriteFile(filepath.Join(s.dir, "secrets", "trading_api_key"), []byte("after the deadlines"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := s.service.Refresh(t.Context(), service.Call{Principal: domain.Principal{Subject: "svc", Scopes: domain.ScopeCacheRefresh}}, "trading_api_key"); err != nil {
				t.Fatal(err)
			}
			next("after the deadlines")
		})
	}
}

// What a message grows to when it is unpacked counts, not what is sent.
func TestMessagesThatUnpackToMoreThanTheyMayAreRefused(t *testing.T) {
	s := start(t, nil, usualPatience)
	var bomb bytes.Buffer
	packed := gzip.NewWriter(&bomb)
	fmt.Fprintf(packed, `{"secretType":"%s"}`, strings.Repeat("x", 8<<20))
	if err := packed.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.address+secretsv1connect.SecretsServiceGetSecretProcedure, &bomb)
	if err != nil {
		t.Fatal(err)
	}
	sent := r.ContentLength
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Content-Encoding", "gzip")
	r.Header.Set("Authorization", "Bearer "+s.sign(t, "svc", domain.ScopeRead))
	response, err := httpClient(t, false).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	if !bytes.Contains(text, []byte(`"resource_exhausted"`)) || sent > 128<<10 {
		t.Errorf("%d bytes were sent, the answer is %d %s", sent, response.StatusCode, text)
	}
}
