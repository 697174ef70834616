package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// breakGlass injects a value with the command line.
func (s *server) breakGlass(t testing.TB, secret domain.SecretType, value string, more ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret.plaintext")
	if err := os.WriteFile(file, []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, []string{"OMNI_BREAKGLASS_PUBLIC_KEY=" + s.publicKey, "OMNI_API_URL=" + s.api, "OMNI_TOKEN=" + s.ops}, "",
		append([]string{"breakglass", "--secret-type", string(secret), "--secret-value-file", file, "--ttl", "25m"}, more...)...,
	).want(t, 0, `cacheSource="break_glass"`)
}

// TestOutageOfSecretManager is the runbook against the real client library and the emulator.
func TestOutageOfSecretManager(t *testing.T) {
	t.Parallel()
	gsm := startEmulator(t)
	prepared := prepareServe(t, gsm.endpoint, "OMNI_CACHE_TTL_SECONDS=2")
	s := prepared.start(t)
	first := gsm.values[apiKey]
	m := s.wantRead(apiKey, first, "gsm", false)
	if m["version"] != "1" {
		t.Fatalf("version %v, want the number behind latest", m["version"])
	}

	t.Log("off: the last value is served, and soon marked stale")
	gsm.off("unavailable")
	eventually(t, "stale reads", func() bool {
		m := s.do("GET", readPath+string(apiKey), s.service, "").want(200, "").json()
		return m["stale"] == true && m["value"] == first
	})
	s.logged(domain.AlertCacheFailure, "secretType", string(apiKey), "reason", "unavailable")
	s.do("POST", refreshPath, s.service, "").want(503, domain.CodeRefreshFailed)
	if s.metric("omni_secret_stale_reads_total", "secret_type", string(apiKey)) == "0" {
		t.Error("no stale read is counted")
	}
	if row := s.status(apiKey); row["stale"] != true || row["lastFailureReason"] != "unavailable" {
		t.Errorf("status: %v", row)
	}

	t.Log("break-glass")
	const injected = "injected-during-the-outage-91c2"
	s.breakGlass(t, apiKey, injected, "--reason", "INC-7")
	s.wantRead(apiKey, injected, "break_glass", false)

	t.Log("kill -9 under load, and restart: nothing answered is missing, the override is served")
	answered := s.readUntilKilled(t, 8, 400)
	s = prepared.start(t)
	s.wantRead(apiKey, injected, "break_glass", false)
	s.logged(domain.AlertBreakGlassApplied, "secretType", string(apiKey), "restored", true)
	s.wantAudited(answered)

	t.Log("on: a refresh returns to the steady state")
	gsm.on()
	gsm.rotate(apiKey, "gsm-value-v2-after-the-outage")
	s.do("POST", refreshPath, s.service, "").want(202, "")
	if m := s.wantRead(apiKey, "gsm-value-v2-after-the-outage", "gsm", false); m["version"] != "2" {
		t.Errorf("version %v, want 2", m["version"])
	}
	if row := s.status(apiKey); row["cacheSource"] != "gsm" || row["breakGlassExpiresAt"] != nil || row["stale"] != false {
		t.Errorf("status: %v", row)
	}
	s.wantEvents(1, "action = 'break_glass_clear' AND reason = 'refreshed'")
	rows := s.query("SELECT * FROM omni_break_glass_events")
	if len(rows) != 1 || rows[0]["applied_by"] != "sre" || rows[0]["reason"] != "INC-7" || rows[0]["end_cause"] != "refreshed" || rows[0]["actual_end"] == nil {
		t.Errorf("omni_break_glass_events: %v", rows)
	}

	s.wantNoTrace(first, injected, "gsm-value-v2-after-the-outage", gsm.values[webhook])
	s.stop()
	s.wantNoTrace(first, injected, "gsm-value-v2-after-the-outage", gsm.values[webhook])
}

// readUntilKilled reads with several clients, kills the server in the middle, and returns the ids of the
// requests that were answered with a value.
func (s *server) readUntilKilled(t *testing.T, clients, enough int) []string {
	t.Helper()
	var (
		reading sync.WaitGroup
		mu      sync.Mutex
		ids     []string
		kill    = sync.OnceFunc(func() { _ = s.cmd.Process.Kill() })
	)
	for c := range clients {
		reading.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("load-%d-%d", c, i)
				a, err := s.try("GET", readPath+string(apiKey), s.service, "", "X-Request-Id", id)
				if err != nil {
					return // killed
				}
				if a.status != 200 {
					t.Errorf("read: %d %s", a.status, a.body)
					return
				}
				mu.Lock()
				ids = append(ids, id)
				reached := len(ids) >= enough
				mu.Unlock()
				if reached {
					kill()
				}
			}
		})
	}
	reading.Wait()
	<-s.exited
	if len(ids) < enough {
		t.Fatalf("only %d reads were answered", len(ids))
	}
	return ids
}

