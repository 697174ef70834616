package porttest

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// RunRotations checks an implementation of ports.Rotations. create returns an empty state, and ends it with t.Cleanup.
func RunRotations(t *testing.T, create func(t *testing.T) State) {
	t.Helper()
	cases := []struct {
		name string
		run  func(t *testing.T, s State)
	}{
		{"every secret has a standing", rotationNone},
		{"a rotation that was begun is in progress, complete, and shows in the metadata", rotationBegun},
		{"a second rotation of the same secret is not begun", rotationTwice},
		{"a rotation that begins from another newest version than there is is not begun", rotationOutdated},
		{"rotations of two secrets do not touch each other", rotationsOfTwo},
		{"a secret that is not active, or has no row, is not rotated", rotationNotActive},
		{"a promotion moves the deadline", rotationPromoted},
		{"an abort leaves the deadline", rotationAborted},
		{"a rotation ends once", rotationEndsOnce},
		{"after its end another one can be begun", rotationAgain},
		{"an event that cannot be stored leaves everything as it was", rotationAtomic},
		{"of replicas that begin a rotation together one does", rotationBeginRace},
		{"of replicas that end a rotation together one does", rotationEndRace},
		{"a rotation from elsewhere counts once", rotationRecorded},
		{"a rotation does not move the deadline of a later one", rotationRecordedLate},
		{"a rotation from elsewhere does not count while one is in progress", rotationRecordedWhileRotating},
		{"a rotation from elsewhere does not bring a deprecated secret back", rotationRecordedOfDeprecated},
		{"of replicas that see the same new version one counts it", rotationRecordRace},
		{"the first version that was seen is noted once", versionNoted},
		{"what is decided about a secret that became another one is not stored", rotationOfAnother},
		{"a secret that became another one forgets its versions", versionsForgotten},
		{"a secret that became another one is not rotating any more", rotationAbandoned},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, create(t)) })
	}
}

// activeRow is a row of a secret that version 41 is served of.
func activeRow(t domain.SecretType) domain.Metadata {
	m := row(t)
	m.Status, m.NewestVersion = domain.RotationActive, "41"
	return m
}

func rotation(n int, t domain.SecretType) domain.Rotation {
	return domain.Rotation{
		ID: "rot-" + strconv.Itoa(n), Type: t, From: "41", To: "42",
		BegunBy: domain.Actor{Type: domain.ActorOperator, ID: "alice@example.com"}, BegunAt: moment,
	}
}

func rotationEvent(n uint64, action domain.Action) domain.Event {
	return with(numbered(n), func(e *domain.Event) {
		e.Action, e.Version = action, "42"
		e.RecordedAt = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	})
}

func begin(t *testing.T, s State, r domain.Rotation, event domain.Event, want bool) domain.Standing {
	t.Helper()
	next := rowOf(t, s, r.Type).Standing().Begun(r)
	got, err := s.BeginRotation(t.Context(), r, rowOf(t, s, r.Type).NewestVersion, next, event)
	if err != nil || got != want {
		t.Fatalf("BeginRotation: %v, %v; want %v", got, err, want)
	}
	return next
}

var made = domain.Rotated{At: moment, DueAt: moment.AddDate(1, 0, 0)}

func endRotation(t *testing.T, s State, id string, end domain.RotationEnd, next domain.Standing, rotated domain.Rotated, event domain.Event, want bool) {
	t.Helper()
	got, err := s.EndRotation(t.Context(), id, end, next, rotated, event)
	if err != nil || got != want {
		t.Fatalf("EndRotation: %v, %v; want %v", got, err, want)
	}
}

func wantStandings(t *testing.T, s State, want ...domain.Standing) {
	t.Helper()
	got, err := s.Standings(t.Context())
	if err != nil {
		t.Fatalf("Standings: %v", err)
	}
	for i := range want {
		want[i].Rotation.BegunAt = kept(want[i].Rotation.BegunAt)
		if want[i].Rotation.ID == "" {
			want[i].Rotation.BegunAt = time.Time{}
		}
	}
	if diff := cmp.Diff(want, append([]domain.Standing(nil), got...)); diff != "" {
		t.Errorf("standings (-want +got):\n%s", diff)
	}
}

const rotated = domain.SecretType("trading_api_key")

