package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

func TestEndedCiphertextIsGoneFromDisk(t *testing.T) {
	for name, size := range map[string]int{"short": 100, "of many pages": 120 << 10} {
		ciphertext := strings.Repeat("Q0lQSEVSVEVYVA", size/14)
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			s := migratedAt(t, path)
			apply(t, s, override("first", ciphertext), 1, 0)
			wantOnDisk(t, path, true)

			end(t, s, "first", 2)
			wantOnDisk(t, path, false)

			apply(t, s, override("second", ciphertext), 3, 0)
			apply(t, s, override("third", "eA=="), 4, 5)
			wantOnDisk(t, path, false)
		})
	}
}

func TestCiphertextGoesOnceReadersLetIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := migratedAt(t, path)
	apply(t, s, override("first", strings.Repeat("Q0lQSEVSVEVYVA", 20)), 1, 0)

	reader := beginRead(t, raw(t, path))
	end(t, s, "first", 2) // succeeds, although the WAL cannot be emptied now
	wantOnDisk(t, path, true)

	if err := reader.Rollback(); err != nil {
		t.Fatalf("Rollback: %v", err)
	}
	insert(t, s, event(3, time.Now()))
	wantOnDisk(t, path, false)
}

func TestOpenEmptiesTheWALOfADeadProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := migratedAt(t, path)
	apply(t, s, override("first", strings.Repeat("Q0lQSEVSVEVYVA", 20)), 1, 0)
	reader := beginRead(t, raw(t, path))
	end(t, s, "first", 2)
	if err := reader.Rollback(); err != nil {
		t.Fatalf("Rollback: %v", err)
	}
	wantOnDisk(t, path, true)

	open(t, path)
	wantOnDisk(t, path, false)
}

// A caller who gave up meanwhile leaves no ciphertext either.
func TestErasingOutlivesItsCaller(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := migratedAt(t, path)
	apply(t, s, override("first", strings.Repeat("Q0lQSEVSVEVYVA", 20)), 1, 0)
	reader := beginRead(t, raw(t, path))
	end(t, s, "first", 2)
	if err := reader.Rollback(); err != nil {
		t.Fatalf("Rollback: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.RecordServed(ctx, []domain.Account{{Type: "trading_api_key", Source: "gsm", Version: "1"}}); err == nil {
		t.Error("a call with a dead context succeeded")
	}
	wantOnDisk(t, path, false)
}

// beginRead holds a snapshot of the database.
func beginRead(t *testing.T, db *sql.DB) *sql.Tx {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	var n int
	if err := tx.QueryRowContext(t.Context(), "SELECT count(*) FROM omni_break_glass_overrides").Scan(&n); err != nil {
		t.Fatalf("read: %v", err)
	}
	return tx
}

func wantOnDisk(t *testing.T, path string, want bool) {
	t.Helper()
	found := false
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		found = found || bytes.Contains(content, []byte("Q0lQSEVSVEVYVA"))
	}
	if found != want {
		t.Errorf("the ciphertext is on disk: %v, want %v", found, want)
	}
}
