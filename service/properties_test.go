package service_test

import (
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// Whatever happens in whichever order, on two replicas with readers and a watch on each: after every step a reader gets
// what the model says, the status shows it, the watch has told it, and the audit trail has exactly the events of what
// was done.
//
// A failure prints its seed, and its shortest sequence is kept in testdata/rapid and run first from then on.
func TestCacheAndOverridesFollowTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			w := newWorld(t)
			t.Cleanup(w.close)
			t.Repeat(map[string]func(*rapid.T){
				"":                 w.check,
				"time passes":      w.advance,
				"a new version":    w.addVersion,
				"backend":          w.changeBackend,
				"database":         w.changeDatabase,
				"journal":          w.changeJournal,
				"apply":            w.apply,
				"apply, refused":   w.applyRefused,
				"clear":            w.clear,
				"refresh":          w.refresh,
				"not heard of yet": w.unheard,
				"restart":          w.restart,
				"at the same time": w.race,
			})
			w.settle()
		})
	})
}

func (w *world) anyReplica(t *rapid.T) *replica {
	return w.replicas[rapid.IntRange(0, len(w.replicas)-1).Draw(t, "replica")]
}

func (r *replica) String() string { return r.id }

func (w *world) advance(t *rapid.T) {
	d := rapid.OneOf(
		rapid.SampledFrom([]time.Duration{
			time.Millisecond, time.Second, 30 * time.Second, time.Minute, 4 * time.Minute, 5 * time.Minute,
			25 * time.Minute, 30 * time.Minute, 35 * time.Minute,
		}),
		rapid.Map(rapid.IntRange(1, 40*60*10), func(n int) time.Duration { return time.Duration(n) * 100 * time.Millisecond }),
	).Draw(t, "for")
	t.Logf("%v later", d)
	time.Sleep(d) //nolint:forbidigo // simulated: in a bubble
	w.tick()
}

func (w *world) addVersion(*rapid.T) {
	w.backend.Set("key", "key-"+strconv.Itoa(w.applied))
	w.applied++
}

var conditions = []domain.Reason{
	"", "", "", domain.ReasonUnavailable, domain.ReasonDeadlineExceeded, domain.ReasonChecksumMismatch,
	domain.ReasonPermissionDenied, domain.ReasonUnauthenticated, domain.ReasonNotFound, domain.ReasonVersionDisabled,
}

// changeBackend lets the backend fail, or recover, for one replica.
func (w *world) changeBackend(t *rapid.T) {
	b := w.anyReplica(t).backend
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cut = rapid.SampledFrom(conditions).Draw(t, "answers")
}

func (w *world) changeDatabase(*rapid.T) {
	if w.gone = !w.gone; w.gone {
		w.store.FailWith(errGone)
		return
	}
	w.store.FailWith(nil)
	w.tick()
}

func (w *world) changeJournal(t *rapid.T) {
	r := w.anyReplica(t)
	if r.full = !r.full; r.full {
		w.unfollow(r)
		r.journal.FailWith(ports.ErrJournalFull)
		return
	}
	r.journal.FailWith(nil)
	w.follow(r)
}

// envelope is one that was never used.
func (w *world) envelope(ttl time.Duration) domain.Envelope {
	w.applied++
	return seal(apiKey, "injected-"+strconv.Itoa(w.applied), ttl)
}

func (w *world) apply(t *rapid.T) {
	w.applyOn(t, w.anyReplica(t))
}

func (w *world) applyOn(t *rapid.T, r *replica) {
	ttl := rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, 4 * time.Minute, 25 * time.Minute, 30 * time.Minute}).Draw(t, "ttl")
	e := w.envelope(ttl)
	until := time.Now().Add(ttl)
	var o domain.Override
	var err error
	w.besideReaders(r, func() { o, err = r.ApplyOverride(t.Context(), operator, e, "drill") }, func() {
		if w.gone {
			w.wantCode(err, domain.CodeStateUnavailable)
			return
		}
		w.wantCode(err, "")
		w.used = append(w.used, e.Ciphertext)
		if w.open.id != "" {
			w.expectEnd(r.id, operator.Principal.Actor(), domain.EndReplaced)
		}
		w.open = injected{o.ID, e.Ciphertext[len("sealed:"):], until}
		w.expect(domain.Event{
			Action: domain.ActionBreakGlassApply, ReplicaID: r.id, Actor: operator.Principal.Actor(), Result: domain.ResultSuccess,
			Version: o.ID, Source: domain.SourceBreakGlass, Reason: "drill",
		})
	})
}

