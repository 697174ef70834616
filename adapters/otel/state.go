package otel

import (
	"context"
	"errors"
	"runtime"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// State is what the gauges show: how things stand at the time of a scrape.
type State struct {
	Secrets       []SecretState
	JournalEvents int           // audit events that are not in SQL yet
	DrainLag      time.Duration // how long the oldest of them has waited
	Leader        bool          // this replica does the periodic jobs
}

// SecretState is how one secret stands.
type SecretState struct {
	Type                domain.SecretType
	CacheSource         string // where the cached value came from; "" when there is none
	CacheAge            time.Duration
	RotationDueAt       time.Time // zero when not known
	Overdue             bool
	BreakGlassActive    bool
	BreakGlassExpiresAt time.Time
}

// ObserveState lets the gauges ask state at each scrape. It must be quick and safe for concurrent use. Until it
// is set, there are no gauges but omni_build_info.
func (m *Metrics) ObserveState(state func() State) { m.state.Store(&state) }

// gauges are asked together, so that one scrape shows one State.
type gauges struct {
	cacheAge, drainLag                                                               metric.Float64ObservableGauge
	rotationDue, overdue, breakGlass, breakGlassExpiry, journalEvents, leader, build metric.Int64ObservableGauge
}

func (m *Metrics) makeGauges(meter metric.Meter, c Config) error {
	var g gauges
	var errs []error
	var all []metric.Observable
	whole := func(name, help string) metric.Int64ObservableGauge {
		gauge, err := meter.Int64ObservableGauge(name, metric.WithDescription(help))
		all, errs = append(all, gauge), append(errs, err)
		return gauge
	}
	seconds := func(name, help string) metric.Float64ObservableGauge {
		gauge, err := meter.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(help))
		all, errs = append(all, gauge), append(errs, err)
		return gauge
	}
	g.cacheAge = seconds("omni_secret_cache_age_seconds", "Time since the cached value was fetched from source; absent while nothing is cached.")
	g.rotationDue = whole("omni_secret_rotation_due_timestamp_seconds", "When the secret must be rotated, in Unix time.")
	g.overdue = whole("omni_secret_rotation_overdue", "1 when the secret should have been rotated by now, else 0.")
	g.breakGlass = whole("omni_break_glass_active", "1 while an override is served in the secret's place, else 0.")
	g.breakGlassExpiry = whole("omni_break_glass_expiry_timestamp_seconds", "When the active override ends, in Unix time; absent while there is none.")
	g.journalEvents = whole("omni_audit_journal_events", "Audit events in the local journal that are not in SQL yet.")
	g.drainLag = seconds("omni_audit_drain_lag_seconds", "How long the oldest audit event in the local journal has waited; 0 when none waits.")
	g.leader = whole("omni_leader", "1 on the replica that does the periodic jobs, else 0.")
	g.build = whole("omni_build_info", "Always 1; the labels say which build this is.")
	if err := errors.Join(errs...); err != nil {
		return err
	}

	build := labelled(
		attribute.String("version", c.Version), attribute.String("revision", c.Revision),
		attribute.String("goversion", runtime.Version()),
	)
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(g.build, 1, build)
		if state := m.state.Load(); state != nil {
			g.observe(o, (*state)())
		}
		return nil
	}, all...)
	return err
}

func (g gauges) observe(o metric.Observer, s State) {
	for _, secret := range s.Secrets {
		secretType := attribute.String(labelType, string(secret.Type))
		labels := labelled(secretType)
		if secret.CacheSource != "" {
			o.ObserveFloat64(g.cacheAge, secret.CacheAge.Seconds(), labelled(secretType, attribute.String(labelSource, secret.CacheSource)))
		}
		if !secret.RotationDueAt.IsZero() {
			o.ObserveInt64(g.rotationDue, secret.RotationDueAt.Unix(), labels)
		}
		o.ObserveInt64(g.overdue, oneIf(secret.Overdue), labels)
		o.ObserveInt64(g.breakGlass, oneIf(secret.BreakGlassActive), labels)
		if secret.BreakGlassActive {
			o.ObserveInt64(g.breakGlassExpiry, secret.BreakGlassExpiresAt.Unix(), labels)
		}
	}
	o.ObserveInt64(g.journalEvents, int64(s.JournalEvents))
	o.ObserveFloat64(g.drainLag, s.DrainLag.Seconds())
	o.ObserveInt64(g.leader, oneIf(s.Leader))
}

func oneIf(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
