package sqlite_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// Whoever has the file open by any tool, but leaves the rules of the schema on.
func TestChainsOnlyGoForward(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, db := migratedAt(t, path), raw(t, path)
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
	for _, statement := range []string{
		`UPDATE omni_audit_chains SET seq = 1`,
		`UPDATE omni_audit_chains SET hash = zeroblob(32)`,
		`UPDATE omni_audit_chains SET seq = 3, replica_id = 'another'`,
		`DELETE FROM omni_audit_chains`,
		`UPDATE omni_audit_checkpoints SET hash = zeroblob(32)`,
		`DELETE FROM omni_audit_checkpoints`,
	} {
		if _, err := db.ExecContext(t.Context(), statement); err == nil {
			t.Errorf("this was taken: %s", statement)
		}
	}
}
