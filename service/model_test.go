package service_test

import (
	"slices"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// The model is what the design says, in the plainest words: a replica is the list of the fetches that it made, and there
// is one override or none. It keeps no state that could go wrong.

// attempt is a fetch that ended. The backend of these tests takes no time, so that it also began then.
type attempt struct {
	at             time.Time
	value, version string
	failure        domain.Reason // "" when it gave the value
}

// answer is what a reader gets; zero when there is nothing.
type answer struct {
	value, version, source string
	stale                  bool
}

// history is every fetch of a replica since it started, the first one first.
type history []attempt

// lastGood is the last fetch that gave a value, if any did, and what failed since.
func (h history) lastGood() (good attempt, failed []attempt) {
	for i, a := range slices.Backward(h) {
		if a.failure == "" {
			return a, h[i+1:]
		}
	}
	return attempt{}, h
}

// withdrawn reports whether the backend said that there is no such value, or has given it to nobody for 5 min.
func (h history) withdrawn(now time.Time) bool {
	_, failed := h.lastGood()
	for _, f := range failed {
		switch f.failure {
		case domain.ReasonNotFound, domain.ReasonVersionDisabled, domain.ReasonLatestForbidden:
			return true
		case domain.ReasonPermissionDenied, domain.ReasonUnauthenticated:
			if now.Sub(f.at) >= 5*time.Minute {
				return true
			}
		default:
		}
	}
	return false
}

// cached is what the fetches left to be served at now: for 5 min as fresh, for 30 min more as stale.
func (h history) cached(now time.Time) answer {
	good, failed := h.lastGood()
	age := now.Sub(good.at)
	if good.value == "" || age >= 35*time.Minute || h.withdrawn(now) {
		return answer{}
	}
	stale := age >= 5*time.Minute
	for _, f := range failed {
		stale = stale || f.failure.Severity() == domain.Denied
	}
	return answer{good.value, good.version, "gsm", stale}
}

// due is when the next fetch begins if nobody asks for one: after 80 % of the TTL, or after 1, 2, 4, 8, 16, 30 s.
func (h history) due() time.Time {
	good, failed := h.lastGood()
	if len(failed) == 0 {
		return good.at.Add(4 * time.Minute)
	}
	seconds := []int{1, 2, 4, 8, 16, 30}
	wait := time.Duration(seconds[min(len(failed), len(seconds))-1]) * time.Second
	return failed[len(failed)-1].at.Add(wait)
}

// injected is an override as the model knows it; zero for none. It stays until its end is in the database, served or not.
type injected struct {
	id, value string
	until     time.Time
}

func (o injected) servedAt(now time.Time) bool { return o.id != "" && now.Before(o.until) }

// reads is what a reader of a replica with this history gets.
func (o injected) reads(h history, now time.Time) answer {
	if o.servedAt(now) {
		return answer{o.value, o.id, domain.SourceBreakGlass, false}
	}
	return h.cached(now)
}
