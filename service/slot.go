package service

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// slot is the place of one secret.
type slot struct {
	entry   domain.Entry
	policy  domain.CachePolicy
	backend ports.SecretBackend

	view atomic.Pointer[view] // what readers see

	foreign bool // the database has another secret for the type, which was told; guarded by Service.steps

	mu     sync.Mutex // of those who change the view
	flight *flight    // the fetch under way, if any
	again  bool       // and another is to follow it

	watches map[*Watch]int // guarded by mu, as what follows; the slot's index in each
	shown   appearance     // what they were last woken for
	turn    *time.Timer    // wakes them when the state changes by time alone; nil without watches

	due      time.Time // place in the schedule, guarded by it
	position int
}

// view is an immutable snapshot of a slot.
type view struct {
	state    domain.CacheState
	override domain.Override // open: not ended in the database, perhaps past its time
	value    domain.Value    // of the override; zero when it could not be decrypted

	standing   domain.Standing // which version is to be served
	found      string          // the version that the last fetch found behind the catalog's alias; "" when it did not look
	rotated    bool            // what was found, or one before it that is not counted yet, has another value than what was served before, as far as that is known
	rolledBack string          // the version that alertRollback told of last; "" once another one is behind the alias
	replaceBy  time.Time       // from then on state is not served: another version was promoted. Zero for never
}

// flight is a fetch that any number of callers wait for.
type flight struct {
	done chan struct{}
	err  error // set before done is closed
}

func newSlot(e domain.Entry, p domain.CachePolicy, b ports.SecretBackend) *slot {
	sl := &slot{entry: e, policy: p, backend: b, position: -1}
	sl.view.Store(&view{})
	return sl
}

func (sl *slot) snapshot() *view { return sl.view.Load() }

// change replaces the view by what f makes of it.
func (sl *slot) change(f func(*view)) {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	sl.changeLocked(f)
}

// changeLocked is change for one who holds sl.mu; it returns what there was and what there is.
func (sl *slot) changeLocked(f func(*view)) (before, after view) {
	before = *sl.view.Load()
	after = before
	f(&after)
	sl.view.Store(&after)
	sl.wakeWatches()
	return before, after
}

// follow has w marked at index i whenever the secret's state changes.
func (sl *slot) follow(w *Watch, i int) {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	if sl.watches == nil {
		sl.watches = make(map[*Watch]int)
		sl.turn = time.AfterFunc(time.Hour, sl.turned)
	}
	sl.watches[w] = i
	sl.wakeWatches()
}

func (sl *slot) unfollow(w *Watch) {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	delete(sl.watches, w)
	if len(sl.watches) == 0 && sl.turn != nil {
		sl.turn.Stop()
		sl.watches, sl.turn = nil, nil
	}
}

func (sl *slot) turned() {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	sl.wakeWatches()
}

// wakeWatches marks the watches when there is something to tell them, and sets the timer for the next turn.
func (sl *slot) wakeWatches() {
	if len(sl.watches) == 0 {
		return
	}
	now := time.Now()
	if next := sl.nextTurn(now); next.IsZero() {
		sl.turn.Stop()
	} else {
		sl.turn.Reset(next.Sub(now))
	}
	if shown := sl.update(now).appearance(); shown != sl.shown {
		sl.shown = shown
		for w, i := range sl.watches {
			w.mark(i)
		}
	}
}

// nextTurn is when the state changes by time alone; zero for never.
func (sl *slot) nextTurn(now time.Time) time.Time {
	v := sl.snapshot()
	next := sl.policy.NextTurn(v.state, now)
	if end := now.Add(v.override.Remaining(now)); v.overridden(now) && (next.IsZero() || end.Before(next)) {
		next = end
	}
	if v.replaceBy.After(now) && (next.IsZero() || v.replaceBy.Before(next)) {
		next = v.replaceBy
	}
	return next
}

// update is the secret's state at now.
func (sl *slot) update(now time.Time) Update {
	u := Update{Type: sl.entry.Type}
	served, ok := sl.serve(now)
	if ok {
		u.Served = served
		return u
	}
	state := sl.snapshot().state
	u.Reason, u.Withdrawn = state.LastFailure, sl.policy.Withdrawn(state, now)
	return u
}

// overridden reports whether the override is served at now.
func (v *view) overridden(now time.Time) bool {
	return !v.value.IsZero() && v.override.ActiveAt(now)
}

// servable reports whether the fetched value may be served at now, and whether it is stale.
func (sl *slot) servable(v *view, now time.Time) (ok, stale bool) {
	if !v.replaceBy.IsZero() && !now.Before(v.replaceBy) {
		return false, false
	}
	return sl.policy.Servable(v.state, now)
}

// servableUntil is until when a reader gets something if the backend goes away at now; zero when there is nothing.
// An override and the value underneath it are both there at now, so that one goes on where the other ends.
func (sl *slot) servableUntil(v *view, now time.Time) time.Time {
	until := sl.policy.ServableUntil(v.state, now)
	if !v.replaceBy.IsZero() && v.replaceBy.Before(until) {
		until = v.replaceBy
	}
	if end := now.Add(v.override.Remaining(now)); v.overridden(now) && end.After(until) {
		until = end
	}
	return until
}

// serve is what a reader gets at now, if there is anything to get.
func (sl *slot) serve(now time.Time) (domain.Served, bool) {
	v := sl.snapshot()
	if v.overridden(now) {
		return domain.Served{
			Type: sl.entry.Type, Value: v.value, Version: v.override.ID, Source: domain.SourceBreakGlass,
			FetchedAt: v.override.AppliedAt, ExpiresAt: v.override.ExpiresAt,
		}, true
	}
	ok, stale := sl.servable(v, now)
	if !ok {
		return domain.Served{}, false
	}
	return domain.Served{
		Type: sl.entry.Type, Value: v.state.Value, Version: v.state.Version, Source: v.state.Source,
		FetchedAt: v.state.FetchedAt, ExpiresAt: sl.policy.FreshUntil(v.state), Stale: stale,
	}, true
}
