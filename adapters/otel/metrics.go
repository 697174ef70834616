// Package otel counts what Omni Secrets does with OpenTelemetry instruments and shows it in Prometheus' text
// format. The names and labels of the omni_* series are a contract with dashboards and alerts.
//
//	use cases --ports.Meter--> counters, histogram --\
//	HTTP server --ObserveRequest--> histogram --------+--> Prometheus exporter --> private registry --> Handler
//	ObserveState, ObserveEdge <--asked at each scrape-- gauges ---/
package otel

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.opentelemetry.io/otel/sdk/resource"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const scope = "github.com/apex-tradebill/omni-secrets"

// Config describes the build and the secrets that are counted.
type Config struct {
	Version, Revision string // of omni_build_info
	// Catalog lists the secrets whose counters stand at 0 from the start.
	Catalog domain.Catalog
}

// Metrics is a ports.Meter and what else is measured. It is safe for concurrent use. What it does for a read
// of a secret allocates nothing.
type Metrics struct {
	registry *prometheus.Registry
	provider *sdk.MeterProvider

	reads    *series[domain.SecretType, *readSeries]
	stale    *series[domain.SecretType, *count]
	failures *series[domain.SecretType, *failureSeries]

	fetches, requests metric.Float64Histogram
	fetchSeries       *series[fetchLabels, []metric.RecordOption]
	requestSeries     *series[requestLabels, []metric.RecordOption]

	state atomic.Pointer[func() State]
	edge  atomic.Pointer[func() Edge]
}

// New makes the instruments, in a registry of their own, and starts the catalog's counters at 0.
func New(c Config) (*Metrics, error) {
	m := &Metrics{
		registry:      prometheus.NewRegistry(),
		reads:         newSeries(readsOf),
		stale:         newSeries(staleCount),
		failures:      newSeries(failuresOf),
		fetchSeries:   newSeries(fetchLabels.recording),
		requestSeries: newSeries(requestLabels.recording),
	}
	m.startAtZero(c.Catalog)
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	reader, err := exporter.New(
		exporter.WithRegisterer(m.registry),
		// The instruments have their final names; the exporter must add neither units nor _total.
		exporter.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithoutSuffixes),
		exporter.WithoutScopeInfo(),
		exporter.WithoutTargetInfo(),
	)
	if err != nil {
		return nil, fmt.Errorf("making the Prometheus exporter: %w", err)
	}
	m.provider = sdk.NewMeterProvider(
		sdk.WithReader(reader),
		sdk.WithResource(resource.Empty()),
		sdk.WithExemplarFilter(exemplar.AlwaysOffFilter),
		// The SDK's limit of 2,000 series an instrument would fold a catalog of 1,000 entries into one
		// "overflow" series. Ours are bounded by the catalog, and those of requests in ObserveRequest.
		sdk.WithCardinalityLimit(0),
		sdk.WithView(rpcDurations),
	)
	meter := m.provider.Meter(scope)
	if err := errors.Join(m.makeCounters(meter), m.makeHistograms(meter), m.makeGauges(meter, c), m.makeEdge(meter)); err != nil {
		return nil, fmt.Errorf("making the instruments: %w", err)
	}
	return m, nil
}

// Provider makes instruments for a library that measures by itself. Those of calls are shown; see rpcDurations.
func (m *Metrics) Provider() metric.MeterProvider { return m.provider }

// Handler answers scrapes in Prometheus' text format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Shutdown ends the measuring: scrapes show no omni_* series from then on.
func (m *Metrics) Shutdown(ctx context.Context) error {
	if err := m.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("shutting down the meter provider: %w", err)
	}
	return nil
}
