package domain

import "time"

// CachePolicy says how long a fetched value may be served and when it is fetched again.
//
//	fetch                    80 % of TTL         TTL            TTL + MaxStale
//	  |----------- fresh ---------|----- fresh ----|----- stale ------|  nothing
//	                              ^ fetched again in the background, with back-off while that fails
//
// An authoritative failure ends the line at once; a denial marks the value stale and ends the line after
// DeniedGrace, or where it would have ended anyway.
type CachePolicy struct {
	TTL         time.Duration // a value is fresh for this long after the fetch began
	MaxStale    time.Duration // through an outage it is served this long after its TTL
	DeniedGrace time.Duration // after the first denial it is served this long

	RefreshAhead float64 // share of the TTL after which the value is fetched again
	Jitter       float64 // share by which refreshes and retries are spread, either way

	RetryMin, RetryMax time.Duration // back-off after a failed fetch, doubling from the one to the other
	AlertThreshold     int           // consecutive failures from which the threshold alert is raised
}

// DefaultCachePolicy is the policy of the design.
func DefaultCachePolicy() CachePolicy {
	return CachePolicy{
		TTL: 5 * time.Minute, MaxStale: 30 * time.Minute, DeniedGrace: 5 * time.Minute,
		RefreshAhead: 0.8, Jitter: 0.1,
		RetryMin: time.Second, RetryMax: 30 * time.Second,
		AlertThreshold: 3,
	}
}

// CacheState is what is known of one secret. The zero CacheState is empty: never fetched, due at once.
// A CacheState is immutable; Succeed and Fail return the next one.
type CacheState struct {
	Value     Value // zero when there is nothing to serve
	Version   string
	Source    string
	FetchedAt time.Time // when the fetch that gave Value began

	Failures    int    // consecutive
	LastFailure Reason // of those Failures
	DeniedAt    time.Time
	Revoked     bool // an authoritative failure said that there is no such value (any more)
	NextFetch   time.Time
}

// Tried reports whether a fetch ever ended.
func (s CacheState) Tried() bool { return !s.NextFetch.IsZero() }

// Succeed is the state after a fetch that began at began gave f from source. spread, in [-1, 1], places the
// next fetch within the jitter.
func (p CachePolicy) Succeed(f Fetched, source string, began time.Time, spread float64) CacheState {
	ahead := time.Duration(float64(p.TTL) * p.RefreshAhead)
	return CacheState{
		Value: f.Value, Version: f.Version, Source: source, FetchedAt: began,
		NextFetch: began.Add(p.jittered(ahead, spread)),
	}
}

// Fail is the state after a fetch failed for reason at now.
func (p CachePolicy) Fail(s CacheState, reason Reason, now time.Time, spread float64) CacheState {
	s.Failures++
	s.LastFailure = reason
	s.NextFetch = now.Add(p.jittered(p.backoff(s.Failures), spread))
	if reason.Severity() == Denied && s.DeniedAt.IsZero() {
		s.DeniedAt = now
	}
	if reason.Severity() == Authoritative {
		s.Revoked = true
	}
	if s.Revoked || !now.Before(p.ServeUntil(s)) {
		s = s.evicted()
	}
	return s
}

func (s CacheState) evicted() CacheState {
	s.Value, s.Version, s.Source, s.FetchedAt = Value{}, "", "", time.Time{}
	return s
}

// FreshUntil is the end of the value's TTL.
func (p CachePolicy) FreshUntil(s CacheState) time.Time { return s.FetchedAt.Add(p.TTL) }

// ServeUntil is the instant from which the value must not be served any more.
func (p CachePolicy) ServeUntil(s CacheState) time.Time {
	end := p.FreshUntil(s).Add(p.MaxStale)
	if !s.DeniedAt.IsZero() {
		if denied := s.DeniedAt.Add(p.DeniedGrace); denied.Before(end) {
			return denied
		}
	}
	return end
}

// Servable reports whether the value may be served at now, and whether it is stale.
func (p CachePolicy) Servable(s CacheState, now time.Time) (ok, stale bool) {
	if s.Value.IsZero() || !now.Before(p.ServeUntil(s)) {
		return false, false
	}
	return true, !s.DeniedAt.IsZero() || !now.Before(p.FreshUntil(s))
}

// ServableUntil is the instant at which Servable turns to no when the backend goes away at now and stays away; zero
// when it says no at now already.
func (p CachePolicy) ServableUntil(s CacheState, now time.Time) time.Time {
	if ok, _ := p.Servable(s, now); !ok {
		return time.Time{}
	}
	return p.ServeUntil(s) // an outage moves it neither way
}

// Withdrawn reports whether the value must not be used by anybody who still has it: its backend said that there is
// no such value, or has not given it out for DeniedGrace. Otherwise a state without a value just has none.
func (p CachePolicy) Withdrawn(s CacheState, now time.Time) bool {
	return s.Revoked || !s.DeniedAt.IsZero() && !now.Before(s.DeniedAt.Add(p.DeniedGrace))
}

// NextTurn is the first instant after now at which Servable or Withdrawn change by time alone; zero when they
// never do.
func (p CachePolicy) NextTurn(s CacheState, now time.Time) time.Time {
	var next time.Time
	consider := func(t time.Time) {
		if t.After(now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if !s.Value.IsZero() {
		consider(p.FreshUntil(s))
		consider(p.ServeUntil(s))
	}
	if !s.DeniedAt.IsZero() {
		consider(s.DeniedAt.Add(p.DeniedGrace))
	}
	return next
}

func (p CachePolicy) backoff(failures int) time.Duration {
	d := p.RetryMin
	for range failures - 1 {
		if d >= p.RetryMax {
			break
		}
		d *= 2
	}
	return min(d, p.RetryMax)
}

func (p CachePolicy) jittered(d time.Duration, spread float64) time.Duration {
	return d + time.Duration(float64(d)*p.Jitter*spread)
}
