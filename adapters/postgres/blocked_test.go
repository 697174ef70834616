package postgres_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/apex-tradebill/omni-secrets/adapters/postgres/postgrestest"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// meanwhile runs call while another replica's transaction is open, commits that once call waits for it, and
// returns call's error.
func meanwhile(t *testing.T, url string, other func(pgx.Tx), call func() error) error {
	t.Helper()
	tx, err := raw(t, url).Begin(t.Context())
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	other(tx)
	ended := make(chan error, 1)
	go func() { ended <- call() }()

	const waiting = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`
	db := raw(t, url)
	for deadline := time.Now().Add(patience); one[int](t, db, waiting) == 0; {
		select {
		case err := <-ended:
			t.Fatalf("the call did not wait for the other transaction, and returned %v", err)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("the call neither waits nor ends")
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatalf("commit: %v", err)
	}
	return <-ended
}

func TestReplayOfAnOverrideThatIsBeingApplied(t *testing.T) {
	url := postgrestest.Database(t)
	s := open(t, url)
	o := override("second", "eA==")
	err := meanwhile(t, url, func(tx pgx.Tx) {
		_, err := tx.Exec(t.Context(), `INSERT INTO omni_break_glass_overrides (id, secret_type, envelope_version, envelope,
			envelope_digest, expires_at, expires_at_text, applied_by, applied_by_type, applied_at)
			VALUES ('first', 'webhook_shared_secret', 2, 'eA==', $1, now(), '', 'a', 'operator', now())`, o.Digest)
		if err != nil {
			t.Fatalf("insert: %v", err)
		}
	}, func() error {
		return s.ApplyOverride(t.Context(), o, event(1, o.AppliedAt), func(domain.Override) domain.Event { return event(2, o.AppliedAt) })
	})
	if !errors.Is(err, ports.ErrReplay) {
		t.Errorf("ApplyOverride: %v, want ErrReplay", err)
	}
}

// Whoever has seen a number has seen all smaller ones.
func TestRefreshRequestsAreCommittedInTheOrderOfTheirNumbers(t *testing.T) {
	url := postgrestest.Database(t)
	s := open(t, url)
	err := meanwhile(t, url, func(tx pgx.Tx) {
		for _, statement := range []string{
			`SELECT pg_advisory_xact_lock(1869442665, 3)`, // as every replica does
			`INSERT INTO omni_secret_refresh_requests VALUES ('a', 'replica-b', nextval('omni_secret_refresh_requests_seq'), now())`,
		} {
			if _, err := tx.Exec(t.Context(), statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
	}, func() error { return s.RequestRefresh(t.Context(), []domain.SecretType{"b"}, "replica-a") })
	if err != nil {
		t.Fatalf("RequestRefresh: %v", err)
	}
	got, err := s.RefreshRequests(t.Context())
	if err != nil || len(got) != 2 || got[0].Seq >= got[1].Seq {
		t.Errorf("requests: %+v, %v, want b after a", got, err)
	}
}
