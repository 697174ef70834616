//go:build linux

package faults_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// clock is the wall clock of a server, which is set while it runs. Go asks the kernel without going through the C library,
// so that nothing can be preloaded; the program is built with a time.Now that adds what a file says. The monotonic clock
// goes on as it does when an administrator or NTP sets the other one.
type clock struct {
	program string
	file    string
}

// newClock builds the program, with all that it is made of, since all of it uses the package time: minutes without a
// build cache. So it is for the long form and for CI.
func newClock(t *testing.T) *clock {
	t.Helper()
	if !long && os.Getenv("CI") != "true" {
		t.Skip("set OMNI_DRILL=long to have the program built with a clock that can be set, which takes minutes")
	}
	dir := t.TempDir()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	const asks = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(source), asks) != 1 {
		t.Fatalf("time.Now of this Go version begins otherwise: bring this drill up to date with %s", original)
	}
	replacement := strings.Replace(string(source), asks, asks+"\tsec += DrillStep()\n", 1) +
		"\n// DrillStep is by how many seconds the wall clock was set.\nvar DrillStep = func() int64 { return 0 }\n"
	const polls = `package main

import (
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

func init() {
	var step atomic.Int64
	time.DrillStep = step.Load
	go func() {
		for range time.Tick(10 * time.Millisecond) {
			content, _ := os.ReadFile(os.Getenv("DRILL_CLOCK"))
			if n, err := strconv.ParseInt(string(content), 10, 64); err == nil {
				step.Store(n)
			}
		}
	}()
}
`
	module, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		original: write("time.go", replacement),
		filepath.Join(module, "cmd", "omni-secrets", "drill_clock.go"): write("drill_clock.go", polls),
	}})
	if err != nil {
		t.Fatal(err)
	}
	c := &clock{program: filepath.Join(dir, "omni-secrets"), file: write("step", "0")}
	if err := goBuild("-trimpath", "-overlay", write("overlay.json", string(overlay)), "-o", c.program, "../../cmd/omni-secrets"); err != nil {
		t.Fatal(err)
	}
	return c
}

// set sets the server's clock, compared with ours, and waits until its answers show it.
func (c *clock) set(t *testing.T, r *rig, step time.Duration) {
	t.Helper()
	if err := os.WriteFile(c.file, fmt.Append(nil, int64(step/time.Second)), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, fmt.Sprintf("the server's clock is set by %v", step), func() bool {
		a, err := r.send(t.Context(), "GET", r.api+"/livez", "", "", "")
		if err != nil {
			t.Fatal(err)
		}
		date, err := http.ParseTime(a.header.Get("Date"))
		if err != nil {
			t.Fatal(err)
		}
		off := date.Sub(time.Now().Add(step))
		return off > -time.Minute && off < time.Minute
	})
	r.step.Store(int64(step))
}

// TestClockIsSet sets the wall clock back and forth while the server is used.
func TestClockIsSet(t *testing.T) {
	t.Parallel()
	c := newClock(t)
	r := newRig(t, "DRILL_CLOCK="+c.file, "OMNI_CACHE_TTL_SECONDS=300")
	r.program = c.program
	r.serve(t)
	l := r.startLoad(t, "clock", 5*time.Millisecond, usualTTL)
	defer l.finish()
	fresh := func(when string) {
		t.Helper()
		for _, secret := range plain {
			if seen := r.read(t.Context(), secret, ""); seen.status != http.StatusOK || seen.stale {
				t.Errorf("%s: %s is read with %d, stale %v", when, secret, seen.status, seen.stale)
			}
		}
	}

	t.Log("back: an override does not live longer, and a value does not become older or younger")
	o := r.mustApply(t, aside, "set-back", 5*time.Second)
	c.set(t, r, -time.Hour)
	fresh("set back")
	if seen := r.read(t.Context(), aside, ""); seen.ended.Before(o.expires) && seen.value != "set-back" {
		t.Errorf("the override is lost: %q from %s", seen.value, seen.source)
	}
	last(time.Until(o.expires))
	if seen := r.read(t.Context(), aside, ""); seen.source == domain.SourceBreakGlass {
		t.Error("an override outlives its time by a clock that was set back")
	}
	ended := func(n int) {
		t.Helper()
		eventually(t, "the end of the override is in SQL", func() bool {
			return r.number(t, "omni", `SELECT count(*)::int FROM omni_secret_access_events
				WHERE action = 'break_glass_clear' AND reason = 'expired' AND secret_type = $1`, aside) == n
		})
	}
	ended(1)

	t.Log("forward past the expiry: the override ends at once")
	r.mustApply(t, aside, "set-forward", 20*time.Minute)
	c.set(t, r, time.Hour)
	if seen := r.read(t.Context(), aside, ""); seen.source == domain.SourceBreakGlass {
		t.Error("an override outlives its expiry by the clock on the wall")
	}
	fresh("set forward")
	ended(2)

	t.Log("far forward, past the partitions of the audit trail, and back to the right time")
	c.set(t, r, 90*24*time.Hour-48*time.Hour)
	l.further(t, 50)
	c.set(t, r, 0)
	fresh("right again")
	l.further(t, 50)
	r.refreshOnce(t)
	l.finish()
	r.settle(t)
	l.wantAllAnswered(t, plain...)
	l.overrides, l.reads = nil, withoutOverrides(l.reads) // their times are not ours
	l.check(t, "omni")
}

func (r *rig) refreshOnce(t *testing.T) {
	t.Helper()
	for _, secret := range plain {
		eventually(t, "a refresh of "+string(secret), func() bool { _, ok := r.refresh(t, secret, ""); return ok })
	}
}

// withoutOverrides leaves out the reads of the secret that is overridden.
func withoutOverrides(reads []read) []read {
	var kept []read
	for _, r := range reads {
		if r.secret != overridden {
			kept = append(kept, r)
		}
	}
	return kept
}
