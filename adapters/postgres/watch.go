package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// What a notification on the channel omni_changes says: which table to read again, and nothing of what is in
// it, since everybody who may connect to the database may listen.
const (
	changedOverrides = "overrides"
	changedRequests  = "refresh_requests"
	changedRotations = "rotations" // or follow-ups
)

const (
	sendChange = `SELECT pg_notify('omni_changes', $1)`
	listen     = `LISTEN omni_changes`
)

// notify tells every replica of a change, once the transaction is committed.
func notify(ctx context.Context, tx pgx.Tx, what string) error {
	_, err := tx.Exec(ctx, sendChange, what)
	return err
}

// Watch implements ports.Replicas. It calls changed every 5 seconds at least.
func (s *Store) Watch(ctx context.Context, changed func()) error {
	news := make(chan struct{}, 1) // what comes while changed runs is one call
	var listening sync.WaitGroup
	defer listening.Wait()
	listening.Go(func() { s.listen(ctx, news) })

	poll := time.NewTicker(s.pace.poll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-news:
		case <-poll.C:
		}
		changed()
	}
}

// listen sends news whenever a replica changed something and whenever it may have missed that, until ctx is
// done.
func (s *Store) listen(ctx context.Context, news chan<- struct{}) {
	line := s.newLine("watch")
	for ctx.Err() == nil {
		err := s.listenOnce(ctx, line, news)
		line.lost(ctx, err)
	}
}

// listenOnce listens until the connection is lost.
func (s *Store) listenOnce(ctx context.Context, line *line, news chan<- struct{}) error {
	conn, err := s.connect(ctx, line.name)
	if err != nil {
		return explain(err)
	}
	defer disconnect(ctx, conn)
	if err := s.probe(ctx, conn, listen); err != nil {
		return err
	}
	line.up(ctx)

	for {
		select {
		case news <- struct{}{}:
		default: // a call is due already
		}
		if err := s.awaitNotification(ctx, conn); err != nil {
			return err
		}
	}
}

// awaitNotification returns nil when there was a notification. In the silence between them it makes sure that
// the connection is not merely open at our end.
func (s *Store) awaitNotification(ctx context.Context, conn *pgx.Conn) error {
	for {
		waiting, cancel := context.WithTimeout(ctx, s.pace.poll)
		_, err := conn.WaitForNotification(waiting)
		cancel()
		if err == nil || ctx.Err() != nil || !pgconn.Timeout(err) {
			return err
		}
		if err := s.probe(ctx, conn, stillThere); err != nil {
			return err
		}
	}
}

const stillThere = `SELECT`

// probe runs a statement that takes no time, and fails when it does.
func (s *Store) probe(ctx context.Context, conn *pgx.Conn, statement string) error {
	ctx, cancel := context.WithTimeout(ctx, s.pace.probe)
	defer cancel()
	_, err := conn.Exec(ctx, statement)
	return err
}
