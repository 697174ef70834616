package postgres_test

import (
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/postgres/postgrestest"
	"github.com/apex-tradebill/omni-secrets/domain"
)

const insertOne = `
INSERT INTO omni_secret_access_events (event_id, secret_type, action, actor_type, actor_id, result, duration_ms, request_id, replica_id, recorded_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (event_id, recorded_at) DO NOTHING`

// BenchmarkInsertEvents stores events in batches, as the drain of the journal does, beside one statement and
// one transaction for each event, in turns on one
// server that flushes its commits. A ratio of 10 or more is expected.
func BenchmarkInsertEvents(b *testing.B) {
	const size = 1000
	server := postgrestest.NewServer(b)
	server.Flush(b)
	s, db := open(b, server.URL()), raw(b, server.URL())
	if _, err := s.Migrate(b.Context()); err != nil {
		b.Fatalf("Migrate: %v", err)
	}
	for one[string](b, db, `SHOW fsync`) != "on" { // the server takes a moment to read its configuration
		continue
	}
	seq := uint64(0)
	batch := func() []domain.Event {
		events := make([]domain.Event, size)
		for i := range events {
			seq++
			events[i] = event(seq, time.Now())
		}
		return events
	}
	insert(b, s, batch()...) // plans and pages that either way needs

	var batches, singles time.Duration
	rounds := 0
	for b.Loop() {
		rounds++
		events := batch()
		start := time.Now()
		insert(b, s, events...)
		batches += time.Since(start)

		events = batch()
		start = time.Now()
		for _, e := range events {
			execute(b, db, insertOne, e.ID.String(), string(e.Type), string(e.Action), string(e.Actor.Type), e.Actor.ID,
				string(e.Result), 0.1, e.RequestID, e.ReplicaID, e.RecordedAt)
		}
		singles += time.Since(start)
	}
	stored := float64(rounds * size)
	b.ReportMetric(stored/batches.Seconds(), "batched-events/s")
	b.ReportMetric(stored/singles.Seconds(), "single-events/s")
	b.ReportMetric(singles.Seconds()/batches.Seconds(), "ratio")
	b.ReportMetric(0, "ns/op") // of both together, which means nothing
}

// BenchmarkInsertBatches is what an event costs on its way out of the program, in batches. One operation is one event.
// Of its time most is PostgreSQL's; the allocations are ours.
func BenchmarkInsertBatches(b *testing.B) {
	const size = 1000
	s := migrated(b)
	at := time.Now()
	seq := uint64(0)
	batch := make([]domain.Event, size)
	insert(b, s, event(1<<40, at)) // connects
	b.ReportAllocs()
	b.ResetTimer()
	for left := b.N; left > 0; left -= size {
		batch = batch[:min(left, size)]
		for i := range batch {
			seq++
			batch[i] = event(seq, at.Add(time.Duration(seq)*time.Microsecond))
			batch[i].Version, batch[i].Source, batch[i].Duration = "7", "gsm", 1500
		}
		insert(b, s, batch...)
	}
}
