package integration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const (
	apiKey  = domain.SecretType("trading_api_key")
	webhook = domain.SecretType("webhook_shared_secret")
)

// TestRunbookOnALaptop walks the runbook against `omni-secrets dev`.
func TestRunbookOnALaptop(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := startDev(t, dir)
	keyFile := filepath.Join(dir, "secrets", string(apiKey))
	sample, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	s.wantRead(apiKey, string(sample), "local_file", false)

	t.Log("1. a refresh, with neither body nor content type, reads the whole catalog")
	m := s.do("POST", refreshPath, s.service, "").want(202, "").json()
	if types, _ := m["refreshedSecretTypes"].([]any); len(types) != 5 {
		t.Fatalf("refreshed: %v", m)
	}
	s.wantMetric("2", "omni_secret_reads_total", "secret_type", string(apiKey), "source", "local_file")
	s.wantEvents(1, "action = 'cache_refresh' AND secret_type = ? AND actor_type = 'service' AND actor_id = 'dev-service' AND result = 'success'", string(apiKey))
	m = s.do("POST", refreshPath, s.service, `{"secretType":"webhook_shared_secret"}`).want(202, "").json()
	if types, _ := m["refreshedSecretTypes"].([]any); len(types) != 1 || types[0] != string(webhook) {
		t.Fatalf("refreshed: %v", m)
	}
	s.wantMetric("3", "omni_secret_reads_total", "secret_type", string(webhook), "source", "local_file")
	s.wantMetric("2", "omni_secret_reads_total", "secret_type", string(apiKey), "source", "local_file")

	t.Log("   failures are counted and alerted")
	s.wantMetric("0", "omni_secret_failures_total", "secret_type", string(apiKey), "reason", "unavailable")
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.do("POST", refreshPath, s.service, `{"secretType":"trading_api_key"}`).want(503, domain.CodeRefreshFailed)
	}
	s.logged(domain.AlertCacheFailure, "secretType", string(apiKey), "reason", "not_found", "consecutiveFailures", 1.0, "level", "WARN")
	s.logged(domain.AlertCacheFailureThreshold, "secretType", string(apiKey), "consecutiveFailures", 3.0)
	s.do("GET", readPath+string(apiKey), s.service, "").want(503, domain.CodeSecretUnavailable)
	if got := s.status(apiKey)["cacheSource"]; got != "empty" {
		t.Fatalf("cacheSource is %v", got)
	}

	t.Log("2. break-glass by the command line")
	const injected = "injected-by-an-operator-7d1f"
	plaintext := filepath.Join(t.TempDir(), "secret.plaintext")
	if err := os.WriteFile(plaintext, []byte(injected), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, []string{"OMNI_BREAKGLASS_PUBLIC_KEY=" + s.publicKey}, "",
		"breakglass", "--secretType", string(apiKey), "--secret-value-file", plaintext, "--ttl", "25m",
		"--api-url", s.api, "--token", s.ops, "--reason", "drill").want(t, 0, `cacheSource="break_glass"`)
	row := s.status(apiKey)
	expires, _ := time.Parse(time.RFC3339, row["breakGlassExpiresAt"].(string))
	if left := time.Until(expires); row["cacheSource"] != "break_glass" || left > 25*time.Minute || left < 24*time.Minute {
		t.Fatalf("status: %v", row)
	}
	s.wantRead(apiKey, injected, "break_glass", false)
	s.logged(domain.AlertBreakGlassApplied, "secretType", string(apiKey), "appliedBy", "dev-operator", "reason", "drill")
	s.wantMetric("1", "omni_break_glass_active", "secret_type", string(apiKey))
	s.wantMetric("1", "omni_secret_reads_total", "secret_type", string(apiKey), "source", "break_glass")
	s.wantEvents(1, "action = 'break_glass_apply' AND actor_type = 'operator' AND actor_id = 'dev-operator' AND reason = 'drill'")
	if rows := s.query("SELECT * FROM omni_break_glass_events WHERE actual_end IS NULL"); len(rows) != 1 || rows[0]["applied_by"] != "dev-operator" {
		t.Fatalf("omni_break_glass_events: %v", rows)
	}
	if rows := s.query("SELECT * FROM omni_secret_metadata WHERE break_glass_enabled_until IS NOT NULL AND cache_source = 'break_glass'"); len(rows) != 1 {
		t.Fatalf("omni_secret_metadata: %v", rows)
	}

	t.Log("3. a refresh that fails leaves the override; one that succeeds ends it")
	s.do("POST", refreshPath, s.service, `{"secretType":"trading_api_key"}`).want(503, domain.CodeRefreshFailed)
	s.wantRead(apiKey, injected, "break_glass", false)
	if err := os.WriteFile(keyFile, []byte("rotated-sample-value-55aa"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.do("POST", refreshPath, s.service, "").want(202, "")
	s.wantRead(apiKey, "rotated-sample-value-55aa", "local_file", false)
	if row := s.status(apiKey); row["cacheSource"] != "local_file" || row["breakGlassExpiresAt"] != nil || row["consecutiveFailures"] != 0.0 {
		t.Fatalf("status: %v", row)
	}
	s.logged(domain.AlertBreakGlassCleared, "secretType", string(apiKey), "cause", "refreshed")
	s.logged(domain.AlertCacheRecovered, "secretType", string(apiKey))
	s.wantMetric("0", "omni_break_glass_active", "secret_type", string(apiKey))
	s.wantEvents(1, "action = 'break_glass_clear' AND reason = 'refreshed' AND actor_id = 'dev-service'")
	if rows := s.query("SELECT * FROM omni_break_glass_overrides WHERE envelope IS NOT NULL"); len(rows) != 0 {
		t.Fatalf("ciphertext is kept: %v", rows)
	}

	t.Log("5. metrics")
	for _, series := range [][]string{
		{"omni_secret_cache_age_seconds", "secret_type", string(apiKey), "source", "local_file"},
		{"omni_secret_rotation_due_timestamp_seconds", "secret_type", string(apiKey)},
		{"omni_secret_survival_seconds", "secret_type", string(apiKey)},
		{"omni_audit_journal_events"},
		{"omni_audit_drain_lag_seconds"},
		{"omni_leader"},
		{"omni_build_info"},
		{"go_goroutines"},
	} {
		if s.metric(series[0], series[1:]...) == "" {
			t.Errorf("no series %v", series)
		}
	}
	if a := s.do("GET", "/metrics", "", ""); strings.Contains(a.body, "otel_scope") || strings.Contains(a.body, "_total_total") || strings.Contains(a.body, "target_info") {
		t.Error("metrics have scope labels, doubled suffixes or target_info")
	}

	s.wantNoTrace(string(sample), injected, "rotated-sample-value-55aa")
	s.stop()
	s.wantNoTrace(string(sample), injected, "rotated-sample-value-55aa")

	t.Log("4. the monitor finds a deadline in the past, at the next start")
	overdue(t, s, apiKey)
	s = startDev(t, dir)
	s.logged(domain.AlertRotationOverdue, "secretType", string(apiKey), "level", "WARN", "consecutiveChecks", 1.0, "owner", "Security Engineering")
	s.wantMetric("1", "omni_secret_rotation_overdue", "secret_type", string(apiKey))
	if got := s.status(apiKey)["rotationState"]; got != "overdue" {
		t.Errorf("rotationState is %v", got)
	}
	s.stop()
}

// overdue sets a secret's deadline into the past, as only SQL can.
func overdue(t *testing.T, s *server, secret domain.SecretType) {
	t.Helper()
	s.execute("UPDATE omni_secret_metadata SET rotation_due_at = '2020-01-01T00:00:00.000000Z' WHERE secret_type = ?", string(secret))
}

// TestDevKeepsItsState starts dev twice in the same directory.
func TestDevKeepsItsState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := startDev(t, dir)
	before := s.do("GET", readPath+string(apiKey), s.service, "").want(200, "").json()["value"]
	key := s.publicKey
	s.stop()
	s = startDev(t, dir)
	if after := s.do("GET", readPath+string(apiKey), s.service, "").want(200, "").json()["value"]; after != before {
		t.Errorf("the sample value changed from %v to %v", before, after)
	}
	if s.publicKey != key {
		t.Error("the break-glass key changed")
	}
	s.wantEvents(2, "action = 'read' AND result = 'success'")
	s.stop()
}
