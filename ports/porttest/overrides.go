package porttest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// RunOverrides checks an implementation of ports.Overrides. create returns an empty state, and ends it with
// t.Cleanup. That the ciphertext is gone from storage is for the adapter's own tests to show.
func RunOverrides(t *testing.T, create func(t *testing.T) State) {
	t.Helper()
	cases := []struct {
		name string
		run  func(t *testing.T, s State)
	}{
		{"an applied override is open, complete, with times in UTC to the microsecond", overrideApplied},
		{"an expired override stays open until it is ended", overrideExpired},
		{"apply and end show in the metadata", overrideMetadata},
		{"an override without a metadata row can be applied and ended", overrideNoMetadata},
		{"the next override replaces the open one", overrideReplaced},
		{"an override of another type stays", overrideOtherType},
		{"an envelope is refused while its override is open", replayOpen},
		{"an envelope is refused after its override ended", replayEnded},
		{"an envelope is refused for another type", replayOtherType},
		{"an event that cannot be stored leaves no override", applyAtomic},
		{"a replacement whose second event cannot be stored changes nothing", replaceAtomic},
		{"of replicas that apply the same envelope one succeeds", applyRaceDigest},
		{"of overrides applied together the last one stays open and each other has its end", applyRaceType},
		{"ending reports true once and stores its event once", endOnce},
		{"ending an unknown override reports false and stores nothing", endUnknown},
		{"an override is known once it was applied, open until its end", overrideKnown},
		{"an override that was replaced cannot be ended", endReplaced},
		{"an event that cannot be stored leaves the override open", endAtomic},
		{"of replicas that end the same override one gets true", endRace},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, create(t)) })
	}
}

const overridden = domain.SecretType("trading_api_key")

// override is a full override with an id and a digest of its own.
func override(n int) domain.Override {
	expires := moment.Add(25 * time.Minute)
	return domain.Override{
		ID: fmt.Sprintf("override-%d", n),
		Envelope: domain.Envelope{
			Type:       overridden,
			Ciphertext: fmt.Sprintf("Y2lwaGVydGV4dC0%d", n),
			ExpiresAt:  expires.Format("2006-01-02T15:04:05.000-07:00"), // as no adapter would write it by itself
		},
		EnvelopeKind: 2,
		Digest:       fmt.Sprintf("digest-%d", n),
		ExpiresAt:    expires,
		Reason:       "it's an \"outage\"",
		AppliedBy:    domain.Actor{Type: domain.ActorOperator, ID: "alice@example.com"},
		AppliedAt:    moment,
	}
}

func keptOverride(o domain.Override) domain.Override {
	o.ExpiresAt, o.AppliedAt = kept(o.ExpiresAt), kept(o.AppliedAt)
	return o
}

func applied(n uint64) domain.Event {
	return with(numbered(n), func(e *domain.Event) {
		e.Action, e.Source = domain.ActionBreakGlassApply, domain.SourceBreakGlass
	})
}

func cleared(n uint64) domain.Event {
	return with(numbered(n), func(e *domain.Event) {
		e.Action, e.Source = domain.ActionBreakGlassClear, domain.SourceBreakGlass
		e.RecordedAt = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	})
}

// none is the ended function of an apply that must find nothing open.
func none(t *testing.T) func(domain.Override) domain.Event {
	return func(o domain.Override) domain.Event {
		t.Errorf("%s was ended", o.ID)
		return cleared(1 << 40)
	}
}

func apply(t *testing.T, s State, o domain.Override, event domain.Event) {
	t.Helper()
	if err := s.ApplyOverride(t.Context(), o, event, none(t)); err != nil {
		t.Fatalf("ApplyOverride: %v", err)
	}
}

func end(t *testing.T, s State, id string, cause domain.OverrideEnd, event domain.Event, want bool) {
	t.Helper()
	got, err := s.EndOverride(t.Context(), id, cause, event)
	if err != nil {
		t.Fatalf("EndOverride: %v", err)
	}
	if got != want {
		t.Fatalf("EndOverride reported %v, want %v", got, want)
	}
}

func wantOpen(t *testing.T, s State, want ...domain.Override) {
	t.Helper()
	got, err := s.OpenOverrides(t.Context())
	if err != nil {
		t.Fatalf("OpenOverrides: %v", err)
	}
	open := make(map[string]domain.Override)
	for _, o := range got {
		open[o.ID] = o
	}
	wanted := make(map[string]domain.Override)
	for _, o := range want {
		wanted[o.ID] = keptOverride(o)
	}
	if diff := cmp.Diff(wanted, open); diff != "" {
		t.Errorf("open overrides (-want +got):\n%s", diff)
	}
}

func overrideApplied(t *testing.T, s State) {
	apply(t, s, override(1), applied(1))
	wantOpen(t, s, override(1))
	wantEvents(t, s, applied(1))
}

