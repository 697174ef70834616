package memory_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/memory"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

const reference = "projects/p/secrets/a"

func TestBackendVersions(t *testing.T) {
	b := memory.NewBackend()
	if v := b.Set(reference, "old"); v != "1" {
		t.Errorf("first version is %q, want 1", v)
	}
	if v := b.Set(reference, "new"); v != "2" {
		t.Errorf("second version is %q, want 2", v)
	}
	for asked, want := range map[string]struct{ value, version string }{
		"1":                  {"old", "1"},
		"2":                  {"new", "2"},
		domain.LatestVersion: {"new", "2"},
	} {
		f, err := b.Fetch(t.Context(), reference, asked)
		if err != nil {
			t.Fatalf("Fetch %s: %v", asked, err)
		}
		if got := string(f.Value.Reveal()); got != want.value || f.Version != want.version {
			t.Errorf("Fetch %s: %q, version %s; want %q, version %s", asked, got, f.Version, want.value, want.version)
		}
	}
}

func TestBackendRefuses(t *testing.T) {
	b := memory.NewBackend()
	b.Set("full", "x")
	b.Set("empty", "")
	b.Set("huge", string(make([]byte, domain.MaxValueBytes+1)))
	cases := []struct {
		name, reference, version string
		want                     domain.Reason
	}{
		{"unknown secret", "unknown", domain.LatestVersion, domain.ReasonNotFound},
		{"unknown version", "full", "2", domain.ReasonNotFound},
		{"version zero", "full", "0", domain.ReasonNotFound},
		{"version that is no number", "full", "one", domain.ReasonNotFound},
		{"empty value", "empty", "1", domain.ReasonInvalidPayload},
		{"value too large", "huge", "1", domain.ReasonInvalidPayload},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := b.Fetch(t.Context(), c.reference, c.version)
			if _, ok := errors.AsType[*domain.FetchError](err); !ok || domain.ReasonOf(err) != c.want {
				t.Errorf("Fetch: %v, want reason %s", err, c.want)
			}
		})
	}
}

func TestBackendFailsUntilRecovered(t *testing.T) {
	b := memory.NewBackend()
	b.Set(reference, "x")
	b.Fail(reference, domain.ReasonUnavailable)
	if _, err := b.Fetch(t.Context(), reference, "1"); domain.ReasonOf(err) != domain.ReasonUnavailable {
		t.Errorf("Fetch: %v, want unavailable", err)
	}
	b.Recover(reference)
	if _, err := b.Fetch(t.Context(), reference, "1"); err != nil {
		t.Errorf("Fetch after Recover: %v", err)
	}
	if n := b.Calls(reference); n != 2 {
		t.Errorf("%d calls, want 2", n)
	}
}

func TestBackendDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.NewBackend()
		b.Set(reference, "x")
		b.SetDelay(reference, 2*time.Second)

		began := time.Now()
		if _, err := b.Fetch(t.Context(), reference, "1"); err != nil {
			t.Fatalf("Fetch: %v", err)
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("it took %v, want 2s", took)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if _, err := b.Fetch(ctx, reference, "1"); domain.ReasonOf(err) != domain.ReasonDeadlineExceeded {
			t.Errorf("Fetch past its deadline: %v", err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %v, want 1s", took)
		}
	})
}

func TestBackendHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.NewBackend()
		b.Set(reference, "before")
		release := b.Hold(reference)

		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				f, err := b.Fetch(t.Context(), reference, domain.LatestVersion)
				if err != nil || f.Version != "2" {
					t.Errorf("Fetch: version %q, %v; want 2, set while it was held", f.Version, err)
				}
			})
		}
		synctest.Wait()
		if n, peak := b.Calls(reference), b.Peak(); n != 3 || peak != 3 {
			t.Errorf("%d calls, %d at once, want 3 and 3", n, peak)
		}

		b.Set(reference, "after")
		release()
		release() // again does nothing
		wg.Wait()
		if _, err := b.Fetch(t.Context(), reference, "1"); err != nil {
			t.Errorf("Fetch after release: %v", err)
		}
	})
}

func TestBackendHoldEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.NewBackend()
		b.Hold(reference)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := b.Fetch(ctx, reference, "1"); !errors.Is(err, context.Canceled) {
			t.Errorf("Fetch: %v, want context.Canceled", err)
		}
	})
}

func TestStoreOutage(t *testing.T) {
	gone := errors.New("gone")
	s := memory.New()
	s.FailWith(gone)
	event := domain.Event{ID: domain.EventID{Seq: 1}}
	override := domain.Override{ID: "o", Digest: "d"}
	calls := map[string]func() error{
		"EnsureMetadata": func() error {
			return s.EnsureMetadata(t.Context(), []domain.Metadata{{Type: "a"}}, func(domain.SecretType) domain.Event { return event })
		},
		"ListMetadata": func() error { _, err := s.ListMetadata(t.Context()); return err },
		"RecordServed": func() error {
			return s.RecordServed(t.Context(), []domain.Account{{Type: "a", Source: "gsm", Version: "1"}})
		},
		"ApplyOverride": func() error { return s.ApplyOverride(t.Context(), override, event, nil) },
		"EndOverride": func() error {
			_, err := s.EndOverride(t.Context(), "o", domain.EndCleared, event)
			return err
		},
		"OpenOverrides": func() error { _, err := s.OpenOverrides(t.Context()); return err },
		"InsertEvents":  func() error { return s.InsertEvents(t.Context(), []domain.Event{event}) },
		"ListEvents":    func() error { _, err := s.ListEvents(t.Context(), domain.EventFilter{}); return err },
		"PruneEvents":   func() error { _, err := s.PruneEvents(t.Context(), time.Time{}); return err },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, gone) {
			t.Errorf("%s: %v, want the outage", name, err)
		}
	}

	s.FailWith(nil)
	if rows, err := s.ListMetadata(t.Context()); len(rows) != 0 || err != nil {
		t.Errorf("after the outage: %v, %v", rows, err)
	}
	if n := len(s.Events()); n != 0 {
		t.Errorf("%d events were stored during the outage", n)
	}
}

func TestJournalOutage(t *testing.T) {
	j := memory.NewJournal()
	j.FailWith(ports.ErrJournalFull)
	if err := j.Append(t.Context(), domain.Event{}); !errors.Is(err, ports.ErrJournalFull) {
		t.Errorf("Append: %v, want ErrJournalFull", err)
	}
	if n, _ := j.Backlog(); n != 0 {
		t.Errorf("backlog of %d after a failed Append", n)
	}
	j.FailWith(nil)
	if err := j.Append(t.Context(), domain.Event{}); err != nil {
		t.Errorf("Append after the outage: %v", err)
	}
}

func TestJournalWaitsInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := memory.NewJournal()
		time.AfterFunc(time.Hour, func() { _ = j.Append(t.Context(), domain.Event{ErrorCode: "x"}) })
		events, err := j.Next(t.Context(), 1)
		if err != nil || len(events) != 1 || len(j.Events()) != 1 {
			t.Errorf("Next: %v, %v", events, err)
		}
	})
}

func TestMeterCounts(t *testing.T) {
	m := memory.NewMeter()
	m.SecretRead("a", domain.SourceCache, false)
	m.SecretRead("a", domain.SourceCache, true)
	m.SecretRead("a", domain.SourceBreakGlass, false)
	m.SecretFailed("a", domain.ReasonNotFound)
	m.FetchDone("gsm", "ok", time.Second)

	for name, c := range map[string]struct{ got, want int }{
		"reads from cache":       {m.Reads("a", domain.SourceCache), 2},
		"reads from break-glass": {m.Reads("a", domain.SourceBreakGlass), 1},
		"reads of another":       {m.Reads("b", domain.SourceCache), 0},
		"stale reads":            {m.StaleReads("a"), 1},
		"failures":               {m.Failures("a", domain.ReasonNotFound), 1},
		"failures for another":   {m.Failures("a", domain.ReasonUnavailable), 0},
		"fetches":                {m.Fetches("gsm", "ok"), 1},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", name, c.got, c.want)
		}
	}
}
