package client_test

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/apex-tradebill/omni-secrets/client"
	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
)

// answeredTypes are the content types of what answers in the place of the server.
var answeredTypes = []string{unaryType, streamType, "application/json", "application/connect+json", "text/html"}

// Whatever answers in the place of the server, a reader gets the value that was there, or one that the bytes of the answer
// hold, or an error, and never the value of another secret; and when the server is back its value is found again.
func FuzzAnswer(f *testing.F) {
	f.Fuzz(func(t *testing.T, status uint16, contentType byte, body []byte) {
		if len(body) > 4<<10 {
			return // what is long has its own test
		}
		bubble(t, func(h *harness) {
			h.follow(only(apiKey))
			h.omni.Kill()
			h.omni.Wrap(func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", answeredTypes[int(contentType)%len(answeredTypes)])
					w.WriteHeader(200 + int(status)%400)
					_, _ = w.Write(body)
				})
			})
			h.omni.Start()
			h.pass(90 * time.Second)
			s, err := h.Get(done(h.t), apiKey)
			switch value := s.Value.Reveal(); {
			case err != nil && len(value) > 0:
				t.Errorf("the error %v comes with a value", err)
			case err == nil && !slices.ContainsFunc(possible(body), func(p []byte) bool { return bytes.Equal(p, value) }):
				t.Errorf("a reader got %q of the answer %q", value, body)
			case err == nil && s.Type != apiKey:
				t.Errorf("a reader got the value of %q", s.Type)
			}
			if _, err := h.Get(done(h.t), "other"); !errors.Is(err, client.ErrNotFollowed) {
				t.Errorf("the error of a secret that nobody follows is %v", err)
			}
			h.omni.Wrap(nil)
			h.pass(3 * time.Minute)
			h.wantValue(apiKey, "key-1", false)
		})
	})
}

// possible are the values of the secret that the plainest reading finds anywhere in an answer, and the one from before.
func possible(body []byte) [][]byte {
	values := [][]byte{[]byte("key-1")}
	for from := range body {
		rest := body[from:]
		var unary secretsv1.GetSecretResponse
		if proto.Unmarshal(rest, &unary) == nil {
			values = append(values, unary.GetSecret().GetValue())
		}
		for to := range rest {
			var event secretsv1.WatchSecretsResponse
			if proto.Unmarshal(rest[:to+1], &event) == nil {
				values = append(values, event.GetSecret().GetValue())
			}
		}
	}
	return values
}
