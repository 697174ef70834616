//go:build linux

package faults_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// level is what a server uses at rest.
type level struct {
	goroutines, files, sessions int
}

func (r *rig) level(t *testing.T) level {
	t.Helper()
	client.CloseIdleConnections()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.server.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return level{
		goroutines: int(r.metric(t, "go_goroutines")), files: len(files),
		sessions: r.number(t, "postgres", `SELECT count(*)::int FROM pg_stat_activity WHERE application_name LIKE 'omni-secrets%'`),
	}
}

// What may come and go at rest: connections of the pool (4 at most, and 2 outside of it), of clients and to the backend,
// each with a goroutine or two.
const (
	maxSessions = 6
	slack       = 12
)

// wantAtRest waits until the server uses no more than it did before.
func (r *rig) wantAtRest(t *testing.T, before level) {
	t.Helper()
	var now level
	eventually(t, fmt.Sprintf("at rest it uses what it did before (%+v)", before), func() bool {
		now = r.level(t)
		return now.goroutines <= before.goroutines+slack && now.files <= before.files+slack && now.sessions <= maxSessions
	})
	t.Logf("at rest: %+v, before %+v", now, before)
}

// recovered waits until everything works again, and says how long that took.
func (r *rig) recovered(t *testing.T, l *load, healed time.Time) {
	t.Helper()
	for _, secret := range plain {
		eventually(t, "a refresh of "+string(secret), func() bool { _, ok := r.refresh(t, secret, ""); return ok })
	}
	eventually(t, "an override is taken", func() bool { return l.overrideSince(healed) })
	eventually(t, "a fresh read of every secret", func() bool {
		for _, secret := range plain {
			if seen := r.read(t.Context(), secret, ""); seen.status != http.StatusOK || seen.stale {
				return false
			}
		}
		return true
	})
	t.Logf("recovered in %v", time.Since(healed).Round(10*time.Millisecond))
}

func (r *rig) settle(t *testing.T) {
	t.Helper()
	eventually(t, "the journal is drained", func() bool { return r.metric(t, "omni_audit_journal_events") == 0 })
}

// drill is one fault, from its beginning to its end, on a server that is used all the while.
type drill struct {
	name   string
	hold   time.Duration // at least
	fault  func(t *testing.T, r *rig, l *load)
	heal   func(t *testing.T, r *rig, l *load)
	tables []string // databases with events; nil for the usual one
	check  func(t *testing.T, r *rig, l *load)
}

// usualTTL is that of the overrides that come and go during a drill.
const usualTTL = 800 * time.Millisecond

// beyondTimeouts is longer than the server waits for a database that is silent.
const beyondTimeouts = 6 * time.Second

// run runs one drill. Throughout it every secret but one is read without a failure.
func (d drill) run(t *testing.T, r *rig) {
	t.Helper()
	before := r.level(t)
	l := r.startLoad(t, strings.ReplaceAll(d.name, " ", "-"), 5*time.Millisecond, usualTTL)
	defer l.finish()
	l.further(t, 50)
	d.fault(t, r, l)
	last(max(d.hold, hold()))
	l.further(t, 50)
	d.heal(t, r, l)
	r.recovered(t, l, time.Now())
	l.finish()
	r.settle(t)
	if d.check != nil {
		d.check(t, r, l)
	}
	l.wantAllAnswered(t, append([]domain.SecretType{overridden}, plain...)...)
	tables := d.tables
	if tables == nil {
		tables = []string{"omni"}
	}
	l.check(t, tables...)
	r.wantAtRest(t, before)
}

// gsm is a drill of a fault that the emulator makes.
func gsm(name string, faults ...string) drill {
	return drill{
		name: name,
		fault: func(t *testing.T, r *rig, _ *load) {
			t.Helper()
			for _, f := range faults {
				r.steer(t, "POST", "/faults", f)
			}
		},
		heal: func(t *testing.T, r *rig, _ *load) {
			t.Helper()
			r.steer(t, "DELETE", "/faults", "")
		},
	}
}

