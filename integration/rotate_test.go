package integration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// command runs a client command with the operators' token.
func (s *server) command(args ...string) result {
	s.t.Helper()
	return run(s.t, []string{"OMNI_API_URL=" + s.api, "OMNI_TOKEN=" + s.ops}, "", args...)
}

// TestRotationOnALaptop takes a secret from one version to the next and the next, by the command line alone.
func TestRotationOnALaptop(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := startDev(t, dir)
	file := filepath.Join(dir, "secrets", string(apiKey))
	put := func(path, value string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sample, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const second, ninth, edited = "second-value-of-a-laptop", "ninth-value-of-a-laptop", "edited-value-of-a-laptop"
	put(file+"@2", second)
	rotate := func(step string, more ...string) result {
		return s.command(append([]string{"rotate", step, "--secret-type", string(apiKey)}, more...)...)
	}
	row := func(want ...any) {
		t.Helper()
		got := s.status(apiKey)
		for i := 0; i < len(want); i += 2 {
			if got[want[i].(string)] != want[i+1] {
				t.Fatalf("%s is %v, want %v, in %v", want[i], got[want[i].(string)], want[i+1], got)
			}
		}
	}

	t.Log("preview changes nothing")
	rotate("preview", "--version", "2").want(t, 0, "Version 2 of trading_api_key passed its checks")
	rotate("preview", "--version", "3").want(t, 8, "VERSION_UNREADABLE")
	s.wantRead(apiKey, string(sample), "local_file", false)

	t.Log("begin, and give it up")
	rotate("promote").want(t, 6, "NO_ROTATION", "the secret is active")
	rotate("begin", "--version", "2").want(t, 0, "The rotation of trading_api_key to version 2 has begun.")
	rotate("begin", "--version", "2").want(t, 6, "ROTATION_IN_PROGRESS", "the secret is rotating", "omni-secrets rotate status")
	s.do("POST", rotationsPath, s.ops, `{"secretType":"trading_api_key","gcpSecretVersion":"2"}`).want(409, domain.CodeRotationInProgress)
	rotate("status").want(t, 0, "rotating", "dev-operator")
	rotate("abort").want(t, 0, "The rotation of trading_api_key has been given up.")
	row("status", "active", "rotatingToVersion", nil, "lastRotatedAt", nil)
	s.do("POST", refreshPath, s.service, "").want(202, "")
	s.wantRead(apiKey, string(sample), "local_file", false)

	t.Log("begin, and promote: from the answer on nobody gets the old value")
	rotate("begin", "--version", "2").want(t, 0)
	s.wantRead(apiKey, string(sample), "local_file", false)
	rotate("promote").want(t, 0, "Version 2 of trading_api_key has been promoted")
	if m := s.wantRead(apiKey, second, "local_file", false); m["version"] != "2" {
		t.Errorf("read: %v", m)
	}
	s.do("POST", refreshPath, s.service, "").want(202, "")
	s.wantRead(apiKey, second, "local_file", false)
	row("pinnedVersion", "2", "rotationState", "current")
	if s.status(apiKey)["lastRotatedAt"] == nil {
		t.Error("the promotion is not the last rotation")
	}

	t.Log("every step is in the audit trail")
	eventually(t, "the journal is drained", func() bool { return s.metric("omni_audit_journal_events") == "0" })
	trail := s.command("audit", "list", "--secret-type", string(apiKey), "--all").want(t, 0).stdout
	for action, count := range map[string]int{
		"rotation_preview": 2, "rotation_begin": 4, "rotation_abort": 1, "rotation_promote": 2,
	} {
		if got := strings.Count(trail, "  "+action+"  "); got != count {
			t.Errorf("%d events %s, want %d:\n%s", got, action, count, trail)
		}
	}
	s.wantEvents(1, "action = 'rotation_promote' AND result = 'success' AND gcp_secret_version = '2' AND actor_id = 'dev-operator'")
	s.wantEvents(2, "action = 'rotation_begin' AND result = 'failure' AND error_code = 'ROTATION_IN_PROGRESS'")
	for outcome, count := range map[string]int{"aborted": 1, "promoted": 1} {
		if rows := s.query("SELECT * FROM omni_secret_rotations WHERE outcome = ? AND begun_by = 'dev-operator' AND to_version = '2'", outcome); len(rows) != count {
			t.Errorf("omni_secret_rotations has %v", rows)
		}
	}
	s.logged(domain.EventRotationPromoted, "secretType", string(apiKey), "toVersion", "2", "by", "dev-operator")

	t.Log("what was promoted outlives the process")
	s.wantNoTrace(string(sample), second)
	s.stop()
	s = startDev(t, dir)
	s.wantRead(apiKey, second, "local_file", false)
	row("pinnedVersion", "2", "status", "active")

	t.Log("another one; then a change of the file itself, which the alias stands for, counts as a rotation")
	put(file+"@9", ninth)
	rotate("begin", "--version", "9").want(t, 0, "Version 2 is served.")
	rotate("promote").want(t, 0)
	s.wantRead(apiKey, ninth, "local_file", false)
	put(file, edited)
	s.do("POST", refreshPath, s.service, `{"secretType":"trading_api_key"}`).want(202, "")
	s.wantRead(apiKey, edited, "local_file", false)
	s.logged(domain.EventRotationDetected, "secretType", string(apiKey))
	s.wantEvents(1, "action = 'rotation_detected' AND actor_type = 'automation'")
	eventually(t, "the alias decides again", func() bool { return s.status(apiKey)["pinnedVersion"] == nil })

	t.Log("the calendar, and a rotation that left no trace")
	s.command("rotate", "due").want(t, 0, "Security Engineering", "Platform Reliability", string(webhook))
	s.command("rotate", "done", "--secret-type", string(webhook), "--at", "2026-01-31T12:00:00Z").want(t, 0, "at 2026-01-31T12:00:00Z is recorded", "2027-01-31")
	s.command("rotate", "done", "--secret-type", string(webhook), "--at", "2025-01-31T12:00:00Z").want(t, 6, "a later rotation is recorded already")

	s.wantNoTrace(string(sample), second, ninth, edited)
	s.stop()
}

// TestFollowUpsOfOverrides: what an override leaves to be done is closed by a rotation or by a reason, and one row
// tells all of it.
func TestFollowUpsOfOverrides(t *testing.T) {
	s := startDev(t, filepath.Join(t.TempDir(), "data"))
	s.command("breakglass", "follow-ups").want(t, 0, "No follow-up is open.")
	s.breakGlass(t, apiKey, "injected-for-a-drill", "--reason", "drill")
	s.breakGlass(t, webhook, "injected-in-an-incident", "--reason", "INC-9")
	s.command("breakglass", "follow-ups").want(t, 0, "drill", "INC-9", "dev-operator")
	s.command("status").want(t, 0, "Open follow-ups of overrides: 2.")
	s.do("POST", refreshPath, s.service, "").want(202, "") // the overrides end, what they leave stays
	s.command("status").want(t, 0, "Open follow-ups of overrides: 2.")

	id, _ := s.query("SELECT override_id FROM omni_break_glass_events WHERE secret_type = ?", string(apiKey))[0]["override_id"].(string)
	s.command("breakglass", "follow-ups", "close", id, "--reason", "a made-up value").want(t, 0, "is closed")
	s.command("breakglass", "follow-ups", "close", id, "--reason", "again").want(t, 4, "NO_FOLLOW_UP")
	s.command("rotate", "done", "--secret-type", string(webhook)).want(t, 0)
	s.command("breakglass", "follow-ups").want(t, 0, "No follow-up is open.")

	for secret, want := range map[domain.SecretType][2]string{apiKey: {"waived", "a made-up value"}, webhook: {"rotated", ""}} {
		rows := s.query("SELECT * FROM omni_break_glass_events WHERE secret_type = ?", string(secret))
		if len(rows) != 1 {
			t.Fatalf("omni_break_glass_events of %s: %v", secret, rows)
		}
		r := rows[0]
		if r["applied_by"] != "dev-operator" || r["end_cause"] != "refreshed" || r["follow_up_closed_at"] == nil ||
			r["follow_up_outcome"] != want[0] || r["follow_up_closed_by"] != "dev-operator" || want[1] != "" && r["follow_up_reason"] != want[1] {
			t.Errorf("the life of the override of %s: %v", secret, r)
		}
	}
	s.wantEvents(1, "action = 'write_metadata' AND source = 'break_glass' AND gcp_secret_version = ? AND reason = 'a made-up value'", id)
	s.wantNoTrace("injected-for-a-drill", "injected-in-an-incident")
	s.stop()
}
