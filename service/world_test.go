package service_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/apex-tradebill/omni-secrets/adapters/memory"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
	"github.com/apex-tradebill/omni-secrets/service"
)

// world is two replicas on one database, and what the model knows of them.
type world struct {
	t        *rapid.T
	store    *memory.Store
	backend  *memory.Backend
	replicas []*replica
	gone     bool // the database is away

	open    injected
	applied int      // how many envelopes were made, so that no two are the same
	used    []string // ciphertexts that were applied
	written []string // events that the last step must have left, as line writes them
	stored  int      // events of the store that were looked at
}

// replica is one service.
type replica struct {
	*service.Service
	id      string
	config  service.Config
	hears   *hearing
	deaf    bool // it does not hear what the other one does
	backend *witness
	journal *memory.Journal
	full    bool // its journal takes nothing
	stop    func()
	watch   *service.Watch
	unwatch context.CancelFunc
	told    service.Update
	noted   int // events of the journal that were looked at
}

// witness is a backend as one replica sees it. It remembers what it answered.
type witness struct {
	*memory.Backend

	mu  sync.Mutex
	cut domain.Reason // every fetch of this replica fails for it; "" for none
	saw history
}

func (w *witness) Fetch(ctx context.Context, reference, version string) (domain.Fetched, error) {
	got, err := w.Backend.Fetch(ctx, reference, version)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut != "" {
		got, err = domain.Fetched{}, &domain.FetchError{Reason: w.cut}
	}
	a := attempt{at: time.Now(), value: string(got.Value.Reveal()), version: got.Version}
	if err != nil {
		a = attempt{at: time.Now(), failure: domain.ReasonOf(err)}
	}
	w.saw = append(w.saw, a)
	return got, err
}

func (w *witness) history() history {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.saw)
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, store: memory.New(), backend: memory.NewBackend()}
	w.backend.Set("key", "key-1")
	jobs := memory.NewAlone()
	for _, id := range []string{"a", "b"} {
		r := &replica{id: id, backend: &witness{Backend: w.backend}, journal: memory.NewJournal(), hears: &hearing{Replicas: w.store}}
		r.config = service.Config{
			Catalog: domain.Catalog{{Type: apiKey, Backend: "gsm", Reference: "key", Version: domain.LatestVersion, Owner: "Security Engineering", RotationMonths: 12}},
			Policy:  domain.DefaultCachePolicy(), Environment: "test", ReplicaID: id,
			Backends: map[string]ports.SecretBackend{"gsm": r.backend},
			Metadata: w.store, Overrides: w.store, Rotations: w.store, FollowUps: w.store, Audit: w.store,
			Journal: r.journal, Drain: r.journal, Replicas: r.hears, Leadership: jobs,
			Envelopes: plainEnvelopes{}, Meter: memory.NewMeter(), Logger: slog.New(slog.DiscardHandler),
			Spread: func() float64 { return 0 },
		}
		w.replicas = append(w.replicas, r)
		w.start(r)
	}
	return w
}