func rotationNone(t *testing.T, s State) {
	wantStandings(t, s)
	ensure(t, s, 1, activeRow(rotated))
	wantStandings(t, s, activeRow(rotated).Standing())
}

func rotationOutdated(t *testing.T, s State) {
	ensure(t, s, 1, activeRow(rotated))
	r := rotation(1, rotated)
	got, err := s.BeginRotation(t.Context(), r, "40", rowOf(t, s, rotated).Standing().Begun(r), rotationEvent(2, domain.ActionRotationBegin))
	if got || err != nil {
		t.Errorf("BeginRotation: %v, %v", got, err)
	}
	wantStandings(t, s, activeRow(rotated).Standing())
}

func rotationBegun(t *testing.T, s State) {
	ensure(t, s, 1, activeRow(rotated), activeRow("bystander"))
	before := rowOf(t, s, rotated)
	next := begin(t, s, rotation(1, rotated), rotationEvent(3, domain.ActionRotationBegin), true)
	wantStandings(t, s, activeRow("bystander").Standing(), next)
	want := before
	want.Status, want.NewestVersion, want.PinnedVersion = domain.RotationRotating, "42", "41"
	want.UpdatedAt = rotationEvent(3, "").RecordedAt
	if diff := cmp.Diff(want, rowOf(t, s, rotated)); diff != "" {
		t.Errorf("row (-want +got):\n%s", diff)
	}
	if events := storedEvents(t, s); len(events) != 3 || events[2].Action != domain.ActionRotationBegin {
		t.Errorf("events: %v", events)
	}
}

func rotationTwice(t *testing.T, s State) {
	ensure(t, s, 1, activeRow(rotated))
	next := begin(t, s, rotation(1, rotated), rotationEvent(2, domain.ActionRotationBegin), true)
	begin(t, s, rotation(2, rotated), rotationEvent(3, domain.ActionRotationBegin), false)
	wantStandings(t, s, next)
	if n := len(storedEvents(t, s)); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
}

func rotationsOfTwo(t *testing.T, s State) {
	ensure(t, s, 1, activeRow(rotated), activeRow("webhook_shared_secret"))
	first := begin(t, s, rotation(1, rotated), rotationEvent(3, domain.ActionRotationBegin), true)
	second := begin(t, s, rotation(2, "webhook_shared_secret"), rotationEvent(4, domain.ActionRotationBegin), true)
	wantStandings(t, s, first, second)
	endRotation(t, s, "rot-1", domain.RotationAborted, first.Aborted(), domain.Rotated{}, rotationEvent(5, domain.ActionRotationAbort), true)
	wantStandings(t, s, first.Aborted(), second)
}

