package integration_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/envelope"
	"github.com/apex-tradebill/omni-secrets/adapters/postgres/postgrestest"
	"github.com/apex-tradebill/omni-secrets/domain"
)

// prepareReplicas migrates a database and prepares replicas that share it, and keys.
func prepareReplicas(t testing.TB, db *postgrestest.Server, gsm *emulator, ids ...string) []*serving {
	t.Helper()
	first := prepareServe(t, gsm.endpoint, "DATABASE_URL="+db.URL())
	var all []*serving
	for _, id := range ids {
		s := *first
		s.dir, s.postgres = t.TempDir(), db.URL()
		s.env = append(append([]string(nil), first.env...), "OMNI_REPLICA_ID="+id, "OMNI_AUDIT_JOURNAL_DIR="+filepath.Join(s.dir, "audit-journal"))
		all = append(all, &s)
	}
	return all
}

// reads asks for a value through one of several replicas, as a client with several addresses does, until it is
// stopped. Every read must be answered by one of them.
type reads struct {
	stop     atomic.Bool
	clients  sync.WaitGroup
	mu       sync.Mutex
	answered []string
}

func readThrough(t *testing.T, addresses func() []*server) *reads {
	t.Helper()
	r := new(reads)
	for c := range 4 {
		r.clients.Go(func() {
			for i := 0; !r.stop.Load(); i++ {
				if id := fmt.Sprintf("load-%d-%d", c, i); !r.one(addresses(), id) {
					t.Errorf("read %s was answered by no replica", id)
					return
				}
			}
		})
	}
	t.Cleanup(func() { r.stop.Store(true); r.clients.Wait() })
	return r
}

func (r *reads) one(servers []*server, id string) bool {
	for choice, s := range servers {
		attempt := fmt.Sprintf("%s-%d", id, choice) // one that was cut off may be audited too
		a, err := s.try("GET", readPath+string(apiKey), s.service, "", "X-Request-Id", attempt)
		if err == nil && a.status == 200 {
			r.mu.Lock()
			r.answered = append(r.answered, attempt)
			r.mu.Unlock()
			return true
		}
	}
	return false
}

// more waits until n more reads were answered.
func (r *reads) more(t testing.TB, n int) {
	t.Helper()
	r.mu.Lock()
	target := len(r.answered) + n
	r.mu.Unlock()
	eventually(t, "reads go on", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.answered) >= target || t.Failed()
	})
}

// end stops the load and returns the ids of the reads that were answered.
func (r *reads) end() []string {
	r.stop.Store(true)
	r.clients.Wait()
	return r.answered
}

// TestReplicas: what one replica is told, the others know.
func TestReplicas(t *testing.T) {
	t.Parallel()
	gsm := startEmulator(t)
	db := postgrestest.NewServer(t)
	prepared := prepareReplicas(t, db, gsm, "replica-a", "replica-b")
	a, b := prepared[0].start(t), prepared[1].start(t)

	t.Log("an override on a is served by b")
	const injected = "injected-on-replica-a-33f0"
	a.breakGlass(t, apiKey, injected)
	served := func(s *server, value string) func() bool {
		return func() bool {
			return s.do("GET", readPath+string(apiKey), s.service, "").want(200, "").json()["value"] == value
		}
	}
	eventually(t, "b serves the override", served(b, injected))
	b.logged(domain.AlertBreakGlassApplied, "secretType", string(apiKey), "replicaId", "replica-b")
	if row := b.status(apiKey); row["cacheSource"] != "break_glass" {
		t.Errorf("status on b: %v", row)
	}

	t.Log("a refresh on b ends it everywhere, and both have the new version")
	gsm.rotate(apiKey, "rotated-between-replicas")
	b.do("POST", refreshPath, b.service, "").want(202, "")
	b.wantRead(apiKey, "rotated-between-replicas", "gsm", false)
	eventually(t, "a serves the new version", served(a, "rotated-between-replicas"))
	a.wantEvents(1, "action = 'break_glass_clear'")

	t.Log("one of them leads; when it dies the other does")
	leader, other := a, b
	eventually(t, "one leads", func() bool {
		if b.metric("omni_leader") == "1" {
			leader, other = b, a
		}
		return leader.metric("omni_leader") == "1"
	})
	if other.metric("omni_leader") != "0" {
		t.Error("both lead")
	}
	leader.kill()
	eventually(t, "the other leads", func() bool { return other.metric("omni_leader") == "1" })
	a.wantEvents(0, "replica_id NOT IN ('replica-a', 'replica-b')")
	other.wantNoTrace(injected, "rotated-between-replicas")
	other.stop()
}

// TestDatabaseStopsUnderLoad: warm reads go on, state changes are refused, and nothing is lost.
func TestDatabaseStopsUnderLoad(t *testing.T) {
	t.Parallel()
	gsm := startEmulator(t)
	db := postgrestest.NewServer(t)
	s := prepareReplicas(t, db, gsm, "replica-a")[0].start(t)
	load := readThrough(t, func() []*server { return []*server{s} })
	load.more(t, 200)

	db.Stop(t)
	load.more(t, 200)
	a := s.do("POST", glassPath, s.ops, sealedBody(t, s, "injected-while-the-database-is-away")).want(503, domain.CodeStateUnavailable)
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	s.do("GET", "/ops/apex-omni/secrets/audit-events", s.ops, "").want(503, domain.CodeStateUnavailable)
	s.do("GET", statusPath, s.ops, "").want(200, "")
	s.do("GET", "/readyz", "", "").want(200, "")
	load.more(t, 200)

	db.Start(t)
	load.more(t, 200)
	s.wantAudited(load.end())
	s.breakGlass(t, apiKey, "injected-after-the-database-came-back")
	s.stop()
}

// sealedBody is a request that injects a value for 20 minutes.
func sealedBody(t testing.TB, s *server, value string) string {
	t.Helper()
	key, err := envelope.ParsePublicKey(s.publicKey)
	if err != nil {
		t.Fatal(err)
	}
	expiresAt := time.Now().Add(20 * time.Minute).UTC().Format(time.RFC3339)
	sealed, err := envelope.Seal(key, apiKey, expiresAt, domain.NewValue([]byte(value)), 2)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"secretType":%q,"ciphertext":%q,"expiresAt":%q}`, apiKey, sealed, expiresAt)
}

// TestServeWaitsForTheDatabase: it may come up after the service.
func TestServeWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	gsm := startEmulator(t)
	db := postgrestest.NewServer(t)
	prepared := prepareReplicas(t, db, gsm, "replica-a")[0]
	db.Stop(t)
	p := start(t, prepared.env, "omni-secrets", "serve")
	p.logged("waiting for the database")
	db.Start(t)
	p.logged("ready")
	p.stop()
}

// TestRollingRestart: with two replicas and a client that tries both, no read fails.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	gsm := startEmulator(t)
	db := postgrestest.NewServer(t)
	prepared := prepareReplicas(t, db, gsm, "replica-a", "replica-b")
	var mu sync.Mutex
	running := []*server{prepared[0].start(t), prepared[1].start(t)}
	load := readThrough(t, func() []*server {
		mu.Lock()
		defer mu.Unlock()
		return []*server{running[0], running[1]}
	})
	for i, p := range prepared {
		load.more(t, 100)
		running[i].stop()
		load.more(t, 100)
		again := p.start(t)
		mu.Lock()
		running[i] = again
		mu.Unlock()
	}
	load.more(t, 100)
	ids := load.end()
	for _, s := range running {
		s.stop()
	}
	last := prepared[0].start(t)
	last.wantAudited(ids)
	last.stop()
}
