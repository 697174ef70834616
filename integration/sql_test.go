package integration_test

import (
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/postgres/postgrestest"
)

// TestReadyQueries runs each query of docs/sql.md after all of what they ask for has happened: each must find
// something.
func TestReadyQueries(t *testing.T) {
	t.Parallel()
	gsm := startEmulator(t)
	s := prepareReplicas(t, postgrestest.NewServer(t), gsm, "replica-a")[0].start(t)
	s.wantRead(apiKey, gsm.values[apiKey], "gsm", false)
	s.wantRead(webhook, gsm.values[webhook], "gsm", false) // and never again: this reader keeps version 1
	s.breakGlass(t, apiKey, "injected-for-auditors", "--reason", "INC-8")
	if _, err := s.try("GET", readPath+string(apiKey), s.service, "", "X-Request-Id", "audited-request-1"); err != nil {
		t.Fatal(err)
	}
	s.do("GET", readPath+string(apiKey), s.ops, "").want(403, "")
	gsm.rotate("trading_client_secret", "client-secret-v2")
	s.do("POST", rotationsPath, s.ops, `{"secretType":"trading_client_secret","gcpSecretVersion":"2"}`).want(201, "")
	s.do("POST", rotationsPath+"/trading_client_secret/promote", s.ops, "").want(200, "")
	gsm.rotate(webhook, "webhook-v2")
	s.do("POST", refreshPath, s.service, "").want(202, "")
	s.wantEvents(1, "action = 'break_glass_clear'")
	s.wantEvents(2, "action = 'read' AND secret_type = 'trading_api_key' AND result = 'success'")
	s.wantEvents(1, "action = 'access_denied'")
	eventually(t, "the metadata tell the new version", func() bool {
		return len(s.query("SELECT 1 FROM omni_secret_metadata WHERE cache_version = '2' AND secret_type = 'webhook_shared_secret'")) == 1
	})

	// The override is of the day before yesterday.
	s.execute("UPDATE omni_break_glass_follow_ups SET opened_at = now() - interval '2 days'")

	queries := blocksOf(t, "docs/sql.md", "sql")
	if len(queries) < 10 {
		t.Fatalf("only %d queries", len(queries))
	}
	for _, q := range queries {
		rows := s.query(q.text)
		if len(rows) == 0 {
			t.Errorf("%s finds nothing:\n%s", q, q.text)
		}
	}
	old := s.query(queries[6].text)
	if len(old) != 2 { // the webhook's reader has version 1, and the key's reader has the override
		t.Errorf("who reads an old version: %v", old)
	}
	longest := s.query(queries[1].text)
	if len(longest) != 1 || longest[0]["reason"] != "INC-8" || longest[0]["end_cause"] != "refreshed" {
		t.Errorf("longest overrides: %v", longest)
	}
	if late := s.query(queries[8].text); len(late) != 1 || late[0]["applied_by"] != "sre" || late[0]["owner"] != "Security Engineering" {
		t.Errorf("late follow-ups: %v", late)
	}
	if rotations := s.query(queries[9].text); len(rotations) != 1 || rotations[0]["begun_by"] != "sre" || rotations[0]["outcome"] != "promoted" {
		t.Errorf("rotations: %v", rotations)
	}
	if at, ok := longest[0]["applied_at"].(time.Time); !ok || time.Since(at) > time.Hour {
		t.Errorf("applied_at is %v", longest[0]["applied_at"])
	}
	s.stop()
}
