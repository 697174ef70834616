package connect_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	rpc "connectrpc.com/connect"

	"github.com/apex-tradebill/omni-secrets/adapters/connect"
	"github.com/apex-tradebill/omni-secrets/domain"
	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
)

// stream is one caller's watch.
type stream struct {
	*rpc.ServerStreamForClient[secretsv1.WatchSecretsResponse]
	t testing.TB
}

func (f *fixture) watch(t testing.TB, ctx context.Context, p protocol, token string, types ...string) *stream {
	t.Helper()
	s, err := f.secrets(p, token).WatchSecrets(ctx, &secretsv1.WatchSecretsRequest{SecretTypes: types})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &stream{s, t}
}

// next describes the next message: "TYPE VALUE SOURCE", "TYPE - REASON [withdrawn]" or "keep-alive".
func (s *stream) next() string {
	s.t.Helper()
	if !s.Receive() {
		s.t.Fatalf("the stream ended: %v", s.Err())
	}
	switch e := s.Msg().GetEvent().(type) {
	case *secretsv1.WatchSecretsResponse_Secret:
		return fmt.Sprintf("%s %s %s", e.Secret.GetSecretType(), e.Secret.GetValue(), e.Secret.GetSource())
	case *secretsv1.WatchSecretsResponse_Unavailable:
		text := fmt.Sprintf("%s - %s", e.Unavailable.GetSecretType(), e.Unavailable.GetReason())
		if e.Unavailable.GetWithdrawn() {
			text += " withdrawn"
		}
		return text
	case *secretsv1.WatchSecretsResponse_KeepAlive:
		if e.KeepAlive.GetIntervalSeconds() == 0 {
			s.t.Errorf("keep-alive: %v", e.KeepAlive)
		}
		return "keep-alive"
	default:
		return fmt.Sprintf("%T", e)
	}
}

