package porttest

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// State is what one database keeps. Its ports promise that a change and its audit event are one transaction,
// so that the suite of each of them needs the others to look.
type State interface {
	ports.Metadata
	ports.Overrides
	ports.Rotations
	ports.FollowUps
	ports.AuditStore
}

// racers is how many goroutines compete where exactly one must win.
const racers = 16

// local is a zone other than UTC, and odd one out by more than hours, for times that must come back in UTC.
var local = time.FixedZone("local", 5*3600+45*60)

// moment is shortly before the tests began, with more digits than are kept, outside UTC.
var moment = time.Now().In(local).Truncate(time.Second).Add(-time.Minute + 123456789*time.Nanosecond)

// kept is t as it must come back: in UTC, to the microsecond, the rest cut off.
func kept(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func keptEvent(e domain.Event) domain.Event {
	e.RecordedAt = kept(e.RecordedAt)
	return e
}

// numbered is a full event with an id of its own.
func numbered(n uint64) domain.Event {
	return domain.Event{
		ID:         domain.EventID{Start: 0xfeedfacecafebeef, Seq: n},
		Type:       "trading_api_key",
		Action:     domain.ActionRead,
		Actor:      domain.Actor{Type: domain.ActorService, ID: "svc-orders"},
		Result:     domain.ResultSuccess,
		Version:    "7",
		Source:     "gsm",
		Duration:   1234567 * time.Microsecond,
		RequestID:  "req-1",
		ReplicaID:  "replica-a",
		Reason:     "ordinary work",
		RecordedAt: moment,
	}
}

// with changes one event and gives it back.
func with(e domain.Event, change func(*domain.Event)) domain.Event {
	change(&e)
	return e
}

// storedEvents reads the whole audit trail page by page, the first stored first.
func storedEvents(t *testing.T, s ports.AuditStore) []domain.Event {
	t.Helper()
	var newestFirst []domain.Event
	for before := int64(0); ; {
		page, err := s.ListEvents(t.Context(), domain.EventFilter{Limit: 50, Before: before})
		if err != nil {
			t.Fatalf("ListEvents: %v", err)
		}
		newestFirst = append(newestFirst, page.Events...)
		if page.Next == 0 {
			break
		}
		before = page.Next
	}
	slices.Reverse(newestFirst)
	return newestFirst
}

func wantEvents(t *testing.T, s ports.AuditStore, want ...domain.Event) {
	t.Helper()
	var keptWant []domain.Event
	for _, e := range want {
		keptWant = append(keptWant, keptEvent(e))
	}
	if diff := cmp.Diff(keptWant, append([]domain.Event(nil), storedEvents(t, s)...)); diff != "" {
		t.Errorf("audit trail (-want +got):\n%s", diff)
	}
}

// race runs f for 0 to racers-1 at the same time and waits for all of them.
func race(f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range racers {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}
