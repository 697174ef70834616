//go:build linux

package faults_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// read is one that was answered, or was not.
type read struct {
	id           string
	secret       domain.SecretType
	began, ended time.Time
	err          error
	status       int
	body         string // of a refusal
	value        string
	version      string
	source       string
	stale        bool
}

// override is one that was sent. What was not answered with 201 may be in place or not.
type override struct {
	id                 string
	secret             domain.SecretType
	value              string
	sent, answered     time.Time
	status             int
	expires            time.Time
	clearSent, cleared time.Time // cleared is zero unless that was answered with 204
}

// span is a time in which a secret must not be served from its backend.
type span struct {
	secret     domain.SecretType
	from, till time.Time
}

// load is what clients do during a drill, and everything that they saw.
type load struct {
	rig      *rig
	prefix   string
	stop     context.CancelFunc
	running  sync.WaitGroup
	finished sync.Once
	answered chan struct{} // holds a token after a read was answered

	mu        sync.Mutex
	reads     []read
	earlier   []*override // of former loads on the same server, some of which may be in place
	overrides []*override
	refreshes []string // ids of those that succeeded
	revoked   []span
}

const readers = 3

// startLoad begins to read, refresh and override, until finish.
func (r *rig) startLoad(t *testing.T, prefix string, pause, ttl time.Duration) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{rig: r, prefix: prefix, stop: cancel, earlier: slices.Clone(r.overrides), answered: make(chan struct{}, 1)}
	for c := range readers {
		l.running.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				l.note(ctx, r.read(ctx, all[i%len(all)], fmt.Sprintf("%s-%d-%d", prefix, c, i)))
				wait(ctx, pause)
			}
		})
	}
	l.running.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			id := fmt.Sprintf("%s-refresh-%d", prefix, i)
			if _, ok := r.refresh(t, plain[i%len(plain)], id); ok {
				l.mu.Lock()
				l.refreshes = append(l.refreshes, id)
				l.mu.Unlock()
			}
			wait(ctx, 100*time.Millisecond)
		}
	})
	l.running.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			id := fmt.Sprintf("%s-override-%d", prefix, i)
			o := r.apply(t, overridden, "injected-"+id, ttl, id)
			if o.status == http.StatusUnprocessableEntity {
				ttl = min(2*ttl, 10*time.Second) // this machine is so slow that it came after its expiry
			}
			if o.status == http.StatusCreated && i%2 == 0 {
				wait(ctx, 300*time.Millisecond)
				r.clear(t, o)
			} else {
				wait(ctx, time.Until(o.expires)+50*time.Millisecond)
			}
			l.mu.Lock()
			l.overrides = append(l.overrides, o)
			l.mu.Unlock()
			wait(ctx, 50*time.Millisecond)
		}
	})
	return l
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (l *load) note(ctx context.Context, seen read) {
	if seen.err != nil && ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	l.reads = append(l.reads, seen)
	l.mu.Unlock()
	select {
	case l.answered <- struct{}{}:
	default:
	}
}

// further waits until n more reads were answered with a value.
func (l *load) further(t *testing.T, n int) {
	t.Helper()
	before := l.served()
	late := time.After(patience)
	for l.served() < before+n {
		select {
		case <-l.answered:
		case <-late:
			t.Fatalf("%d reads were answered in %v, want %d", l.served()-before, patience, n)
		}
	}
}

func (l *load) served() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.reads {
		if r.status == http.StatusOK {
			n++
		}
	}
	return n
}

// overrideSince reports whether an override that was sent since then was taken.
func (l *load) overrideSince(since time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.overrides {
		if o.status == http.StatusCreated && o.sent.After(since) {
			return true
		}
	}
	return false
}

// finish ends the load; what it left in place is known to the next one.
func (l *load) finish() {
	l.stop()
	l.running.Wait()
	client.CloseIdleConnections()
	l.finished.Do(func() { l.rig.overrides = append(l.rig.overrides, l.overrides...) })
}

func (l *load) revoke(secret domain.SecretType, from, till time.Time) {
	l.revoked = append(l.revoked, span{secret, from, till})
}

// check is the heart of the drills. databases are those in which events may be.
func (l *load) check(t *testing.T, databases ...string) {
	t.Helper()
	l.checkOverrides(t)
	for _, s := range l.revoked {
		for _, r := range l.reads {
			if r.secret == s.secret && r.status == http.StatusOK && r.began.After(s.from) && r.ended.Before(s.till) {
				t.Errorf("read %s was answered with version %s, %v after it was revoked", r.id, r.version, r.began.Sub(s.from))
			}
		}
	}
	l.checkEvents(t, databases)
}

