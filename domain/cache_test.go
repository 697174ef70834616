package domain_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func fetched(p domain.CachePolicy) domain.CacheState {
	return p.Succeed(domain.Fetched{Value: domain.NewValue([]byte("v")), Version: "7"}, "gsm", t0, 0)
}

func TestServable(t *testing.T) {
	p := domain.DefaultCachePolicy()
	denied := p.Fail(fetched(p), domain.ReasonPermissionDenied, t0.Add(4*time.Minute), 0)
	deniedLate := p.Fail(fetched(p), domain.ReasonPermissionDenied, t0.Add(33*time.Minute), 0)
	for _, c := range []struct {
		name      string
		state     domain.CacheState
		after     time.Duration
		ok, stale bool
	}{
		{"empty", domain.CacheState{}, 0, false, false},
		{"just fetched", fetched(p), 0, true, false},
		{"last fresh instant", fetched(p), 5*time.Minute - 1, true, false},
		{"end of the TTL", fetched(p), 5 * time.Minute, true, true},
		{"last stale instant", fetched(p), 35*time.Minute - 1, true, true},
		{"end of MaxStale", fetched(p), 35 * time.Minute, false, false},
		{"denied, still in its TTL", denied, 4 * time.Minute, true, true},
		{"denied, last instant of the grace", denied, 9*time.Minute - 1, true, true},
		{"denied, end of the grace", denied, 9 * time.Minute, false, false},
		{"denied late, the grace does not outlast MaxStale", deniedLate, 35 * time.Minute, false, false},
		{"clock stepped back", fetched(p), -time.Hour, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ok, stale := p.Servable(c.state, t0.Add(c.after))
			if ok != c.ok || stale != c.stale {
				t.Errorf("Servable = %v, %v; want %v, %v", ok, stale, c.ok, c.stale)
			}
		})
	}
}

func TestFail(t *testing.T) {
	p := domain.DefaultCachePolicy()
	for _, c := range []struct {
		reason domain.Reason
		after  time.Duration
		kept   bool
	}{
		{domain.ReasonUnavailable, 4 * time.Minute, true},
		{domain.ReasonUnavailable, 35 * time.Minute, false}, // what may not be served is not kept
		{domain.ReasonChecksumMismatch, 4 * time.Minute, true},
		{domain.ReasonInvalidPayload, 4 * time.Minute, true},
		{domain.ReasonPermissionDenied, 4 * time.Minute, true},
		{domain.ReasonNotFound, 4 * time.Minute, false},
		{domain.ReasonVersionDisabled, 4 * time.Minute, false},
		{domain.ReasonLatestForbidden, 4 * time.Minute, false},
		{"anything else", 4 * time.Minute, true},
	} {
		after := p.Fail(fetched(p), c.reason, t0.Add(c.after), 0)
		if kept := !after.Value.IsZero(); kept != c.kept || (after.Version != "") != c.kept {
			t.Errorf("%s after %v: value kept %v, want %v", c.reason, c.after, kept, c.kept)
		}
		if after.Failures != 1 || after.LastFailure != c.reason || !after.NextFetch.Equal(t0.Add(c.after+time.Second)) {
			t.Errorf("%s: %+v", c.reason, after)
		}
	}
}

func TestBackoffIsBoundedForever(t *testing.T) {
	p := domain.DefaultCachePolicy()
	s := domain.CacheState{}
	for range 10_000 {
		s = p.Fail(s, domain.ReasonUnavailable, t0, 1)
		if wait := s.NextFetch.Sub(t0); wait < time.Second || wait > 33*time.Second {
			t.Fatalf("failure %d waits %v", s.Failures, wait)
		}
	}
}

func TestSuccessForgetsFailuresAndDenials(t *testing.T) {
	p := domain.DefaultCachePolicy()
	s := p.Succeed(domain.Fetched{Value: domain.NewValue([]byte("w")), Version: "8"}, "gsm", t0.Add(time.Minute), 0)
	if s.Failures != 0 || s.LastFailure != "" || !s.DeniedAt.IsZero() || s.Version != "8" {
		t.Errorf("state: %+v", s)
	}
}

func TestCacheAlerts(t *testing.T) {
	p := domain.DefaultCachePolicy()
	failing := func(n int) domain.CacheState { return domain.CacheState{Failures: n} }
	for _, c := range []struct {
		before, after int
		want          []string
	}{
		{0, 0, nil},
		{0, 1, []string{"omni.alert.cache_failure"}},
		{1, 2, []string{"omni.alert.cache_failure"}},
		{2, 3, []string{"omni.alert.cache_failure", "omni.alert.cache_failure.threshold"}},
		{3, 4, []string{"omni.alert.cache_failure", "omni.alert.cache_failure.threshold"}},
		{4, 0, []string{"omni.alert.cache_recovered"}},
		{1, 0, []string{"omni.alert.cache_recovered"}},
	} {
		if got := p.CacheAlerts(failing(c.before), failing(c.after)); !slices.Equal(got, c.want) {
			t.Errorf("from %d to %d failures: %v, want %v", c.before, c.after, got, c.want)
		}
	}
}

