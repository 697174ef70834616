package integration_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/apex-tradebill/omni-secrets/domain"
	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
	"github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1/secretsv1connect"
)

// TestBadInputLeavesNothingBehind sends what no honest client sends, over each protocol, to the built server. Each has
// its code, and no goroutine of the server is left of any of it.
func TestBadInputLeavesNothingBehind(t *testing.T) {
	gsm := startEmulator(t)
	s := prepareServe(t, gsm.endpoint, "OMNI_FAILED_TOKENS_PER_MINUTE=0").start(t) // there are more than the default lets pass
	reader := sign(t, s.secret, "svc-trading", domain.ScopeRead.String())
	nothing := sign(t, s.secret, "svc-trading")
	const (
		tooLarge = 128<<10 + 1
		times    = 10
	)

	get := func(token, name string) func(*caller) error {
		return func(c *caller) error {
			_, err := c.secrets(token).GetSecret(t.Context(), &secretsv1.GetSecretRequest{SecretType: name})
			return err
		}
	}
	watch := func(token string, names ...string) func(*caller) error {
		return func(c *caller) error {
			_, err := c.watch(t.Context(), token, names...)
			return err
		}
	}
	for _, c := range []struct {
		name string
		send func(*caller) error
		code connect.Code
		info domain.Code // "" where the protocol itself refuses
	}{
		{"no token", get("", string(apiKey)), connect.CodeUnauthenticated, domain.CodeUnauthenticated},
		{"no scope", get(nothing, string(apiKey)), connect.CodePermissionDenied, domain.CodeForbidden},
		{"an unknown type", get(reader, "nothing"), connect.CodeNotFound, domain.CodeUnknownSecretType},
		{"no type", get(reader, ""), connect.CodeInvalidArgument, domain.CodeInvalidRequest},
		{"an oversized message", get(reader, strings.Repeat("x", tooLarge)), connect.CodeResourceExhausted, ""},
		{"a watch without a token", watch(""), connect.CodeUnauthenticated, domain.CodeUnauthenticated},
		{"a watch without the scope", watch(nothing), connect.CodePermissionDenied, domain.CodeForbidden},
		{"a watch of an unknown type", watch(reader, string(apiKey), "nothing"), connect.CodeNotFound, domain.CodeUnknownSecretType},
		{"a watch by an oversized message", watch(reader, strings.Repeat("x", tooLarge)), connect.CodeResourceExhausted, ""},
		{"a watch that is cancelled", func(c *caller) error {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream, err := c.watch(ctx, reader, string(apiKey))
			if err != nil {
				return err
			}
			cancel()
			return drain(stream)
		}, connect.CodeCanceled, ""},
		{"a watch whose deadline passes", func(c *caller) error {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			stream, err := c.watch(ctx, reader, string(apiKey))
			if err != nil {
				return err
			}
			return drain(stream)
		}, connect.CodeDeadlineExceeded, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, p := range wireProtocols {
				with := newCaller(s, p)
				s.wantNoGoroutineLeft(t, times, func() {
					err := c.send(with)
					if connect.CodeOf(err) != c.code {
						t.Fatalf("%s: %v, want %v", p.name, err, c.code)
					}
					if c.info == "" {
						return
					}
					if _, info := errorInfo(t, err); info.GetCode() != string(c.info) || info.GetRequestId() == "" {
						t.Fatalf("%s: ErrorInfo %v, want %s", p.name, info, c.info)
					}
				})
				with.inner.CloseIdleConnections()
			}
		})
	}

	// What the connection itself does, when a watch is open on it.
	for name, leave := range map[string]func(*net.TCPConn) error{
		"half-closed": (*net.TCPConn).CloseWrite,
		"closed":      (*net.TCPConn).Close,
		"reset":       func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) },
	} {
		t.Run("a connection that is "+name, func(t *testing.T) {
			s.wantNoGoroutineLeft(t, times, func() {
				conn := s.rawWatch(t, reader)
				defer func() { _ = conn.Close() }()
				if err := leave(conn); err != nil {
					t.Fatal(err)
				}
				if name != "half-closed" {
					return
				}
				if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, conn); err != nil { // until the server closes its half
					t.Fatal(err)
				}
			})
		})
	}
	s.wantNoTrace(gsm.values[apiKey], reader, nothing)
}

// wireProtocol is a way to reach the API.
type wireProtocol struct {
	name    string
	http2   bool
	options []connect.ClientOption
}

var wireProtocols = []wireProtocol{
	{"Connect", false, nil},
	{"Connect over HTTP/2", true, nil},
	{"gRPC", true, []connect.ClientOption{connect.WithGRPC()}},
	{"gRPC-Web", false, []connect.ClientOption{connect.WithGRPCWeb()}},
}

// caller is a client with connections of its own, which it uses again where it can.
type caller struct {
	s        *server
	protocol wireProtocol
	inner    *http.Client
}

func newCaller(s *server, p wireProtocol) *caller {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(!p.http2)
	transport.Protocols.SetUnencryptedHTTP2(p.http2)
	return &caller{s, p, &http.Client{Transport: transport}}
}

func (c *caller) secrets(token string) secretsv1connect.SecretsServiceClient {
	return secretsv1connect.NewSecretsServiceClient(bearerClient{c.inner, token}, c.s.api, c.protocol.options...)
}

type secretStream = connect.ServerStreamForClient[secretsv1.WatchSecretsResponse]

// watch opens a watch and waits for its first message.
func (c *caller) watch(ctx context.Context, token string, names ...string) (*secretStream, error) {
	stream, err := c.secrets(token).WatchSecrets(ctx, &secretsv1.WatchSecretsRequest{SecretTypes: names})
	if err != nil {
		return nil, err
	}
	if !stream.Receive() {
		return nil, drain(stream)
	}
	return stream, nil
}

// drain waits for the end of a stream and returns why it ended.
func drain(stream *secretStream) error {
	for stream.Receive() {
	}
	_ = stream.Close()
	return stream.Err()
}

// rawWatch opens a watch on a connection of its own and waits for the beginning of the answer.
func (s *server) rawWatch(t *testing.T, token string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.api, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	message := []byte(fmt.Sprintf(`{"secretTypes":[%q]}`, apiKey))
	message = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: omni\r\nAuthorization: Bearer %s\r\nContent-Type: application/connect+json\r\nContent-Length: %d\r\n\r\n%s",
		secretsv1connect.SecretsServiceWatchSecretsProcedure, token, len(message), message)
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, " 200 ") {
		t.Fatalf("%q, %v", line, err)
	}
	return conn.(*net.TCPConn)
}

// goroutines is how many the server has.
func (s *server) goroutines(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(s.metric("go_goroutines"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// wantNoGoroutineLeft does something a few times and waits until the server has about as many goroutines as after the
// first time: a leak is one for each time, while a connection or a worker more or less is none.
func (s *server) wantNoGoroutineLeft(t *testing.T, times int, do func()) {
	t.Helper()
	do()
	before := s.goroutines(t)
	for range times {
		do()
	}
	eventually(t, fmt.Sprintf("the server is back to some %d goroutines", before), func() bool { return s.goroutines(t) < before+times/2 })
}
