package porttest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// RunMetadata checks an implementation of ports.Metadata. create returns an empty state, and ends it with
// t.Cleanup.
func RunMetadata(t *testing.T, create func(t *testing.T) State) {
	t.Helper()
	cases := []struct {
		name string
		run  func(t *testing.T, s State)
	}{
		{"the first call inserts every row and an event for each", metadataInserted},
		{"rows come back complete, ordered by type, with times in UTC to the microsecond", metadataRoundTrip},
		{"the same rows again change nothing and store no event", metadataUnchanged},
		{"descriptive columns follow the catalog and the state of the secret stays", metadataUpdated},
		{"rows that are not in the catalog any more stay", metadataLeftAlone},
		{"an event that cannot be stored leaves no row", metadataAtomic},
		{"replicas that start together store one event for each row", metadataRace},
		{"RecordServed notes source, version and validation", servedRecorded},
		{"RecordServed without validation keeps the last one", servedKeepsValidation},
		{"RecordServed takes several secrets", servedTogether},
		{"RecordServed ignores a type without a row", servedUnknown},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, create(t)) })
	}
}

// row is a complete row of one type.
func row(t domain.SecretType) domain.Metadata {
	return domain.Metadata{
		Type: t, Environment: "staging", Backend: "gsm",
		GCPSecretID: "projects/p/secrets/" + string(t), GCPVersionAlias: domain.LatestVersion,
		Status:        domain.RotationRotating,
		RotationDueAt: moment.AddDate(1, 0, 0), LastRotatedAt: moment.AddDate(0, -3, 0), LastValidatedAt: moment.AddDate(0, -2, 0),
		Owner:       "Security Engineering",
		CacheSource: "gsm", CacheVersion: "41",
		CreatedAt: moment, UpdatedAt: moment,
	}
}

func keptRow(m domain.Metadata) domain.Metadata {
	m.RotationDueAt, m.LastRotatedAt, m.LastValidatedAt = kept(m.RotationDueAt), kept(m.LastRotatedAt), kept(m.LastValidatedAt)
	m.BreakGlassEnabledUntil = kept(m.BreakGlassEnabledUntil)
	m.CreatedAt, m.UpdatedAt = kept(m.CreatedAt), kept(m.UpdatedAt)
	return m
}

// metadataEvents gives an event for each type, numbered from first on, and records the types asked for.
type metadataEvents struct {
	first uint64
	types []domain.SecretType
}

func (m *metadataEvents) event(t domain.SecretType) domain.Event {
	e := m.made(len(m.types), t)
	m.types = append(m.types, t)
	return e
}

func (m *metadataEvents) made(i int, t domain.SecretType) domain.Event {
	return with(numbered(m.first+uint64(i)), func(e *domain.Event) {
		e.Type, e.Action, e.Actor = t, domain.ActionWriteMetadata, domain.Automation
		e.RecordedAt = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	})
}

func ensure(t *testing.T, s State, firstEvent uint64, rows ...domain.Metadata) *metadataEvents {
	t.Helper()
	events := &metadataEvents{first: firstEvent}
	if err := s.EnsureMetadata(t.Context(), rows, events.event); err != nil {
		t.Fatalf("EnsureMetadata: %v", err)
	}
	return events
}

func rowsOf(t *testing.T, s State) []domain.Metadata {
	t.Helper()
	rows, err := s.ListMetadata(t.Context())
	if err != nil {
		t.Fatalf("ListMetadata: %v", err)
	}
	return rows
}

func rowOf(t *testing.T, s State, secret domain.SecretType) domain.Metadata {
	t.Helper()
	for _, m := range rowsOf(t, s) {
		if m.Type == secret {
			return m
		}
	}
	t.Fatalf("no row of %s", secret)
	return domain.Metadata{}
}

func metadataInserted(t *testing.T, s State) {
	events := ensure(t, s, 1, row("trading_api_key"), row("webhook_shared_secret"))
	if n := len(rowsOf(t, s)); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
	wantEvents(t, s, events.made(0, "trading_api_key"), events.made(1, "webhook_shared_secret"))
}