// revoke disables the version of a secret, and returns when a refresh has said so.
func (r *rig) revoke(t *testing.T, secret domain.SecretType) time.Time {
	t.Helper()
	r.steer(t, "POST", "/secrets/omni-test/"+secretID(secret)+"/versions/1/disable", "")
	a, ok := r.refresh(t, secret, "")
	if ok || !strings.Contains(a.body, string(domain.CodeRefreshFailed)) {
		t.Fatalf("the refresh of a disabled version: %d %s", a.status, a.body)
	}
	return time.Now()
}

func (r *rig) restore(t *testing.T, secret domain.SecretType) {
	t.Helper()
	r.steer(t, "POST", "/secrets/omni-test/"+secretID(secret)+"/versions/1/enable", "")
	eventually(t, "a refresh of what is enabled again", func() bool { _, ok := r.refresh(t, secret, ""); return ok })
}

// TestDrillsOfTheBackend break Secret Manager.
func TestDrillsOfTheBackend(t *testing.T) { //nolint:tparallel // one server goes through one drill after another
	t.Parallel()
	r := newRig(t)
	r.serve(t)
	var revokedAt time.Time
	for _, d := range []drill{
		gsm("gsm down", `{"mode":"unavailable"}`),
		gsm("gsm slow", `{"mode":"delay","delayMs":900}`),
		gsm("gsm silent", `{"mode":"hang"}`),
		gsm("gsm denying", `{"mode":"deny"}`),
		gsm("gsm corrupting", `{"mode":"corrupt"}`),
		gsm("gsm half failing", `{"mode":"unavailable","rate":0.5}`, `{"mode":"internal","rate":0.3}`),
		{
			name:  "gsm revoking",
			fault: func(t *testing.T, r *rig, _ *load) { t.Helper(); revokedAt = r.revoke(t, aside) },
			heal: func(t *testing.T, r *rig, l *load) {
				t.Helper()
				l.revoke(aside, revokedAt, time.Now())
				r.restore(t, aside)
			},
		},
	} {
		t.Run(d.name, func(t *testing.T) { d.run(t, r) })
	}
}

// TestOutage takes away Secret Manager, and the database for half of that time: ten minutes and five in the long form.
func TestOutage(t *testing.T) {
	t.Parallel()
	quarter := hold() / 2
	if long {
		quarter = 150 * time.Second
	}
	r := newRig(t)
	r.serve(t)
	backend := gsm("", `{"mode":"unavailable"}`)
	drill{
		name: "outage", hold: 2 * quarter,
		fault: func(t *testing.T, r *rig, l *load) {
			t.Helper()
			backend.fault(t, r, l)
			last(quarter)
			r.db.Stop(t)
			eventually(t, "stale reads", func() bool { return r.read(t.Context(), apiKey, "").stale })
			if o := r.apply(t, aside, "injected", time.Minute, ""); o.status != http.StatusServiceUnavailable {
				t.Errorf("an override without the database: %d, want 503", o.status)
			}
		},
		heal: func(t *testing.T, r *rig, l *load) {
			t.Helper()
			r.db.Start(t)
			last(quarter)
			backend.heal(t, r, l)
		},
	}.run(t, r)
}