func TestWithdrawnAndNextTurn(t *testing.T) {
	p := domain.DefaultCachePolicy()
	fail := func(s domain.CacheState, after time.Duration, reasons ...domain.Reason) domain.CacheState {
		for _, r := range reasons {
			s = p.Fail(s, r, t0.Add(after), 0)
		}
		return s
	}
	const never = -1
	for _, c := range []struct {
		name      string
		state     domain.CacheState
		after     time.Duration
		withdrawn bool
		turn      time.Duration // after t0
	}{
		{"empty", domain.CacheState{}, 0, false, never},
		{"fresh", fetched(p), 0, false, 5 * time.Minute},
		{"stale", fetched(p), 5 * time.Minute, false, 35 * time.Minute},
		{"past its time", fetched(p), 35 * time.Minute, false, never},
		{"outage at start", fail(domain.CacheState{}, time.Minute, domain.ReasonUnavailable), time.Hour, false, never},
		{"denied, in its grace", fail(fetched(p), 4*time.Minute, domain.ReasonPermissionDenied), 6 * time.Minute, false, 9 * time.Minute},
		{"denied, after the grace", fail(fetched(p), 4*time.Minute, domain.ReasonPermissionDenied), 9 * time.Minute, true, never},
		{"denied at start", fail(domain.CacheState{}, time.Minute, domain.ReasonPermissionDenied), time.Minute, false, 6 * time.Minute},
		{"denied, then an outage", fail(fetched(p), 4*time.Minute, domain.ReasonPermissionDenied, domain.ReasonUnavailable), 9 * time.Minute, true, never},
		{"revoked", fail(fetched(p), time.Minute, domain.ReasonNotFound), time.Minute, true, never},
		{"revoked, then an outage", fail(fetched(p), time.Minute, domain.ReasonNotFound, domain.ReasonUnavailable), time.Minute, true, never},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := t0.Add(c.after)
			if got := p.Withdrawn(c.state, now); got != c.withdrawn {
				t.Errorf("Withdrawn = %v", got)
			}
			turn := p.NextTurn(c.state, now)
			if c.turn == never && !turn.IsZero() || c.turn != never && !turn.Equal(t0.Add(c.turn)) {
				t.Errorf("NextTurn = %v, want %v after the start", turn, c.turn)
			}
		})
	}
}

// From any state that a run of fetches leads to, an outage that begins now and does not end lets Servable turn
// exactly at ServableUntil, however often a fetch fails meanwhile.
func TestServableTurnsAtServableUntil(t *testing.T) {
	const seed = 20261125
	random := rand.New(rand.NewPCG(seed, seed))
	within := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }
	reasons := []domain.Reason{
		"", "", domain.ReasonUnavailable, domain.ReasonChecksumMismatch, domain.ReasonPermissionDenied, domain.ReasonUnauthenticated, domain.ReasonNotFound,
	}
	served := 0
	for run := range 20_000 {
		p := domain.DefaultCachePolicy()
		p.TTL, p.MaxStale, p.DeniedGrace = 1+within(10*time.Minute), within(time.Hour), within(20*time.Minute)
		s, now := domain.CacheState{}, t0
		for range random.IntN(6) {
			now = now.Add(within(15 * time.Minute))
			if reason := reasons[random.IntN(len(reasons))]; reason == "" {
				s = p.Succeed(domain.Fetched{Value: domain.NewValue([]byte("v")), Version: "7"}, "gsm", now, 0)
			} else {
				s = p.Fail(s, reason, now, 0)
			}
		}
		now = now.Add(within(time.Hour) - 10*time.Minute) // the clock may step back

		until := p.ServableUntil(s, now)
		if ok, _ := p.Servable(s, now); ok != until.After(now) || !ok && !until.IsZero() {
			t.Fatalf("run %d: Servable is %v at %v and ServableUntil %v: %+v, %+v", run, ok, now, until, p, s)
		}
		if until.IsZero() {
			continue
		}
		served++
		for at := now; ; {
			at = at.Add(1 + within(10*time.Minute))
			if !at.Before(until) {
				break
			}
			s = p.Fail(s, domain.ReasonUnavailable, at, 0)
			if again := p.ServableUntil(s, at); !again.Equal(until) {
				t.Fatalf("run %d: the outage moved ServableUntil from %v to %v", run, until, again)
			}
		}
		before, _ := p.Servable(s, until.Add(-1))
		after, _ := p.Servable(s, until)
		if !before || after {
			t.Fatalf("run %d: Servable is %v before ServableUntil and %v at it: %+v, %+v", run, before, after, p, s)
		}
	}
	if served < 2_000 {
		t.Errorf("only %d of the states had something to serve", served)
	}
}

func TestServableUntil(t *testing.T) {
	p := domain.DefaultCachePolicy()
	denied := p.Fail(fetched(p), domain.ReasonPermissionDenied, t0.Add(4*time.Minute), 0)
	revoked := p.Fail(fetched(p), domain.ReasonNotFound, t0.Add(4*time.Minute), 0)
	const never = -1
	for _, c := range []struct {
		name  string
		state domain.CacheState
		at    time.Duration // after t0
		until time.Duration
	}{
		{"empty", domain.CacheState{}, 0, never},
		{"just fetched: TTL and MaxStale", fetched(p), 0, 35 * time.Minute},
		{"stale", fetched(p), 20 * time.Minute, 35 * time.Minute},
		{"at its end", fetched(p), 35 * time.Minute, never},
		{"denied: the grace", denied, 4 * time.Minute, 9 * time.Minute},
		{"after the grace", denied, 9 * time.Minute, never},
		{"revoked", revoked, 4 * time.Minute, never},
	} {
		t.Run(c.name, func(t *testing.T) {
			until := p.ServableUntil(c.state, t0.Add(c.at))
			if c.until == never && !until.IsZero() || c.until != never && !until.Equal(t0.Add(c.until)) {
				t.Errorf("ServableUntil = %v, want %v after the fetch", until, c.until)
			}
		})
	}
}
