package service_test

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/memory"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/service"
)

// overtaken is a store in which something else happens in the middle of a call.
type overtaken struct {
	*memory.Store

	duringBegin, duringRecord, duringList, duringEnd, afterStandings func()

	deaf atomic.Bool // takes no account of what is served
}

func (o *overtaken) Standings(ctx context.Context) ([]domain.Standing, error) {
	list, err := o.Store.Standings(ctx)
	if after := o.afterStandings; after != nil {
		o.afterStandings = nil
		after()
	}
	return list, err
}

func (o *overtaken) RecordServed(ctx context.Context, accounts []domain.Account) error {
	if o.deaf.Load() {
		return errors.New("connection refused")
	}
	return o.Store.RecordServed(ctx, accounts)
}

func (o *overtaken) RecordRotation(ctx context.Context, newest string, next domain.Standing, rotated domain.Rotated, e domain.Event) (bool, error) {
	if during := o.duringRecord; during != nil {
		o.duringRecord = nil
		during()
	}
	return o.Store.RecordRotation(ctx, newest, next, rotated, e)
}

func (o *overtaken) BeginRotation(ctx context.Context, r domain.Rotation, newest string, next domain.Standing, e domain.Event) (bool, error) {
	if during := o.duringBegin; during != nil {
		o.duringBegin = nil
		during()
	}
	return o.Store.BeginRotation(ctx, r, newest, next, e)
}

func (o *overtaken) EndOverride(ctx context.Context, id string, end domain.OverrideEnd, e domain.Event) (bool, error) {
	if during := o.duringEnd; during != nil {
		o.duringEnd = nil
		during()
	}
	return o.Store.EndOverride(ctx, id, end, e)
}

func (o *overtaken) ListMetadata(ctx context.Context) ([]domain.Metadata, error) {
	list, err := o.Store.ListMetadata(ctx)
	if during := o.duringList; during != nil {
		o.duringList = nil
		during()
	}
	return list, err
}

func overtakenFixture(t *testing.T) (*fixture, *overtaken) {
	t.Helper()
	o := &overtaken{Store: memory.New()}
	f := rotating(t, func(cfg *service.Config) {
		cfg.Metadata, cfg.Overrides, cfg.Rotations, cfg.FollowUps, cfg.Audit = o, o, o, o, o
	})
	f.store = o.Store
	return f, o
}

// A refresh that ends while the rotation is being stored does not put the candidate in place for long.
func TestRefreshDuringBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, o := overtakenFixture(t)
		defer f.run()()
		f.backend.Set("key", "key-2")
		o.duringBegin = func() {
			if _, err := f.Refresh(t.Context(), cacher, apiKey); err != nil {
				t.Error(err)
			}
			f.wantServed(apiKey, "key-2", "gsm", false)
		}
		f.begin("2")
		synctest.Wait()
		f.at(time.Second)
		f.wantServed(apiKey, "key-1", "gsm", false)
	})
}

// The first version that is found is noted in the background: an operator who is quicker than that is not told that
// somebody else was.
func TestStepWhileTheFirstVersionIsNoted(t *testing.T) {
	record := func(f *fixture) error {
		_, err := f.RecordRotation(f.t.Context(), operator, apiKey, time.Time{})
		return err
	}
	begin := func(f *fixture) error {
		_, err := f.BeginRotation(f.t.Context(), operator, apiKey, "2")
		return err
	}
	for _, c := range []struct {
		name string
		step func(f *fixture) error
		// when has the account be taken in the middle of the step
		when func(f *fixture, o *overtaken, note func())
	}{
		{"a rotation begins, while its version is checked", begin, func(f *fixture, _ *overtaken, note func()) {
			f.backend.SetDelay("key", time.Second)
			time.AfterFunc(time.Second/2, note)
		}},
		{"a rotation begins, while that is stored", begin, func(_ *fixture, o *overtaken, note func()) { o.duringBegin = note }},
		{"a rotation is recorded", record, func(_ *fixture, o *overtaken, note func()) { o.duringRecord = note }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, o := overtakenFixture(t)
				o.deaf.Store(true)
				defer f.run()()
				f.backend.Set("key", "key-2")
				noted := false
				c.when(f, o, func() {
					noted = true
					if err := o.Store.RecordServed(t.Context(), []domain.Account{{Type: apiKey, Source: "gsm", Version: "1", First: "1", Origin: f.config.Catalog[0].Origin()}}); err != nil {
						t.Error(err)
					}
				})
				if err := c.step(f); err != nil || !noted {
					t.Errorf("noted meanwhile: %v; %v", noted, err)
				}
				f.wantServed(apiKey, "key-1", "gsm", false)
			})
		})
	}
}