// applyRefused sends what must not be applied, whatever else is true.
func (w *world) applyRefused(t *rapid.T) {
	r := w.anyReplica(t)
	e := w.envelope(10 * time.Minute)
	want, reason := domain.CodeInvalidBreakGlassPayload, domain.ReasonBreakGlassPayload
	switch kind := rapid.SampledFrom([]string{"too late", "too long", "not ours", "replayed"}).Draw(t, "envelope"); kind {
	case "too late":
		e.ExpiresAt = time.Now().Format(time.RFC3339Nano)
		want, reason = domain.CodeInvalidBreakGlassTTL, domain.ReasonBreakGlassTTL
	case "too long":
		e.ExpiresAt = time.Now().Add(30*time.Minute + time.Nanosecond).Format(time.RFC3339Nano)
		want, reason = domain.CodeInvalidBreakGlassTTL, domain.ReasonBreakGlassTTL
	case "not ours":
		e.Ciphertext = "garbled"
	case "replayed":
		if len(w.used) == 0 {
			return // there is none yet
		}
		e.Ciphertext = rapid.SampledFrom(w.used).Draw(t, "ciphertext")
		reason = domain.ReasonBreakGlassReplay
		if w.gone {
			want = domain.CodeStateUnavailable
		}
	}
	_, err := r.ApplyOverride(t.Context(), operator, e, "drill")
	w.wantCode(err, want)
	if want != domain.CodeStateUnavailable {
		w.expectJournaled(r, domain.Event{
			Action: domain.ActionBreakGlassApply, Actor: operator.Principal.Actor(), Result: domain.ResultFailure,
			ErrorCode: string(want), Reason: string(reason),
		})
	}
}

func (w *world) clear(t *rapid.T) { w.clearOn(t, w.anyReplica(t)) }

func (w *world) clearOn(t *rapid.T, r *replica) {
	var err error
	w.besideReaders(r, func() { err = r.ClearOverride(t.Context(), operator, apiKey) }, func() {
		switch {
		case w.gone:
			w.wantCode(err, domain.CodeStateUnavailable)
		case !w.open.servedAt(time.Now()):
			w.wantCode(err, domain.CodeNoBreakGlass)
			w.expectJournaled(r, domain.Event{
				Action: domain.ActionBreakGlassClear, Actor: operator.Principal.Actor(), Result: domain.ResultFailure,
				ErrorCode: string(domain.CodeNoBreakGlass),
			})
		default:
			w.wantCode(err, "")
			w.expectEnd(r.id, operator.Principal.Actor(), domain.EndCleared)
		}
	})
}

func (w *world) refresh(t *rapid.T) { w.refreshOn(t, w.anyReplica(t)) }

func (w *world) refreshOn(t *rapid.T, r *replica) {
	of := rapid.SampledFrom([]domain.SecretType{"", apiKey}).Draw(t, "of")
	before := make(map[*replica]int)
	for _, each := range w.replicas {
		before[each] = len(each.backend.history())
	}
	var err error
	w.besideReaders(r, func() { _, err = r.Refresh(t.Context(), cacher, of) }, func() {
		h := r.backend.history()
		if len(h) == before[r] {
			w.t.Fatalf("a refresh on %s asked no backend", r)
		}
		last := h[len(h)-1]
		failed := last.failure
		for _, other := range w.replicas {
			if failed == "" && !w.gone && !other.deaf && len(other.backend.history()) == before[other] {
				w.t.Fatalf("%s did not follow a refresh on %s", other, r)
			}
		}
		if failed == "" && w.open.id != "" {
			if w.gone {
				failed = domain.ReasonInternal // the override stays
			} else {
				w.expectEnd(r.id, cacher.Principal.Actor(), domain.EndRefreshed)
			}
		}
		switch {
		case r.full:
			w.wantCode(err, domain.CodeAuditUnavailable)
		case failed != "":
			w.wantCode(err, domain.CodeRefreshFailed)
		default:
			w.wantCode(err, "")
		}
		e := domain.Event{Action: domain.ActionCacheRefresh, Actor: cacher.Principal.Actor(), Result: domain.ResultFailure, ErrorCode: string(failed)}
		if failed == "" {
			e.Result, e.Version, e.Source = domain.ResultSuccess, last.version, "gsm"
		}
		w.expectJournaled(r, e)
	})
}

