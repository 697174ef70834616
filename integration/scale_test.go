package integration_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/apex-tradebill/omni-secrets/adapters/catalogfile"
	"github.com/apex-tradebill/omni-secrets/adapters/memory"
	"github.com/apex-tradebill/omni-secrets/adapters/postgres"
	"github.com/apex-tradebill/omni-secrets/adapters/postgres/postgrestest"
	"github.com/apex-tradebill/omni-secrets/adapters/sqlite"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
	"github.com/apex-tradebill/omni-secrets/service"
)

// The curves of docs/scale.md: each benchmark does the same for 10 times as much and again. Compare its lines with each
// other, in one run.

// database is what a service needs of one.
type database interface {
	ports.Metadata
	ports.Overrides
	ports.Rotations
	ports.FollowUps
	ports.AuditStore
}

// databases are opened empty.
var databases = []struct {
	name string
	open func(b *testing.B) database
}{
	{"memory", func(*testing.B) database { return memory.New() }},
	{"sqlite", func(b *testing.B) database {
		s, _ := openSQLite(b)
		return s
	}},
	{"postgres", func(b *testing.B) database {
		s, _ := openPostgres(b)
		return s
	}},
}

func openSQLite(b *testing.B) (*sqlite.Store, string) {
	b.Helper()
	path := filepath.Join(b.TempDir(), "state.db")
	s, err := sqlite.Open(b.Context(), path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	if _, err := s.Migrate(b.Context()); err != nil {
		b.Fatal(err)
	}
	return s, path
}

// openPostgres is one that flushes its commits.
func openPostgres(b *testing.B) (*postgres.Store, string) {
	b.Helper()
	server := postgrestest.NewServer(b)
	server.Flush(b)
	s, err := postgres.Open(b.Context(), server.URL(), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	if _, err := s.Migrate(b.Context()); err != nil {
		b.Fatal(err)
	}
	return s, server.URL()
}

// unmeasured takes the place of what has benchmarks of its own.
type unmeasured struct{}

func (unmeasured) Append(context.Context, domain.Event) error    { return nil }
func (unmeasured) SecretRead(domain.SecretType, string, bool)    {}
func (unmeasured) SecretFailed(domain.SecretType, domain.Reason) {}
func (unmeasured) FetchDone(string, string, time.Duration)       {}

// otherReplica has the service follow what other replicas did whenever it is asked to.
type otherReplica struct{ changed chan chan struct{} }

func (o otherReplica) Watch(ctx context.Context, changed func()) error {
	for {
		select {
		case done := <-o.changed:
			changed()
			close(done)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (o otherReplica) RequestRefresh(context.Context, []domain.SecretType, string) error { return nil }

func (o otherReplica) RefreshRequests(context.Context) ([]domain.RefreshRequest, error) {
	return nil, nil
}

// poll waits until the service has followed.
func (o otherReplica) poll() {
	done := make(chan struct{})
	o.changed <- done
	<-done
}

var sizes = []int{10, 1000, 10_000, 100_000}

// BenchmarkScaleCatalog is about catalogs of n secrets, in milliseconds: the first start with an empty database, the time
// until all were fetched from a backend that takes none, and until the database tells so of each; a start later; a
// refresh, a status and a poll of what other replicas did.
func BenchmarkScaleCatalog(b *testing.B) {
	for _, d := range databases {
		for _, n := range sizes {
			b.Run(fmt.Sprintf("%s/n=%d", d.name, n), func(b *testing.B) {
				store := d.open(b)
				backend := memory.NewBackend()
				catalog := make(domain.Catalog, n)
				for i := range catalog {
					name := fmt.Sprintf("secret_%d", i)
					backend.Set(name, "a value of 48 bytes, as keys of exchanges have -"+name)
					catalog[i] = domain.Entry{
						Type: domain.SecretType(name), Backend: "gsm", Reference: name, Version: domain.LatestVersion,
						Owner: "Security Engineering", RotationMonths: 12,
					}
				}
				for b.Loop() {
					scaleCatalog(b, catalog, backend, store)
				}
				b.ReportMetric(0, "ns/op") // of all together, which means nothing
			})
		}
	}
}

func scaleCatalog(b *testing.B, catalog domain.Catalog, backend *memory.Backend, store database) {
	other := otherReplica{make(chan chan struct{})}
	journal := memory.NewJournal()
	config := service.Config{
		Catalog: catalog, Policy: domain.DefaultCachePolicy(), Backends: map[string]ports.SecretBackend{"gsm": backend},
		Metadata: store, Overrides: store, Rotations: store, FollowUps: store, Audit: store, Leadership: memory.NewAlone(), Replicas: other,
		Journal: unmeasured{}, Drain: journal, Meter: unmeasured{}, Logger: slog.New(slog.DiscardHandler),
	}
	step := func(unit string, f func()) {
		began := time.Now()
		f()
		b.ReportMetric(milliseconds(time.Since(began)), unit)
	}
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	var s *service.Service
	start := func() {
		var err error
		s, err = service.New(config)
		must(err)
		must(s.Start(b.Context()))
	}
	before := heap()
	step("first-start-ms", start)
	step("start-ms", start)
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	began := time.Now()
	step("fetched-ms", func() { must(s.AwaitFirstFetches(ctx)) })
	counted := func() bool {
		all, err := store.Standings(ctx)
		must(err)
		return !slices.ContainsFunc(all, func(st domain.Standing) bool { return st.Newest == "" })
	}
	if len(catalog) <= 10_000 {
		look := time.NewTicker(20 * time.Millisecond)
		defer look.Stop()
		for ; !counted(); <-look.C {
			if time.Since(began) > 5*time.Minute {
				b.Fatal("the versions are not all counted")
			}
		}
		b.ReportMetric(milliseconds(time.Since(began)), "counted-ms")
	}
	if _, inMemory := store.(*memory.Store); !inMemory && len(catalog) >= 1000 { // its rows would count as well
		b.ReportMetric((heap()-before)/float64(len(catalog)), "heap-B/secret")
	}
	cacher := service.Call{Principal: domain.Principal{Subject: "svc", Scopes: domain.ScopeCacheRefresh}}
	operator := service.Call{Principal: domain.Principal{Subject: "sre", Scopes: domain.ScopeOps}}
	step("refresh-ms", func() {
		_, err := s.Refresh(ctx, cacher, "")
		must(err)
	})
	step("status-ms", func() {
		all, err := s.Status(ctx, operator)
		must(err)
		if len(all) != len(catalog) {
			b.Fatalf("%d secrets in the status", len(all))
		}
	})
	step("poll-ms", other.poll)
	cancel()
	must(<-ended)
}

func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools hold outlives the first
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// BenchmarkScaleCatalogFile parses and checks files of n secrets.
func BenchmarkScaleCatalogFile(b *testing.B) {
	for _, n := range sizes[:3] {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			var text strings.Builder
			text.WriteString("secrets:\n")
			for i := range n {
				fmt.Fprintf(&text, "- {type: secret_%d, owner: Security Engineering, backend: gsm, reference: 'projects/${GCP_PROJECT_ID}/secrets/apex-omni-secret-%d', version: latest, rotationMonths: 12}\n", i, i)
			}
			for b.Loop() {
				if _, err := catalogfile.Parse([]byte(text.String()), func(string) string { return "project" }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(text.Len())/float64(n), "bytes/secret")
		})
	}
}

var fills = []struct {
	name string
	fill func(*testing.B, int) (ports.AuditStore, func(string) int64)
}{{"sqlite", filledSQLite}, {"postgres", filledPostgres}}

// BenchmarkScaleAudit is about audit trails of so many rows, over 100 days, in milliseconds: 1,000 more, pages of the
// audit API, the queries of docs/sql.md and the daily pruning.
func BenchmarkScaleAudit(b *testing.B) {
	for _, rows := range []int{10_000, 100_000, 1_000_000, 10_000_000} {
		for _, d := range fills {
			b.Run(fmt.Sprintf("%s/rows=%d", d.name, rows), func(b *testing.B) {
				s, query := d.fill(b, rows)
				for b.Loop() {
					scaleAudit(b, s, query)
				}
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

func scaleAudit(b *testing.B, s ports.AuditStore, query func(string) int64) {
	step := func(unit string, f func() error) {
		began := time.Now()
		if err := f(); err != nil {
			b.Errorf("%s: %v", unit, err)
		}
		b.ReportMetric(milliseconds(time.Since(began)), unit)
	}
	events := make([]domain.Event, 1000)
	for batch := range 3 { // the first two find plans and pages
		for i := range events {
			events[i] = domain.Event{
				ID: domain.EventID{Start: uint64(time.Now().UnixNano()), Seq: uint64(i)}, Type: "secret_1", Action: domain.ActionRead,
				Actor: domain.Actor{Type: domain.ActorService, ID: "svc-1"}, Result: domain.ResultSuccess, Version: "1", Source: "cache",
				RequestID: "0123456789ab-1234567", ReplicaID: "replica-1", RecordedAt: time.Now(),
			}
		}
		if batch < 2 {
			if err := s.InsertEvents(b.Context(), events); err != nil {
				b.Fatal(err)
			}
		}
	}
	step("insert1000-ms", func() error { return s.InsertEvents(b.Context(), events) })
	page := func(unit string, f domain.EventFilter) {
		f.Limit = 100
		step(unit, func() error {
			_, err := s.ListEvents(b.Context(), f)
			return err
		})
	}
	page("newest-page-ms", domain.EventFilter{})
	page("type-page-ms", domain.EventFilter{Type: "secret_7"})
	page("rare-actor-page-ms", domain.EventFilter{ActorID: "svc-rare"})
	page("reads-page-ms", domain.EventFilter{Action: domain.ActionRead})
	page("refusals-page-ms", domain.EventFilter{Action: domain.ActionAccessDenied})
	page("denied-page-ms", domain.EventFilter{Result: domain.ResultDenied})
	page("old-page-ms", domain.EventFilter{Until: time.Now().Add(-45 * 24 * time.Hour)})
	if query != nil {
		b.ReportMetric(float64(query(diskOfEvents)), "disk-B/row")
		blocks := queriesOf(b)
		var all, slowest time.Duration
		for _, q := range blocks {
			began := time.Now()
			query(q)
			took := time.Since(began)
			if all += took; took > slowest {
				slowest = took
			}
			_, from, _ := strings.Cut(q, "FROM ")
			first, _, _ := strings.Cut(from, "\n")
			b.Logf("%6.0f ms: %s", milliseconds(took), first)
		}
		b.ReportMetric(milliseconds(all), "all-queries-ms")
		b.ReportMetric(milliseconds(slowest), "slowest-query-ms")
	}
	step("prune-ms", func() error {
		_, err := s.PruneEvents(b.Context(), time.Now().Add(-domain.AuditRetention))
		return err
	})
}

const diskOfEvents = `
SELECT sum(pg_total_relation_size(inhrelid))::bigint / (SELECT count(*) FROM omni_secret_access_events)
FROM pg_inherits WHERE inhparent = 'omni_secret_access_events'::regclass`

func queriesOf(b *testing.B) []string {
	var texts []string
	for _, q := range blocksOf(b, "docs/sql.md", "sql") {
		texts = append(texts, q.text)
	}
	return texts
}

// One row in 1,000 is a refusal, and one actor has done a single thing, long ago. The links are no real ones, but as long.
const filling = `
SELECT 'f000000000000001-' || %[3]s, 'secret_' || (i %% 100), CASE WHEN i %% 1000 = 0 THEN 'access_denied' ELSE 'read' END, 'service',
       CASE WHEN i = %[1]d / 10 THEN 'svc-rare' ELSE 'svc-' || (i %% 50) END,
       CASE WHEN i %% 1000 = 0 THEN 'denied' ELSE 'success' END, '1', 'cache', 0.01, '0123456789ab-' || i, 'replica-1', %[2]s,
       1234567890123456789, i, %[4]s`

const fillingColumns = `
INSERT INTO omni_secret_access_events (event_id, secret_type, action, actor_type, actor_id, result, gcp_secret_version, source,
    duration_ms, request_id, replica_id, recorded_at, chain_id, chain_seq, chain_hash)`

func filledSQLite(b *testing.B, rows int) (ports.AuditStore, func(string) int64) {
	s, path := openSQLite(b)
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	at := fmt.Sprintf(`strftime('%%Y-%%m-%%dT%%H:%%M:%%f000Z', 'now', '-100 days', (i * 8640000.0 / %d) || ' seconds')`, rows)
	statement := fillingColumns + fmt.Sprintf("\nWITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)", rows) +
		fmt.Sprintf(filling, rows, at, `substr('0000000000000000' || i, -16)`, `randomblob(32)`) + " FROM n"
	if _, err := db.ExecContext(b.Context(), statement); err != nil {
		b.Fatal(err)
	}
	return s, nil
}

func filledPostgres(b *testing.B, rows int) (ports.AuditStore, func(string) int64) {
	s, url := openPostgres(b)
	db, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close(context.WithoutCancel(b.Context())) })
	execute := func(statement string) {
		b.Helper()
		if _, err := db.Exec(b.Context(), statement); err != nil {
			b.Fatal(err)
		}
	}
	execute(`SELECT omni_make_event_partition(now() - week * interval '7 days') FROM generate_series(0, 15) AS week`)
	at := fmt.Sprintf(`now() - interval '100 days' + i * make_interval(secs => 8640000.0 / %d)`, rows)
	execute(fillingColumns + fmt.Sprintf(filling, rows, at, `lpad(i::text, 16, '0')`, `sha256(i::text::bytea)`) +
		fmt.Sprintf(" FROM generate_series(1, %d) AS i", rows))
	execute(`INSERT INTO omni_secret_metadata SELECT 'secret_' || i, 'test', 'gsm', 'x', 'latest', 'active', now(), now(), now(), 'o', NULL, 'gsm', '2', now(), now()
		FROM generate_series(0, 99) AS i`)
	execute(`VACUUM ANALYZE omni_secret_access_events`)
	return s, func(q string) (first int64) {
		b.Helper()
		r, err := db.Query(b.Context(), q)
		if err != nil {
			b.Fatal(err)
		}
		for r.Next() {
			if q == diskOfEvents {
				if err := r.Scan(&first); err != nil {
					b.Fatal(err)
				}
			}
		}
		if err := r.Err(); err != nil {
			b.Fatalf("%s: %v", q, err)
		}
		return first
	}
}

// BenchmarkScaleWatchers is about n watchers of one secret, each on a connection of its own: until the last was told of
// an override, and what each takes of the server's memory. Each needs a file on both sides.
func BenchmarkScaleWatchers(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 5000, 9000} {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			gsm := startEmulator(b)
			s := prepareServe(b, gsm.endpoint, anyNumberOfOverrides).start(b)
			resident := func() float64 {
				bytes, err := strconv.ParseFloat(s.metric("process_resident_memory_bytes"), 64)
				if err != nil {
					b.Fatal(err)
				}
				return bytes
			}
			before := resident()
			opening := time.Now()
			var all []*watched
			for len(all) < n { // together, but not so many that the listener's backlog overflows
				all = append(all, s.manyWatchers(b, min(500, n-len(all)))...)
			}
			for _, w := range all {
				w.want(b, gsm.values[apiKey])
			}
			opened, each := time.Since(opening), (resident()-before)/float64(n)
			var took []time.Duration
			for i := 0; b.Loop(); i++ {
				for again := range 3 {
					value := fmt.Sprintf("injected-%d-%d", i, again)
					body := sealedBody(b, s, value)
					took = append(took, spread(b, all, value, func() { s.do("POST", glassPath, s.ops, body).want(201, "") }))
				}
			}
			b.ReportMetric(milliseconds(opened), "opened-ms")
			b.ReportMetric(each, "RSS-B/watcher")
			b.ReportMetric(milliseconds(slices.Min(took)), "told-ms")
			b.ReportMetric(0, "ns/op")
			s.stop()
		})
	}
}
