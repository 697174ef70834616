package domain_test

import (
	"errors"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// Every step from every status: what is not listed as legal is refused with the code that says how things stand.
func TestRotationSteps(t *testing.T) {
	const active, rotating, deprecated = domain.RotationActive, domain.RotationRotating, domain.RotationDeprecated
	legal := map[domain.RotationStatus]map[domain.RotationStep]domain.RotationStatus{
		active:   {domain.StepBegin: rotating, domain.StepRecord: active},
		rotating: {domain.StepPromote: active, domain.StepAbort: active},
	}
	refusal := map[domain.RotationStatus]domain.Code{
		active: domain.CodeNoRotation, rotating: domain.CodeRotationInProgress, deprecated: domain.CodeSecretDeprecated,
	}
	for _, from := range []domain.RotationStatus{active, rotating, deprecated} {
		for _, step := range []domain.RotationStep{domain.StepBegin, domain.StepPromote, domain.StepAbort, domain.StepRecord} {
			to, err := from.After(step)
			if want, ok := legal[from][step]; ok {
				if err != nil || to != want {
					t.Errorf("%s from %s: %s, %v; want %s", step, from, to, err, want)
				}
				continue
			}
			if e, ok := errors.AsType[*domain.Error](err); !ok || e.Code != refusal[from] || to != from {
				t.Errorf("%s from %s: %s, %v; want code %s", step, from, to, err, refusal[from])
			}
		}
	}
}

func TestCompareVersions(t *testing.T) {
	inOrder := []string{"", "1", "2", "9", "10", "11", "100", "1000000000000000000"}
	files := []string{"", "20261123T191700.123456789Z-2a41f", "20261123T191700.123456790Z-1", "20270101T000000.000000000Z-3"}
	both := []string{"", "1", "2", "3", "30", "20261123T191700.123456789Z-2a41f", "20270101T000000.000000000Z-3"}
	for _, versions := range [][]string{inOrder, files, both} {
		for i, a := range versions {
			for j, b := range versions {
				if got := domain.CompareVersions(a, b); got < 0 != (i < j) || got > 0 != (i > j) {
					t.Errorf("CompareVersions(%q, %q) = %d", a, b, got)
				}
			}
		}
	}
}

func TestWhatIsFoundBehindTheAlias(t *testing.T) {
	const active, rotating = domain.RotationActive, domain.RotationRotating
	for _, c := range []struct {
		name     string
		standing domain.Standing
		found    string
		follows  bool
		means    domain.Finding
	}{
		{"the first fetch", domain.Standing{Status: active}, "7", true, domain.FoundFirst},
		{"nothing new", domain.Standing{Status: active, Newest: "7"}, "7", true, domain.FoundKnown},
		{"a rotation elsewhere", domain.Standing{Status: active, Newest: "9"}, "10", true, domain.FoundNewer},
		{"an alias that went back", domain.Standing{Status: active, Newest: "10"}, "9", true, domain.FoundBehind},
		{"after a promotion of the newest", domain.Standing{Status: active, Newest: "8", Pinned: "8"}, "8", true, domain.FoundKnown},
		{"after an abort: what was given up", domain.Standing{Status: active, Newest: "8", Pinned: "7"}, "8", false, domain.FoundKnown},
		{"after an abort: the next one", domain.Standing{Status: active, Newest: "8", Pinned: "7"}, "9", true, domain.FoundNewer},
		{"after a promotion of an older one", domain.Standing{Status: active, Newest: "9", Pinned: "6"}, "9", false, domain.FoundKnown},
		{"while it rotates: what it rotates to", domain.Standing{Status: rotating, Newest: "8", Pinned: "7"}, "8", false, domain.FoundKnown},
		{"while it rotates: a newer one still", domain.Standing{Status: rotating, Newest: "8", Pinned: "7"}, "9", false, domain.FoundKnown},
		{"while it rotates from nothing", domain.Standing{Status: rotating, Newest: "8"}, "8", true, domain.FoundKnown},
	} {
		if got := c.standing.Follows(c.found); got != c.follows {
			t.Errorf("%s: follows %v, want %v", c.name, got, c.follows)
		}
		if !c.follows {
			continue
		}
		if got := c.standing.Find(c.found); got != c.means {
			t.Errorf("%s: finding %d, want %d", c.name, got, c.means)
		}
	}
}

func TestStandingThroughRotations(t *testing.T) {
	s := domain.Standing{Status: domain.RotationActive, Newest: "7"}
	want := func(step string, status domain.RotationStatus, newest, pinned string) {
		t.Helper()
		if s.Status != status || s.Newest != newest || s.Pinned != pinned || (s.Rotation.ID != "") != s.Rotating() {
			t.Errorf("%s: %+v; want %s, newest %s, pinned %q", step, s, status, newest, pinned)
		}
	}
	s = s.Begun(domain.Rotation{ID: "rot-1", From: "7", To: "8"})
	want("begun", domain.RotationRotating, "8", "7")
	s = s.Aborted()
	want("aborted", domain.RotationActive, "8", "7")
	s = s.Counted("9")
	want("a newer one was found", domain.RotationActive, "9", "")
	s = s.Begun(domain.Rotation{ID: "rot-2", From: "9", To: "6"})
	want("back to an older one begun", domain.RotationRotating, "9", "9")
	s = s.Promoted()
	want("promoted", domain.RotationActive, "9", "6")
}

func TestDeprecatedSecretIsNeverOverdue(t *testing.T) {
	due := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for status, want := range map[domain.RotationStatus]domain.RotationState{
		domain.RotationActive: domain.RotationOverdue, domain.RotationRotating: domain.RotationOverdue, domain.RotationDeprecated: domain.RotationCurrent,
	} {
		if got := (domain.Metadata{Status: status, RotationDueAt: due}).RotationAt(due.Add(time.Hour)); got != want {
			t.Errorf("%s: %s, want %s", status, got, want)
		}
	}
}

func TestWhatIsAskedFor(t *testing.T) {
	pinned := domain.Standing{Status: domain.RotationActive, Newest: "8", Pinned: "7"}
	rotating := domain.Standing{Status: domain.RotationRotating, Newest: "8", Pinned: "7"}
	for _, c := range []struct {
		standing domain.Standing
		version  string
		want     bool
	}{
		{domain.Standing{Status: domain.RotationActive}, "latest", true},
		{domain.Standing{Status: domain.RotationActive}, "3", true},
		{domain.Standing{Status: domain.RotationRotating}, "latest", true}, // from nothing
		{pinned, "latest", true},
		{pinned, "3", false},
		{rotating, "latest", false},
	} {
		if got := c.standing.AsksFor(c.version); got != c.want {
			t.Errorf("%+v asks for %s: %v, want %v", c.standing, c.version, got, c.want)
		}
	}
}

func TestFetchIsMadeAgainWhenItMayEndInAnotherVersion(t *testing.T) {
	unpinned := domain.Standing{Type: "key", Status: domain.RotationActive, Newest: "1"}
	pinned := unpinned
	pinned.Pinned = "1"
	for _, c := range []struct {
		name          string
		before, after domain.Standing
		same          bool
	}{
		{"the first version was counted", domain.Standing{Type: "key", Status: domain.RotationActive}, unpinned, true},
		{"a rotation began", unpinned, unpinned.Begun(domain.Rotation{From: "1", To: "2"}), false},
		{"a rotation was promoted", pinned.Begun(domain.Rotation{From: "1", To: "2"}), pinned.Begun(domain.Rotation{From: "1", To: "2"}).Promoted(), false},
		{"a rotation was aborted", pinned.Begun(domain.Rotation{From: "1", To: "2"}), pinned.Begun(domain.Rotation{From: "1", To: "2"}).Aborted(), false},
		{"a version was counted while another was pinned", pinned, pinned.Counted("2"), false},
		{"nothing", pinned, pinned, true},
	} {
		if got := c.after.FetchesAs(c.before); got != c.same {
			t.Errorf("%s: the fetch of before ends in the same version: %v, want %v", c.name, got, c.same)
		}
	}
}