// TestDrillsOfTheDatabase break PostgreSQL and the network before it. In each of them a secret is revoked: that needs no
// database.
func TestDrillsOfTheDatabase(t *testing.T) { //nolint:tparallel // one server goes through one drill after another
	t.Parallel()
	r := newRig(t)
	r.serve(t)
	nothing := func(*testing.T, *rig, *load) {}
	var frozen []int
	drills := []drill{
		{
			name: "sessions cut",
			fault: func(t *testing.T, r *rig, l *load) {
				t.Helper()
				for range 5 {
					r.sql(t, "postgres", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'omni-secrets%'`)
					l.further(t, 20)
				}
			},
			heal: nothing,
		},
		{
			name:  "postgres stopped",
			fault: func(t *testing.T, r *rig, _ *load) { t.Helper(); r.db.Stop(t) },
			heal:  func(t *testing.T, r *rig, _ *load) { t.Helper(); r.db.Start(t) },
		},
		{
			name: "postgres frozen", hold: beyondTimeouts,
			fault: func(t *testing.T, r *rig, _ *load) {
				t.Helper()
				frozen = r.processes(t)
				t.Cleanup(func() { signalAll(t, frozen, syscall.SIGCONT) }) // or it could not be stopped either
				signalAll(t, frozen, syscall.SIGSTOP)
			},
			heal: func(t *testing.T, _ *rig, _ *load) { t.Helper(); signalAll(t, frozen, syscall.SIGCONT) },
		},
		{
			name: "disk full",
			fault: func(t *testing.T, r *rig, _ *load) {
				t.Helper()
				r.sql(t, "omni", `CREATE FUNCTION drill_full() RETURNS trigger LANGUAGE plpgsql AS
					$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$`,
					`CREATE TRIGGER drill_full BEFORE INSERT ON omni_secret_access_events FOR EACH ROW EXECUTE FUNCTION drill_full()`)
			},
			heal: func(t *testing.T, r *rig, _ *load) {
				t.Helper()
				r.sql(t, "omni", `DROP TRIGGER drill_full ON omni_secret_access_events`, `DROP FUNCTION drill_full`)
			},
		},
		{
			name:  "network refusing",
			fault: func(_ *testing.T, r *rig, _ *load) { r.net.set(refusing) },
			heal:  func(_ *testing.T, r *rig, _ *load) { r.net.set(whole) },
		},
		{
			name: "network silent", hold: beyondTimeouts,
			fault: func(_ *testing.T, r *rig, _ *load) { r.net.set(blackhole) },
			heal:  func(_ *testing.T, r *rig, _ *load) { r.net.set(whole) },
		},
		{
			name: "network half open", hold: beyondTimeouts,
			fault: func(_ *testing.T, r *rig, _ *load) { r.net.halve() },
			heal:  func(_ *testing.T, r *rig, _ *load) { r.net.set(whole) },
		},
	}
	for _, d := range drills {
		t.Run(d.name, func(t *testing.T) { d.whileRevoked().run(t, r) })
	}
	for _, d := range []drill{failover(), rejected()} { // which exchange the database and the process
		t.Run(d.name, func(t *testing.T) { d.run(t, r) })
	}
}

// whileRevoked is the drill with a secret that is revoked during the fault.
func (d drill) whileRevoked() drill {
	var at time.Time
	fault, heal := d.fault, d.heal
	d.fault = func(t *testing.T, r *rig, l *load) {
		t.Helper()
		fault(t, r, l)
		at = r.revoke(t, aside)
	}
	d.heal = func(t *testing.T, r *rig, l *load) {
		t.Helper()
		heal(t, r, l)
		l.revoke(aside, at, time.Now())
		r.restore(t, aside)
	}
	return d
}

// failover exchanges the database for an empty one that nobody migrated, which is then migrated.
func failover() drill {
	const value = "injected-before-the-failover"
	var o *override
	from := 0
	return drill{
		name: "failover to an empty standby",
		fault: func(t *testing.T, r *rig, _ *load) {
			t.Helper()
			o = r.mustApply(t, aside, value, 20*time.Minute)
			from = r.server.output.Count()
			r.net.set(refusing)
			r.sql(t, "postgres", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'omni'`)
			eventually(t, "nobody uses the database", func() bool {
				return r.number(t, "postgres", `SELECT count(*)::int FROM pg_stat_activity WHERE datname = 'omni'`) == 0
			})
			r.sql(t, "postgres", `ALTER DATABASE omni RENAME TO former`, `CREATE DATABASE omni TEMPLATE template0`)
			r.net.set(whole)
			r.server.logged(t, from, "audit events wait in the journal: the database does not take them", "omni-secrets migrate up")
		},
		heal: func(t *testing.T, r *rig, _ *load) {
			t.Helper()
			run(t, []string{"DATABASE_URL=" + r.direct("omni")}, "migrate", "up")
		},
		tables: []string{"former", "omni"},
		check: func(t *testing.T, r *rig, _ *load) {
			t.Helper()
			r.server.logged(t, from, domain.AlertBreakGlassUnknown, `"putBack":true`)
			r.server.logged(t, from, domain.AlertMetadataMissing, "bring over")
			if seen := r.read(t.Context(), aside, ""); seen.value != value {
				t.Errorf("after the failover %s is read from %q, %d %s", aside, seen.source, seen.status, seen.body)
			}
			if n := r.number(t, "omni", `SELECT count(*)::int FROM omni_break_glass_overrides WHERE secret_type = $1 AND ended_at IS NULL`, aside); n != 1 {
				t.Errorf("the standby has %d open overrides of %s, want the one that was put back", n, aside)
			}
			if n := r.number(t, "omni", `SELECT count(*)::int FROM omni_secret_metadata`); n != len(all) {
				t.Errorf("the standby has %d metadata rows, want %d", n, len(all))
			}
			if r.clear(t, o); o.cleared.IsZero() {
				t.Error("the override that was put back cannot be cleared")
			}
			r.settle(t)
		},
	}
}

// rejected makes the database refuse some events for what is in them.
func rejected() drill {
	const bad = `request_id LIKE 'refused-events-0-%3'`
	from := 0
	return drill{
		name: "refused events",
		fault: func(t *testing.T, r *rig, l *load) {
			t.Helper()
			from = r.server.output.Count()
			r.sql(t, "omni", `ALTER TABLE omni_secret_access_events ADD CONSTRAINT drill CHECK (coalesce(NOT (`+bad+`), true)) NOT VALID`)
			l.further(t, 100)
			r.server.logged(t, from, domain.AlertAuditEventSetAside, "refused-events-0-")
		},
		heal: func(*testing.T, *rig, *load) {},
		check: func(t *testing.T, r *rig, _ *load) {
			t.Helper()
			refused := r.metric(t, "omni_audit_set_aside_events")
			if n := r.number(t, "omni", `SELECT count(*)::int FROM omni_secret_access_events WHERE request_id LIKE 'refused-events-%'`); refused == 0 || n == 0 {
				t.Errorf("%v events were set aside and %d stored, want some of both", refused, n)
			}
			t.Log("the runbook: mend what refuses them, give them back, restart")
			r.sql(t, "omni", `ALTER TABLE omni_secret_access_events DROP CONSTRAINT drill`)
			r.server.kill()
			if err := os.Rename(filepath.Join(r.journal, "rejected.log"), filepath.Join(r.journal, "rejected.retry")); err != nil {
				t.Fatal(err)
			}
			r.serve(t)
			r.settle(t)
			if n := r.metric(t, "omni_audit_set_aside_events"); n != 0 {
				t.Errorf("%v events are set aside after they were given back", n)
			}
		},
	}
}

// processes are those of the PostgreSQL server.
func (r *rig) processes(t *testing.T) []int {
	t.Helper()
	server := r.number(t, "postgres", `SELECT split_part(pg_read_file('postmaster.pid'), E'\n', 1)::int`)
	pids := []int{server}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && parent(pid) == server {
			pids = append(pids, pid)
		}
	}
	if len(pids) < 4 {
		t.Fatalf("the server's processes: %v", pids)
	}
	return pids
}

// parent of a process; 0 when it is gone.
func parent(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	var state string
	var ppid int
	_, _ = fmt.Sscan(rest, &state, &ppid)
	return ppid
}

func signalAll(t *testing.T, pids []int, sig syscall.Signal) {
	t.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && sig == syscall.SIGSTOP && err != syscall.ESRCH {
			t.Fatal(err)
		}
	}
}
