package sqlite_test

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/apex-tradebill/omni-secrets/adapters/sqlite"
	"github.com/apex-tradebill/omni-secrets/ports"
	"github.com/apex-tradebill/omni-secrets/ports/porttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMetadata(t *testing.T) {
	porttest.RunMetadata(t, func(t *testing.T) porttest.State { return migrated(t) })
}

func TestOverrides(t *testing.T) {
	porttest.RunOverrides(t, func(t *testing.T) porttest.State { return migrated(t) })
}

func TestRotations(t *testing.T) {
	porttest.RunRotations(t, func(t *testing.T) porttest.State { return migrated(t) })
}

func TestFollowUps(t *testing.T) {
	porttest.RunFollowUps(t, func(t *testing.T) porttest.State { return migrated(t) })
}

func TestAuditStore(t *testing.T) {
	porttest.RunAuditStore(t, func(t *testing.T) ports.AuditStore { return migrated(t) })
}

func TestAuditChains(t *testing.T) {
	porttest.RunAuditChains(t, func(t *testing.T) (porttest.ChainedState, func(string)) {
		path := filepath.Join(t.TempDir(), "state.db")
		s := migratedAt(t, path)
		return s, func(statement string) {
			db := raw(t, path)
			for _, trigger := range names(t, db, `SELECT name FROM sqlite_schema WHERE type = 'trigger'`) {
				execute(t, db, `DROP TRIGGER `+trigger)
			}
			execute(t, db, statement)
		}
	})
}

// migrated opens a new database with the schema of today.
func migrated(t testing.TB) *sqlite.Store {
	t.Helper()
	return migratedAt(t, filepath.Join(t.TempDir(), "state.db"))
}

func migratedAt(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s := open(t, path)
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatalf("Migrate: %v", err)
	}
	return s
}

func open(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path)
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
