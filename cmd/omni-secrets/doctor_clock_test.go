package main

import (
	"testing"
	"time"
)

func TestSkew(t *testing.T) {
	asked := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name                   string
		ahead, trip, precision time.Duration // the other clock's reading comes from the middle of the trip
		want                   verdict
		detail                 string
	}{
		{"equal", 0, 20 * time.Millisecond, 0, verdictOK, "it agrees with this machine's within 1s"},
		{"behind, within a second", -900 * time.Millisecond, 20 * time.Millisecond, 0, verdictOK, "it agrees with this machine's within 1s"},
		{"ahead, more than a second", 1100 * time.Millisecond, 20 * time.Millisecond, 0, verdictWarning, "it is 1.1s ahead of this machine's, give or take 10ms"},
		{"behind, more than a second", -1100 * time.Millisecond, 20 * time.Millisecond, 0, verdictWarning, "it is 1.1s behind this machine's, give or take 10ms"},
		{"more than a second, perhaps", 1100 * time.Millisecond, 400 * time.Millisecond, 0, verdictOK, "it agrees with this machine's within 2s"},
		{"ahead, more than five", 5100 * time.Millisecond, 100 * time.Millisecond, 0, verdictFailed, "it is 5.1s ahead of this machine's, give or take 50ms"},
		{"more than five, perhaps", 5100 * time.Millisecond, 400 * time.Millisecond, 0, verdictWarning, "it is 5.1s ahead of this machine's, give or take 200ms"},
		{"a slow answer", 0, 4 * time.Second, 0, verdictWarning, "it is 0s ahead of this machine's, give or take 2s"},
		{"to the second", -400 * time.Millisecond, 20 * time.Millisecond, time.Second, verdictOK, "it agrees with this machine's within 1s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := skewOf(asked.Add(tc.trip/2+tc.ahead), tc.precision, asked, asked.Add(tc.trip)).finding(serverClockCheck, "it")
			if f.Status != tc.want || f.Detail != tc.detail {
				t.Errorf("%s: %s", f.Status, f.Detail)
			}
			if (f.Status == verdictOK) != (f.Next == "") {
				t.Errorf("next: %q", f.Next)
			}
		})
	}
}
