package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/token"
	"github.com/apex-tradebill/omni-secrets/domain"
)

// warmRead returns a read of a secret that is in memory, through everything that `serve` puts between the HTTP server
// and the answer: token check, audit journal and metrics. Nothing works in the background.
func warmRead(tb testing.TB) (read func()) {
	tb.Helper()
	c, err := prepareDev(tb.Context(), tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	a, err := newApp(tb.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := a.Close(); err != nil {
			tb.Error(err)
		}
	})
	bearer, err := token.Sign(c.JWTSecret.Reveal(), token.Claims{
		Subject: "svc-bench", Scopes: []string{domain.ScopeRead.String()}, ExpiresAt: time.Now().Add(time.Hour),
	})
	if err != nil {
		tb.Fatal(err)
	}
	r := httptest.NewRequestWithContext(tb.Context(), http.MethodGet, fmt.Sprint("/internal/apex-omni/secrets/", c.catalog[0].Type), http.NoBody)
	r.Header.Set("Authorization", "Bearer "+bearer)
	w := &kept{header: make(http.Header)}
	read = func() {
		clear(w.header)
		w.body = w.body[:0]
		a.handler.ServeHTTP(w, r)
	}
	if read(); !strings.Contains(string(w.body), `"value":"sample-`) {
		tb.Fatalf("%s", w.body)
	}
	return read
}

// kept is an answer whose memory the next one uses again.
type kept struct {
	header http.Header
	body   []byte
}

func (k *kept) Header() http.Header { return k.header }

func (k *kept) WriteHeader(int) {}

func (k *kept) Write(b []byte) (int, error) {
	k.body = append(k.body, b...)
	return len(b), nil
}

// BenchmarkReadOverREST is what a read costs beneath net/http, beside nothing else.
func BenchmarkReadOverREST(b *testing.B) {
	read := warmRead(b)
	b.ReportAllocs()
	for b.Loop() {
		read()
	}
}