// An abort is of the rotation that its caller saw, not of one that began since.
func TestAbortIsOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, o := overtakenFixture(t)
		defer f.run()()
		f.backend.Set("key", "key-2")
		f.backend.Set("key", "key-3")
		f.begin("2")
		o.afterStandings = func() {
			f.abort()
			f.begin("3")
		}
		_, err := f.AbortRotation(t.Context(), operator, apiKey)
		f.wantCode(err, domain.CodeStateUnavailable)
		if st := f.promote(); st.Version != "3" {
			t.Errorf("promoted: %+v", st)
		}
	})
}

// A rotation that another replica records while an earlier one is being recorded here stays the last.
func TestRecordIsOvertakenByALaterOne(t *testing.T) {
	for _, c := range []struct {
		name    string
		when    func(o *overtaken, record func())
		refused bool
	}{
		{"before it is stored", func(o *overtaken, record func()) { o.afterStandings = record }, true},
		{"while it is stored", func(o *overtaken, record func()) { o.duringRecord = record }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := newReplicas(t)
				o := &overtaken{Store: b.store}
				b.config.Rotations = o
				b.build()
				defer a.run()()
				defer b.run()()
				a.at(48 * time.Hour)
				later := time.Now()
				c.when(o, func() {
					if _, err := a.RecordRotation(t.Context(), operator, apiKey, later); err != nil {
						t.Error(err)
					}
				})
				_, err := b.RecordRotation(t.Context(), operator, apiKey, later.Add(-24*time.Hour))
				if c.refused {
					b.wantCode(err, domain.CodeInvalidRequest)
				} else if err != nil {
					t.Error(err)
				}
				for _, f := range []*fixture{a, b} {
					if st := f.status(apiKey); !st.LastRotatedAt.Equal(later) || !st.RotationDueAt.Equal(domain.RotationDue(later, 12)) {
						t.Errorf("last rotated %v, due %v; want %v", st.LastRotatedAt, st.RotationDueAt, later)
					}
				}
			})
		})
	}
}

// A replica whose clock is ahead has recorded a rotation: one that is found here a moment later does not count from before that.
func TestDetectionByAClockThatIsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := rotating(t)
		defer f.run()()
		f.at(time.Hour)
		ahead := f.config.Catalog[0].RotatedAt(time.Now().Add(time.Minute))
		standing := f.status(apiKey).Standing()
		e := domain.Event{ID: domain.EventID{Start: 1, Seq: 1}, Type: apiKey, Action: domain.ActionWriteMetadata, Result: domain.ResultSuccess, RecordedAt: time.Now()}
		if ok, err := f.store.RecordRotation(t.Context(), standing.Newest, standing, ahead, e); !ok || err != nil {
			t.Fatal(ok, err)
		}
		f.status(apiKey) // which reads it
		f.backend.Set("key", "key-2")
		refreshOn(f)
		f.wantSteps(domain.ActionRotationDetected, "success 2")
		if st := f.Snapshot(time.Now())[0]; st.NewestVersion != "2" || !st.LastRotatedAt.Equal(ahead.At) || !st.RotationDueAt.Equal(ahead.DueAt) {
			t.Errorf("newest %s, last rotated %v, due %v; want 2, %v", st.NewestVersion, st.LastRotatedAt, st.RotationDueAt, ahead)
		}
	})
}

// What others decide again and again while a step is taken is told to who takes it; nothing is stored.
func TestStepThatIsAlwaysOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, o := overtakenFixture(t)
		defer f.run()()
		f.backend.Set("key", "key-2")
		newest := 1
		var overtake func()
		overtake = func() {
			standing := domain.Standing{Type: apiKey, Origin: f.config.Catalog[0].Origin(), Status: domain.RotationActive, Newest: strconv.Itoa(newest)}
			newest += 10
			e := domain.Event{ID: domain.EventID{Start: 1, Seq: uint64(newest)}, Type: apiKey, Action: domain.ActionRotationDetected, Result: domain.ResultSuccess, RecordedAt: time.Now()}
			if ok, err := o.Store.RecordRotation(t.Context(), standing.Newest, standing.Counted(strconv.Itoa(newest)), domain.Rotated{}, e); !ok || err != nil {
				t.Error(ok, err)
			}
			o.duringRecord = overtake
		}
		o.duringRecord = overtake
		_, err := f.RecordRotation(t.Context(), operator, apiKey, time.Time{})
		if e := f.wantCode(err, domain.CodeStateUnavailable); e.RetryAfter == 0 {
			t.Error("no Retry-After")
		}
		o.duringRecord = nil
		f.wantSteps(domain.ActionWriteMetadata, "success", "success", "failure  STATE_UNAVAILABLE") // two rows were made at the start
	})
}

