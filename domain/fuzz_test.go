package domain_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// A cursor leads to where the page ended; whatever else is sent leads somewhere after the newest event or is refused,
// without a word of it.
func FuzzCursor(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string, next int64) {
		if next > 0 {
			if before, err := domain.ParseCursor(domain.EventPage{Next: next}.Cursor()); before != next || err != nil {
				t.Errorf("the cursor of %d is read as %d, %v", next, before, err)
			}
		}
		before, err := domain.ParseCursor(text)
		if err == nil {
			if before <= 0 {
				t.Errorf("%q is before %d", text, before)
			}
			return
		}
		e, ok := errors.AsType[*domain.Error](err)
		if !ok || e.Code != domain.CodeInvalidRequest || len(text) > 11 && strings.Contains(err.Error(), text) {
			t.Errorf("refused by %v", err)
		}
	})
}

// Whatever is sent as an expiry, an override ends after now and at most 30 minutes from it, or is refused.
func FuzzOverrideExpiry(f *testing.F) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		at, err := domain.OverrideExpiry(text, now)
		if err != nil {
			if e, ok := errors.AsType[*domain.Error](err); !ok || e.Code != domain.CodeInvalidBreakGlassTTL || !at.IsZero() {
				t.Errorf("%q is refused by %v, with the time %v", text, err, at)
			}
			return
		}
		if ttl := at.Sub(now); ttl <= 0 || ttl > 30*time.Minute {
			t.Errorf("%q is a TTL of %v", text, ttl)
		}
	})
}

// Versions are in one order, whichever way round and by whichever way they are compared.
func FuzzCompareVersions(f *testing.F) {
	f.Fuzz(func(t *testing.T, a, b, c string) {
		ab, ba, bc, ac := domain.CompareVersions(a, b), domain.CompareVersions(b, a), domain.CompareVersions(b, c), domain.CompareVersions(a, c)
		if ab != -ba || (ab == 0) != (a == b) {
			t.Errorf("%q and %q: %d, the other way round %d", a, b, ab, ba)
		}
		if ab <= 0 && bc <= 0 && ac > 0 {
			t.Errorf("%q, %q and %q go round in a circle", a, b, c)
		}
	})
}