func (s *stream) want(messages ...string) {
	s.t.Helper()
	for _, want := range messages {
		if got := s.next(); got != want {
			s.t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// wantChange passes over keep-alives.
func (s *stream) wantChange(want string) {
	s.t.Helper()
	for {
		if got := s.next(); got == want {
			return
		} else if got != "keep-alive" {
			s.t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// wantEnd waits for the end of the stream.
func (s *stream) wantEnd(code rpc.Code, info domain.Code) {
	s.t.Helper()
	for s.Receive() {
	}
	wantFailure(s.t, s.Err(), code, info)
}

func TestWatchSecrets(t *testing.T) {
	each(t, func(t *testing.T, f *fixture, p protocol) {
		s := f.watch(t, t.Context(), p, tokenRead)
		s.want("trading_api_key key-1 gsm", "zk_signing_seed \xff\x00seed gsm", "webhook_shared_secret - not_found withdrawn", "keep-alive")
		f.apply("emergency", time.Minute)
		s.want("trading_api_key emergency break_glass")
		if _, err := f.service.Refresh(t.Context(), refresher, apiKey); err != nil {
			t.Fatal(err)
		}
		s.want("trading_api_key key-1 gsm")
		if reads := f.recorded(func(e domain.Event) bool { return e.Action == domain.ActionRead && e.Actor.ID == "subject-read" }); reads != 4 {
			t.Errorf("%d reads are recorded, want 4", reads)
		}
	})
}

// The server cuts answers off after a minute; a watch outlives that many times.
func TestWatchOutlivesTheServersDeadlines(t *testing.T) {
	eachInMemory(t, func(t *testing.T, f *fixture, p protocol) {
		s := f.watch(t, t.Context(), p, tokenRead, apiKey)
		s.want("trading_api_key key-1 gsm", "keep-alive")
		for range 40 { // ten minutes
			s.want("keep-alive")
		}
		f.apply("emergency", time.Minute)
		s.want("trading_api_key emergency break_glass")
	})
}

func TestWatchEndsWhenTheServerStops(t *testing.T) {
	each(t, func(t *testing.T, f *fixture, p protocol) {
		s := f.watch(t, t.Context(), p, tokenRead, apiKey)
		s.want("trading_api_key key-1 gsm", "keep-alive")
		f.service.EndWatches()
		s.wantEnd(rpc.CodeUnavailable, domain.CodeShuttingDown)
		f.watch(t, t.Context(), p, tokenRead, apiKey).wantEnd(rpc.CodeUnavailable, domain.CodeShuttingDown)
	})
}

func TestWatchEndsWithItsToken(t *testing.T) {
	eachInMemory(t, func(t *testing.T, f *fixture, p protocol) {
		s := f.watch(t, t.Context(), p, tokenRead, apiKey)
		s.want("trading_api_key key-1 gsm", "keep-alive")
		f.tokens.refuse(tokenRead)
		s.wantEnd(rpc.CodeUnauthenticated, domain.CodeUnauthenticated)
	})
}

func TestWatchIsRefused(t *testing.T) {
	each(t, func(t *testing.T, f *fixture, p protocol) {
		many := make([]string, 1001)
		for i := range many {
			many[i] = fmt.Sprint("type-", i)
		}
		for _, c := range []struct {
			name, token string
			types       []string
			code        rpc.Code
			info        domain.Code
		}{
			{"no token", "", nil, rpc.CodeUnauthenticated, domain.CodeUnauthenticated},
			{"no scope", tokenCache, nil, rpc.CodePermissionDenied, domain.CodeForbidden},
			{"no scope and an invalid field", tokenCache, []string{""}, rpc.CodePermissionDenied, domain.CodeForbidden},
			{"an unknown type", tokenRead, []string{apiKey, "nothing"}, rpc.CodeNotFound, domain.CodeUnknownSecretType},
			{"an empty type", tokenRead, []string{""}, rpc.CodeInvalidArgument, domain.CodeInvalidRequest},
			{"a type twice", tokenRead, []string{apiKey, apiKey}, rpc.CodeInvalidArgument, domain.CodeInvalidRequest},
			{"too many types", tokenRead, many, rpc.CodeInvalidArgument, domain.CodeInvalidRequest},
			{"a message that is too large", tokenRead, []string{strings.Repeat("x", connect.MaxMessageBytes)}, rpc.CodeResourceExhausted, ""},
		} {
			t.Run(c.name, func(t *testing.T) {
				f.watch(t, t.Context(), p, c.token, c.types...).wantEnd(c.code, c.info)
			})
		}
	})
}

// The keep-alive of these is so long that only the end of the connection can end the watch; that it does end is
// seen by goleak, and by the server's Close, which waits for its requests.
func TestWatchEndsWithItsCaller(t *testing.T) {
	t.Run("who cancels", func(t *testing.T) {
		each(t, func(t *testing.T, f *fixture, p protocol) {
			ctx, cancel := context.WithCancel(t.Context())
			s := f.watch(t, ctx, p, tokenRead, apiKey)
			s.want("trading_api_key key-1 gsm", "keep-alive")
			cancel()
			s.wantEnd(rpc.CodeCanceled, "")
		})
	})
	t.Run("whose deadline passes", func(t *testing.T) {
		eachInMemory(t, func(t *testing.T, f *fixture, p protocol) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			f.watch(t, ctx, p, tokenRead, apiKey).wantEnd(rpc.CodeDeadlineExceeded, "")
		})
	})
	t.Run("who half-closes the connection", func(t *testing.T) {
		f := newFixture(t)
		conn, answer := f.rawWatch()
		if line, err := answer.ReadString('\n'); err != nil || !strings.Contains(line, "200") {
			t.Fatalf("%q, %v", line, err)
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		for { // until the server closes its half
			if _, err := answer.ReadString('\n'); err != nil {
				break
			}
		}
	})
	t.Run("who goes away", func(t *testing.T) {
		f := newFixture(t)
		conn, answer := f.rawWatch()
		if _, err := answer.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// rawWatch begins a watch on a connection of its own, as any client may do over HTTP/1.1.
func (f *fixture) rawWatch() (net.Conn, *bufio.Reader) {
	f.t.Helper()
	conn, err := f.dial(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = conn.Close() })
	message := []byte(`{"secretTypes":["trading_api_key"]}`)
	enveloped := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	enveloped = append(enveloped, message...)
	if _, err := fmt.Fprintf(conn, "POST /omni.secrets.v1.SecretsService/WatchSecrets HTTP/1.1\r\nHost: omni\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/connect+json\r\nContent-Length: %d\r\n\r\n%s", tokenRead, len(enveloped), enveloped); err != nil {
		f.t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

// A request that is sent drop by drop does not hold the server's place longer than its deadline.
func TestWatchRequestThatNeverEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newInMemory(t)
		conn, err := f.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := fmt.Fprintf(conn, "POST /omni.secrets.v1.SecretsService/WatchSecrets HTTP/1.1\r\nHost: omni\r\nAuthorization: Bearer %s\r\n"+
			"Content-Type: application/connect+json\r\nContent-Length: 100\r\n\r\n", tokenRead); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn) // until the server closes
		if err != nil {
			t.Error(err)
		}
		if bytes.Contains(answer, []byte(`"value"`)) {
			t.Errorf("it is answered: %s", answer)
		}
	})
}

// One who does not read is cut off when the connection has taken no more for some keep-alives, and meanwhile holds
// up nobody.
func TestWatcherThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newInMemory(t)
		f.server.Config.WriteTimeout = 0 // the watch bounds its writes by itself
		conn, answer := f.rawWatch()
		if _, err := answer.ReadString('\n'); err != nil { // it is answered, and then never read
			t.Fatal(err)
		}
		reader := f.watch(t, t.Context(), protocols[0], tokenRead, apiKey)
		reader.want("trading_api_key key-1 gsm")
		for i := range 3 {
			value := fmt.Sprint("key-", i)
			f.backend.Set("key", value)
			if _, err := f.service.Refresh(t.Context(), refresher, apiKey); err != nil {
				t.Fatal(err)
			}
			reader.wantChange("trading_api_key " + value + " gsm")
		}
		f.wantCutOff(t, conn)
	})
}

// Nor does one hold the server's place who reads everything but the end.
func TestWatcherThatDoesNotReadTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newInMemory(t)
		conn, _ := f.rawWatch()
		var answer []byte
		for !bytes.Contains(answer, []byte(`"code":"unavailable"`)) {
			piece := make([]byte, 4<<10)
			n, err := conn.Read(piece)
			if err != nil {
				t.Fatal(err)
			}
			if answer = append(answer, piece[:n]...); bytes.Contains(answer, []byte(`"value"`)) {
				f.service.EndWatches()
			}
		}
		f.wantCutOff(t, conn)
	})
}

