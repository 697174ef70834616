package integration_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/apex-tradebill/omni-secrets/adapters/postgres/postgrestest"
)

// TestDoctorBesideARunningServer looks at a server with PostgreSQL and Secret Manager: before, and in trouble.
func TestDoctorBesideARunningServer(t *testing.T) {
	t.Parallel()
	gsm := startEmulator(t)
	prepared := prepareReplicas(t, postgrestest.NewServer(t), gsm, "replica-a")[0]
	doctor := func(env ...string) result {
		t.Helper()
		r := run(t, append(slices.Clone(prepared.env), env...), "", "doctor")
		for _, value := range append([]string{string(prepared.secret), prepared.key.Base64()}, gsm.values[apiKey], gsm.values[webhook]) {
			if strings.Contains(r.stdout+r.stderr, value) {
				t.Errorf("a secret was printed:\n%s%s", r.stdout, r.stderr)
			}
		}
		return r
	}

	t.Log("before the first start")
	doctor().want(t, 0,
		"ok       database: PostgreSQL answers", "warning  database: its login may change or delete audit events", "warning  audit trail: OMNI_AUDIT_SIGNING_KEY is not set", "next: see migrations/postgres/roles.sql",
		"clock database: the database's clock agrees with this machine's within ", "ok       rotation: without a deadline yet: 5;",
		"ok       backend trading_api_key: gsm has version 1", "ok       journal: its folder is made at the first start",
		"skipped  survival: give --api-url")

	t.Log("beside a server")
	s := prepared.start(t)
	about := []string{"OMNI_API_URL=" + s.api, "OMNI_TOKEN=" + s.ops, "OMNI_BREAKGLASS_PUBLIC_KEY=" + s.publicKey}
	const rows = "SELECT (SELECT count(*) FROM omni_secret_access_events) AS events, (SELECT count(*) FROM omni_break_glass_overrides) AS overrides, (SELECT count(*) FROM goose_db_version) AS migrations"
	before := s.query(rows)
	r := doctor(about...).want(t, 0,
		"ok       break-glass: the two keys are a pair", "clock server: the clock of 127.0.0.1:", "ok       rotation: due in more than 30 days: 5",
		"ok       journal: a running server has it open, as it should")
	if strings.Count(r.stdout, ", as "+strings.TrimPrefix(s.api, "http://")+" has it in memory") != 5 {
		t.Errorf("survival:\n%s", r.stdout)
	}

	t.Log("in trouble")
	gsm.off("deny")
	doctor(about...).want(t, 7,
		"failed   backend trading_api_key: permission_denied", "next: grant the server's identity roles/secretmanager.secretAccessor",
		"5 of 19 checks failed")
	after := s.query(rows)
	if len(before) != 1 || len(after) != 1 || before[0]["events"] != after[0]["events"] || before[0]["overrides"] != after[0]["overrides"] || before[0]["migrations"] != after[0]["migrations"] {
		t.Errorf("rows before %v and after %v", before, after)
	}
	s.stop()
}
