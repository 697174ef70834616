package porttest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// RunAuditStore checks an implementation of ports.AuditStore. create returns an empty store, and ends it with
// t.Cleanup.
func RunAuditStore(t *testing.T, create func(t *testing.T) ports.AuditStore) {
	t.Helper()
	cases := []struct {
		name string
		run  func(t *testing.T, s ports.AuditStore)
	}{
		{"events come back complete, with times in UTC to the microsecond", eventsRoundTrip},
		{"every action, result and actor type can be stored", eventsVocabulary},
		{"an empty batch is stored", eventsEmptyBatch},
		{"events that are stored already are left as they are", eventsIdempotent},
		{"an event that is twice in a batch is stored once", eventsTwiceInBatch},
		{"an event of no known action is refused for its content, with its batch", eventsRejected},
		{"overlapping batches at the same time store each event once", eventsRace},
		{"filters select", eventsFiltered},
		{"the last stored comes first, whenever it was recorded", eventsOrder},
		{"pages follow each other without gap, and the last one says so", eventsPages},
		{"pages are stable while events arrive", eventsPagesStable},
		{"pages of filtered events follow each other", eventsPagesFiltered},
		{"a page has a size when none is asked for, and a largest one", eventsPageSize},
		{"pruning refuses events that must be kept", pruneRefused},
		{"pruning deletes what was recorded before, and nothing else", pruneOld},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, create(t)) })
	}
}

func insert(t *testing.T, s ports.AuditStore, events ...domain.Event) {
	t.Helper()
	if err := s.InsertEvents(t.Context(), events); err != nil {
		t.Fatalf("InsertEvents: %v", err)
	}
}

func list(t *testing.T, s ports.AuditStore, f domain.EventFilter) domain.EventPage {
	t.Helper()
	page, err := s.ListEvents(t.Context(), f)
	if err != nil {
		t.Fatalf("ListEvents: %v", err)
	}
	return page
}

func seqs(events []domain.Event) []uint64 {
	var s []uint64
	for _, e := range events {
		s = append(s, e.ID.Seq)
	}
	return s
}

func wantSeqs(t *testing.T, got []domain.Event, want ...uint64) {
	t.Helper()
	if diff := cmp.Diff(want, seqs(got)); diff != "" {
		t.Errorf("events by sequence (-want +got):\n%s", diff)
	}
}

func eventsRoundTrip(t *testing.T, s ports.AuditStore) {
	events := []domain.Event{
		numbered(1),
		{ID: domain.EventID{Start: 0, Seq: 1<<64 - 1}, Action: domain.ActionRead, Actor: domain.Anonymous, Result: domain.ResultDenied, RecordedAt: moment},
		with(numbered(2), func(e *domain.Event) {
			e.Duration = 1 * time.Microsecond
			e.ErrorCode = "SECRET_UNAVAILABLE"
			e.Reason = "it's \"awkward\"; DROP TABLE x --\n\t\\ ünïcode 秘密 🔑"
			e.Actor.ID = "auth0|5f7c8ec7c33c6c004bbafe82"
		}),
		with(numbered(3), func(e *domain.Event) { e.Duration = 90 * time.Minute }),
		with(numbered(4), func(e *domain.Event) { e.RecordedAt = moment.Truncate(time.Second) }),
	}
	insert(t, s, events...)
	wantEvents(t, s, events...)
}

func eventsVocabulary(t *testing.T, s ports.AuditStore) {
	var events []domain.Event
	for _, action := range domain.Actions {
		for _, result := range domain.Results {
			for _, actor := range []domain.ActorType{domain.ActorService, domain.ActorOperator, domain.ActorAutomation} {
				events = append(events, with(numbered(uint64(len(events)+1)), func(e *domain.Event) {
					e.Action, e.Result, e.Actor.Type = action, result, actor
				}))
			}
		}
	}
	insert(t, s, events...)
	wantEvents(t, s, events...)
}

func eventsEmptyBatch(t *testing.T, s ports.AuditStore) {
	insert(t, s)
	wantEvents(t, s)
}

func eventsIdempotent(t *testing.T, s ports.AuditStore) {
	insert(t, s, numbered(1), numbered(2))
	forged := with(numbered(2), func(e *domain.Event) { e.Actor.ID = "somebody else" })
	insert(t, s, numbered(1), forged, numbered(3))
	wantEvents(t, s, numbered(1), numbered(2), numbered(3))
}

func eventsTwiceInBatch(t *testing.T, s ports.AuditStore) {
	insert(t, s, numbered(1), numbered(2), numbered(1))
	wantEvents(t, s, numbered(1), numbered(2))
}

