package client_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/apex-tradebill/omni-secrets/client"
	"github.com/apex-tradebill/omni-secrets/client/clienttest"
	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
)

const streamType, unaryType = "application/connect+proto", "application/proto"

// What answers instead of the server must do no harm: what is in memory is served on, and the server is found again.
func TestGarbageAnswers(t *testing.T) {
	answer := func(status int, contentType string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = w.Write(body)
		}
	}
	secret := &secretsv1.Secret{SecretType: apiKey, Value: []byte("forged"), Version: "9", Source: "gsm"}
	nameless := &secretsv1.Secret{Value: []byte("forged")}
	empty := &secretsv1.Secret{SecretType: apiKey}
	large := &secretsv1.Secret{SecretType: apiKey, Value: bytes.Repeat([]byte("v"), 1<<20)}
	bomb := compressedZeros(t, 64<<20)
	cases := map[string]http.HandlerFunc{
		"a login page":                   answer(http.StatusOK, "text/html", []byte("<html>Sign in</html>")),
		"not found":                      answer(http.StatusNotFound, "text/plain", []byte("404")),
		"forbidden, by a proxy":          answer(http.StatusForbidden, "text/plain", []byte("no")),
		"bad gateway":                    answer(http.StatusBadGateway, "text/html", bytes.Repeat([]byte("x"), 1<<20)),
		"an empty answer":                answer(http.StatusOK, unaryType, nil),
		"an empty stream":                answer(http.StatusOK, streamType, nil),
		"bytes that are no message":      answer(http.StatusOK, unaryType, []byte("\xff\xff\xff\xff")),
		"a stream of bytes":              answer(http.StatusOK, streamType, bytes.Repeat([]byte("\xff"), 1000)),
		"a stream that breaks off":       answer(http.StatusOK, streamType, frame(watchEvent(secret))[:10]),
		"an answer without a secret":     answer(http.StatusOK, unaryType, nil),
		"another secret":                 answer(http.StatusOK, unaryType, encode(&secretsv1.GetSecretResponse{Secret: &secretsv1.Secret{SecretType: "other", Value: []byte("x")}})),
		"a secret without a name":        answer(http.StatusOK, streamType, frame(watchEvent(nameless))),
		"a secret without a value":       answer(http.StatusOK, streamType, frame(watchEvent(empty))),
		"a poll without a value":         answer(http.StatusOK, unaryType, encode(&secretsv1.GetSecretResponse{Secret: empty})),
		"a huge message in the stream":   answer(http.StatusOK, streamType, frame(watchEvent(large))),
		"a huge answer":                  answer(http.StatusOK, unaryType, encode(&secretsv1.GetSecretResponse{Secret: large})),
		"a length without a message":     answer(http.StatusOK, streamType, []byte{0, 0xff, 0xff, 0xff, 0xff}),
		"an event of a kind to come":     answer(http.StatusOK, streamType, frame([]byte{0x7a, 0x01, 'x'})),
		"a stream that nobody asked for": answer(http.StatusOK, streamType, frame(watchEvent(&secretsv1.Secret{SecretType: "other", Value: []byte("x")}))),
		"a compressed bomb": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", unaryType)
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb)
		},
	}
	for name, garbage := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(h *harness) {
				h.follow(only(apiKey))
				h.omni.Kill()
				h.omni.Wrap(func(http.Handler) http.Handler { return garbage })
				h.omni.Start()
				h.pass(10 * time.Minute)
				h.wantValue(apiKey, "key-1", true)
				h.wantNone("other", client.ErrNotFollowed, client.CodeNotFollowed)
				h.omni.Wrap(nil)
				h.pass(time.Minute + 20*time.Second) // a refusal is believed for a minute
				h.wantValue(apiKey, "key-1", false)
				h.wantChanges()
			})
		})
	}
}

