package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/sqlite"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/service"
)

// audited is a deployment with thirty events of one replica, all of them signed.
type audited struct {
	*patient
	key domain.CheckpointKey
}

func newAudited(t *testing.T) *audited {
	t.Helper()
	text, err := newAuditKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := parseAuditKey([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	a := &audited{newPatient(t), key}
	a.env[auditKeyEnv], a.env[auditPublicKeyEnv] = text, key.Public().String()
	a.record(1, 30)
	a.withDatabase(a.sign)
	return a
}

func (a *audited) record(first, last uint64) {
	a.t.Helper()
	a.withDatabase(func(db *sqlite.Store) error { return db.InsertEvents(a.t.Context(), auditEvents(first, last)) })
}

func auditEvents(first, last uint64) (events []domain.Event) {
	for seq := first; seq <= last; seq++ {
		events = append(events, domain.Event{
			ID: domain.EventID{Start: 1, Seq: seq}, Type: "key", Action: domain.ActionRead, Actor: domain.Actor{Type: domain.ActorService, ID: "svc"},
			Result: domain.ResultSuccess, ReplicaID: "replica-1", RecordedAt: time.Now(),
		})
	}
	return events
}

func (a *audited) sign(db *sqlite.Store) error {
	heads, err := db.ChainHeads(a.t.Context())
	if err != nil {
		return err
	}
	return db.AddCheckpoints(a.t.Context(), []domain.Checkpoint{a.key.Sign(heads[0], time.Now())})
}

// tamper runs statements as who owns the file can.
func (a *audited) tamper(statements ...string) {
	a.t.Helper()
	db, err := sql.Open("sqlite", a.path("state.db"))
	if err != nil {
		a.t.Fatal(err)
	}
	defer db.Close()
	for _, trigger := range []string{
		"omni_secret_access_events_no_update", "omni_secret_access_events_retention", "omni_audit_chains_forward", "omni_audit_checkpoints_no_update", "omni_audit_checkpoints_no_delete",
	} {
		statements = append([]string{"DROP TRIGGER IF EXISTS " + trigger}, statements...)
	}
	for _, statement := range statements {
		if _, err := db.ExecContext(a.t.Context(), statement); err != nil {
			a.t.Fatalf("%s: %v", statement, err)
		}
	}
}

func (a *audited) verify(args ...string) outcome {
	a.t.Helper()
	return process{env: a.env}.run(a.t, append([]string{"audit", "verify"}, args...)...)
}

func TestAuditVerifyFindsNothing(t *testing.T) {
	a := newAudited(t)
	a.record(31, 32)
	a.verify().want(t, exitOK, "32 rows were checked: nothing was changed", "replica-1", "1-32",
		"note: the checkpoints are the database's own", "note: 2 events came after the last checkpoint")

	var v verified
	if err := json.Unmarshal([]byte(a.verify("-o", "json").out), &v); err != nil {
		t.Fatal(err)
	}
	if v.Rows != 32 || len(v.Findings) != 0 || len(v.Chains) != 1 || v.Chains[0].SignedSeq != 30 || v.Chains[0].SignedAt == nil {
		t.Errorf("as JSON: %+v", v)
	}
	delete(a.env, auditPublicKeyEnv)
	a.verify().want(t, exitOK, "note: no public key was given: signatures were not checked")
}

func TestAuditVerifyNamesWhatWasChanged(t *testing.T) {
	a := newAudited(t)
	a.tamper(`UPDATE omni_secret_access_events SET actor_id = 'nobody' WHERE chain_seq = 7`, `DELETE FROM omni_secret_access_events WHERE chain_seq IN (12, 30)`)
	a.verify().want(t, exitTampered, "edited", "0000000000000001-0000000000000007", "removed", "12", "cut_off",
		"the audit trail was changed: 3 findings", "next: keep the database as it is")

	var v verified
	if err := json.Unmarshal([]byte(a.verify("-o", "json").out), &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Findings) != 3 || v.Findings[0].Kind != domain.TamperEdited || v.Findings[0].EventID != "0000000000000001-0000000000000007" || v.Findings[0].Seq != 7 {
		t.Errorf("as JSON: %+v", v.Findings)
	}
}

// Who owns the database can make all of it fit, but not what left it.
func TestAuditVerifyWithACopyOfTheCheckpoints(t *testing.T) {
	a := newAudited(t)
	exported := process{env: a.env}.run(t, "audit", "checkpoints", "-o", "json")
	exported.want(t, exitOK, `"seq":30`, `"keyId":"`+a.key.Public().ID()+`"`)
	process{env: a.env}.run(t, "audit", "checkpoints").want(t, exitOK, "SIGNED", "replica-1")
	a.write("checkpoints.json", exported.out)

	a.tamper(`DELETE FROM omni_secret_access_events WHERE chain_seq > 20`, `DELETE FROM omni_audit_checkpoints`,
		`UPDATE omni_audit_chains SET seq = 20, hash = (SELECT chain_hash FROM omni_secret_access_events WHERE chain_seq = 20)`)
	a.verify().want(t, exitOK, "no checkpoint confirms any of this")
	a.verify("--checkpoints", a.path("checkpoints.json")).want(t, exitTampered, "cut_off", "21-30", "a signed checkpoint has seen them")

	var document struct{ Checkpoints []map[string]any }
	if err := json.Unmarshal([]byte(exported.out), &document); err != nil {
		t.Fatal(err)
	}
	logged := document.Checkpoints[0] // as the server's log has it
	logged["msg"] = domain.EventAuditCheckpoint
	line, err := json.Marshal(logged)
	if err != nil {
		t.Fatal(err)
	}
	a.write("server.log", "no JSON\n{\"msg\":\"ready\"}\n"+string(line)+"\n")
	a.verify("--checkpoints", a.path("server.log")).want(t, exitTampered, "21-30")
}

func TestAuditVerifyDoesNotBelieveAForgedCheckpoint(t *testing.T) {
	a := newAudited(t)
	a.tamper(`UPDATE omni_audit_checkpoints SET seq = 29`)
	a.verify().want(t, exitTampered, "checkpoint", "no given public key verifies this checkpoint")
}

func TestAuditVerifyRefusesWhatItCannotUse(t *testing.T) {
	a := newAudited(t)
	a.write("empty.json", "{}\n")
	a.write("broken.json", `{"checkpoints":[{"chain":"x"}]}`+"\n")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--public-key", "x"}, exitUsage, "--public-key: a public key of the audit trail is base64"},
		{[]string{"--checkpoints", a.path("missing")}, exitUsage, "no such file"},
		{[]string{"--checkpoints", a.path("empty.json")}, exitUsage, "there is no checkpoint in it"},
		{[]string{"--checkpoints", a.path("broken.json")}, exitUsage, "line 1: chain id"},
	} {
		a.verify(c.args...).want(t, c.code, c.want)
	}
	process{}.run(t, "audit", "verify").want(t, exitConfig, "DATABASE_URL is not set")
	process{env: map[string]string{"DATABASE_URL": a.env["DATABASE_URL"]}}.run(t, "audit", "verify", "--checkpoints", a.path("empty.json")).
		want(t, exitUsage, "--checkpoints needs --public-key")
	process{env: map[string]string{"DATABASE_URL": "sqlite:" + a.path("nothing.db")}}.run(t, "audit", "verify").want(t, exitUnavailable, "next: check DATABASE_URL")
}

// A long trail is read in pages, each of which is told.
func TestVerifyALongTrail(t *testing.T) {
	const rows = 100_000
	a := newAudited(t)
	a.withDatabase(func(db *sqlite.Store) error {
		for first := uint64(31); first <= rows; first += 5000 {
			if err := db.InsertEvents(context.WithoutCancel(t.Context()), auditEvents(first, min(first+4999, rows))); err != nil {
				return err
			}
		}
		var read []int64
		last := 0.0
		check, err := service.VerifyAudit(t.Context(), db, service.AuditProof{Progress: func(rows int64, part float64) {
			if part <= last {
				t.Errorf("progress goes from %v to %v", last, part)
			}
			last = part
			read = append(read, rows)
		}})
		if err != nil {
			return err
		}
		findings, _ := check.Findings()
		if all, _ := check.Rows(); all != rows || len(findings) > 0 || last != 1 || len(read) < 10 {
			t.Errorf("%d rows in %d pages up to %v, found %+v", all, len(read), last, findings)
		}
		return nil
	})
}

func TestProgressIsALineNowAndThen(t *testing.T) {
	var out bytes.Buffer
	at := time.Now()
	p := newAuditProgress(&streams{err: &out}, func() time.Time { return at })
	for page := range 10 {
		at = at.Add(time.Second)
		p.page(int64(page+1)*1000, float64(page+1)/10)
	}
	want := "5000 rows checked, 50 %, 1000 rows/s, 5s left\n10000 rows checked, 100 %, 1000 rows/s, 0s left\n"
	if out.String() != want {
		t.Errorf("printed:\n%swant:\n%s", out.String(), want)
	}
}

func TestConfigOfTheAuditKey(t *testing.T) {
	text, err := newAuditKey()
	if err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/key"
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		env  map[string]string
		want string // part of the error; "" for none
	}{
		{"none", nil, ""},
		{"in a variable", map[string]string{auditKeyEnv: text}, ""},
		{"in a file", map[string]string{auditKeyFileEnv: file}, ""},
		{"in both", map[string]string{auditKeyEnv: text, auditKeyFileEnv: file}, "are both set"},
		{"not one", map[string]string{auditKeyEnv: plaintext}, auditKeyEnv + ": the key must be base64 of 32 bytes"},
		{"no file", map[string]string{auditKeyFileEnv: file + "x"}, auditKeyFileEnv + ": "},
		{"signed too often", map[string]string{auditKeyEnv: text, auditEveryEnv: "1s"}, auditEveryEnv + " is 1s, must be 10s to 24h"},
	} {
		t.Run(c.name, func(t *testing.T) {
			read, err := configOf(c.env)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want == "" && read.auditKey.IsZero() != (len(c.env) == 0):
				t.Error("the key was not read as it is")
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), plaintext)):
				t.Errorf("error %v, want %q", err, c.want)
			}
			if shown := fmt.Sprintf("%+v", read); strings.Contains(shown, text) {
				t.Error("the key was printed")
			}
		})
	}
}