// wantCutOff waits until the server closes the connection by itself.
func (f *fixture) wantCutOff(t testing.TB, conn net.Conn) {
	t.Helper()
	late := time.After(2 * time.Minute)
	for {
		select {
		case address := <-f.closed:
			if address == conn.LocalAddr().String() {
				return
			}
		case <-late:
			t.Error("it is not cut off")
			_ = conn.Close()
			return
		}
	}
}

// frame is one of HTTP/2 (RFC 9113, section 4.1).
func frame(kind, flags byte, stream uint32, payload string) string {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))[1:]
	return string(binary.BigEndian.AppendUint32(append(head, kind, flags), stream)) + payload
}

// field is one of a header, to the letter and in no table (RFC 7541, section 6.2.2).
func field(name, value string) string {
	return "\x00" + string(rune(len(name))) + name + string(rune(len(value))) + value
}

// Over HTTP/2 a deadline is a timer that resets the stream; one that is over must not be reset a minute later, nor be kept so
// long.
func TestNothingIsSaidOfAWatchThatItsClientCancelled(t *testing.T) {
	const data, headers, reset, settings, endStream, endHeaders = 0, 1, 3, 4, 1, 4
	synctest.Test(t, func(t *testing.T) {
		f := newInMemory(t)
		conn, err := f.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		var ofTheFirst atomic.Int64 // frames
		go func() {
			for head := make([]byte, 9); ; {
				if _, err := io.ReadFull(conn, head); err != nil {
					return
				}
				if binary.BigEndian.Uint32(head[5:]) == 1 {
					ofTheFirst.Add(1)
				}
				if _, err := io.CopyN(io.Discard, conn, int64(head[0])<<16|int64(head[1])<<8|int64(head[2])); err != nil {
					return
				}
			}
		}()
		watch := field(":method", "POST") + field(":scheme", "http") + field(":authority", "omni") +
			field(":path", "/omni.secrets.v1.SecretsService/WatchSecrets") +
			field("authorization", "Bearer "+tokenRead) + field("content-type", "application/connect+json")
		request := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(settings, 0, 0, "")
		for _, stream := range []uint32{1, 3} { // the other one keeps the connection
			request += frame(headers, endHeaders, stream, watch) + frame(data, endStream, stream, "\x00\x00\x00\x00\x02{}")
		}
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if ofTheFirst.Load() == 0 {
			t.Fatal("the watch was not answered")
		}
		if _, err := io.WriteString(conn, frame(reset, 0, 1, "\x00\x00\x00\x08")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		before := ofTheFirst.Load()
		time.Sleep(2 * time.Minute) //nolint:forbidigo // simulated: in a bubble
		synctest.Wait()
		if n := ofTheFirst.Load() - before; n != 0 {
			t.Errorf("%d frames after its end", n)
		}
	})
}
