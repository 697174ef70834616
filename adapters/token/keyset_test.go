package token_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/apex-tradebill/omni-secrets/adapters/token"
)

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// issuer stands for the server of the key set, without sockets, so that time in tests can be simulated.
type issuer struct {
	mu      sync.Mutex
	answer  http.HandlerFunc
	fetches atomic.Int64
}

func (i *issuer) publish(keys ...any) {
	text := keySetText(keys...)
	i.answers(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(text) })
}

func (i *issuer) answers(h http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = h
}

var errConnection = errors.New("connection refused")

func (i *issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	i.fetches.Add(1)
	i.mu.Lock()
	answer := i.answer
	i.mu.Unlock()
	if answer == nil {
		return nil, errConnection
	}
	w := httptest.NewRecorder()
	answer(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// inBubble runs a test in simulated time, with a verifier that fetches from i.
func inBubble(t *testing.T, i *issuer, test func(t *testing.T, v *token.Verifier, log *bytes.Buffer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var log bytes.Buffer // written by the fetching goroutine; read after synctest.Wait
		v, err := token.New(ctx, token.Config{
			JWKSURL: "https://issuer.example/keys", Transport: i, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		test(t, v, &log)
		cancel()
		synctest.Wait()
	})
}

// later lets d pass, and everything happen that is due by then.
func later(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // simulated: in a bubble
	synctest.Wait()
}

func byRSA(t *testing.T, id string) string {
	return signed(t, jwt.SigningMethodRS256, rsaKey(), good(), header(id))
}

func byP256(t *testing.T, id string) string {
	return signed(t, jwt.SigningMethodES256, p256Key(), good(), header(id))
}

func wantVerified(t *testing.T, v *token.Verifier, text string) {
	t.Helper()
	if _, err := v.Verify(t.Context(), text); err != nil {
		t.Errorf("not verified: %v", err)
	}
}

func wantFetches(t *testing.T, i *issuer, want int64) {
	t.Helper()
	if got := i.fetches.Load(); got != want {
		t.Errorf("the key set was fetched %d times, want %d", got, want)
	}
}

func TestUnknownKeyLetsTheSetBeFetchedAgain(t *testing.T) {
	i := &issuer{}
	i.publish(jwk(rsaKey(), kid("old")))
	inBubble(t, i, func(t *testing.T, v *token.Verifier, _ *bytes.Buffer) {
		wantVerified(t, v, byRSA(t, "old"))
		i.publish(jwk(p256Key(), kid("new")))
		wantVerified(t, v, byP256(t, "new"))
		wantFetches(t, i, 2)
		wantRefusal(t, v, byRSA(t, "old"), "not in the key set") // revoked
	})
}

// A fetch that was answered before the key was published must not be the last word on it.
func TestUnknownKeyOutlastsTheFetchThatGoesOn(t *testing.T) {
	i := &issuer{}
	i.publish(jwk(rsaKey(), kid("old")))
	inBubble(t, i, func(t *testing.T, v *token.Verifier, _ *bytes.Buffer) {
		wantVerified(t, v, byRSA(t, "old"))
		text, published := keySetText(jwk(rsaKey(), kid("old"))), make(chan struct{})
		i.answers(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(text)
			<-published
		})
		later(5 * time.Minute) // the periodic fetch has begun
		verified := make(chan error, 1)
		go func() {
			_, err := v.Verify(t.Context(), byP256(t, "new"))
			verified <- err
		}()
		synctest.Wait()
		i.publish(jwk(p256Key(), kid("new")))
		close(published)
		if err := <-verified; err != nil {
			t.Errorf("not verified: %v", err)
		}
		wantFetches(t, i, 3)
	})
}

func TestMadeUpKeysDoNotFloodTheIssuer(t *testing.T) {
	i := &issuer{}
	i.publish(jwk(rsaKey(), kid("id")))
	inBubble(t, i, func(t *testing.T, v *token.Verifier, _ *bytes.Buffer) {
		wantVerified(t, v, byRSA(t, "id"))
		for range 100 {
			wantRefusal(t, v, byP256(t, "made up"), "not in the key set")
		}
		wantFetches(t, i, 2)
		later(10 * time.Second)
		wantRefusal(t, v, byP256(t, "made up"), "not in the key set")
		wantFetches(t, i, 3)
		wantVerified(t, v, byRSA(t, "id"))
	})
}

func TestConcurrentTokensShareAFetch(t *testing.T) {
	i := &issuer{}
	i.answers(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(time.Second) //nolint:forbidigo // simulated, in a bubble: a slow issuer
		_, _ = w.Write(keySetText(jwk(rsaKey(), kid("id"))))
	})
	inBubble(t, i, func(t *testing.T, v *token.Verifier, _ *bytes.Buffer) {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { wantVerified(t, v, byRSA(t, "id")) })
		}
		wg.Wait()
		wantFetches(t, i, 1)
	})
}

