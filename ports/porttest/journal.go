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

// Journal is both ends of an audit journal.
type Journal interface {
	ports.AuditJournal
	ports.JournalReader
}

// RunAuditJournal checks an implementation of ports.AuditJournal and ports.JournalReader. create returns an
// empty journal, and a function that opens the same one as the next process would; whatever either of them
// opened is ended by t.Cleanup. A journal that lives in memory returns itself.
func RunAuditJournal(t *testing.T, create func(t *testing.T) (j Journal, reopen func() Journal)) {
	t.Helper()
	cases := []struct {
		name string
		run  func(t *testing.T, j Journal, reopen func() Journal)
	}{
		{"events come back complete, in the order of their Append", journalRoundTrip},
		{"events outlive the process", journalOutlives},
		{"Next returns the same events until they are committed", journalNextAgain},
		{"Commit forgets what the last Next returned and no more", journalCommit},
		{"Commit without Next forgets nothing", journalCommitAlone},
		{"what was not committed comes back to the next process", journalCommitOutlives},
		{"Next keeps to its limit", journalLimit},
		{"Next waits for an event", journalWaits},
		{"Next gives up when its context ends", journalGivesUp},
		{"the backlog counts what is not committed", journalBacklog},
		{"the backlog outlives the process", journalBacklogOutlives},
		{"what was set aside is counted and does not come back", journalSetAside},
		{"concurrent appends are all kept, each appender's in order", journalConcurrent},
		{"a reader keeps up with concurrent appends", journalReadWhileAppending},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			j, reopen := create(t)
			c.run(t, j, reopen)
		})
	}
}

func appendTo(t *testing.T, j ports.AuditJournal, events ...domain.Event) {
	t.Helper()
	for _, e := range events {
		if err := j.Append(t.Context(), e); err != nil {
			t.Fatalf("Append: %v", err)
		}
	}
}

func next(t *testing.T, j ports.JournalReader, limit int) []domain.Event {
	t.Helper()
	events, err := j.Next(t.Context(), limit)
	if err != nil {
		t.Fatalf("Next: %v", err)
	}
	return events
}

func commit(t *testing.T, j ports.JournalReader) {
	t.Helper()
	if err := j.Commit(); err != nil {
		t.Fatalf("Commit: %v", err)
	}
}

// drain reads and commits until n events came, and gives them back.
func drain(t *testing.T, j ports.JournalReader, n int) []domain.Event {
	t.Helper()
	var all []domain.Event
	for len(all) < n {
		all = append(all, next(t, j, 100)...)
		commit(t, j)
	}
	return all
}

func wantBacklog(t *testing.T, j ports.JournalReader, events int, oldest time.Time) {
	t.Helper()
	n, at := j.Backlog()
	if n != events || !at.Equal(oldest) {
		t.Errorf("backlog of %d since %v, want %d since %v", n, at, events, oldest)
	}
}

func journalRoundTrip(t *testing.T, j Journal, _ func() Journal) {
	events := []domain.Event{
		numbered(1),
		{ID: domain.EventID{Start: 1<<64 - 1, Seq: 1<<64 - 1}, Action: domain.ActionAccessDenied, Actor: domain.Anonymous, Result: domain.ResultDenied, RecordedAt: moment},
		with(numbered(2), func(e *domain.Event) {
			e.Reason = "\"quoted\" \\ \n\r\t\b\f\x00\x1f\x7f <tag> & \u2028 ünïcode 秘密 🔑"
			e.ErrorCode = string(domain.ReasonUnavailable)
		}),
		with(numbered(3), func(e *domain.Event) { e.Duration = time.Microsecond }),
		with(numbered(4), func(e *domain.Event) { e.Duration = 100 * time.Hour }),
	}
	appendTo(t, j, events...)

	var want []domain.Event
	for _, e := range events {
		want = append(want, keptEvent(e))
	}
	if diff := cmp.Diff(want, next(t, j, 100)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func journalOutlives(t *testing.T, j Journal, reopen func() Journal) {
	appendTo(t, j, numbered(1), numbered(2))
	j = reopen()
	appendTo(t, j, numbered(3))
	j = reopen()
	appendTo(t, j, numbered(4))
	wantSeqs(t, drain(t, j, 4), 1, 2, 3, 4)
}

func journalNextAgain(t *testing.T, j Journal, _ func() Journal) {
	appendTo(t, j, numbered(1), numbered(2), numbered(3))
	wantSeqs(t, next(t, j, 2), 1, 2)
	wantSeqs(t, next(t, j, 2), 1, 2)
	wantSeqs(t, next(t, j, 5), 1, 2, 3)
}

func journalCommit(t *testing.T, j Journal, _ func() Journal) {
	appendTo(t, j, numbered(1), numbered(2))
	wantSeqs(t, next(t, j, 5), 1, 2)
	appendTo(t, j, numbered(3))
	commit(t, j)
	wantSeqs(t, next(t, j, 5), 3)
}

func journalCommitAlone(t *testing.T, j Journal, _ func() Journal) {
	appendTo(t, j, numbered(1), numbered(2))
	commit(t, j)
	wantSeqs(t, next(t, j, 1), 1)
	commit(t, j)
	commit(t, j)
	wantSeqs(t, next(t, j, 5), 2)
}

func journalCommitOutlives(t *testing.T, j Journal, reopen func() Journal) {
	appendTo(t, j, numbered(1), numbered(2), numbered(3))
	next(t, j, 2)
	commit(t, j)
	next(t, j, 1) // returned, never committed
	j = reopen()

	// Events that were committed may come once more; 3 must come.
	n, _ := j.Backlog()
	got := drain(t, j, n)
	if n < 1 || got[n-1].ID.Seq != 3 {
		t.Errorf("after the restart came %v, want 3 at the end", seqs(got))
	}
}

func journalLimit(t *testing.T, j Journal, _ func() Journal) {
	for n := range uint64(10) {
		appendTo(t, j, numbered(n+1))
	}
	wantSeqs(t, next(t, j, 4), 1, 2, 3, 4)
	commit(t, j)
	wantSeqs(t, next(t, j, 4), 5, 6, 7, 8)
	commit(t, j)
	wantSeqs(t, next(t, j, 4), 9, 10)
}

func journalWaits(t *testing.T, j Journal, _ func() Journal) {
	got := make(chan []domain.Event)
	go func() {
		events, err := j.Next(t.Context(), 10)
		if err != nil {
			t.Errorf("Next: %v", err)
		}
		got <- events
	}()
	appendTo(t, j, numbered(1))
	wantSeqs(t, <-got, 1)
}

func journalGivesUp(t *testing.T, j Journal, _ func() Journal) {
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := j.Next(ctx, 10)
		failed <- err
	}()
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("Next: %v, want context.Canceled", err)
	}
}