// An override that is over when it comes is not asked for without a pause.
func TestOverrideThatIsOverIsNotAskedForAtOnce(t *testing.T) {
	bubble(t, func(h *harness) {
		over := &secretsv1.Secret{SecretType: apiKey, Value: []byte("over"), Version: "bg-1", Source: client.SourceBreakGlass}
		polls := 0
		h.omni.Wrap(func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if polls++; polls > 1000 {
					return // it has failed already
				}
				w.Header().Set("Content-Type", req.Header.Get("Content-Type")) // a stream gets what is none
				_, _ = w.Write(encode(&secretsv1.GetSecretResponse{Secret: over}))
			})
		})
		h.follow(only(apiKey))
		h.pass(time.Minute)
		if s, err := h.Get(done(h.t), apiKey); !errors.Is(err, client.ErrUnavailable) {
			t.Errorf("got %v, %v", s, err)
		}
		if polls > 150 { // the polls, and attempts at a stream, both with back-off
			t.Errorf("%d requests in a minute", polls)
		}
	})
}

func TestTokenGoesNowhereElse(t *testing.T) {
	t.Run("redirects are not followed", func(t *testing.T) {
		bubble(t, func(h *harness) {
			elsewhere, config := h.withSecond()
			h.omni.Wrap(func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					http.Redirect(w, req, elsewhere.URL()+req.URL.Path, http.StatusTemporaryRedirect)
				})
			})
			h.follow(config, only(apiKey), func(cfg *client.Config) { cfg.BaseURLs = cfg.BaseURLs[:1] })
			h.pass(time.Minute)
			h.wantNone(apiKey, client.ErrUnavailable, client.CodeNoAnswer)
			if n := elsewhere.Requests(); n != 0 {
				t.Errorf("%d requests went on to where the redirect leads", n)
			}
		})
	})
	t.Run("an answer that repeats it reaches neither errors nor the log", func(t *testing.T) {
		bubble(t, func(h *harness) {
			h.omni.Wrap(func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(http.StatusServiceUnavailable)
					_, _ = fmt.Fprintf(w, `{"code":"unavailable","message":"bad %s\n%s"}`, req.Header.Get("Authorization"), strings.Repeat("long ", 1000))
				})
			})
			h.follow(only(apiKey))
			h.pass(time.Minute)
			_, err := h.Get(done(h.t), apiKey)
			for what, text := range map[string]string{"the error": fmt.Sprintf("%v %+v", err, err), "the log": h.logs.String()} {
				if strings.Contains(text, clienttest.Token) {
					t.Errorf("%s shows the token: %s", what, text)
				}
			}
			if text := err.Error(); len(text) > 1000 || strings.Contains(text, "\n") {
				t.Errorf("the error is not one short line: %q", text)
			}
		})
	})
}

// No value is in what the client logs or prints of itself.
func TestValuesAreNotShown(t *testing.T) {
	bubble(t, func(h *harness) {
		h.follow()
		h.omni.Override(apiKey, "emergency", time.Minute)
		h.pass(2 * time.Minute)
		h.omni.Withdraw(webhook)
		h.pass(time.Minute)
		s, err := h.Get(h.t.Context(), apiKey)
		shown := fmt.Sprintf("%v %+v %#v %v %s", s, s, s, err, h.logs)
		for _, plaintext := range []string{"key-1", "hook-1", "emergency"} {
			if strings.Contains(shown, plaintext) {
				t.Errorf("%q is shown in %s", plaintext, shown)
			}
		}
	})
}

// compressedZeros is what n zero bytes become by gzip.
func compressedZeros(t *testing.T, n int) []byte {
	t.Helper()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

func watchEvent(s *secretsv1.Secret) []byte {
	return encode(&secretsv1.WatchSecretsResponse{Event: &secretsv1.WatchSecretsResponse_Secret{Secret: s}})
}

func encode(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

// frame is one message of a stream, as the Connect protocol sends it.
func frame(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}
