package otel

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

const labelLimit = "limit"

// Edge is what the gauges and counters of the network show: how things stand at the time of a scrape.
type Edge struct {
	Connections        int64             // that are open
	ConnectionsRefused int64             // since the start
	RateLimited        map[string]uint64 // calls over a limit since the start, by the limit's name
	CertificateExpires time.Time         // zero without TLS
	TLSReloadFailed    bool
}

// ObserveEdge lets the instruments of the network ask at each scrape. edge must be quick and safe for concurrent use. Until
// it is set there are none of them.
func (m *Metrics) ObserveEdge(edge func() Edge) { m.edge.Store(&edge) }

func (m *Metrics) makeEdge(meter metric.Meter) error {
	connections, err1 := meter.Int64ObservableGauge("omni_connections", metric.WithDescription("Connections that are open."))
	refused, err2 := meter.Int64ObservableCounter("omni_connections_refused_total", metric.WithDescription(
		"Connections that were closed at once, since as many were open as may be."))
	limited, err3 := meter.Int64ObservableCounter("omni_rate_limited_total", metric.WithDescription(
		"Calls over a limit for each caller: refused, or, without a valid token, not recorded one by one."))
	expiry, err4 := meter.Int64ObservableGauge("omni_tls_certificate_expiry_timestamp_seconds", metric.WithDescription(
		"When the server's certificate expires, in Unix time; absent without TLS."))
	failed, err5 := meter.Int64ObservableGauge("omni_tls_reload_failed", metric.WithDescription(
		"1 while the TLS files cannot be used and older ones are in use, else 0; absent without TLS."))
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return err
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		ask := m.edge.Load()
		if ask == nil {
			return nil
		}
		e := (*ask)()
		o.ObserveInt64(connections, e.Connections)
		o.ObserveInt64(refused, e.ConnectionsRefused)
		for limit, calls := range e.RateLimited {
			o.ObserveInt64(limited, int64(calls), labelled(attribute.String(labelLimit, limit))) //nolint:gosec // a count
		}
		if !e.CertificateExpires.IsZero() {
			o.ObserveInt64(expiry, e.CertificateExpires.Unix())
			o.ObserveInt64(failed, oneIf(e.TLSReloadFailed))
		}
		return nil
	}, connections, refused, limited, expiry, failed)
	return err
}