func (w *world) start(r *replica) {
	r.backend.saw = nil // a process begins with nothing
	var err error
	if r.Service, err = service.New(r.config); err != nil {
		w.t.Fatal(err)
	}
	if err := r.Start(w.t.Context()); err != nil {
		w.t.Fatalf("start of %s: %v", r.id, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = func() {
		w.unfollow(r)
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run of %s: %v", r.id, err)
		}
	}
	synctest.Wait()
	w.follow(r)
}

func (w *world) follow(r *replica) {
	if r.full {
		return // a watch ends when what it would tell cannot be audited
	}
	ctx, cancel := context.WithCancel(context.Background())
	watch, err := r.Watch(ctx, reader, []domain.SecretType{apiKey})
	if err != nil {
		w.t.Fatalf("watch of %s: %v", r.id, err)
	}
	r.watch, r.unwatch = watch, cancel
}

func (w *world) unfollow(r *replica) {
	if r.watch != nil {
		r.unwatch()
		r.watch = nil
	}
}

func (w *world) close() {
	for _, r := range w.replicas {
		r.stop()
	}
}

// line is an event as the model and the trail are compared by. Which replica ends an override that expired is open.
func line(e domain.Event) string {
	on := e.ReplicaID
	if e.Reason == string(domain.EndExpired) {
		on = ""
	}
	return fmt.Sprintf("%s on %q by %s %s: %s %s version %q from %q because %q", e.Action, on, e.Actor.Type, e.Actor.ID, e.Result, e.ErrorCode, e.Version, e.Source, e.Reason)
}

func (w *world) expect(e domain.Event) { w.written = append(w.written, line(e)) }

// expectJournaled is for events that are lost when the journal takes none: those of calls that are refused anyway.
func (w *world) expectJournaled(r *replica, e domain.Event) {
	if e.ReplicaID = r.id; !r.full {
		w.expect(e)
	}
}

func (w *world) expectEnd(by string, actor domain.Actor, end domain.OverrideEnd) {
	w.expect(domain.Event{
		Action: domain.ActionBreakGlassClear, ReplicaID: by, Actor: actor, Result: domain.ResultSuccess,
		Version: w.open.id, Source: domain.SourceBreakGlass, Reason: string(end),
	})
	w.open = injected{}
}

// tick brings the model to now: an override whose time has come ends as soon as the database takes that.
func (w *world) tick() {
	if w.open.id != "" && !w.open.servedAt(time.Now()) && !w.gone {
		w.expectEnd("", domain.Automation, domain.EndExpired)
	}
}

// besideReaders does something on a replica while two readers of each replica read: each gets what the model said before
// or what it says once account has told it what happened. On another replica, an override may have ended a moment before
// the fetch that follows a refresh: then they get what is underneath.
func (w *world) besideReaders(on *replica, do, account func()) {
	synctest.Wait()
	now := time.Now()
	var work sync.WaitGroup
	type outcome struct {
		of  *replica
		may []answer
		got answer
		err error
	}
	var outcomes []*outcome
	for _, r := range append(w.replicas, w.replicas...) {
		if r.deaf {
			continue // what it serves is what there was
		}
		h := r.backend.history()
		o := &outcome{of: r, may: []answer{w.open.reads(h, now)}}
		if on != nil && on != r {
			o.may = append(o.may, h.cached(now))
		}
		outcomes = append(outcomes, o)
		work.Go(func() { o.got, o.err = w.read(r) })
	}
	work.Go(do)
	work.Wait()
	synctest.Wait()
	account()
	for _, o := range outcomes {
		w.wantRead(o.of, o.got, o.err, append(o.may, w.open.reads(o.of.backend.history(), now))...)
	}
}

func (w *world) read(r *replica) (answer, error) {
	s, err := r.Read(w.t.Context(), reader, apiKey)
	return answerOf(s), err
}

func answerOf(s domain.Served) answer {
	return answer{string(s.Value.Reveal()), s.Version, s.Source, s.Stale}
}

// wantRead checks what a reader got against what it may get, and expects the event of it.
func (w *world) wantRead(r *replica, got answer, err error, want ...answer) {
	w.t.Helper()
	e := domain.Event{Action: domain.ActionRead, Actor: reader.Principal.Actor(), Result: domain.ResultSuccess, Version: got.version, Source: got.source}
	switch {
	case domain.AsError(err).Code == domain.CodeAuditUnavailable && r.full && slices.ContainsFunc(want, func(a answer) bool { return a != answer{} }):
		return
	case err != nil:
		w.wantCode(err, domain.CodeSecretUnavailable)
		e.Result, e.ErrorCode = domain.ResultFailure, string(domain.CodeSecretUnavailable)
	case r.full:
		w.t.Fatalf("%s answered a read that it could not audit", r)
	}
	if !slices.Contains(want, got) {
		w.t.Fatalf("a reader of %s got %+v, want one of %+v; it fetched %+v", r, got, want, r.backend.history())
	}
	w.expectJournaled(r, e)
}

func (w *world) wantCode(err error, want domain.Code) {
	w.t.Helper()
	var got domain.Code
	if err != nil {
		got = domain.AsError(err).Code
	}
	if got != want {
		w.t.Fatalf("error %v, want code %q", err, want)
	}
}

// check compares everything that can be seen with the model.
func (w *world) check(*rapid.T) {
	w.besideReaders(nil, func() {}, func() {})
	now := time.Now()
	for _, r := range w.replicas {
		h := r.backend.history()
		if !now.Before(h.due()) {
			w.t.Fatalf("%s was to fetch at %v: %+v", r, h.due(), h)
		}
		want := w.open.reads(h, now)
		w.checkStatus(r, h, want, now)
		w.checkWatch(r, h, want, now)
	}
	w.checkTrail()
}

func (w *world) checkStatus(r *replica, h history, want answer, now time.Time) {
	all, err := r.Status(w.t.Context(), operator)
	if err != nil {
		w.t.Fatalf("status of %s: %v", r, err)
	}
	st, cached := all[0], h.cached(now)
	_, failed := h.lastGood()
	var last domain.Reason
	if len(failed) > 0 {
		last = failed[len(failed)-1].failure
	}
	if want.source == "" {
		want.source = domain.SourceEmpty
	}
	type shown struct {
		source, version string
		stale           bool
		failures        int
		last            domain.Reason
		until           time.Time
		cached, held    string
	}
	wanted := shown{source: want.source, version: want.version, stale: want.stale, failures: len(failed), last: last, cached: cached.source, held: cached.version}
	if w.open.servedAt(now) {
		wanted.until = w.open.until.UTC()
	}
	got := shown{st.Source, st.Version, st.Stale, st.Failures, st.LastFailure, st.OverrideExpiresAt.UTC(), st.CachedSource, st.CachedVersion}
	if got != wanted {
		w.t.Fatalf("status of %s: %+v, want %+v", r, got, wanted)
	}
}

// checkWatch checks that the last that was told is what a reader gets.
func (w *world) checkWatch(r *replica, h history, want answer, now time.Time) {
	if r.watch == nil {
		return
	}
	for {
		u, news, err := r.watch.Next(w.t.Context(), 0)
		if err != nil {
			w.t.Fatalf("watch of %s: %v", r, err)
		}
		if !news {
			break
		}
		r.told = u
		if u.Available() {
			w.expectJournaled(r, domain.Event{
				Action: domain.ActionRead, Actor: reader.Principal.Actor(), Result: domain.ResultSuccess, Version: u.Served.Version, Source: u.Served.Source,
			})
		}
	}
	if got := answerOf(r.told.Served); got != want {
		w.t.Fatalf("the watch of %s told %+v last, want %+v", r, got, want)
	}
	if !r.told.Available() && r.told.Withdrawn != h.withdrawn(now) {
		w.t.Fatalf("the watch of %s told withdrawn %v, want %v", r, r.told.Withdrawn, !r.told.Withdrawn)
	}
}

// checkTrail checks that the trail has the events of what was done since the last time, and no others. Those of
// rotations that are found have their own test.
func (w *world) checkTrail() {
	synctest.Wait()
	var got []string
	all := w.store.Events()
	for _, e := range all[w.stored:] {
		if e.Action == domain.ActionBreakGlassApply && e.Result == domain.ResultSuccess || e.Action == domain.ActionBreakGlassClear && e.Result == domain.ResultSuccess {
			got = append(got, line(e))
		}
	}
	w.stored = len(all)
	for _, r := range w.replicas {
		events := r.journal.Events()
		for _, e := range events[r.noted:] {
			got = append(got, line(e))
		}
		r.noted = len(events)
	}
	slices.Sort(got)
	slices.Sort(w.written)
	if !slices.Equal(got, w.written) {
		w.t.Fatalf("the audit trail is not what was done:\ngot  %q\nwant %q", got, w.written)
	}
	w.written = nil
}

// settle ends the outages and checks that the database has each event once, and nothing of what ended.
func (w *world) settle() {
	if w.gone {
		w.changeDatabase(w.t)
	}
	time.Sleep(time.Minute) //nolint:forbidigo // simulated: in a bubble
	w.tick()
	w.check(w.t)
	time.Sleep(time.Minute) //nolint:forbidigo // simulated: in a bubble
	synctest.Wait()
	count := make(map[domain.EventID]int)
	for _, e := range w.store.Events() {
		count[e.ID]++
	}
	for _, r := range w.replicas {
		for _, e := range r.journal.Events() {
			if count[e.ID] != 1 {
				w.t.Fatalf("the database has %d times: %s", count[e.ID], line(e))
			}
		}
	}
}
