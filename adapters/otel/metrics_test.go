package otel_test

import (
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/goleak"

	"github.com/apex-tradebill/omni-secrets/adapters/otel"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ ports.Meter = (*otel.Metrics)(nil)

var update = flag.Bool("update", false, "write the golden files anew")

var catalog = domain.Catalog{
	{Type: "trading_api_key", Backend: "gsm"},
	{Type: "webhook_shared_secret", Backend: "local_file"},
}

func newMetrics(t testing.TB, c domain.Catalog) *otel.Metrics {
	t.Helper()
	m, err := otel.New(otel.Config{Version: "1.2.3", Revision: "abcdef0", Catalog: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return m
}

// scrape is what Prometheus gets.
func scrape(t testing.TB, m *otel.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	if got := w.Header().Get("Content-Type"); !strings.HasPrefix(got, "text/plain; version=0.0.4") {
		t.Errorf("content type is %q", got)
	}
	return w.Body.String()
}

// ours is the part of a scrape whose names begin so, with HELP and TYPE.
func ours(text, prefix string) string {
	var lines strings.Builder
	for line := range strings.Lines(text) {
		name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		if strings.HasPrefix(name, prefix) {
			lines.WriteString(strings.ReplaceAll(line, runtime.Version(), "GOVERSION"))
		}
	}
	return lines.String()
}

func wantGolden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// busy makes every series of the contract appear.
func busy(t testing.TB) *otel.Metrics {
	m := newMetrics(t, catalog)
	m.SecretRead("trading_api_key", "gsm", false)
	m.SecretRead("trading_api_key", domain.SourceCache, false)
	m.SecretRead("trading_api_key", domain.SourceCache, true)
	m.SecretRead("webhook_shared_secret", domain.SourceBreakGlass, false)
	m.SecretFailed("trading_api_key", domain.ReasonUnavailable)
	m.SecretFailed("trading_api_key", domain.ReasonPermissionDenied)
	m.FetchDone("gsm", "ok", 12*time.Millisecond)
	m.FetchDone("gsm", string(domain.ReasonUnavailable), 3*time.Second)
	m.ObserveState(func() otel.State {
		return otel.State{
			Secrets: []otel.SecretState{
				{
					Type: "trading_api_key", CacheSource: "gsm", CacheVersion: "7", CacheAge: 90500 * time.Millisecond,
					Survival:      2009500 * time.Millisecond,
					RotationDueAt: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC),
				},
				{
					Type: "webhook_shared_secret", RotationDueAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Overdue: true,
					BreakGlassActive: true, BreakGlassExpiresAt: time.Date(2026, 3, 1, 12, 25, 0, 0, time.UTC),
					FollowUpOpenedAt: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
				},
			},
			JournalEvents: 17, DrainLag: 1500 * time.Millisecond, Leader: true, LastCheckpoint: time.Unix(1795604400, 0),
			JournalBytes: 5202, JournalLimit: 1 << 30, SetAside: 2,
		}
	})
	return m
}

func TestExposition(t *testing.T) {
	t.Run("at the start", func(t *testing.T) {
		wantGolden(t, "start.prom", ours(scrape(t, newMetrics(t, catalog)), "omni_"))
	})
	t.Run("in use", func(t *testing.T) {
		wantGolden(t, "busy.prom", ours(scrape(t, busy(t)), "omni_"))
	})
	t.Run("of HTTP requests", func(t *testing.T) {
		m := newMetrics(t, catalog)
		m.ObserveRequest("GET", "/internal/apex-omni/secrets/{secretType}", 200, 700*time.Microsecond)
		m.ObserveRequest("BREW", "", 405, time.Second)
		wantGolden(t, "requests.prom", ours(scrape(t, m), "http_"))
	})
}

// The names and labels of the design, by themselves: no more series and no more labels than these.
func TestLabelsAreThoseOfTheDesign(t *testing.T) {
	want := map[string]string{
		"omni_secret_reads_total":                             "secret_type,source",
		"omni_secret_failures_total":                          "reason,secret_type",
		"omni_secret_cache_age_seconds":                       "secret_type,source",
		"omni_secret_version":                                 "secret_type",
		"omni_secret_survival_seconds":                        "secret_type",
		"omni_secret_stale_reads_total":                       "secret_type",
		"omni_secret_fetch_duration_seconds_bucket":           "le,outcome,source",
		"omni_secret_fetch_duration_seconds_sum":              "outcome,source",
		"omni_secret_fetch_duration_seconds_count":            "outcome,source",
		"omni_secret_rotation_due_timestamp_seconds":          "secret_type",
		"omni_secret_rotation_overdue":                        "secret_type",
		"omni_break_glass_active":                             "secret_type",
		"omni_break_glass_expiry_timestamp_seconds":           "secret_type",
		"omni_break_glass_follow_up_opened_timestamp_seconds": "secret_type",
		"omni_audit_checkpoint_timestamp_seconds":             "",
		"omni_audit_journal_events":                           "",
		"omni_audit_drain_lag_seconds":                        "",
		"omni_audit_journal_bytes":                            "",
		"omni_audit_journal_limit_bytes":                      "",
		"omni_audit_set_aside_events":                         "",
		"omni_leader":                                         "",
		"omni_build_info":                                     "goversion,revision,version",
	}
	got := map[string]string{}
	text := scrape(t, busy(t))
	for line := range strings.Lines(ours(text, "omni_")) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, labels := labelsOf(line)
		if before, ok := got[name]; ok && before != labels {
			t.Errorf("%s has the labels %s and %s", name, before, labels)
		}
		got[name] = labels
	}
	for name, labels := range want {
		want[name] = sorted(labels)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	for _, unwanted := range []string{"otel_scope", "target_info", "_total_total", "_seconds_seconds"} {
		if strings.Contains(text, unwanted) {
			t.Errorf("the scrape has %q", unwanted)
		}
	}
	for _, wanted := range []string{"go_goroutines ", "process_start_time_seconds "} {
		if !strings.Contains(text, wanted) {
			t.Errorf("the scrape lacks %q", wanted)
		}
	}
}

func TestExpositionPassesPrometheusLint(t *testing.T) {
	text := scrape(t, busy(t))
	problems, err := promlint.New(strings.NewReader(ours(text, "omni_") + ours(text, "http_"))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestGaugesFollowTheState(t *testing.T) {
	m := newMetrics(t, catalog)
	state := otel.State{Secrets: []otel.SecretState{{
		Type: "trading_api_key", CacheSource: "gsm", CacheVersion: "1", BreakGlassActive: true, BreakGlassExpiresAt: time.Unix(1, 0), RotationDueAt: time.Unix(1, 0),
		FollowUpOpenedAt: time.Unix(1, 0),
	}}}
	m.ObserveState(func() otel.State { return state })
	whileThere := []string{
		"omni_secret_cache_age_seconds{", "omni_secret_version{", "omni_secret_rotation_due_timestamp_seconds{",
		"omni_break_glass_expiry_timestamp_seconds{", "omni_break_glass_follow_up_opened_timestamp_seconds{",
	}
	for _, name := range whileThere {
		if !strings.Contains(scrape(t, m), name) {
			t.Errorf("%s is missing", name)
		}
	}
	state.Secrets = []otel.SecretState{{Type: "trading_api_key"}}
	text := scrape(t, m)
	for _, name := range whileThere {
		if strings.Contains(text, name) {
			t.Errorf("%s is still there", name)
		}
	}
	for _, name := range []string{"omni_break_glass_active", "omni_secret_survival_seconds"} {
		if !strings.Contains(text, name+`{secret_type="trading_api_key"} 0`) {
			t.Errorf("%s is not 0", name)
		}
	}
}

func TestVersionGaugeTakesPlainNumbersOnly(t *testing.T) {
	for version, want := range map[string]string{
		"7": "7", "2147483648": "2.147483648e+09",
		"": "", "latest": "", "-1": "", "+1": "", "1e3": "", "0x10": "", "1_000": "", "7.5": "", "7th": "",
		"20261123T191700.123456789Z-2a41f": "", "99999999999999999999": "",
	} {
		m := newMetrics(t, catalog)
		m.ObserveState(func() otel.State {
			return otel.State{Secrets: []otel.SecretState{{Type: "trading_api_key", CacheSource: "gsm", CacheVersion: version}}}
		})
		_, got, _ := strings.Cut(scrape(t, m), "\nomni_secret_version{secret_type=\"trading_api_key\"} ")
		if got, _, _ = strings.Cut(got, "\n"); got != want {
			t.Errorf("version %q: the gauge is %q, want %q", version, got, want)
		}
	}
}

// OpenTelemetry's SDK folds series beyond a limit into one, unless told otherwise.
func TestLargeCatalogHasAllItsSeries(t *testing.T) {
	var large domain.Catalog
	for i := range 1000 {
		large = append(large, domain.Entry{Type: domain.SecretType(fmt.Sprintf("secret_%d", i)), Backend: "gsm"})
	}
	text := scrape(t, newMetrics(t, large))
	if got := strings.Count(text, "\nomni_secret_reads_total{"); got != 3000 {
		t.Errorf("%d series of omni_secret_reads_total, want 3000", got)
	}
}

func TestRequestSeriesAreBounded(t *testing.T) {
	m := newMetrics(t, nil)
	for i := range 5000 {
		m.ObserveRequest("GET", fmt.Sprintf("/made/up/%d", i), 404, time.Millisecond)
	}
	text := scrape(t, m)
	if got := strings.Count(text, "\nhttp_server_request_duration_seconds_count{"); got != 1001 {
		t.Errorf("%d series, want 1001", got)
	}
	if want := `http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="404",http_route="_OTHER"} 4000`; !strings.Contains(text, want) {
		t.Errorf("the scrape lacks %s", want)
	}
}

func TestConcurrentUse(t *testing.T) {
	m := newMetrics(t, catalog)
	m.ObserveState(func() otel.State { return otel.State{Leader: true} })
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 100 {
				m.SecretRead("trading_api_key", domain.SourceCache, true)
				m.SecretFailed("trading_api_key", domain.Reason(fmt.Sprint("reason_", n)))
				m.FetchDone(fmt.Sprint("backend_", i), "ok", time.Millisecond)
				m.ObserveRequest("GET", fmt.Sprint("/", i, "/", n), 200, time.Millisecond)
			}
			_ = scrape(t, m)
		})
	}
	wg.Wait()
	text := scrape(t, m)
	wanted := []string{
		`omni_secret_reads_total{secret_type="trading_api_key",source="cache"} 800`,
		`omni_secret_stale_reads_total{secret_type="trading_api_key"} 800`,
	}
	for n := range 100 {
		wanted = append(wanted, fmt.Sprintf(`omni_secret_failures_total{reason="reason_%d",secret_type="trading_api_key"} 8`, n))
	}
	for _, want := range wanted {
		if !strings.Contains(text, want) {
			t.Errorf("the scrape lacks %s", want)
		}
	}
}

func TestRecordingAllocatesNothing(t *testing.T) {
	m := newMetrics(t, catalog)
	for name, record := range map[string]func(){
		"a read":          func() { m.SecretRead("trading_api_key", domain.SourceCache, false) },
		"a stale read":    func() { m.SecretRead("trading_api_key", domain.SourceCache, true) },
		"a read from new": func() { m.SecretRead("trading_api_key", "vault", false) },
		"a failure":       func() { m.SecretFailed("trading_api_key", domain.ReasonInternal) },
		"a fetch":         func() { m.FetchDone("gsm", "ok", time.Millisecond) },
		"a request":       func() { m.ObserveRequest("GET", "/livez", 200, time.Millisecond) },
	} {
		if n := testing.AllocsPerRun(100, record); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkSecretRead(b *testing.B) {
	m := newMetrics(b, catalog)
	b.ReportAllocs()
	for b.Loop() {
		m.SecretRead("trading_api_key", domain.SourceCache, false)
	}
}

func BenchmarkObserveRequest(b *testing.B) {
	m := newMetrics(b, catalog)
	b.ReportAllocs()
	for b.Loop() {
		m.ObserveRequest("GET", "/internal/apex-omni/secrets/{secretType}", 200, 50*time.Microsecond)
	}
}