func (l *load) checkOverrides(t *testing.T) {
	t.Helper()
	overrides := append(slices.Clone(l.earlier), l.overrides...)
	applied := make(map[string]*override)
	for _, o := range overrides {
		applied[o.value] = o
	}
	replaced := func(o *override, by time.Time) bool {
		return slices.ContainsFunc(overrides, func(next *override) bool {
			return next.secret == o.secret && next.sent.After(o.sent) && next.sent.Before(by)
		})
	}
	for _, r := range l.reads {
		if r.status != http.StatusOK {
			continue
		}
		if r.source == domain.SourceBreakGlass {
			switch o := applied[r.value]; {
			case o == nil:
				if r.secret == overridden {
					t.Errorf("read %s was answered with an override that nobody sent", r.id)
				}
			case r.began.After(o.expires):
				t.Errorf("read %s was answered with override %s, %v past its time", r.id, o.id, r.began.Sub(o.expires))
			case !o.cleared.IsZero() && r.began.After(o.cleared):
				t.Errorf("read %s was answered with override %s, %v after it was cleared", r.id, o.id, r.began.Sub(o.cleared))
			}
			continue
		}
		for _, o := range overrides {
			if o.status == http.StatusCreated && o.secret == r.secret && r.began.After(o.answered) && r.ended.Before(o.expires) &&
				(o.clearSent.IsZero() || r.ended.Before(o.clearSent)) && !replaced(o, r.ended) {
				t.Errorf("read %s was answered from %s: override %s is lost, %v after it was applied", r.id, r.source, o.id, r.began.Sub(o.answered))
			}
		}
	}
}

// stored is an event as SQL has it.
type stored struct {
	action, version, source string
}

// checkEvents wants, of each answered read, refresh and override, its event in SQL exactly once.
func (l *load) checkEvents(t *testing.T, databases []string) {
	t.Helper()
	events := make(map[string][]stored)
	for _, database := range databases {
		here := make(map[string]int)
		l.rig.query(t, database, func(rows pgx.Rows) error {
			var id string
			var e stored
			if err := rows.Scan(&id, &e.action, &e.version, &e.source); err != nil {
				return err
			}
			if here[id]++; here[id] == 1 {
				events[id] = append(events[id], e)
			} else {
				t.Errorf("request %s has %d events in %s", id, here[id], database)
			}
			return nil
		}, `SELECT request_id, action, coalesce(gcp_secret_version, ''), coalesce(source, '') FROM omni_secret_access_events
			WHERE request_id LIKE $1 AND result = 'success' AND action IN ('read', 'cache_refresh', 'break_glass_apply')`, l.prefix+"-%")
	}
	missing := 0
	want := func(id string, action domain.Action, version, source string) {
		t.Helper()
		found := events[id]
		if len(found) == 0 {
			if missing++; missing <= 10 {
				t.Errorf("%s %s was answered and has no event in SQL", action, id)
			}
			return
		}
		if e := found[0]; e.action != string(action) || version != "" && e != (stored{string(action), version, source}) {
			t.Errorf("%s %s (version %s from %s) has the event %+v", action, id, version, source, e)
		}
	}
	answered := 0
	for _, r := range l.reads {
		if r.status == http.StatusOK {
			answered++
			want(r.id, domain.ActionRead, r.version, r.source)
		}
	}
	for _, id := range l.refreshes {
		want(id, domain.ActionCacheRefresh, "", "")
	}
	taken := 0
	for _, o := range l.overrides {
		if o.status == http.StatusCreated {
			taken++
			want(o.id, domain.ActionBreakGlassApply, "", "")
		}
	}
	if missing > 10 {
		t.Errorf("%d events are missing in all", missing)
	}
	t.Logf("checked: %d answered reads, %d refreshes, %d of %d overrides taken", answered, len(l.refreshes), taken, len(l.overrides))
}

// wantAllAnswered fails for each read of these secrets that was not answered with a value.
func (l *load) wantAllAnswered(t *testing.T, secrets ...domain.SecretType) {
	t.Helper()
	failed := 0
	for _, r := range l.reads {
		for _, secret := range secrets {
			if r.secret == secret && r.status != http.StatusOK {
				if failed++; failed <= 5 {
					t.Errorf("read %s of %s was not answered: %d %s %v", r.id, secret, r.status, r.body, r.err)
				}
			}
		}
	}
	if failed > 5 {
		t.Errorf("%d reads were not answered in all", failed)
	}
}

// seeded is a source of chance that the test's output lets one repeat.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