func TestSetIsRefreshedInTheBackground(t *testing.T) {
	i := &issuer{}
	i.publish(jwk(rsaKey(), kid("id")))
	inBubble(t, i, func(t *testing.T, v *token.Verifier, _ *bytes.Buffer) {
		known := byRSA(t, "id")
		wantVerified(t, v, known)
		wantVerified(t, v, known)
		i.publish()
		later(5*time.Minute + time.Second)
		wantFetches(t, i, 2)
		wantRefusal(t, v, known, "not in the key set")
	})
}

func TestLastGoodKeysServeThroughAnOutage(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"no connection": nil,
		"an error status": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte(`{"keys":[]}`))
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Host == "elsewhere.example" {
				_, _ = w.Write([]byte(`{"keys":[]}`))
				return
			}
			w.Header().Set("Location", "https://elsewhere.example/keys")
			w.WriteHeader(http.StatusFound)
		},
		"a web page":     func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"another object": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"error":"busy"}`)) },
		"nothing":        func(http.ResponseWriter, *http.Request) {},
		"no end": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[]}` + strings.Repeat(" ", 1<<20)))
		},
		"no answer in time": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			i := &issuer{}
			i.publish(jwk(rsaKey(), kid("id")))
			inBubble(t, i, func(t *testing.T, v *token.Verifier, log *bytes.Buffer) {
				wantVerified(t, v, byRSA(t, "id"))
				i.answers(answer)
				later(time.Hour)
				wantVerified(t, v, byRSA(t, "id"))
				if !strings.Contains(log.String(), "token key set not fetched") {
					t.Error("the failure was not logged")
				}
				i.publish(jwk(p256Key(), kid("new")))
				later(2 * time.Minute)
				wantVerified(t, v, byP256(t, "new"))
			})
		})
	}
}

func TestStartWhileTheIssuerIsDown(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"no connection":   nil,
		"an empty answer": func(http.ResponseWriter, *http.Request) {},
	} {
		t.Run(name, func(t *testing.T) {
			i := &issuer{answer: answer}
			inBubble(t, i, func(t *testing.T, v *token.Verifier, _ *bytes.Buffer) {
				synctest.Wait()
				wantRefusal(t, v, byRSA(t, "id"), "could not be fetched")
				i.publish(jwk(rsaKey(), kid("id")))
				later(3 * time.Second)
				wantVerified(t, v, byRSA(t, "id"))
				wantFetches(t, i, 3) // at once, on demand, and as a retry
			})
		})
	}
}

func TestFailedFetchesBackOff(t *testing.T) {
	i := &issuer{}
	inBubble(t, i, func(t *testing.T, _ *token.Verifier, _ *bytes.Buffer) {
		later(time.Minute + time.Second) // 0 s, then 1, 3, 7, 15 and 31
		wantFetches(t, i, 6)
		later(time.Hour) // one a minute
		if n := i.fetches.Load(); n < 60 || n > 70 {
			t.Errorf("%d fetches in an hour", n)
		}
	})
}

func TestCallerThatGivesUpDoesNotWait(t *testing.T) {
	i := &issuer{}
	i.answers(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	inBubble(t, i, func(t *testing.T, v *token.Verifier, _ *bytes.Buffer) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if _, err := v.Verify(ctx, byRSA(t, "id")); err == nil {
			t.Error("verified without keys")
		}
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("waited %v", waited)
		}
	})
}

func TestVerifyAfterTheEndDoesNotHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		v, err := token.New(ctx, token.Config{JWKSURL: "https://issuer.example/keys", Transport: &issuer{}})
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		synctest.Wait()
		wantRefusal(t, v, byRSA(t, "id"), "could not be fetched")
	})
}

func TestKeySetOverTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(keySetText(jwk(rsaKey(), kid("id"))))
	}))
	defer server.Close()
	v := newVerifier(t, token.Config{JWKSURL: server.URL, Transport: server.Client().Transport})
	wantVerified(t, v, byRSA(t, "id"))
}
