package otel

import (
	"context"
	"errors"
	"runtime"
	"strconv"
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
	JournalBytes  int64         // that those events take, with what was set aside
	JournalLimit  int64         // of JournalBytes: reads are refused from there on
	SetAside      int           // audit events that the database refuses
	Leader        bool          // this replica does the periodic jobs

	LastCheckpoint time.Time // of the audit trail, by this replica; zero without any
}

// SecretState is how one secret stands.
type SecretState struct {
	Type                domain.SecretType
	CacheSource         string // where the cached value came from; "" when there is none
	CacheVersion        string // of the cached value, as its backend names it; "" when there is none
	CacheAge            time.Duration
	Survival            time.Duration // how long something is still served if the backend goes away now
	RotationDueAt       time.Time     // zero when not known
	Overdue             bool
	BreakGlassActive    bool
	BreakGlassExpiresAt time.Time
	FollowUpOpenedAt    time.Time // when an override was followed by work that is still open; zero without any
}

// ObserveState lets the gauges ask state at each scrape. It must be quick and safe for concurrent use. Until it
// is set, there are no gauges but omni_build_info.
func (m *Metrics) ObserveState(state func() State) { m.state.Store(&state) }

// gauges are asked together, so that one scrape shows one State.
type gauges struct {
	cacheAge, survival, drainLag           metric.Float64ObservableGauge
	version, rotationDue, overdue          metric.Int64ObservableGauge
	breakGlass, breakGlassExpiry, followUp metric.Int64ObservableGauge
	journalEvents, leader, build           metric.Int64ObservableGauge
	journalBytes, journalLimit, setAside   metric.Int64ObservableGauge
	checkpoint                             metric.Int64ObservableGauge
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
	g.survival = seconds("omni_secret_survival_seconds", "How long something would still be served if the backend went away now; 0 when nothing is served.")
	g.version = whole("omni_secret_version", "Version of the cached value; absent while nothing is cached, and where versions are not numbers.")
	g.rotationDue = whole("omni_secret_rotation_due_timestamp_seconds", "When the secret must be rotated, in Unix time.")
	g.overdue = whole("omni_secret_rotation_overdue", "1 when the secret should have been rotated by now, else 0.")
	g.breakGlass = whole("omni_break_glass_active", "1 while an override is served in the secret's place, else 0.")
	g.breakGlassExpiry = whole("omni_break_glass_expiry_timestamp_seconds", "When the active override ends, in Unix time; absent while there is none.")
	g.followUp = whole("omni_break_glass_follow_up_opened_timestamp_seconds", "When the follow-up of an override was opened, in Unix time; absent while none is open.")
	g.journalEvents = whole("omni_audit_journal_events", "Audit events in the local journal that are not in SQL yet.")
	g.drainLag = seconds("omni_audit_drain_lag_seconds", "How long the oldest audit event in the local journal has waited; 0 when none waits.")
	g.journalBytes = whole("omni_audit_journal_bytes", "What those events take in the local journal, with events that were set aside.")
	g.journalLimit = whole("omni_audit_journal_limit_bytes", "Reads are refused once omni_audit_journal_bytes reaches this.")
	g.setAside = whole("omni_audit_set_aside_events", "Audit events that the database refuses for what is in them, kept beside the local journal.")
	g.leader = whole("omni_leader", "1 on the replica that does the periodic jobs, else 0.")
	g.checkpoint = whole("omni_audit_checkpoint_timestamp_seconds", "When this replica last saw to it that the end of every audit chain is signed, in Unix time; absent where it never did.")
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
		if version, err := strconv.ParseUint(secret.CacheVersion, 10, 63); err == nil {
			o.ObserveInt64(g.version, int64(version), labels)
		}
		o.ObserveFloat64(g.survival, secret.Survival.Seconds(), labels)
		if !secret.RotationDueAt.IsZero() {
			o.ObserveInt64(g.rotationDue, secret.RotationDueAt.Unix(), labels)
		}
		o.ObserveInt64(g.overdue, oneIf(secret.Overdue), labels)
		o.ObserveInt64(g.breakGlass, oneIf(secret.BreakGlassActive), labels)
		if secret.BreakGlassActive {
			o.ObserveInt64(g.breakGlassExpiry, secret.BreakGlassExpiresAt.Unix(), labels)
		}
		if !secret.FollowUpOpenedAt.IsZero() {
			o.ObserveInt64(g.followUp, secret.FollowUpOpenedAt.Unix(), labels)
		}
	}
	o.ObserveInt64(g.journalEvents, int64(s.JournalEvents))
	o.ObserveFloat64(g.drainLag, s.DrainLag.Seconds())
	o.ObserveInt64(g.journalBytes, s.JournalBytes)
	o.ObserveInt64(g.journalLimit, s.JournalLimit)
	o.ObserveInt64(g.setAside, int64(s.SetAside))
	o.ObserveInt64(g.leader, oneIf(s.Leader))
	if !s.LastCheckpoint.IsZero() {
		o.ObserveInt64(g.checkpoint, s.LastCheckpoint.Unix())
	}
}

func oneIf(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
