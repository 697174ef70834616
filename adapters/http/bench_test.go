package http_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	api "github.com/apex-tradebill/omni-secrets/adapters/http"
	"github.com/apex-tradebill/omni-secrets/adapters/memory"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
	"github.com/apex-tradebill/omni-secrets/service"
)

// free are parts of a service that cost nothing.
type free struct{}

func (free) Append(context.Context, domain.Event) error    { return nil }
func (free) SecretRead(domain.SecretType, string, bool)    {}
func (free) SecretFailed(domain.SecretType, domain.Reason) {}
func (free) FetchDone(string, string, time.Duration)       {}
func (free) Verify(context.Context, string) (domain.Principal, error) {
	return domain.Principal{Subject: "svc-bench", Scopes: domain.ScopeRead}, nil
}

// BenchmarkRead is the part of this package in a read: routing, header and body. The raw value needs no encoding, so
// what JSON takes longer is the encoding.
func BenchmarkRead(b *testing.B) {
	backend, store := memory.NewBackend(), memory.New()
	backend.Set("text", "sample-value-of-48-bytes-0123456789-abcdefghijkl")
	backend.Set("binary", "\xff\x00 32 bytes that are no UTF-8 ...")
	log := slog.New(slog.DiscardHandler)
	s, err := service.New(service.Config{
		Catalog: domain.Catalog{
			{Type: "text", Backend: "gsm", Reference: "text", Version: domain.LatestVersion, Owner: "o", RotationMonths: 12},
			{Type: "binary", Backend: "gsm", Reference: "binary", Version: domain.LatestVersion, Owner: "o", RotationMonths: 12},
		},
		Policy: domain.DefaultCachePolicy(), Backends: map[string]ports.SecretBackend{"gsm": backend},
		Metadata: store, Overrides: store, Audit: store, Journal: free{}, Drain: memory.NewJournal(), Leadership: memory.NewAlone(),
		Tokens: free{}, Meter: free{}, Logger: log,
	})
	if err != nil {
		b.Fatal(err)
	}
	handler := api.New(api.Config{
		Service: s, Metrics: http.NotFoundHandler(), Observe: func(string, string, int, time.Duration) {}, Logger: log,
	})
	for _, c := range []struct{ name, secretType, accept string }{
		{"JSON", "text", "*/*"},
		{"JSON, base64", "binary", "*/*"},
		{"raw", "text", "application/octet-stream"},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/internal/apex-omni/secrets/"+c.secretType, http.NoBody)
			r.Header.Set("Authorization", "Bearer token")
			r.Header.Set("Accept", c.accept)
			w := &discarded{Writer: io.Discard, header: make(http.Header)}
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				w.status = http.StatusOK
				if handler.ServeHTTP(w, r); w.status != http.StatusOK {
					b.Fatal(w.status)
				}
			}
		})
	}
}

// discarded is an answer that nobody reads.
type discarded struct {
	io.Writer
	header http.Header
	status int
}

func (d *discarded) Header() http.Header    { return d.header }
func (d *discarded) WriteHeader(status int) { d.status = status }