func overrideExpired(t *testing.T, s State) {
	o := override(1)
	o.AppliedAt, o.ExpiresAt = o.AppliedAt.Add(-time.Hour), o.ExpiresAt.Add(-time.Hour)
	apply(t, s, o, applied(1))
	wantOpen(t, s, o)
	end(t, s, o.ID, domain.EndExpired, cleared(2), true)
	wantOpen(t, s)
}

func overrideMetadata(t *testing.T, s State) {
	ensure(t, s, 100, row(overridden), row("bystander"))

	o := override(1)
	apply(t, s, o, applied(1))
	during := rowOf(t, s, overridden)
	if !during.BreakGlassEnabledUntil.Equal(kept(o.ExpiresAt)) || during.CacheSource != domain.SourceBreakGlass {
		t.Errorf("while open: until %v from %s, want %v from %s",
			during.BreakGlassEnabledUntil, during.CacheSource, kept(o.ExpiresAt), domain.SourceBreakGlass)
	}

	end(t, s, o.ID, domain.EndCleared, cleared(2), true)
	if after := rowOf(t, s, overridden); !after.BreakGlassEnabledUntil.IsZero() {
		t.Errorf("after its end: until %v, want the zero time", after.BreakGlassEnabledUntil)
	}
	if other := rowOf(t, s, "bystander"); other.CacheSource != "gsm" || !other.BreakGlassEnabledUntil.IsZero() {
		t.Errorf("the row of another secret changed: %v", other)
	}
}

func overrideNoMetadata(t *testing.T, s State) {
	apply(t, s, override(1), applied(1))
	end(t, s, "override-1", domain.EndCleared, cleared(2), true)
	if rows := rowsOf(t, s); len(rows) != 0 {
		t.Errorf("it made rows: %v", rows)
	}
}

func overrideReplaced(t *testing.T, s State) {
	ensure(t, s, 100, row(overridden))
	apply(t, s, override(1), applied(1))

	next := override(2)
	next.ExpiresAt = next.ExpiresAt.Add(time.Minute)
	var ended []string
	err := s.ApplyOverride(t.Context(), next, applied(2), func(o domain.Override) domain.Event {
		ended = append(ended, o.ID)
		if o.Reason != override(1).Reason || o.AppliedBy != override(1).AppliedBy || o.Envelope.Type != overridden {
			t.Errorf("the event is asked for %+v", o)
		}
		return cleared(3)
	})
	if err != nil {
		t.Fatalf("ApplyOverride: %v", err)
	}

	if diff := cmp.Diff([]string{"override-1"}, ended); diff != "" {
		t.Errorf("ended (-want +got):\n%s", diff)
	}
	wantOpen(t, s, next)
	if got := rowOf(t, s, overridden); !got.BreakGlassEnabledUntil.Equal(kept(next.ExpiresAt)) || got.CacheSource != domain.SourceBreakGlass {
		t.Errorf("metadata: until %v from %s", got.BreakGlassEnabledUntil, got.CacheSource)
	}
	clears := 0
	for _, e := range storedEvents(t, s) {
		if e.Action == domain.ActionBreakGlassClear {
			clears++
		}
	}
	if clears != 1 {
		t.Errorf("%d clear events, want 1", clears)
	}
}

func overrideOtherType(t *testing.T, s State) {
	apply(t, s, override(1), applied(1))
	other := override(2)
	other.Envelope.Type = "webhook_shared_secret"
	apply(t, s, other, applied(2))
	wantOpen(t, s, override(1), other)
	end(t, s, "override-1", domain.EndRefreshed, cleared(3), true)
	wantOpen(t, s, other)
}

// again is another override with the envelope of override(1).
func again() domain.Override {
	o := override(2)
	o.Digest = override(1).Digest
	return o
}

func wantReplay(t *testing.T, s State, o domain.Override, event domain.Event) {
	t.Helper()
	if err := s.ApplyOverride(t.Context(), o, event, none(t)); !errors.Is(err, ports.ErrReplay) {
		t.Fatalf("ApplyOverride: %v, want ErrReplay", err)
	}
}

func replayOpen(t *testing.T, s State) {
	apply(t, s, override(1), applied(1))
	wantReplay(t, s, again(), applied(2))
	wantOpen(t, s, override(1))
	wantEvents(t, s, applied(1))
}

func replayEnded(t *testing.T, s State) {
	apply(t, s, override(1), applied(1))
	end(t, s, "override-1", domain.EndExpired, cleared(2), true)
	wantReplay(t, s, again(), applied(3))
	wantOpen(t, s)
	wantEvents(t, s, applied(1), cleared(2))
}

func replayOtherType(t *testing.T, s State) {
	apply(t, s, override(1), applied(1))
	other := again()
	other.Envelope.Type = "webhook_shared_secret"
	wantReplay(t, s, other, applied(2))
}

func applyAtomic(t *testing.T, s State) {
	ensure(t, s, 1, row(overridden))
	if err := s.ApplyOverride(t.Context(), override(1), applied(1), none(t)); err == nil {
		t.Fatal("an event with the id of another was taken")
	}
	wantOpen(t, s)
	if got := rowOf(t, s, overridden); !got.BreakGlassEnabledUntil.IsZero() || got.CacheSource != "gsm" {
		t.Errorf("metadata: until %v from %s", got.BreakGlassEnabledUntil, got.CacheSource)
	}
	apply(t, s, override(1), applied(2)) // the envelope was not used up
}