func journalBacklog(t *testing.T, j Journal, _ func() Journal) {
	wantBacklog(t, j, 0, time.Time{})
	first := numbered(1)
	second := with(numbered(2), func(e *domain.Event) { e.RecordedAt = e.RecordedAt.Add(time.Second) })

	appendTo(t, j, first, second)
	wantBacklog(t, j, 2, kept(first.RecordedAt))
	next(t, j, 1)
	wantBacklog(t, j, 2, kept(first.RecordedAt))
	commit(t, j)
	wantBacklog(t, j, 1, kept(second.RecordedAt))
	next(t, j, 1)
	commit(t, j)
	wantBacklog(t, j, 0, time.Time{})
	appendTo(t, j, numbered(3))
	wantBacklog(t, j, 1, kept(moment))
}

func journalBacklogOutlives(t *testing.T, j Journal, reopen func() Journal) {
	appendTo(t, j, numbered(1), numbered(2))
	j = reopen()
	wantBacklog(t, j, 2, kept(moment))
	drain(t, j, 2)
	j = reopen()
	appendTo(t, j, numbered(3))
	if n, _ := j.Backlog(); n < 1 {
		t.Errorf("backlog of %d, want 1 or more", n)
	}
}

func journalSetAside(t *testing.T, j Journal, reopen func() Journal) {
	appendTo(t, j, numbered(1), numbered(2), numbered(3))
	events := next(t, j, 2)
	if err := j.SetAside(events[:1]); err != nil {
		t.Fatalf("SetAside: %v", err)
	}
	commit(t, j)
	wantSeqs(t, next(t, j, 5), 3)
	j = reopen()
	wantSeqs(t, next(t, j, 5), 3)
	if got := j.Usage().SetAside; got != 1 {
		t.Errorf("%d events are set aside, want 1", got)
	}
}

// perAppender is how many events each of the racing appenders writes.
const perAppender = 50

func appendConcurrently(t *testing.T, j ports.AuditJournal) {
	t.Helper()
	race(func(i int) {
		for n := range uint64(perAppender) {
			e := with(numbered(n+1), func(e *domain.Event) { e.Actor.ID = fmt.Sprintf("svc-%d", i) })
			e.ID.Start = uint64(i)
			if err := j.Append(t.Context(), e); err != nil {
				t.Errorf("Append: %v", err)
			}
		}
	})
}

func wantEachInOrder(t *testing.T, events []domain.Event) {
	t.Helper()
	last := make(map[uint64]uint64)
	for _, e := range events {
		if e.ID.Seq != last[e.ID.Start]+1 {
			t.Errorf("event %d of appender %d follows %d", e.ID.Seq, e.ID.Start, last[e.ID.Start])
		}
		last[e.ID.Start] = e.ID.Seq
	}
	for i := range uint64(racers) {
		if last[i] != perAppender {
			t.Errorf("appender %d: last event is %d, want %d", i, last[i], perAppender)
		}
	}
}

func journalConcurrent(t *testing.T, j Journal, reopen func() Journal) {
	appendConcurrently(t, j)
	if n, _ := j.Backlog(); n != racers*perAppender {
		t.Errorf("backlog of %d, want %d", n, racers*perAppender)
	}
	j = reopen()
	wantEachInOrder(t, drain(t, j, racers*perAppender))
}

func journalReadWhileAppending(t *testing.T, j Journal, _ func() Journal) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		appendConcurrently(t, j)
	}()
	wantEachInOrder(t, drain(t, j, racers*perAppender))
	<-done
	wantBacklog(t, j, 0, time.Time{})
}