func eventsRejected(t *testing.T, s ports.AuditStore) {
	unknown := with(numbered(2), func(e *domain.Event) { e.Action = "nonsense" })
	err := s.InsertEvents(t.Context(), []domain.Event{numbered(1), unknown, numbered(3)})
	if !errors.Is(err, ports.ErrEventRejected) {
		t.Errorf("InsertEvents: %v, want ErrEventRejected", err)
	}
	if got := list(t, s, domain.EventFilter{}).Events; len(got) != 0 {
		t.Errorf("%v of the batch are stored, want none", seqs(got))
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.InsertEvents(gone, []domain.Event{numbered(1)}); err == nil || errors.Is(err, ports.ErrEventRejected) {
		t.Errorf("InsertEvents of a caller that is gone: %v, want an error that is not ErrEventRejected", err)
	}
}

func eventsRace(t *testing.T, s ports.AuditStore) {
	race(func(i int) {
		var batch []domain.Event
		for n := range 10 {
			batch = append(batch, numbered(uint64(i+n+1)))
		}
		if err := s.InsertEvents(t.Context(), batch); err != nil {
			t.Errorf("InsertEvents: %v", err)
		}
	})
	seen := make(map[domain.EventID]int)
	for _, e := range storedEvents(t, s) {
		seen[e.ID]++
	}
	if len(seen) != racers+9 {
		t.Errorf("%d different events, want %d", len(seen), racers+9)
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("event %v is stored %d times", id, n)
		}
	}
}

func eventsFiltered(t *testing.T, s ports.AuditStore) {
	change := func(n uint64, f func(*domain.Event)) domain.Event { return with(numbered(n), f) }
	insert(t, s,
		change(1, func(*domain.Event) {}),
		change(2, func(e *domain.Event) { e.Type = "webhook_shared_secret" }),
		change(3, func(e *domain.Event) { e.Action = domain.ActionCacheRefresh }),
		change(4, func(e *domain.Event) { e.Actor.ID = "svc-risk" }),
		change(5, func(e *domain.Event) { e.Result = domain.ResultFailure }),
		change(6, func(e *domain.Event) { e.RecordedAt = moment.Add(-time.Hour) }),
		change(7, func(e *domain.Event) { e.RecordedAt = moment.Add(-2 * time.Hour) }),
	)
	cases := []struct {
		name   string
		filter domain.EventFilter
		want   []uint64
	}{
		{"nothing asked for", domain.EventFilter{}, []uint64{7, 6, 5, 4, 3, 2, 1}},
		{"type", domain.EventFilter{Type: "webhook_shared_secret"}, []uint64{2}},
		{"action", domain.EventFilter{Action: domain.ActionCacheRefresh}, []uint64{3}},
		{"actor", domain.EventFilter{ActorID: "svc-risk"}, []uint64{4}},
		{"part of an actor's id", domain.EventFilter{ActorID: "svc"}, nil},
		{"result", domain.EventFilter{Result: domain.ResultFailure}, []uint64{5}},
		{"since, inclusive and in any zone", domain.EventFilter{Since: moment.Truncate(time.Microsecond)}, []uint64{5, 4, 3, 2, 1}},
		{"until, exclusive and in any zone", domain.EventFilter{Until: moment.Add(-time.Hour).Truncate(time.Microsecond)}, []uint64{7}},
		{"a span of time", domain.EventFilter{Since: moment.Add(-90 * time.Minute), Until: moment.Add(-time.Second)}, []uint64{6}},
		{"all together", domain.EventFilter{
			Type: "trading_api_key", Action: domain.ActionRead, ActorID: "svc-orders", Result: domain.ResultSuccess,
			Since: moment.Add(-time.Minute), Until: moment.Add(time.Minute),
		}, []uint64{1}},
		{"a contradiction", domain.EventFilter{Type: "webhook_shared_secret", ActorID: "svc-risk"}, nil},
		{"a type that does not exist", domain.EventFilter{Type: "' OR 1=1 --"}, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			page := list(t, s, c.filter)
			wantSeqs(t, page.Events, c.want...)
			if page.Next != 0 {
				t.Errorf("Next is %d on the last page", page.Next)
			}
		})
	}
}

func eventsOrder(t *testing.T, s ports.AuditStore) {
	insert(t, s, with(numbered(9), func(e *domain.Event) { e.RecordedAt = moment.Add(time.Hour) }))
	insert(t, s, with(numbered(3), func(e *domain.Event) { e.RecordedAt = moment.Add(-time.Hour) }))
	insert(t, s, numbered(5))
	wantSeqs(t, list(t, s, domain.EventFilter{}).Events, 5, 3, 9)
}

func insertUpTo(t *testing.T, s ports.AuditStore, first, last uint64) {
	t.Helper()
	var batch []domain.Event
	for n := first; n <= last; n++ {
		batch = append(batch, numbered(n))
	}
	insert(t, s, batch...)
}

