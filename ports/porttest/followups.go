package porttest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// RunFollowUps checks an implementation of ports.FollowUps. create returns an empty state, and ends it with t.Cleanup.
func RunFollowUps(t *testing.T, create func(t *testing.T) State) {
	t.Helper()
	cases := []struct {
		name string
		run  func(t *testing.T, s State)
	}{
		{"at first nothing is open", followUpNone},
		{"every override opens one, also one that is replaced", followUpOpened},
		{"the end of an override leaves it open", followUpStays},
		{"it is closed once, with its event", followUpClosed},
		{"an event that cannot be stored leaves it open", followUpAtomic},
		{"of replicas that close it together one does", followUpRace},
		{"a promotion closes those of its secret that were opened before it", followUpPromoted},
		{"an abort closes none", followUpAborted},
		{"a rotation from elsewhere closes those that were opened before it was made", followUpRecorded},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, create(t)) })
	}
}

func followUp(o domain.Override) domain.FollowUp {
	return domain.FollowUp{
		OverrideID: o.ID, Type: o.Envelope.Type, OpenedAt: kept(o.AppliedAt), AppliedBy: o.AppliedBy, Reason: o.Reason,
	}
}

func wantFollowUps(t *testing.T, s State, want ...domain.Override) {
	t.Helper()
	got, err := s.OpenFollowUps(t.Context())
	if err != nil {
		t.Fatalf("OpenFollowUps: %v", err)
	}
	var all []domain.FollowUp
	for _, o := range want {
		all = append(all, followUp(o))
	}
	if diff := cmp.Diff(all, append([]domain.FollowUp(nil), got...)); diff != "" {
		t.Errorf("open follow-ups (-want +got):\n%s", diff)
	}
}

func closing(n uint64) domain.Event {
	return with(numbered(n), func(e *domain.Event) { e.Action = domain.ActionWriteMetadata })
}

func closeFollowUp(t *testing.T, s State, id string, event domain.Event, want bool) {
	t.Helper()
	got, err := s.CloseFollowUp(t.Context(), id, "it was a drill", event)
	if err != nil || got != want {
		t.Fatalf("CloseFollowUp: %v, %v; want %v", got, err, want)
	}
}

func followUpNone(t *testing.T, s State) { wantFollowUps(t, s) }

func followUpOpened(t *testing.T, s State) {
	first, second := override(1), override(2)
	second.AppliedAt = second.AppliedAt.Add(time.Second)
	apply(t, s, first, applied(1))
	err := s.ApplyOverride(t.Context(), second, applied(2), func(domain.Override) domain.Event { return cleared(3) })
	if err != nil {
		t.Fatal(err)
	}
	wantFollowUps(t, s, first, second)
}

func followUpStays(t *testing.T, s State) {
	apply(t, s, override(1), applied(1))
	end(t, s, override(1).ID, domain.EndCleared, cleared(2), true)
	wantFollowUps(t, s, override(1))
}

func followUpClosed(t *testing.T, s State) {
	apply(t, s, override(1), applied(1))
	closeFollowUp(t, s, "unknown", closing(2), false)
	closeFollowUp(t, s, override(1).ID, closing(2), true)
	closeFollowUp(t, s, override(1).ID, closing(3), false)
	wantFollowUps(t, s)
	wantEvents(t, s, applied(1), closing(2))
}

func followUpAtomic(t *testing.T, s State) {
	apply(t, s, override(1), applied(1))
	if _, err := s.CloseFollowUp(t.Context(), override(1).ID, "drill", applied(1)); err == nil {
		t.Fatal("closed with an event that is stored already")
	}
	wantFollowUps(t, s, override(1))
}

func followUpRace(t *testing.T, s State) {
	apply(t, s, override(1), applied(1))
	wantOneOf(t, s, func(i int) (bool, error) {
		return s.CloseFollowUp(t.Context(), override(1).ID, "drill", closing(uint64(100+i)))
	})
}

// overridesOfTwo applies an override of the secret that is rotated, a later one of it, and one of another secret.
func overridesOfTwo(t *testing.T, s State) (before, after, other domain.Override) {
	t.Helper()
	ensure(t, s, 1, activeRow(overridden))
	before, after, other = override(1), override(2), override(3)
	after.AppliedAt = moment.Add(time.Hour)
	other.AppliedAt, other.Envelope.Type = moment.Add(2*time.Hour), "zk_signing_seed"
	apply(t, s, before, applied(2))
	end(t, s, before.ID, domain.EndCleared, cleared(3), true)
	apply(t, s, after, applied(4))
	apply(t, s, other, applied(5))
	wantFollowUps(t, s, before, after, other)
	return before, after, other
}

func followUpPromoted(t *testing.T, s State) {
	_, after, other := overridesOfTwo(t, s)
	next := begin(t, s, rotation(1, overridden), rotationEvent(6, domain.ActionRotationBegin), true)
	endRotation(t, s, "rot-1", domain.RotationPromoted, next.Promoted(), made, rotationEvent(7, domain.ActionRotationPromote), true)
	wantFollowUps(t, s, after, other)
}

func followUpAborted(t *testing.T, s State) {
	before, after, other := overridesOfTwo(t, s)
	next := begin(t, s, rotation(1, overridden), rotationEvent(6, domain.ActionRotationBegin), true)
	endRotation(t, s, "rot-1", domain.RotationAborted, next.Aborted(), domain.Rotated{}, rotationEvent(7, domain.ActionRotationAbort), true)
	wantFollowUps(t, s, before, after, other)
}

func followUpRecorded(t *testing.T, s State) {
	_, after, other := overridesOfTwo(t, s)
	record(t, s, "41", rotationEvent(6, domain.ActionRotationDetected), true)
	wantFollowUps(t, s, after, other)
}