// wantAudited waits until each of the requests has exactly one event in SQL.
func (s *server) wantAudited(ids []string) {
	s.t.Helper()
	eventually(s.t, "the journal is drained", func() bool { return s.metric("omni_audit_journal_events") == "0" })
	stored := make(map[any]int)
	for _, row := range s.query("SELECT request_id FROM omni_secret_access_events WHERE action = 'read' AND result = 'success'") {
		stored[row["request_id"]]++
	}
	for _, id := range ids {
		if stored[id] != 1 {
			s.t.Fatalf("the answered request %s has %d events in SQL, want 1", id, stored[id])
		}
	}
}

// TestRevokedVersionIsNotServed disables and destroys versions in Secret Manager.
func TestRevokedVersionIsNotServed(t *testing.T) {
	t.Parallel()
	gsm := startEmulator(t)
	s := prepareServe(t, gsm.endpoint).start(t)
	s.wantRead(apiKey, gsm.values[apiKey], "gsm", false)
	version := "/secrets/omni-test/" + secretID(apiKey) + "/versions/1/"
	for _, step := range []struct{ action, reason string }{{"disable", "version_disabled"}, {"destroy", "version_disabled"}} {
		gsm.steer("POST", version+step.action, "")
		s.do("POST", refreshPath, s.service, `{"secretType":"trading_api_key"}`).want(503, domain.CodeRefreshFailed)
		a := s.do("GET", readPath+string(apiKey), s.service, "").want(503, domain.CodeSecretUnavailable)
		if a.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		if row := s.status(apiKey); row["cacheSource"] != "empty" || row["lastFailureReason"] != step.reason {
			t.Errorf("status after %s: %v", step.action, row)
		}
	}
	gsm.rotate(apiKey, "a-new-version-77")
	s.do("POST", refreshPath, s.service, "").want(202, "")
	s.wantRead(apiKey, "a-new-version-77", "gsm", false)
	s.stop()
}

// TestFaultsOfSecretManager checks how each fault is told apart.
func TestFaultsOfSecretManager(t *testing.T) {
	t.Parallel()
	gsm := startEmulator(t)
	s := prepareServe(t, gsm.endpoint).start(t)
	for mode, reason := range map[string]string{
		"unavailable": "unavailable", "deny": "permission_denied", "unauthenticated": "unauthenticated",
		"corrupt": "checksum_mismatch", "internal": "internal", "resource_exhausted": "resource_exhausted", "hang": "deadline_exceeded",
	} {
		gsm.off(mode)
		a := s.do("POST", refreshPath, s.service, `{"secretType":"webhook_shared_secret"}`).want(503, domain.CodeRefreshFailed)
		if got := fmt.Sprint(a.json()["failures"]); got != fmt.Sprintf("[map[reason:%s secretType:webhook_shared_secret]]", reason) {
			t.Errorf("%s: %s", mode, got)
		}
		s.do("GET", readPath+string(webhook), s.service, "").want(200, "") // the last good value
		gsm.on()
		s.do("POST", refreshPath, s.service, "").want(202, "")
	}
	s.stop()
}

// TestStartWithoutSecretManager: the service starts, says what is empty, and recovers by itself.
func TestStartWithoutSecretManager(t *testing.T) {
	t.Parallel()
	gsm := startEmulator(t)
	gsm.off("unavailable")
	s := prepareServe(t, gsm.endpoint).start(t)
	s.do("GET", "/readyz", "", "").want(200, "")
	s.do("GET", readPath+string(apiKey), s.service, "").want(503, domain.CodeSecretUnavailable)
	s.breakGlass(t, apiKey, "injected-before-the-first-fetch")
	s.wantRead(apiKey, "injected-before-the-first-fetch", "break_glass", false)
	gsm.on()
	eventually(t, "the webhook secret is fetched", func() bool { return s.status(webhook)["cacheSource"] == "gsm" })
	s.wantRead(apiKey, "injected-before-the-first-fetch", "break_glass", false) // the background never ends it
	s.stop()
}

// TestLatestForbidden: OMNI_ALLOW_LATEST_VERSION=false leaves entries that follow latest empty.
func TestLatestForbidden(t *testing.T) {
	gsm := startEmulator(t)
	s := prepareServe(t, gsm.endpoint, "OMNI_ALLOW_LATEST_VERSION=false").start(t)
	if row := s.status(apiKey); row["lastFailureReason"] != "latest_forbidden" || row["cacheSource"] != "empty" {
		t.Errorf("status: %v", row)
	}
	got := s.metric("omni_secret_failures_total", "secret_type", string(apiKey), "reason", "latest_forbidden")
	if failures, err := strconv.Atoi(got); err != nil || failures < 1 { // on a slow machine it has been tried again
		t.Errorf("the failures are %q, want 1 or more", got)
	}
	s.stop()
}
