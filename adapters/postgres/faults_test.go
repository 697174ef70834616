package postgres_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/apex-tradebill/omni-secrets/adapters/postgres"
	"github.com/apex-tradebill/omni-secrets/adapters/postgres/postgrestest"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports/porttest"
)

// patience is how long these tests wait for what must happen.
const patience = 30 * time.Second

func await[T any](t *testing.T, what string, happens <-chan T) {
	t.Helper()
	select {
	case <-happens:
	case <-time.After(patience):
		t.Fatalf("in vain: %s", what)
	}
}

// watching runs Watch until the test ends or stop is called, and gives its calls.
func watching(t *testing.T, s *postgres.Store) (calls <-chan struct{}, stop func()) {
	t.Helper()
	called := make(chan struct{}, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Watch(ctx, func() { called <- struct{}{} }) })
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	await(t, "the first call of changed", called)
	return called, stop
}

func requestRefresh(t *testing.T, s *postgres.Store) {
	t.Helper()
	if err := s.RequestRefresh(t.Context(), []domain.SecretType{"trading_api_key"}, "replica-a"); err != nil {
		t.Fatalf("RequestRefresh: %v", err)
	}
}

// kill ends the sessions of this application, as an administrator or a failover does.
func kill(t *testing.T, db *pgx.Conn, application string) {
	t.Helper()
	n := one[int](t, db, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = $1`, application)
	if n == 0 {
		t.Fatalf("there is no session of %s", application)
	}
}

func TestWatchReconnectsAndReloads(t *testing.T) {
	url := postgrestest.Database(t)
	var log logged
	s := openLogging(t, url, log.logger()).WithPace(time.Hour, time.Hour)
	calls, stop := watching(t, s)
	for range 3 {
		kill(t, raw(t, url), "omni-secrets watch")
		await(t, "a call after the connection was lost", calls)
		requestRefresh(t, s)
		await(t, "a call after a change", calls)
	}
	stop()
	if diff := cmp.Diff([]string{isLost, isBack, isLost, isBack, isLost, isBack}, log.messages(t, "watch")); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestWatchPollsWhenNobodyNotifies(t *testing.T) {
	s := migrated(t).WithPace(20*time.Millisecond, time.Hour)
	calls, _ := watching(t, s)
	for range 3 {
		await(t, "a call without a change", calls)
	}
}

func TestWatchNoticesSilence(t *testing.T) {
	url := postgrestest.Database(t)
	p, through := behindProxy(t, url)
	var log logged
	s := openLogging(t, through, log.logger()).WithPace(200*time.Millisecond, time.Hour)
	calls, _ := watching(t, s)
	p.setSilent(true)
	for len(log.messages(t, "watch")) == 0 {
		await(t, "a call by polling", calls)
	}
	p.setSilent(false)
	for len(log.messages(t, "watch")) < 2 {
		await(t, "a call by polling", calls)
	}
	if diff := cmp.Diff([]string{isLost, isBack}, log.messages(t, "watch")); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

// The former leader's duties are slow to end: another must lead all the same, since the lock is gone.
func TestLeadershipMovesWhenTheLeadersSessionIsKilled(t *testing.T) {
	url := postgrestest.Database(t)
	pace := func() *postgres.Store { return open(t, url).WithPace(time.Hour, 20*time.Millisecond) }
	released := make(chan struct{})
	first := porttest.Campaign(t, pace(), func() { <-released })
	release := sync.OnceFunc(func() { close(released) })
	t.Cleanup(release)
	duty := first.AwaitTerm(t)
	kill(t, raw(t, url), "omni-secrets leader")
	second := porttest.Campaign(t, pace(), nil)
	second.AwaitTerm(t)
	await(t, "the end of the duties of the former leader", duty.Done())

	release()
	second.Stop()
	first.AwaitTerm(t) // it stands again
}

// It would stay with a session that goes on and does not stand again for an hour.
func TestLeadershipMovesWhenDutiesReturn(t *testing.T) {
	url := postgrestest.Database(t)
	ctx, cancel := context.WithCancel(t.Context())
	led := make(chan struct{}, 1)
	var running sync.WaitGroup
	first := open(t, url).WithPace(time.Hour, time.Hour)
	running.Go(func() { _ = first.Lead(ctx, func(context.Context) { led <- struct{}{} }) })
	t.Cleanup(func() { cancel(); running.Wait() })
	await(t, "the first leader", led)
	porttest.Campaign(t, open(t, url).WithPace(time.Hour, 20*time.Millisecond), nil).AwaitTerm(t)
}

func TestLeaderNoticesSilence(t *testing.T) {
	url := postgrestest.Database(t)
	p, through := behindProxy(t, url)
	leader := porttest.Campaign(t, open(t, through).WithPace(time.Hour, 20*time.Millisecond), nil)
	duty := leader.AwaitTerm(t)
	p.setSilent(true)
	await(t, "the end of the duties", duty.Done())
	p.setSilent(false)
	leader.AwaitTerm(t)
}

// A server that is told to stop has 10 s for all of it.
func TestCloseEndsInSilence(t *testing.T) {
	p, through := behindProxy(t, postgrestest.Database(t))
	s := open(t, through)
	insert(t, s, event(1, time.Now())) // with a connection in the pool
	s.WithCallTimeout(300 * time.Millisecond)
	p.setSilent(true)
	defer p.setSilent(false)
	if err := s.InsertEvents(t.Context(), []domain.Event{event(2, time.Now())}); err == nil {
		t.Error("an event was stored without its server")
	}
	closed := make(chan error, 1) // with a call that the server has not let go of
	go func() { closed <- s.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Close waits for a silent server")
	}
}

func TestCallsEndInSilence(t *testing.T) {
	p, through := behindProxy(t, postgrestest.Database(t))
	s := open(t, through)
	insert(t, s, event(1, time.Now())) // with a connection in the pool
	s.WithCallTimeout(300 * time.Millisecond)
	p.setSilent(true)
	defer p.setSilent(false)
	ended := make(chan error, 1)
	go func() {
		ended <- s.InsertEvents(context.WithoutCancel(t.Context()), []domain.Event{event(2, time.Now())})
	}()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("an event was stored without its server")
		}
	case <-time.After(patience):
		t.Error("a call goes on for ever")
		p.setSilent(false)
		<-ended
	}
}

func TestServerStopsAndStarts(t *testing.T) {
	server := postgrestest.NewServer(t)
	var log logged
	s := openLogging(t, server.URL(), log.logger()).WithPace(time.Hour, 20*time.Millisecond)
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatalf("Migrate: %v", err)
	}
	calls, stop := watching(t, s)
	candidate := porttest.Campaign(t, s, nil)
	duty := candidate.AwaitTerm(t)
	insert(t, s, event(1, time.Now()))

	server.Stop(t)
	await(t, "the end of the duties", duty.Done())
	if err := s.Ping(t.Context()); err == nil {
		t.Error("a stopped server answers")
	}
	if err := s.InsertEvents(t.Context(), []domain.Event{event(2, time.Now())}); err == nil {
		t.Error("a stopped server stored an event")
	}

	server.Start(t)
	await(t, "a call after the server is back", calls)
	candidate.AwaitTerm(t)
	insert(t, s, event(3, time.Now()))
	if got := list(t, s, domain.EventFilter{}); len(got) != 2 {
		t.Errorf("%d events, want the 2 that were stored", len(got))
	}
	for _, connection := range []string{"watch", "leader"} {
		if diff := cmp.Diff([]string{isLost, isBack}, log.messages(t, connection)); diff != "" {
			t.Errorf("log of %s (-want +got):\n%s", connection, diff)
		}
	}

	stop()
	candidate.Stop()
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	db := raw(t, server.URL())
	const ours = `SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'omni-secrets%'`
	for deadline := time.Now().Add(patience); one[int](t, db, ours) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("connections were left open")
		}
	}
}

// The events of one transaction become visible late, with numbers that a walk has passed: the walk goes on
// without them, and never shows an event twice.
func TestPagesWhileATransactionIsOpen(t *testing.T) {
	url := postgrestest.Database(t)
	s := open(t, url)
	insert(t, s, event(1, time.Now()), event(2, time.Now()))
	tx, err := raw(t, url).Begin(t.Context())
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	_, err = tx.Exec(t.Context(), `INSERT INTO omni_secret_access_events (event_id, action, actor_type, actor_id, result, duration_ms, recorded_at)
		VALUES ('0000000000000001-0000000000000003', 'read', 'service', 'late', 'success', 0, now())`)
	if err != nil {
		t.Fatalf("insert: %v", err)
	}
	insert(t, s, event(4, time.Now()), event(5, time.Now()))

	page, err := s.ListEvents(t.Context(), domain.EventFilter{Limit: 3})
	if err != nil {
		t.Fatalf("ListEvents: %v", err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatalf("commit: %v", err)
	}
	var seen []uint64
	for _, e := range append(page.Events, list(t, s, domain.EventFilter{Limit: 3, Before: page.Next})...) {
		seen = append(seen, e.ID.Seq)
	}
	if diff := cmp.Diff([]uint64{5, 4, 2, 1}, seen); diff != "" {
		t.Errorf("the walk (-want +got):\n%s", diff)
	}
	if got := list(t, s, domain.EventFilter{}); len(got) != 5 {
		t.Errorf("%d events the next time, want 5", len(got))
	}
}
