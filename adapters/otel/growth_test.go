package otel_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/apex-tradebill/omni-secrets/adapters/otel"
	"github.com/apex-tradebill/omni-secrets/domain"
)

func catalogOf(n int) domain.Catalog {
	c := make(domain.Catalog, n)
	for i := range c {
		c[i] = domain.Entry{Type: domain.SecretType(fmt.Sprintf("secret_%d", i)), Backend: "gsm"}
	}
	return c
}

// An outage makes a series more for each secret of the catalog, all within seconds.
func TestSeriesOfAnOutageGrowWithTheCatalog(t *testing.T) {
	allocated := func(n int) uint64 {
		large := catalogOf(n)
		m := newMetrics(t, large)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for _, e := range large {
			m.SecretFailed(e.Type, domain.ReasonDeadlineExceeded)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	small, large := allocated(500), allocated(5000)
	t.Logf("500: %d bytes, 5000: %d bytes", small, large)
	if large > 30*small {
		t.Errorf("500 secrets took %d bytes and 5000 took %d, %d times as many; a linear growth is 10 times", small, large, large/small)
	}
}

// BenchmarkScrape is what Prometheus asks for every 15 seconds or so, of catalogs of n secrets.
func BenchmarkScrape(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			m := newMetrics(b, catalogOf(n))
			state := otel.State{Secrets: make([]otel.SecretState, n)}
			for i := range state.Secrets {
				state.Secrets[i] = otel.SecretState{Type: domain.SecretType(fmt.Sprintf("secret_%d", i)), CacheSource: "gsm", CacheVersion: "7"}
			}
			m.ObserveState(func() otel.State { return state })
			size := 0
			b.ReportAllocs()
			for b.Loop() {
				size = len(scrape(b, m))
			}
			b.ReportMetric(float64(size), "bytes/scrape")
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "µs/secret")
		})
	}
}