func eventsPages(t *testing.T, s ports.AuditStore) {
	insertUpTo(t, s, 1, 6)
	for limit := 1; limit <= 7; limit++ {
		t.Run(fmt.Sprintf("%d a page", limit), func(t *testing.T) {
			var all []domain.Event
			pages := 0
			for before := int64(0); ; pages++ {
				page := list(t, s, domain.EventFilter{Limit: limit, Before: before})
				all = append(all, page.Events...)
				if page.Next == 0 {
					break
				}
				if len(page.Events) != limit {
					t.Errorf("a page that is not the last has %d events, want %d", len(page.Events), limit)
				}
				before = page.Next
			}
			wantSeqs(t, all, 6, 5, 4, 3, 2, 1)
			if want := (6+limit-1)/limit - 1; pages != want {
				t.Errorf("%d pages before the last, want %d", pages, want)
			}
		})
	}
}

func eventsPagesStable(t *testing.T, s ports.AuditStore) {
	insertUpTo(t, s, 1, 5)
	first := list(t, s, domain.EventFilter{Limit: 2})
	insertUpTo(t, s, 6, 9)
	second := list(t, s, domain.EventFilter{Limit: 2, Before: first.Next})
	insertUpTo(t, s, 10, 12)
	third := list(t, s, domain.EventFilter{Limit: 2, Before: second.Next})

	wantSeqs(t, first.Events, 5, 4)
	wantSeqs(t, second.Events, 3, 2)
	wantSeqs(t, third.Events, 1)
	if third.Next != 0 {
		t.Errorf("Next is %d on the last page", third.Next)
	}
}

func eventsPagesFiltered(t *testing.T, s ports.AuditStore) {
	for n := uint64(1); n <= 9; n++ {
		insert(t, s, with(numbered(n), func(e *domain.Event) {
			if n%2 == 0 {
				e.Type = "webhook_shared_secret"
			}
		}))
	}
	filter := domain.EventFilter{Type: "webhook_shared_secret", Limit: 3}
	first := list(t, s, filter)
	filter.Before = first.Next
	second := list(t, s, filter)
	wantSeqs(t, first.Events, 8, 6, 4)
	wantSeqs(t, second.Events, 2)
}

func eventsPageSize(t *testing.T, s ports.AuditStore) {
	insertUpTo(t, s, 1, domain.MaxEventPage+1)
	for _, c := range []struct{ limit, want int }{
		{0, domain.DefaultEventPage},
		{-1, domain.DefaultEventPage},
		{domain.MaxEventPage, domain.MaxEventPage},
		{domain.MaxEventPage + 1, domain.MaxEventPage},
	} {
		page := list(t, s, domain.EventFilter{Limit: c.limit})
		if len(page.Events) != c.want || page.Next == 0 {
			t.Errorf("limit %d: %d events and next %d, want %d and another page", c.limit, len(page.Events), page.Next, c.want)
		}
	}
}

func pruneRefused(t *testing.T, s ports.AuditStore) {
	insert(t, s, with(numbered(1), func(e *domain.Event) { e.RecordedAt = moment.Add(-domain.AuditRetention + time.Hour) }))
	if n, err := s.PruneEvents(t.Context(), time.Now().Add(-domain.AuditRetention+time.Minute)); err == nil {
		t.Errorf("pruning within the retention was taken and deleted %d events", n)
	}
	wantSeqs(t, storedEvents(t, s), 1)
}

func pruneOld(t *testing.T, s ports.AuditStore) {
	before := moment.Add(-domain.AuditRetention - time.Hour).Truncate(time.Microsecond)
	recorded := func(n uint64, at time.Time) domain.Event {
		return with(numbered(n), func(e *domain.Event) { e.RecordedAt = at })
	}
	insert(t, s,
		recorded(1, before.AddDate(-1, 0, 0)),
		recorded(2, before.Add(-time.Microsecond)),
		recorded(3, before),
		recorded(4, before.Add(time.Microsecond)),
		numbered(5),
	)

	n, err := s.PruneEvents(t.Context(), before)
	if err != nil {
		t.Fatalf("PruneEvents: %v", err)
	}
	if n != 2 {
		t.Errorf("it says that %d events were deleted, want 2", n)
	}
	wantSeqs(t, storedEvents(t, s), 3, 4, 5)

	if n, err := s.PruneEvents(t.Context(), before); n != 0 || err != nil {
		t.Errorf("again: %d, %v, want 0", n, err)
	}
	if _, err := s.PruneEvents(t.Context(), time.Now().Add(-domain.AuditRetention)); err != nil {
		t.Errorf("pruning exactly what need not be kept any more: %v", err)
	}
}
