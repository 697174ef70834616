package sqlite_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/sqlite"
	"github.com/apex-tradebill/omni-secrets/domain"
)

// Two stores over one file, as of a server and a command beside it, wait for each other instead of failing.
func TestTwoProcessesShareAFile(t *testing.T) {
	const rounds = 20
	path := filepath.Join(t.TempDir(), "state.db")
	stores := []*sqlite.Store{migratedAt(t, path), open(t, path)}
	var ended atomic.Int32
	var wg sync.WaitGroup
	for i, s := range stores {
		wg.Go(func() {
			for n := range uint64(rounds) {
				own := uint64(i)<<32 + n*10
				o := override(fmt.Sprintf("override-%d-%d", i, n), "eA==")
				err := s.ApplyOverride(t.Context(), o, event(own+1, o.AppliedAt), func(domain.Override) domain.Event {
					ended.Add(1)
					return event(own+2, o.AppliedAt)
				})
				if err != nil {
					t.Errorf("ApplyOverride: %v", err)
				}
				ok, err := s.EndOverride(t.Context(), o.ID, domain.EndCleared, event(own+3, time.Now()))
				if err != nil {
					t.Errorf("EndOverride: %v", err)
				}
				if ok {
					ended.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if ended.Load() != 2*rounds {
		t.Errorf("%d ends of %d overrides", ended.Load(), 2*rounds)
	}
	if n := count(t, raw(t, path), `SELECT count(*) FROM omni_secret_access_events`); n != 4*rounds {
		t.Errorf("%d events, want %d", n, 4*rounds)
	}
}
