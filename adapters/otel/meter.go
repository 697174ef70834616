package otel

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// The labels of omni_* series.
const (
	labelType    = "secret_type"
	labelSource  = "source"
	labelReason  = "reason"
	labelOutcome = "outcome"
)

// fetchBounds, in seconds, reach from a local file's millisecond to beyond the longest fetch.
var fetchBounds = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

type fetchLabels struct{ source, outcome string }

// The series of a secret are kept by themselves: those of one more source or reason cost no copy of the whole catalog's.
type (
	readSeries    = series[string, *count] // by source
	failureSeries = series[domain.Reason, *count]
)

func readsOf(t domain.SecretType) *readSeries {
	return newSeries(func(source string) *count {
		return newCount(attribute.String(labelType, string(t)), attribute.String(labelSource, source))
	})
}

func staleCount(t domain.SecretType) *count {
	return newCount(attribute.String(labelType, string(t)))
}

func failuresOf(t domain.SecretType) *failureSeries {
	return newSeries(func(reason domain.Reason) *count {
		return newCount(attribute.String(labelType, string(t)), attribute.String(labelReason, string(reason)))
	})
}

func (l fetchLabels) recording() []metric.RecordOption {
	return recording(attribute.String(labelSource, l.source), attribute.String(labelOutcome, l.outcome))
}

func (m *Metrics) makeCounters(meter metric.Meter) error {
	reads, err1 := meter.Int64ObservableCounter("omni_secret_reads_total", metric.WithDescription(
		"Values taken: from the backend that source names, from memory (cache) or from an override (break_glass)."))
	stale, err2 := meter.Int64ObservableCounter("omni_secret_stale_reads_total", metric.WithDescription(
		"Reads that were answered with a value past its TTL."))
	failures, err3 := meter.Int64ObservableCounter("omni_secret_failures_total", metric.WithDescription(
		"Fetches and overrides that failed, by reason."))
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, of := range m.reads.all() {
			observe(o, reads, of)
		}
		observe(o, stale, m.stale)
		for _, of := range m.failures.all() {
			observe(o, failures, of)
		}
		return nil
	}, reads, stale, failures)
	return err
}

func (m *Metrics) makeHistograms(meter metric.Meter) error {
	var err1, err2 error
	m.fetches, err1 = meter.Float64Histogram("omni_secret_fetch_duration_seconds", metric.WithUnit("s"),
		metric.WithExplicitBucketBoundaries(fetchBounds...), metric.WithDescription(
			"How long fetches from a backend took; outcome is ok or the reason of the failure."))
	m.requests, err2 = meter.Float64Histogram("http_server_request_duration_seconds", metric.WithUnit("s"),
		metric.WithExplicitBucketBoundaries(requestBounds...), metric.WithDescription(
			"How long HTTP requests took to answer."))
	return errors.Join(err1, err2)
}

// startAtZero shows the counters that alerts are about before anything happens, so that rate() sees the first
// event too.
func (m *Metrics) startAtZero(c domain.Catalog) {
	types := make([]domain.SecretType, len(c))
	for i, e := range c {
		types[i] = e.Type
	}
	m.reads.add(types...)
	m.stale.add(types...)
	m.failures.add(types...)
	for _, e := range c {
		m.reads.of(e.Type).add(e.Backend, domain.SourceCache, domain.SourceBreakGlass)
		m.failures.of(e.Type).add(domain.ReasonUnavailable)
	}
}

// SecretRead implements ports.Meter.
func (m *Metrics) SecretRead(t domain.SecretType, source string, stale bool) {
	m.reads.of(t).of(source).n.Add(1)
	if stale {
		m.stale.of(t).n.Add(1)
	}
}

// SecretFailed implements ports.Meter.
func (m *Metrics) SecretFailed(t domain.SecretType, reason domain.Reason) {
	m.failures.of(t).of(reason).n.Add(1)
}

// FetchDone implements ports.Meter.
func (m *Metrics) FetchDone(source, outcome string, took time.Duration) {
	m.fetches.Record(context.Background(), took.Seconds(), m.fetchSeries.of(fetchLabels{source, outcome})...)
}
