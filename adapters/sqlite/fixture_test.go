package sqlite_test

import (
	"database/sql"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/sqlite"
	"github.com/apex-tradebill/omni-secrets/domain"
)

// raw opens the file as any other tool would, past the adapter.
func raw(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func execute(t *testing.T, db *sql.DB, statement string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func count(t *testing.T, db *sql.DB, query string) int {
	t.Helper()
	var n int
	if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func event(seq uint64, recorded time.Time) domain.Event {
	return domain.Event{
		ID: domain.EventID{Start: 1, Seq: seq}, Type: "trading_api_key", Action: domain.ActionRead,
		Actor: domain.Actor{Type: domain.ActorService, ID: "svc-orders"}, Result: domain.ResultSuccess,
		RequestID: "req-1", ReplicaID: "replica-a", RecordedAt: recorded,
	}
}

func override(id, ciphertext string) domain.Override {
	now := time.Now()
	return domain.Override{
		ID: id, Digest: "digest of " + id, EnvelopeKind: 2,
		Envelope:  domain.Envelope{Type: "trading_api_key", Ciphertext: ciphertext, ExpiresAt: now.Add(time.Minute).Format(time.RFC3339)},
		ExpiresAt: now.Add(time.Minute), Reason: "outage",
		AppliedBy: domain.Actor{Type: domain.ActorOperator, ID: "alice@example.com"}, AppliedAt: now,
	}
}

func insert(t testing.TB, s *sqlite.Store, events ...domain.Event) {
	t.Helper()
	if err := s.InsertEvents(t.Context(), events); err != nil {
		t.Fatalf("InsertEvents: %v", err)
	}
}

// apply stores o; whatever it replaces ends with the event numbered replacedSeq.
func apply(t *testing.T, s *sqlite.Store, o domain.Override, seq, replacedSeq uint64) {
	t.Helper()
	err := s.ApplyOverride(t.Context(), o, event(seq, o.AppliedAt), func(domain.Override) domain.Event {
		return event(replacedSeq, o.AppliedAt)
	})
	if err != nil {
		t.Fatalf("ApplyOverride: %v", err)
	}
}

func end(t *testing.T, s *sqlite.Store, id string, seq uint64) {
	t.Helper()
	ok, err := s.EndOverride(t.Context(), id, domain.EndCleared, event(seq, time.Now()))
	if !ok || err != nil {
		t.Fatalf("EndOverride: %v, %v", ok, err)
	}
}

// names are the values of a query's only column.
func names(t *testing.T, db *sql.DB, query string) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		all = append(all, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return all
}
