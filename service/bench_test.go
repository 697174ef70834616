package service_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/memory"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
	"github.com/apex-tradebill/omni-secrets/service"
)

type discard struct{}

func (discard) Append(context.Context, domain.Event) error    { return nil }
func (discard) SecretRead(domain.SecretType, string, bool)    {}
func (discard) SecretFailed(domain.SecretType, domain.Reason) {}
func (discard) FetchDone(string, string, time.Duration)       {}

func warmService(tb testing.TB) *service.Service {
	tb.Helper()
	backend, store := memory.NewBackend(), memory.New()
	backend.Set("key", "value")
	s, err := service.New(service.Config{
		Catalog:  domain.Catalog{{Type: apiKey, Backend: "gsm", Reference: "key", Version: domain.LatestVersion, Owner: "o", RotationMonths: 12}},
		Policy:   domain.DefaultCachePolicy(),
		Backends: map[string]ports.SecretBackend{"gsm": backend},
		Metadata: store, Overrides: store, Audit: store, Journal: discard{}, Drain: memory.NewJournal(), Leadership: memory.NewAlone(), Meter: discard{},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := s.Read(tb.Context(), reader, apiKey); err != nil {
		tb.Fatal(err)
	}
	return s
}

// BenchmarkRead is the read of a warm secret without the cost of the journal and the metrics.
func BenchmarkRead(b *testing.B) {
	s := warmService(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Read(b.Context(), reader, apiKey); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestReadOfAWarmSecretAllocatesNothing(t *testing.T) {
	s := warmService(t)
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		if _, err := s.Read(ctx, reader, apiKey); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