// A list that was read before a promote does not bring the old state back.
func TestSlowListDuringAPromote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, o := overtakenFixture(t)
		defer f.run()()
		f.backend.Set("key", "key-2")
		f.begin("2")
		o.duringList = func() { f.promote() }
		if st := f.status(apiKey); st.Status != domain.RotationActive || st.PinnedVersion != "2" {
			t.Errorf("status: %+v", st)
		}
	})
}

// elsewhere is an event of another replica.
func elsewhere(action domain.Action) domain.Event {
	return domain.Event{ID: domain.EventID{Start: 7, Seq: 1}, Type: apiKey, Action: action, Actor: domain.Automation, Result: domain.ResultSuccess, RecordedAt: time.Now()}
}

// A clear that comes too late says what it found, not that it ended something.
func TestClearIsOvertaken(t *testing.T) {
	for _, c := range []struct {
		name string
		// first is what another replica does between the look and the end
		first func(t *testing.T, o *overtaken, open domain.Override)
		want  domain.Code
		again domain.Code // of the next try
	}{
		{"by the end", func(t *testing.T, o *overtaken, open domain.Override) {
			if ended, err := o.Store.EndOverride(t.Context(), open.ID, domain.EndCleared, elsewhere(domain.ActionBreakGlassClear)); !ended || err != nil {
				t.Error(ended, err)
			}
		}, domain.CodeNoBreakGlass, domain.CodeNoBreakGlass},
		{"by the next override", func(t *testing.T, o *overtaken, _ domain.Override) {
			now := time.Now()
			next := domain.Override{
				ID: "bg-next", Envelope: seal(apiKey, "next", 20*time.Minute), Digest: "next", ExpiresAt: now.Add(20 * time.Minute), AppliedAt: now,
			}
			if err := o.Store.ApplyOverride(t.Context(), next, elsewhere(domain.ActionBreakGlassApply), func(domain.Override) domain.Event {
				e := elsewhere(domain.ActionBreakGlassClear)
				e.ID.Seq++
				return e
			}); err != nil {
				t.Error(err)
			}
		}, domain.CodeStateUnavailable, ""},
		{"after the database did not know it, by the end", func(t *testing.T, o *overtaken, open domain.Override) {
			o.Store.FailOver(memory.New())
			o.duringEnd = func() {
				if ended, err := o.Store.EndOverride(t.Context(), open.ID, domain.EndCleared, elsewhere(domain.ActionBreakGlassClear)); !ended || err != nil {
					t.Error(ended, err)
				}
			}
		}, domain.CodeStateUnavailable, domain.CodeNoBreakGlass},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, o := overtakenFixture(t)
				defer f.run()()
				open := f.apply("injected", 25*time.Minute)
				o.duringEnd = func() { c.first(t, o, open) }
				if e := f.wantCode(clearOn(f), c.want); (c.want == domain.CodeStateUnavailable) != (e.RetryAfter > 0) {
					t.Errorf("Retry-After: %v", e.RetryAfter)
				}
				if err := clearOn(f); c.again == "" && err != nil || c.again != "" && domain.AsError(err).Code != c.again {
					t.Errorf("again: %v, want %q", err, c.again)
				}
				f.wantServed(apiKey, "key-1", "gsm", false)
			})
		})
	}
}

// No time means now, whoever else records a rotation at that moment.
func TestRecordOfNowIsOvertakenByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplicas(t)
		o := &overtaken{Store: b.store}
		b.config.Rotations = o
		b.build()
		defer a.run()()
		defer b.run()()
		a.at(time.Hour)
		record := func(f *fixture) {
			if _, err := f.RecordRotation(t.Context(), operator, apiKey, time.Time{}); err != nil {
				t.Error(err)
			}
		}
		o.afterStandings = func() {
			time.Sleep(time.Millisecond) //nolint:forbidigo // simulated: in a bubble
			record(a)
		}
		record(b)
	})
}
