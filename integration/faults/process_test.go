//go:build linux

package faults_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// TestKilledAtAnyMoment kills the server at random points of its work, sometimes in the middle of a record of the journal,
// and starts it again.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	chance := seeded(t)
	kills := 6
	if long {
		kills = 60
	}
	r := newRig(t)
	var loads []*load
	torn := 0
	for i := range kills {
		began := time.Now()
		r.serve(t)
		t.Logf("round %d: ready after %v", i, time.Since(began).Round(10*time.Millisecond))
		l := r.startLoad(t, fmt.Sprintf("killed-%d", i), time.Millisecond, 5*time.Second)
		l.further(t, 1+chance.IntN(300))
		r.server.kill()
		l.finish()
		loads = append(loads, l)
		if i%2 == 0 && tear(t, r.journal) {
			torn++
		}
	}
	if torn == 0 {
		t.Error("no record was torn")
	}
	r.serve(t)
	r.settle(t)
	for _, l := range loads {
		l.check(t, "omni")
	}
	if files, err := filepath.Glob(filepath.Join(r.journal, "*.corrupt")); err != nil || len(files) > 0 {
		t.Errorf("damaged segments: %v, %v; a torn record at the end is no damage", files, err)
	}
}

// tear adds what a write that was cut off leaves at the end of the newest segment, and reports whether there was one.
func tear(t *testing.T, journal string) bool {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(journal, "events-*.log"))
	if err != nil {
		t.Fatal(err)
	}
	if len(segments) == 0 {
		return false
	}
	f, err := os.OpenFile(slices.Max(segments), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(`1a2b3c4d {"id":"0000000000000000-00000000`)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return true
}

// An override outlives the process, and not its time: the end that comes while nobody serves is kept by the next one.
func TestOverrideOutlivesTheProcessAndNotItsTime(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.serve(t)
	r.mustApply(t, aside, "lives-on", 20*time.Minute)
	ends := r.mustApply(t, overridden, "ends-meanwhile", 3*time.Second)
	r.server.kill()
	last(time.Until(ends.expires))
	r.serve(t)
	if seen := r.read(t.Context(), aside, ""); seen.value != "lives-on" {
		t.Errorf("after the restart: %q from %s", seen.value, seen.source)
	}
	if seen := r.read(t.Context(), overridden, ""); seen.source != "gsm" {
		t.Errorf("past its time: %q from %s", seen.value, seen.source)
	}
	eventually(t, "one event of the end that nobody saw", func() bool {
		return r.number(t, "omni", `SELECT count(*)::int FROM omni_secret_access_events WHERE action = 'break_glass_clear' AND reason = 'expired'`) == 1
	})
}

// TestJournalReachesItsLimit: while the database is away, reads go on until the journal is full and are refused from there
// on; somebody was told long before.
func TestJournalReachesItsLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t, "OMNI_AUDIT_JOURNAL_MAX_BYTES=1048576")
	r.serve(t)
	r.net.set(refusing)
	l := r.startLoad(t, "limit", 0, usualTTL)
	refused := l.untilRefused(t)
	if !r.server.output.Await(0, patience, func(line string) bool { return strings.Contains(line, domain.AlertAuditJournalHigh) }) {
		t.Errorf("no %s", domain.AlertAuditJournalHigh)
	}
	if bytes, limit := r.metric(t, "omni_audit_journal_bytes"), r.metric(t, "omni_audit_journal_limit_bytes"); limit != 1<<20 || bytes < limit {
		t.Errorf("the journal has %v of %v bytes, and refuses", bytes, limit)
	}
	t.Logf("refused first after %d answered reads: %s", l.served(), refused.body)
	r.net.set(whole)
	healed := time.Now()
	r.recovered(t, l, healed)
	l.finish()
	r.settle(t)
	l.check(t, "omni")
}

// TestDiskOfTheJournalIsFull is the same for the disk: nothing that was answered is lost, and once there is space reads are
// answered again without a restart.
func TestDiskOfTheJournalIsFull(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	disk := newDisk(t, r, "8m")
	r.serve(t)
	r.net.set(refusing)
	l := r.startLoad(t, "disk", 0, usualTTL)
	l.further(t, 100)
	disk.fill(t, r)
	refused := l.untilRefused(t)
	t.Logf("refused first after %d answered reads: %s", l.served(), refused.body)
	disk.free(t, r)
	l.further(t, 100) // the database is still away
	r.net.set(whole)
	r.recovered(t, l, time.Now())
	l.finish()
	r.settle(t)
	l.check(t, "omni")
}

// TestJournalFillsItsDisk: the disk is smaller than the journal's limit, and nobody frees any of it. Once the database is
// back, the drain makes room.
func TestJournalFillsItsDisk(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	disk := newDisk(t, r, "512k")
	r.serve(t)
	if !disk.mounted {
		limitFiles(t, r.server.cmd.Process.Pid, "524288")
	}
	r.net.set(refusing)
	l := r.startLoad(t, "small", 0, usualTTL)
	refused := l.untilRefused(t)
	t.Logf("refused first after %d answered reads: %s", l.served(), refused.body)
	r.net.set(whole)
	r.recovered(t, l, time.Now())
	l.finish()
	r.settle(t)
	l.check(t, "omni")
}

// untilRefused waits for a read that the journal did not take.
func (l *load) untilRefused(t *testing.T) read {
	t.Helper()
	var refused read
	eventually(t, "a read is refused, as its event cannot be kept", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, r := range l.reads {
			if r.status == http.StatusServiceUnavailable && strings.Contains(r.body, string(domain.CodeAuditUnavailable)) {
				refused = r
				return true
			}
		}
		return false
	})
	return refused
}

// disk is where the journal is: a small file system of its own, or, where none may be mounted, one with a limit for the
// size of files.
type disk struct {
	dir     string
	mounted bool
}

func newDisk(t *testing.T, r *rig, size string) *disk {
	t.Helper()
	d := &disk{dir: t.TempDir()}
	if err := syscall.Mount("none", d.dir, "tmpfs", 0, "mode=0700,size="+size); err == nil {
		d.mounted = true
		t.Cleanup(func() {
			r.server.kill() // which has files there
			if err := syscall.Unmount(d.dir, 0); err != nil {
				t.Errorf("unmount: %v", err)
			}
		})
	} else {
		t.Logf("mount: %v; the size of files is limited instead", err)
	}
	r.journal = filepath.Join(d.dir, "journal")
	r.env = append(r.env, "OMNI_AUDIT_JOURNAL_DIR="+r.journal)
	return d
}

func (d *disk) fill(t *testing.T, r *rig) {
	t.Helper()
	if !d.mounted {
		limitFiles(t, r.server.cmd.Process.Pid, "4096")
		return
	}
	f, err := os.Create(filepath.Join(d.dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	for chunk := make([]byte, 4096); err == nil; {
		_, err = f.Write(chunk)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

func (d *disk) free(t *testing.T, r *rig) {
	t.Helper()
	if !d.mounted {
		limitFiles(t, r.server.cmd.Process.Pid, "unlimited")
		return
	}
	if err := os.Remove(filepath.Join(d.dir, "ballast")); err != nil {
		t.Fatal(err)
	}
}

func limitFiles(t *testing.T, pid int, size string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "prlimit", "--pid", strconv.Itoa(pid), "--fsize="+size+":").CombinedOutput()
	if err != nil {
		t.Fatalf("prlimit: %v: %s", err, out)
	}
}