// unheard has an override applied, and at once ended by the other replica, which has not heard of it.
func (w *world) unheard(t *rapid.T) {
	on := w.anyReplica(t)
	for _, other := range w.replicas {
		if other == on {
			continue
		}
		synctest.Wait()
		uncover := other.hears.cover()
		other.deaf = true
		w.applyOn(t, on)
		if rapid.Bool().Draw(t, "by a refresh") {
			w.refreshOn(t, other)
		} else {
			w.clearOn(t, other)
		}
		uncover()
		other.deaf = false
		synctest.Wait()
	}
}

func (w *world) restart(t *rapid.T) {
	if w.gone {
		return // it would not start
	}
	r := w.anyReplica(t)
	r.stop()
	w.checkTrail() // what it left
	w.start(r)
}

// race takes two or three steps about the override at once, on any replicas. Which one is first is open; what must be true
// in the end is not: no override is lost, each one that is gone has one event that says so, and a refresh that succeeded
// has left none of those that it found.
func (w *world) race(t *rapid.T) {
	if w.gone {
		return // nothing would change
	}
	type step struct {
		what string
		on   *replica
		err  error
		o    domain.Override
		env  domain.Envelope
	}
	synctest.Wait()
	now, found := time.Now(), w.open
	steps := make([]*step, rapid.IntRange(2, 3).Draw(t, "steps"))
	for i := range steps {
		steps[i] = &step{what: rapid.SampledFrom([]string{"apply", "clear", "refresh"}).Draw(t, "step"), on: w.anyReplica(t), env: w.envelope(25 * time.Minute)}
	}
	may := make(map[*replica][]answer) // what its readers may get
	got := make(map[*replica]answer)
	for _, r := range w.replicas {
		may[r] = append(may[r], w.open.reads(r.backend.history(), now), r.backend.history().cached(now))
	}
	var work sync.WaitGroup
	for _, s := range steps {
		work.Go(func() {
			switch s.what {
			case "apply":
				s.o, s.err = s.on.ApplyOverride(w.t.Context(), operator, s.env, "drill")
			case "clear":
				s.err = s.on.ClearOverride(w.t.Context(), operator, apiKey)
			case "refresh":
				_, s.err = s.on.Refresh(w.t.Context(), cacher, apiKey)
			}
		})
	}
	var mu sync.Mutex
	for _, r := range w.replicas {
		work.Go(func() {
			a, _ := w.read(r)
			mu.Lock()
			defer mu.Unlock()
			got[r] = a
		})
	}
	work.Wait()
	synctest.Wait()

	left, err := w.store.OpenOverrides(w.t.Context())
	if err != nil || len(left) > 1 {
		w.t.Fatalf("open overrides: %v, %v; want one at most", left, err)
	}
	w.open = injected{}
	there := make(map[string]injected) // every override that there was
	if found.id != "" {
		there[found.id] = found
	}
	for _, s := range steps {
		if s.what == "apply" {
			w.wantCode(s.err, "")
			w.used = append(w.used, s.env.Ciphertext)
			there[s.o.ID] = injected{s.o.ID, s.env.Ciphertext[len("sealed:"):], now.Add(25 * time.Minute)}
		}
	}
	if len(left) > 0 {
		w.open = there[left[0].ID]
	}
	applied, ended := make(map[string]int), make(map[string]int)
	all := w.store.Events()
	for _, e := range all[w.stored:] {
		switch {
		case e.Action == domain.ActionBreakGlassApply && e.Result == domain.ResultSuccess:
			applied[e.Version]++
		case e.Action == domain.ActionBreakGlassClear && e.Result == domain.ResultSuccess:
			ended[e.Version]++
		}
	}
	for id, o := range there {
		wantEnds, wantApplied := 1, 1
		if id == w.open.id {
			wantEnds = 0
		}
		if id == found.id {
			wantApplied = 0
		}
		if ended[id] != wantEnds || applied[id] != wantApplied {
			w.t.Fatalf("%+v: %d events say that it was applied, %d that it ended; want %d and %d", o, applied[id], ended[id], wantApplied, wantEnds)
		}
		for _, r := range w.replicas {
			may[r] = append(may[r], o.reads(nil, now))
		}
	}
	for _, s := range steps {
		if s.what == "refresh" && s.err == nil && found.id != "" && w.open.id == found.id {
			w.t.Fatalf("a refresh succeeded on %s and left %+v", s.on, found)
		}
	}
	for _, r := range w.replicas {
		may[r] = append(may[r], r.backend.history().cached(now))
		if a := got[r]; a != (answer{}) && !slices.Contains(may[r], a) {
			w.t.Fatalf("a reader of %s got %+v, want one of %+v", r, a, may[r])
		}
		r.noted = len(r.journal.Events())
	}
	w.stored, w.written = len(all), nil
}