func replaceAtomic(t *testing.T, s State) {
	apply(t, s, override(1), applied(1))
	for name, ids := range map[string]struct{ apply, clear uint64 }{
		"of the new override": {apply: 1, clear: 11},
		"of the former one":   {apply: 12, clear: 1},
	} {
		err := s.ApplyOverride(t.Context(), override(2), applied(ids.apply),
			func(domain.Override) domain.Event { return cleared(ids.clear) })
		if err == nil {
			t.Fatalf("an event %s with the id of another was taken", name)
		}
		wantOpen(t, s, override(1))
		wantEvents(t, s, applied(1))
	}
}

func applyRaceDigest(t *testing.T, s State) {
	var won, replays atomic.Int32
	race(func(i int) {
		o := override(i)
		o.Digest = "the same"
		o.Envelope.Type = domain.SecretType(fmt.Sprintf("type_%d", i))
		switch err := s.ApplyOverride(t.Context(), o, applied(uint64(i+1)), none(t)); {
		case err == nil:
			won.Add(1)
		case errors.Is(err, ports.ErrReplay):
			replays.Add(1)
		default:
			t.Errorf("ApplyOverride: %v", err)
		}
	})
	if won.Load() != 1 || replays.Load() != racers-1 {
		t.Errorf("%d succeeded and %d were replays, want 1 and %d", won.Load(), replays.Load(), racers-1)
	}
	if n := len(storedEvents(t, s)); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func applyRaceType(t *testing.T, s State) {
	race(func(i int) {
		err := s.ApplyOverride(t.Context(), override(i), applied(uint64(i+1)),
			func(domain.Override) domain.Event { return cleared(uint64(100 + i)) })
		if err != nil {
			t.Errorf("ApplyOverride: %v", err)
		}
	})
	open, err := s.OpenOverrides(t.Context())
	if err != nil {
		t.Fatalf("OpenOverrides: %v", err)
	}
	if len(open) != 1 {
		t.Errorf("%d overrides are open, want 1", len(open))
	}
	if n := len(storedEvents(t, s)); n != 2*racers-1 {
		t.Errorf("%d events, want %d", n, 2*racers-1)
	}
}

func endOnce(t *testing.T, s State) {
	apply(t, s, override(1), applied(1))
	end(t, s, "override-1", domain.EndCleared, cleared(2), true)
	end(t, s, "override-1", domain.EndExpired, cleared(3), false)
	wantOpen(t, s)
	wantEvents(t, s, applied(1), cleared(2))
}

func endUnknown(t *testing.T, s State) {
	end(t, s, "unknown", domain.EndCleared, cleared(1), false)
	wantEvents(t, s)
}

func overrideKnown(t *testing.T, s State) {
	find := func(wantKnown, wantOpen bool) {
		t.Helper()
		if known, open, err := s.FindOverride(t.Context(), "override-1"); err != nil || known != wantKnown || open != wantOpen {
			t.Errorf("FindOverride: known %v, open %v, %v; want %v and %v", known, open, err, wantKnown, wantOpen)
		}
	}
	find(false, false)
	apply(t, s, override(1), applied(1))
	find(true, true)
	end(t, s, "override-1", domain.EndCleared, cleared(2), true)
	find(true, false)
}

func endReplaced(t *testing.T, s State) {
	apply(t, s, override(1), applied(1))
	err := s.ApplyOverride(t.Context(), override(2), applied(2), func(domain.Override) domain.Event { return cleared(3) })
	if err != nil {
		t.Fatalf("ApplyOverride: %v", err)
	}
	end(t, s, "override-1", domain.EndExpired, cleared(4), false)
	wantOpen(t, s, override(2))
}

func endAtomic(t *testing.T, s State) {
	ensure(t, s, 100, row(overridden))
	apply(t, s, override(1), applied(1))
	if ok, err := s.EndOverride(t.Context(), "override-1", domain.EndCleared, cleared(1)); err == nil || ok {
		t.Fatalf("EndOverride with the id of another event: %v, %v", ok, err)
	}
	wantOpen(t, s, override(1))
	if got := rowOf(t, s, overridden); got.BreakGlassEnabledUntil.IsZero() {
		t.Error("the metadata say that it ended")
	}
	end(t, s, "override-1", domain.EndCleared, cleared(2), true)
}

func endRace(t *testing.T, s State) {
	apply(t, s, override(1), applied(1))
	var won atomic.Int32
	race(func(i int) {
		ok, err := s.EndOverride(t.Context(), "override-1", domain.EndExpired, cleared(uint64(10+i)))
		if err != nil {
			t.Errorf("EndOverride: %v", err)
		}
		if ok {
			won.Add(1)
		}
	})
	if won.Load() != 1 {
		t.Errorf("%d callers got true, want 1", won.Load())
	}
	if n := len(storedEvents(t, s)); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
}
