package postgres_test

import (
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/apex-tradebill/omni-secrets/adapters/postgres"
	"github.com/apex-tradebill/omni-secrets/adapters/postgres/postgrestest"
	"github.com/apex-tradebill/omni-secrets/domain"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

var silent = slog.New(slog.DiscardHandler)

// migrated opens a new database with the schema of today.
func migrated(t testing.TB) *postgres.Store {
	t.Helper()
	return open(t, postgrestest.Database(t))
}

func open(t testing.TB, url string) *postgres.Store {
	t.Helper()
	return openLogging(t, url, silent)
}

func openLogging(t testing.TB, url string, log *slog.Logger) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), url, log)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// raw connects as any other tool would, past the adapter.
func raw(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	ctx := t.Context()
	t.Cleanup(func() { _ = conn.Close(ctx) })
	return conn
}

func execute(t testing.TB, db *pgx.Conn, statement string, args ...any) {
	t.Helper()
	if _, err := db.Exec(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// one is the single value that a query returns.
func one[T any](t testing.TB, db *pgx.Conn, query string, args ...any) T {
	t.Helper()
	var v T
	if err := db.QueryRow(t.Context(), query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

// lines are the values of a query's only column.
func lines(t testing.TB, db *pgx.Conn, query string, args ...any) []string {
	t.Helper()
	rows, err := db.Query(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return all
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

func insert(t testing.TB, s *postgres.Store, events ...domain.Event) {
	t.Helper()
	if err := s.InsertEvents(t.Context(), events); err != nil {
		t.Fatalf("InsertEvents: %v", err)
	}
}

// apply stores o; whatever it replaces ends with the event numbered replacedSeq.
func apply(t testing.TB, s *postgres.Store, o domain.Override, seq, replacedSeq uint64) {
	t.Helper()
	err := s.ApplyOverride(t.Context(), o, event(seq, o.AppliedAt), func(domain.Override) domain.Event {
		return event(replacedSeq, o.AppliedAt)
	})
	if err != nil {
		t.Fatalf("ApplyOverride: %v", err)
	}
}

func end(t testing.TB, s *postgres.Store, id string, seq uint64) {
	t.Helper()
	ok, err := s.EndOverride(t.Context(), id, domain.EndCleared, event(seq, time.Now()))
	if !ok || err != nil {
		t.Fatalf("EndOverride: %v, %v", ok, err)
	}
}

func list(t testing.TB, s *postgres.Store, f domain.EventFilter) []domain.Event {
	t.Helper()
	page, err := s.ListEvents(t.Context(), f)
	if err != nil {
		t.Fatalf("ListEvents: %v", err)
	}
	return page.Events
}

func parsed(t testing.TB, databaseURL string) *url.URL {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal("the URL of the test's database does not parse")
	}
	return u
}

func withParameter(t testing.TB, databaseURL, name, value string) string {
	t.Helper()
	u := parsed(t, databaseURL)
	q := u.Query()
	q.Set(name, value)
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20") // in these URLs a + is a +
	return u.String()
}

func asUser(t testing.TB, databaseURL, user, password string) string {
	t.Helper()
	u := parsed(t, databaseURL)
	u.User = url.UserPassword(user, password)
	return u.String()
}

// wantState fails unless err came from the server with this SQLSTATE.
func wantState(t testing.TB, doing string, err error, state string) {
	t.Helper()
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || e.Code != state {
		t.Errorf("%s: got %v, want SQLSTATE %s", doing, err, state)
	}
}

// longAgo is the youngest time up to which pruning is allowed.
func longAgo() time.Time { return time.Now().Add(-domain.AuditRetention) }
