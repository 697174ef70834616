package postgres_test

import (
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// As the server's role, and as the owner who leaves the rules of the schema on.
func TestChainsOnlyGoForward(t *testing.T) {
	owner, server := asServer(t)
	s := open(t, server)
	insert(t, s, event(1, time.Now()), event(2, time.Now()))
	heads, err := s.ChainHeads(t.Context())
	if err != nil || len(heads) != 1 {
		t.Fatalf("heads: %v, %v", heads, err)
	}
	key, err := domain.NewCheckpointKey(make([]byte, domain.CheckpointSeedBytes))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AddCheckpoints(t.Context(), []domain.Checkpoint{key.Sign(heads[0], time.Now())}); err != nil {
		t.Fatal(err)
	}
	const violated, denied = "23000", "42501"
	for _, c := range []struct{ statement, asServer string }{
		{`UPDATE omni_audit_chains SET seq = 1`, violated},
		{`UPDATE omni_audit_chains SET hash = decode(repeat('00', 32), 'hex')`, violated},
		{`UPDATE omni_audit_chains SET seq = 3, replica_id = 'another'`, violated},
		{`DELETE FROM omni_audit_chains`, denied},
		{`TRUNCATE omni_audit_chains`, denied},
		{`UPDATE omni_audit_checkpoints SET key_id = 'x'`, denied},
		{`DELETE FROM omni_audit_checkpoints`, denied},
		{`TRUNCATE omni_audit_checkpoints`, denied},
		{`SELECT omni_mark_pruned('omni_secret_access_events', now())`, denied},
	} {
		_, err := raw(t, server).Exec(t.Context(), c.statement)
		wantState(t, "as the server: "+c.statement, err, c.asServer)
		if c.statement[0] == 'S' {
			continue // the owner may
		}
		_, err = raw(t, owner).Exec(t.Context(), c.statement)
		wantState(t, "as the owner: "+c.statement, err, violated)
	}
	if _, err := raw(t, server).Exec(t.Context(), `INSERT INTO omni_audit_pruned VALUES (1, 1, '')`); err == nil {
		t.Error("the server's role may say that events were pruned")
	}
}

// The last event of each run that goes with a partition is what the next one follows.
func TestPrunedPartitionsLeaveAChainThatHolds(t *testing.T) {
	owner, server := asServer(t)
	s, db := open(t, server), raw(t, owner)
	old := time.Now().AddDate(0, 0, -120)
	if made := one[bool](t, db, `SELECT omni_make_event_partition($1)`, old); !made {
		t.Fatal("there is a partition of that week already")
	}
	insert(t, s, event(1, old), event(2, old), event(3, time.Now()), event(4, old), event(5, time.Now()))
	if n, err := s.PruneEvents(t.Context(), longAgo()); n != 3 || err != nil {
		t.Fatalf("PruneEvents: %d, %v, want 3", n, err)
	}
	if got := lines(t, db, `SELECT seq::text FROM omni_audit_pruned ORDER BY seq`); len(got) != 2 || got[0] != "2" || got[1] != "4" {
		t.Errorf("marks at %v, want 2 and 4", got)
	}
}