func rotationNotActive(t *testing.T, s State) {
	deprecated := activeRow("old_secret")
	deprecated.Status = domain.RotationDeprecated
	ensure(t, s, 1, deprecated)
	begin(t, s, rotation(1, "old_secret"), rotationEvent(2, domain.ActionRotationBegin), false)
	got, err := s.BeginRotation(t.Context(), rotation(2, "unknown"), "", domain.Standing{Type: "unknown"}, rotationEvent(3, domain.ActionRotationBegin))
	if got || err != nil {
		t.Errorf("a rotation of a secret without a row: %v, %v", got, err)
	}
	if n := len(storedEvents(t, s)); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func rotationPromoted(t *testing.T, s State) {
	ensure(t, s, 1, activeRow(rotated))
	next := begin(t, s, rotation(1, rotated), rotationEvent(2, domain.ActionRotationBegin), true)
	endRotation(t, s, "rot-1", domain.RotationPromoted, next.Promoted(), made, rotationEvent(3, domain.ActionRotationPromote), true)
	m := rowOf(t, s, rotated)
	if m.Status != domain.RotationActive || m.PinnedVersion != "42" || !m.LastRotatedAt.Equal(kept(made.At)) || !m.RotationDueAt.Equal(kept(made.DueAt)) {
		t.Errorf("row: %+v", m)
	}
	wantStandings(t, s, next.Promoted())
}

func rotationAborted(t *testing.T, s State) {
	ensure(t, s, 1, activeRow(rotated))
	before := rowOf(t, s, rotated)
	next := begin(t, s, rotation(1, rotated), rotationEvent(2, domain.ActionRotationBegin), true)
	endRotation(t, s, "rot-1", domain.RotationAborted, next.Aborted(), domain.Rotated{}, rotationEvent(3, domain.ActionRotationAbort), true)
	m := rowOf(t, s, rotated)
	if m.Status != domain.RotationActive || m.PinnedVersion != "41" || m.NewestVersion != "42" ||
		m.LastRotatedAt != before.LastRotatedAt || m.RotationDueAt != before.RotationDueAt {
		t.Errorf("row: %+v", m)
	}
}

func rotationEndsOnce(t *testing.T, s State) {
	ensure(t, s, 1, activeRow(rotated))
	next := begin(t, s, rotation(1, rotated), rotationEvent(2, domain.ActionRotationBegin), true)
	endRotation(t, s, "rot-1", domain.RotationPromoted, next.Promoted(), made, rotationEvent(3, domain.ActionRotationPromote), true)
	endRotation(t, s, "rot-1", domain.RotationAborted, next.Aborted(), domain.Rotated{}, rotationEvent(4, domain.ActionRotationAbort), false)
	endRotation(t, s, "unknown", domain.RotationAborted, next.Aborted(), domain.Rotated{}, rotationEvent(5, domain.ActionRotationAbort), false)
	wantStandings(t, s, next.Promoted())
	if n := len(storedEvents(t, s)); n != 3 {
		t.Errorf("%d events, want 3", n)
	}
}

func rotationAgain(t *testing.T, s State) {
	ensure(t, s, 1, activeRow(rotated))
	next := begin(t, s, rotation(1, rotated), rotationEvent(2, domain.ActionRotationBegin), true)
	endRotation(t, s, "rot-1", domain.RotationAborted, next.Aborted(), domain.Rotated{}, rotationEvent(3, domain.ActionRotationAbort), true)
	begin(t, s, rotation(2, rotated), rotationEvent(4, domain.ActionRotationBegin), true)
}

func rotationAtomic(t *testing.T, s State) {
	ensure(t, s, 1, activeRow(rotated))
	before := rowOf(t, s, rotated)
	taken := rotationEvent(1, domain.ActionRotationBegin)
	next := before.Standing().Begun(rotation(1, rotated))
	if _, err := s.BeginRotation(t.Context(), rotation(1, rotated), before.NewestVersion, next, taken); err == nil {
		t.Fatal("begun with an event that is stored already")
	}
	if diff := cmp.Diff(before, rowOf(t, s, rotated)); diff != "" {
		t.Errorf("row after a failed begin (-want +got):\n%s", diff)
	}
	begin(t, s, rotation(2, rotated), rotationEvent(2, domain.ActionRotationBegin), true)
	before = rowOf(t, s, rotated)
	if _, err := s.EndRotation(t.Context(), "rot-2", domain.RotationPromoted, next.Promoted(), made, rotationEvent(1, domain.ActionRotationPromote)); err == nil {
		t.Fatal("ended with an event that is stored already")
	}
	if diff := cmp.Diff(before, rowOf(t, s, rotated)); diff != "" {
		t.Errorf("row after a failed end (-want +got):\n%s", diff)
	}
	if got, err := s.Standings(t.Context()); err != nil || len(got) != 1 || got[0].Rotation.ID != "rot-2" {
		t.Errorf("standings after a failed end: %v, %v", got, err)
	}
}

// wantOneOf races step, and checks that one of the racers took it and that it left one event.
func wantOneOf(t *testing.T, s State, step func(i int) (bool, error)) {
	t.Helper()
	before := len(storedEvents(t, s))
	var taken atomic.Int32
	race(func(i int) {
		got, err := step(i)
		if err != nil {
			t.Errorf("racer %d: %v", i, err)
		}
		if got {
			taken.Add(1)
		}
	})
	if n := taken.Load(); n != 1 {
		t.Errorf("%d got true, want 1", n)
	}
	if n := len(storedEvents(t, s)) - before; n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func rotationBeginRace(t *testing.T, s State) {
	ensure(t, s, 1, activeRow(rotated))
	standing := rowOf(t, s, rotated).Standing()
	wantOneOf(t, s, func(i int) (bool, error) {
		r := rotation(i, rotated)
		return s.BeginRotation(t.Context(), r, standing.Newest, standing.Begun(r), rotationEvent(uint64(100+i), domain.ActionRotationBegin))
	})
}

func rotationEndRace(t *testing.T, s State) {
	ensure(t, s, 1, activeRow(rotated))
	next := begin(t, s, rotation(1, rotated), rotationEvent(2, domain.ActionRotationBegin), true)
	wantOneOf(t, s, func(i int) (bool, error) {
		event := rotationEvent(uint64(100+i), domain.ActionRotationPromote)
		if i%2 == 0 {
			return s.EndRotation(t.Context(), "rot-1", domain.RotationAborted, next.Aborted(), domain.Rotated{}, event)
		}
		return s.EndRotation(t.Context(), "rot-1", domain.RotationPromoted, next.Promoted(), made, event)
	})
}

func record(t *testing.T, s State, newest string, event domain.Event, want bool) {
	t.Helper()
	next := rowOf(t, s, rotated).Standing().Counted("43")
	got, err := s.RecordRotation(t.Context(), newest, next, made, event)
	if err != nil || got != want {
		t.Fatalf("RecordRotation: %v, %v; want %v", got, err, want)
	}
}

func rotationRecorded(t *testing.T, s State) {
	ensure(t, s, 1, activeRow(rotated))
	record(t, s, "40", rotationEvent(2, domain.ActionRotationDetected), false)
	record(t, s, "41", rotationEvent(3, domain.ActionRotationDetected), true)
	record(t, s, "41", rotationEvent(4, domain.ActionRotationDetected), false)
	m := rowOf(t, s, rotated)
	if m.NewestVersion != "43" || m.PinnedVersion != "" || !m.LastRotatedAt.Equal(kept(made.At)) || !m.RotationDueAt.Equal(kept(made.DueAt)) {
		t.Errorf("row: %+v", m)
	}
	if n := len(storedEvents(t, s)); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
}

func rotationRecordedLate(t *testing.T, s State) {
	ensure(t, s, 1, activeRow(rotated))
	record(t, s, "41", rotationEvent(2, domain.ActionRotationDetected), true)
	earlier := domain.Rotated{At: made.At.Add(-time.Hour), DueAt: made.DueAt.Add(-time.Hour)}
	next := rowOf(t, s, rotated).Standing().Counted("44")
	if got, err := s.RecordRotation(t.Context(), "43", next, earlier, rotationEvent(3, domain.ActionRotationDetected)); !got || err != nil {
		t.Fatalf("RecordRotation: %v, %v", got, err)
	}
	m := rowOf(t, s, rotated)
	if m.NewestVersion != "44" || !m.LastRotatedAt.Equal(kept(made.At)) || !m.RotationDueAt.Equal(kept(made.DueAt)) {
		t.Errorf("row: %+v", m)
	}
}

func rotationRecordedWhileRotating(t *testing.T, s State) {
	ensure(t, s, 1, activeRow(rotated))
	begin(t, s, rotation(1, rotated), rotationEvent(2, domain.ActionRotationBegin), true)
	record(t, s, "42", rotationEvent(3, domain.ActionRotationDetected), false)
}

func rotationRecordedOfDeprecated(t *testing.T, s State) {
	deprecated := activeRow(rotated)
	deprecated.Status = domain.RotationDeprecated
	ensure(t, s, 1, deprecated)
	next := activeRow(rotated).Standing().Counted("43") // as who does not know of it has it
	if got, err := s.RecordRotation(t.Context(), "41", next, made, rotationEvent(2, domain.ActionRotationDetected)); got || err != nil {
		t.Errorf("RecordRotation: %v, %v", got, err)
	}
	record(t, s, "41", rotationEvent(3, domain.ActionRotationDetected), true)
	if got := rowOf(t, s, rotated).Status; got != domain.RotationDeprecated {
		t.Errorf("status %s", got)
	}
}

func rotationRecordRace(t *testing.T, s State) {
	ensure(t, s, 1, activeRow(rotated))
	next := rowOf(t, s, rotated).Standing().Counted("43")
	wantOneOf(t, s, func(i int) (bool, error) {
		return s.RecordRotation(t.Context(), "41", next, made, rotationEvent(uint64(100+i), domain.ActionRotationDetected))
	})
}

func versionNoted(t *testing.T, s State) {
	ensure(t, s, 1, row(rotated))
	for _, version := range []string{"7", "8"} {
		account := domain.Account{Type: rotated, Source: "gsm", Version: version, First: version, Origin: row(rotated).Origin()}
		if err := s.RecordServed(t.Context(), []domain.Account{account}); err != nil {
			t.Fatalf("RecordServed: %v", err)
		}
	}
	if got := rowOf(t, s, rotated).NewestVersion; got != "7" {
		t.Errorf("newest version %q, want 7", got)
	}
}

func rotationOfAnother(t *testing.T, s State) {
	first := row(rotated)
	first.Status = domain.RotationActive
	ensure(t, s, 1, first)
	for name, other := range map[string]domain.Origin{
		"backend":   {Backend: "local_file", Reference: first.GCPSecretID, Version: first.GCPVersionAlias},
		"reference": {Backend: first.Backend, Reference: "projects/p/secrets/former", Version: first.GCPVersionAlias},
		"alias":     {Backend: first.Backend, Reference: first.GCPSecretID, Version: "5"},
	} {
		before := first.Standing()
		before.Origin = other // as a replica of the former catalog has it
		r := rotation(1, rotated)
		if got, err := s.BeginRotation(t.Context(), r, before.Newest, before.Begun(r), rotationEvent(2, domain.ActionRotationBegin)); got || err != nil {
			t.Errorf("another %s: BeginRotation: %v, %v", name, got, err)
		}
		if got, err := s.RecordRotation(t.Context(), before.Newest, before.Counted("43"), made, rotationEvent(3, domain.ActionRotationDetected)); got || err != nil {
			t.Errorf("another %s: RecordRotation: %v, %v", name, got, err)
		}
		account := domain.Account{Type: rotated, Source: "gsm", Version: "9", First: "9", Origin: other}
		if err := s.RecordServed(t.Context(), []domain.Account{account}); err != nil {
			t.Errorf("another %s: RecordServed: %v", name, err)
		}
	}
	wantStandings(t, s, first.Standing())
	if n := len(storedEvents(t, s)); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func versionsForgotten(t *testing.T, s State) {
	for name, change := range map[string]func(*domain.Metadata){
		"backend":   func(m *domain.Metadata) { m.Backend = "local_file" },
		"reference": func(m *domain.Metadata) { m.GCPSecretID = "projects/p/secrets/other" },
		"alias":     func(m *domain.Metadata) { m.GCPVersionAlias = "5" },
		"owner":     func(m *domain.Metadata) { m.Owner = "Platform Reliability" },
	} {
		secret := domain.SecretType("secret_" + name)
		first := activeRow(secret)
		first.PinnedVersion = "41"
		event := uint64(len(storedEvents(t, s)) + 1)
		ensure(t, s, event, first)
		next := first
		next.NewestVersion, next.PinnedVersion = "", ""
		change(&next)
		ensure(t, s, event+1, next)
		forgotten := rowOf(t, s, secret).NewestVersion == "" && rowOf(t, s, secret).PinnedVersion == ""
		if forgotten != (name != "owner") {
			t.Errorf("%s changed: forgotten %v", name, forgotten)
		}
	}
}

func rotationAbandoned(t *testing.T, s State) {
	ensure(t, s, 1, activeRow(rotated))
	begin(t, s, rotation(1, rotated), rotationEvent(2, domain.ActionRotationBegin), true)
	owner := activeRow(rotated)
	owner.Owner = "Platform Reliability"
	ensure(t, s, 3, owner)
	if got := rowOf(t, s, rotated).Status; got != domain.RotationRotating {
		t.Fatalf("with another owner it is %s", got)
	}
	other := owner
	other.GCPSecretID = "projects/p/secrets/other"
	ensure(t, s, 4, other)
	want := other.Standing()
	want.Newest = ""
	wantStandings(t, s, want)
	endRotation(t, s, "rot-1", domain.RotationAborted, want, domain.Rotated{}, rotationEvent(5, domain.ActionRotationAbort), false)
	begin(t, s, rotation(2, rotated), rotationEvent(6, domain.ActionRotationBegin), true)
}