func metadataRoundTrip(t *testing.T, s State) {
	full := row("b_full")
	full.BreakGlassEnabledUntil = moment.Add(time.Hour)
	fresh := domain.NewMetadata(domain.Entry{
		Type: "a_fresh", Backend: "local_file", Reference: `it's "quoted", ünïcode`, Version: "3", Owner: "Platform Reliability", RotationMonths: 12,
	}, "production", moment)
	ensure(t, s, 1, full, fresh)

	if diff := cmp.Diff([]domain.Metadata{keptRow(fresh), keptRow(full)}, rowsOf(t, s)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func metadataUnchanged(t *testing.T, s State) {
	first := row("trading_api_key")
	ensure(t, s, 1, first)

	again := first
	again.UpdatedAt = again.UpdatedAt.Add(time.Hour)
	if events := ensure(t, s, 2, again); len(events.types) != 0 {
		t.Errorf("an event was made for %v", events.types)
	}
	if diff := cmp.Diff([]domain.Metadata{keptRow(first)}, rowsOf(t, s)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func metadataUpdated(t *testing.T, s State) {
	changes := map[string]func(*domain.Metadata){
		"environment":   func(m *domain.Metadata) { m.Environment = "production" },
		"backend":       func(m *domain.Metadata) { m.Backend = "local_file" },
		"reference":     func(m *domain.Metadata) { m.GCPSecretID = "projects/q/secrets/other" },
		"version alias": func(m *domain.Metadata) { m.GCPVersionAlias = "12" },
		"owner":         func(m *domain.Metadata) { m.Owner = "Platform Reliability" },
	}
	var seq uint64
	for name, change := range changes {
		secret := domain.SecretType("secret_" + string(rune('a'+seq)))
		first := row(secret)
		ensure(t, s, 10+seq, first, row("bystander"))
		before := len(storedEvents(t, s))

		next := domain.NewMetadata(domain.Entry{
			Type: secret, Backend: first.Backend, Reference: first.GCPSecretID,
			Version: first.GCPVersionAlias, Owner: first.Owner, RotationMonths: 1,
		}, first.Environment, moment.Add(time.Hour))
		change(&next)
		events := ensure(t, s, 100+seq, next, row("bystander"))

		want := first
		change(&want)
		want.UpdatedAt = next.UpdatedAt
		if name == "backend" || name == "reference" || name == "version alias" {
			want.Status = domain.RotationActive // it is another secret
		}
		if diff := cmp.Diff(keptRow(want), rowOf(t, s, secret)); diff != "" {
			t.Errorf("%s changed: row (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff([]domain.SecretType{secret}, events.types); diff != "" {
			t.Errorf("%s changed: types with an event (-want +got):\n%s", name, diff)
		}
		if n := len(storedEvents(t, s)) - before; n != 1 {
			t.Errorf("%s changed: %d events stored, want 1", name, n)
		}
		seq += 2
	}
}

func metadataLeftAlone(t *testing.T, s State) {
	ensure(t, s, 1, row("former"))
	ensure(t, s, 2, row("trading_api_key"))
	if n := len(rowsOf(t, s)); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
}

func metadataAtomic(t *testing.T, s State) {
	ensure(t, s, 1, row("trading_api_key"))
	changed := row("trading_api_key")
	changed.Owner = "Platform Reliability"

	same := func(secret domain.SecretType) domain.Event { return (&metadataEvents{first: 2}).event(secret) }
	err := s.EnsureMetadata(t.Context(), []domain.Metadata{changed, row("webhook_shared_secret")}, same)
	if err == nil {
		t.Fatal("two events with one id were stored")
	}
	if rows := rowsOf(t, s); len(rows) != 1 || rows[0].Owner != "Security Engineering" {
		t.Errorf("rows after the failure: %v", rows)
	}
	if n := len(storedEvents(t, s)); n != 1 {
		t.Errorf("%d events, want the 1 from before", n)
	}
}

func metadataRace(t *testing.T, s State) {
	rows := []domain.Metadata{row("trading_api_key"), row("webhook_shared_secret")}
	race(func(i int) {
		events := &metadataEvents{first: uint64(100 * (i + 1))}
		if err := s.EnsureMetadata(t.Context(), rows, events.event); err != nil {
			t.Errorf("EnsureMetadata: %v", err)
		}
	})
	if n := len(storedEvents(t, s)); n != len(rows) {
		t.Errorf("%d events, want %d", n, len(rows))
	}
}

func servedRecorded(t *testing.T, s State) {
	ensure(t, s, 1, row("trading_api_key"), row("bystander"))
	validated := moment.Add(time.Second)
	if err := s.RecordServed(t.Context(), []domain.Account{{Type: "trading_api_key", Source: "local_file", Version: "42", ValidatedAt: validated}}); err != nil {
		t.Fatalf("RecordServed: %v", err)
	}

	got := rowOf(t, s, "trading_api_key")
	if got.CacheSource != "local_file" || got.CacheVersion != "42" || !got.LastValidatedAt.Equal(kept(validated)) {
		t.Errorf("got %s, %s, %v", got.CacheSource, got.CacheVersion, got.LastValidatedAt)
	}
	if other := rowOf(t, s, "bystander"); other.CacheVersion != "41" {
		t.Errorf("the version of another secret became %s", other.CacheVersion)
	}
}

func servedKeepsValidation(t *testing.T, s State) {
	first := row("trading_api_key")
	ensure(t, s, 1, first)
	if err := s.RecordServed(t.Context(), []domain.Account{{Type: "trading_api_key", Source: "gsm", Version: "42"}}); err != nil {
		t.Fatalf("RecordServed: %v", err)
	}
	got := rowOf(t, s, "trading_api_key")
	if got.CacheVersion != "42" || !got.LastValidatedAt.Equal(kept(first.LastValidatedAt)) {
		t.Errorf("got %s, validated %v, want 42, %v", got.CacheVersion, got.LastValidatedAt, kept(first.LastValidatedAt))
	}
}

func servedUnknown(t *testing.T, s State) {
	if err := s.RecordServed(t.Context(), []domain.Account{{Type: "unknown", Source: "gsm", Version: "1", ValidatedAt: moment}}); err != nil {
		t.Fatalf("RecordServed: %v", err)
	}
	if rows := rowsOf(t, s); len(rows) != 0 {
		t.Errorf("it made rows: %v", rows)
	}
}

func servedTogether(t *testing.T, s State) {
	ensure(t, s, 1, row("a"), row("b"), row("c"))
	accounts := []domain.Account{{Type: "c", Source: "gsm", Version: "3"}, {Type: "unknown", Source: "gsm", Version: "2"}, {Type: "a", Source: domain.SourceEmpty}}
	if err := s.RecordServed(t.Context(), accounts); err != nil {
		t.Fatalf("RecordServed: %v", err)
	}
	var got []string
	for _, m := range rowsOf(t, s) {
		got = append(got, string(m.Type)+" "+m.CacheSource+" "+m.CacheVersion)
	}
	if diff := cmp.Diff([]string{"a empty ", "b gsm 41", "c gsm 3"}, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}
