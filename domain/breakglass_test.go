package domain_test

import (
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// A clock that is set back by an hour is, for the rule, an expiry that moves an hour away: of the two only the monotonic
// reading of now stays.
func TestOverrideEndsByEitherClock(t *testing.T) {
	now := time.Now() //nolint:forbidigo // nothing else has a monotonic reading
	applied := domain.Override{ID: "bg-1", AppliedAt: now.Round(0), ExpiresAt: now.Add(25 * time.Minute).Round(0)}
	held := applied.Held(now)
	moved := func(o domain.Override, by time.Duration) domain.Override {
		o.ExpiresAt = o.ExpiresAt.Add(by)
		return o
	}
	for _, c := range []struct {
		name string
		o    domain.Override
		at   time.Duration
		want time.Duration // that remains
	}{
		{"both agree", held, 10 * time.Minute, 15 * time.Minute},
		{"its time is over", held, 25 * time.Minute, 0},
		{"the clock was set back", moved(held, time.Hour), 10 * time.Minute, 15 * time.Minute},
		{"the clock was set back and its time is over", moved(held, time.Hour), 25 * time.Minute, 0},
		{"the clock was set forward", moved(held, -20*time.Minute), 4 * time.Minute, time.Minute},
		{"the clock was set forward past the expiry", moved(held, -20*time.Minute), 5 * time.Minute, 0},
		{"taken over after a restart, with the clock set back before", moved(applied, 0).Held(now.Add(-time.Hour)), -time.Hour, 25 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := now.Add(c.at)
			if got := c.o.Remaining(at); got != c.want || c.o.ActiveAt(at) != (c.want > 0) {
				t.Errorf("remains for %v, active %v; want %v", got, c.o.ActiveAt(at), c.want)
			}
		})
	}
	if (domain.Override{}).Held(now).ActiveAt(now) {
		t.Error("no override is active")
	}
}