func TestKeygenAudit(t *testing.T) {
	o := process{}.run(t, "keygen", "--audit", "-o", "json")
	o.want(t, exitOK)
	var pair struct{ PublicKey, SigningKey string }
	if err := json.Unmarshal([]byte(o.out), &pair); err != nil {
		t.Fatal(err)
	}
	key, err := parseAuditKey([]byte(pair.SigningKey))
	if err != nil || key.Public().String() != pair.PublicKey {
		t.Errorf("the two keys are not a pair: %v", err)
	}
	process{}.run(t, "keygen", "--audit").want(t, exitOK, "export OMNI_AUDIT_PUBLIC_KEY=", "\nexport OMNI_AUDIT_SIGNING_KEY=")
	process{}.run(t, "keygen", "--audit", "--jwt-secret").want(t, exitUsage, "exclude each other")
}

func TestDoctorTellsOfCheckpoints(t *testing.T) {
	a := newAudited(t)
	a.examine().want(t, exitOK, "ok       audit trail: the last checkpoint is")
	a.record(31, 31)
	a.tamper(`UPDATE omni_audit_checkpoints SET signed_at = '2026-01-01T00:00:00.000000Z'`)
	a.examine().want(t, exitOK, "warning  audit trail: the last checkpoint is", "1 events came since")
	a.tamper(`UPDATE omni_audit_checkpoints SET seq = seq + 1000`)
	a.examine().want(t, exitUnhealthy, "failed   audit trail: the chain", "of replica-1 ends before its last checkpoint, at event 31 and not 1030")
	delete(a.env, auditKeyEnv)
	a.examine().want(t, exitOK, "warning  audit trail: OMNI_AUDIT_SIGNING_KEY is not set")
}
