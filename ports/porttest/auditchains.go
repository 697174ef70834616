package porttest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// ChainedState is a State that links its audit events.
type ChainedState interface {
	State
	ports.AuditChains
}

// RunAuditChains checks an implementation of ports.AuditChains. create returns an empty store, and ends it with
// t.Cleanup; and what an owner of its database can do once the rules of the schema are switched off: run a statement of
// SQL, or nil where there is none.
func RunAuditChains(t *testing.T, create func(t *testing.T) (s ChainedState, tamper func(statement string))) {
	t.Helper()
	cases := []struct {
		name string
		run  func(t *testing.T, s ChainedState)
	}{
		{"every event is linked, whatever its texts are", chainsOfAnyText},
		{"each replica has a chain", chainsByReplica},
		{"an event that comes again takes no second link", chainsOnce},
		{"events of changes are linked with those of the journal", chainsOfChanges},
		{"a change that fails takes no link", chainsRollBack},
		{"batches and changes of one replica at the same time make one chain", chainsRace},
		{"pruned events leave a chain that holds", chainsPruned},
		{"checkpoints come back, one for each place", checkpointsRoundTrip},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s, _ := create(t)
			c.run(t, s)
		})
	}
	if _, tamper := create(t); tamper == nil {
		return // there is no SQL to tamper with
	}
	for _, c := range tamperings {
		t.Run("found: "+c.name, func(t *testing.T) {
			s, tamper := create(t)
			for n := uint64(1); n <= 20; n += 5 {
				insertUpTo(t, s, n, n+4)
			}
			sign(t, s)
			for n := uint64(21); n <= 30; n += 5 {
				insertUpTo(t, s, n, n+4)
			}
			wantFindings(t, s, "")
			for _, statement := range c.statements {
				tamper(statement)
			}
			wantFindings(t, s, c.want)
		})
	}
}

// The columns of an event but its number, in the words of a statement that copies them.
const copied = `secret_type, action, actor_type, actor_id, result, error_code, gcp_secret_version, source, duration_ms, request_id, replica_id, reason, recorded_at`

// tamperings are done to thirty events of one chain, of which the first twenty are confirmed by a checkpoint.
var tamperings = []struct {
	name       string
	statements []string
	want       string
}{
	{"another actor", []string{`UPDATE omni_secret_access_events SET actor_id = 'svc-harmless' WHERE chain_seq = 7`}, "edited 7"},
	{"another result", []string{`UPDATE omni_secret_access_events SET result = 'denied' WHERE chain_seq = 30`}, "edited 30"},
	{"another number of milliseconds", []string{`UPDATE omni_secret_access_events SET duration_ms = duration_ms + 1 WHERE chain_seq = 7`}, "edited 7"},
	{"an empty text in place of an absent one", []string{`UPDATE omni_secret_access_events SET error_code = '' WHERE chain_seq = 7`}, "edited 7"},
	{"an event id that is none", []string{`UPDATE omni_secret_access_events SET event_id = 'x' WHERE chain_seq = 7`}, "edited 7"},
	{"the request of another event", []string{`UPDATE omni_secret_access_events SET request_id = NULL WHERE chain_seq IN (7, 9)`}, "edited 7, edited 9"},
	{"no hash", []string{`UPDATE omni_secret_access_events SET chain_hash = NULL WHERE chain_seq = 7`}, "edited 7"},
	{"a row removed", []string{`DELETE FROM omni_secret_access_events WHERE chain_seq = 7`}, "removed 7"},
	{"the first rows removed", []string{`DELETE FROM omni_secret_access_events WHERE chain_seq < 7`}, "removed 1-6"},
	{"the last rows removed", []string{`DELETE FROM omni_secret_access_events WHERE chain_seq > 27`}, "cut_off 28-30"},
	{"the last rows removed and the head set back behind the checkpoint", []string{
		`DELETE FROM omni_secret_access_events WHERE chain_seq > 17`,
		`UPDATE omni_audit_chains SET seq = 17, hash = (SELECT chain_hash FROM omni_secret_access_events WHERE chain_seq = 17)`,
	}, "cut_off 18-20"},
	{"two rows with each other's places", []string{`UPDATE omni_secret_access_events SET chain_seq = 16 - chain_seq WHERE chain_seq IN (7, 9)`}, "reordered 7, reordered 9"},
	{"a row without a link", []string{`INSERT INTO omni_secret_access_events (event_id, ` + copied + `)
SELECT 'feedfacecafebeef-00000000000000ff', ` + copied + ` FROM omni_secret_access_events WHERE chain_seq = 7`}, "unlinked 0"},
	{"a row with a link that another has", []string{`INSERT INTO omni_secret_access_events (event_id, chain_id, chain_seq, chain_hash, ` + copied + `)
SELECT 'feedfacecafebeef-00000000000000ff', chain_id, chain_seq, chain_hash, ` + copied + ` FROM omni_secret_access_events WHERE chain_seq = 7`}, "duplicate 7"},
	{"a row behind the head", []string{`INSERT INTO omni_secret_access_events (event_id, chain_id, chain_seq, chain_hash, ` + copied + `)
SELECT 'feedfacecafebeef-00000000000000ff', chain_id, 31, chain_hash, ` + copied + ` FROM omni_secret_access_events WHERE chain_seq = 7`}, "inserted 31"},
	{"the chain's record removed", []string{`DELETE FROM omni_audit_chains`}, "removed 1"},
	{"everything of the chain but the checkpoint removed", []string{`DELETE FROM omni_audit_chains`, `DELETE FROM omni_secret_access_events`}, "removed 1-20"},
	{"a mark of pruning that nothing was pruned for", []string{
		`INSERT INTO omni_audit_pruned (chain_id, seq, hash) SELECT chain_id, chain_seq, chain_hash FROM omni_secret_access_events WHERE chain_seq = 22`,
		`DELETE FROM omni_secret_access_events WHERE chain_seq <= 22`,
	}, "removed 21-22"},
}

// signer is the key of these tests.
func signer() domain.CheckpointKey {
	key, err := domain.NewCheckpointKey(make([]byte, domain.CheckpointSeedBytes))
	if err != nil {
		panic(err) // the size is right
	}
	return key
}

// sign stores a checkpoint of each chain.
func sign(t *testing.T, s ports.AuditChains) {
	t.Helper()
	heads, err := s.ChainHeads(t.Context())
	if err != nil {
		t.Fatalf("ChainHeads: %v", err)
	}
	var all []domain.Checkpoint
	for _, h := range heads {
		all = append(all, signer().Sign(h, time.Now()))
	}
	if err := s.AddCheckpoints(t.Context(), all); err != nil {
		t.Fatalf("AddCheckpoints: %v", err)
	}
}

// checked checks the whole trail.
func checked(t *testing.T, s ports.AuditChains) *domain.ChainCheck {
	t.Helper()
	points, err := s.Checkpoints(t.Context())
	if err != nil {
		t.Fatalf("Checkpoints: %v", err)
	}
	for _, p := range points {
		if !signer().Public().Verifies(p) {
			t.Errorf("a checkpoint came back with a signature that does not hold: %+v", p)
		}
	}
	heads, marks := ends(t, s)
	check := domain.NewChainCheck(domain.ChainEvidence{Heads: heads, Marks: marks, Checkpoints: points, Now: time.Now()})
	for after := int64(0); ; {
		rows, err := s.LinkedEvents(t.Context(), after, 7)
		if err != nil {
			t.Fatalf("LinkedEvents: %v", err)
		}
		if len(rows) == 0 {
			break
		}
		for _, r := range rows {
			if r.Row <= after {
				t.Fatalf("row %d comes after row %d", r.Row, after)
			}
			after = r.Row
			check.Take(r)
		}
	}
	check.Finish(ends(t, s))
	return check
}

func ends(t *testing.T, s ports.AuditChains) ([]domain.ChainHead, []domain.ChainMark) {
	t.Helper()
	heads, err := s.ChainHeads(t.Context())
	if err != nil {
		t.Fatalf("ChainHeads: %v", err)
	}
	marks, err := s.ChainMarks(t.Context())
	if err != nil {
		t.Fatalf("ChainMarks: %v", err)
	}
	return heads, marks
}

// wantFindings checks the trail, and what is found as "kind first-last".
func wantFindings(t *testing.T, s ports.AuditChains, want string) *domain.ChainCheck {
	t.Helper()
	check := checked(t, s)
	findings, _ := check.Findings()
	var all []string
	for _, f := range findings {
		one := fmt.Sprintf("%s %d", f.Kind, f.Seq)
		if f.LastSeq > f.Seq {
			one += fmt.Sprintf("-%d", f.LastSeq)
		}
		all = append(all, one)
	}
	if got := strings.Join(all, ", "); got != want {
		t.Errorf("found %q, want %q: %+v", got, want, findings)
	}
	return check
}

// wantChained checks that nothing is wrong, and how many events each replica's chain has.
func wantChained(t *testing.T, s ports.AuditChains, want map[string]int64) {
	t.Helper()
	got := make(map[string]int64)
	for _, chain := range wantFindings(t, s, "").Chains() {
		got[chain.ReplicaID] = chain.Seq
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events of each chain (-want +got):\n%s", diff)
	}
}

func chainsOfAnyText(t *testing.T, s ChainedState) {
	insert(t, s,
		numbered(1),
		domain.Event{ID: domain.EventID{Start: 0, Seq: 1<<64 - 1}, Action: domain.ActionRead, Actor: domain.Anonymous, Result: domain.ResultDenied, ReplicaID: "replica-a", RecordedAt: moment},
		with(numbered(2), func(e *domain.Event) { e.Actor.ID, e.Reason, e.RequestID = "ali\x00ce", "\x00", "a\xffb" }),
		with(numbered(3), func(e *domain.Event) { e.Duration, e.Reason = 1, "it's \"awkward\" ünïcode 秘密" }),
		with(numbered(4), func(e *domain.Event) { e.RecordedAt = time.Date(1969, 12, 31, 23, 59, 59, 123456789, time.UTC) }),
		with(numbered(5), func(e *domain.Event) {
			e.Duration, e.RecordedAt = 99*24*time.Hour+1, time.Date(2200, 1, 1, 0, 0, 0, 999999999, local)
		}),
	)
	wantChained(t, s, map[string]int64{"replica-a": 6})
}

func chainsByReplica(t *testing.T, s ChainedState) {
	of := func(n uint64, replica string) domain.Event {
		return with(numbered(n), func(e *domain.Event) { e.ReplicaID = replica })
	}
	insert(t, s, of(1, "replica-b"), of(2, "replica-a"), of(3, "replica-b"), of(4, ""))
	insert(t, s, of(5, "replica-a"), of(6, "replica-c"))
	wantChained(t, s, map[string]int64{"": 1, "replica-a": 2, "replica-b": 2, "replica-c": 1})
}

func chainsOnce(t *testing.T, s ChainedState) {
	insertUpTo(t, s, 1, 10)
	insertUpTo(t, s, 1, 10) // the cursor was lost
	insertUpTo(t, s, 6, 15)
	insert(t, s, numbered(16), numbered(3), numbered(17), numbered(16))
	wantChained(t, s, map[string]int64{"replica-a": 17})
}

func chainsOfChanges(t *testing.T, s ChainedState) {
	insertUpTo(t, s, 1, 3)
	for n := range uint64(2) {
		o := chainedOverride(fmt.Sprintf("bg-%d", n))
		err := s.ApplyOverride(t.Context(), o, numbered(10+n), func(domain.Override) domain.Event { return numbered(20 + n) })
		if err != nil {
			t.Fatalf("ApplyOverride: %v", err)
		}
	}
	insertUpTo(t, s, 4, 5)
	if ended, err := s.EndOverride(t.Context(), "bg-1", domain.EndCleared, numbered(30)); !ended || err != nil {
		t.Fatalf("EndOverride: %v, %v", ended, err)
	}
	rows := []domain.Metadata{{Type: "a", Status: domain.RotationActive, RotationDueAt: moment, CreatedAt: moment, UpdatedAt: moment}, {Type: "b", Status: domain.RotationActive, RotationDueAt: moment, CreatedAt: moment, UpdatedAt: moment}}
	err := s.EnsureMetadata(t.Context(), rows, func(of domain.SecretType) domain.Event { return numbered(40 + uint64(of[0])) })
	if err != nil {
		t.Fatalf("EnsureMetadata: %v", err)
	}
	wantChained(t, s, map[string]int64{"replica-a": 11})
}

func chainedOverride(id string) domain.Override {
	return domain.Override{
		ID: id, Digest: "digest of " + id, EnvelopeKind: 2, ExpiresAt: moment.Add(time.Hour), Reason: "outage", AppliedAt: moment,
		Envelope:  domain.Envelope{Type: "trading_api_key", Ciphertext: "eA==", ExpiresAt: moment.Add(time.Hour).Format(time.RFC3339)},
		AppliedBy: domain.Actor{Type: domain.ActorOperator, ID: "alice"},
	}
}

func chainsRollBack(t *testing.T, s ChainedState) {
	insertUpTo(t, s, 1, 3)
	o := chainedOverride("bg-1")
	if err := s.ApplyOverride(t.Context(), o, numbered(2), nil); err == nil {
		t.Fatal("an override was applied with an event that is stored already")
	}
	insertUpTo(t, s, 4, 5)
	wantChained(t, s, map[string]int64{"replica-a": 5})
}

func chainsRace(t *testing.T, s ChainedState) {
	race(func(i int) {
		if i%4 == 0 {
			o := chainedOverride(fmt.Sprintf("bg-%d", i))
			o.Envelope.Type = domain.SecretType(fmt.Sprintf("secret_%d", i))
			if err := s.ApplyOverride(t.Context(), o, numbered(uint64(1000+i)), nil); err != nil {
				t.Errorf("ApplyOverride: %v", err)
			}
			return
		}
		var batch []domain.Event
		for n := range 10 {
			batch = append(batch, numbered(uint64(i+n+1)))
		}
		slices.Reverse(batch)
		batch[0].ReplicaID = "replica-b" // those of both chains in one transaction
		batch[0].ID.Seq += 2000
		if err := s.InsertEvents(t.Context(), batch); err != nil {
			t.Errorf("InsertEvents: %v", err)
		}
	})
	wantFindings(t, s, "")
}

func chainsPruned(t *testing.T, s ChainedState) {
	before := moment.Add(-domain.AuditRetention - 20*24*time.Hour)
	recorded := func(n uint64, old bool) domain.Event {
		return with(numbered(n), func(e *domain.Event) {
			if old {
				e.RecordedAt = before.Add(-time.Duration(n) * time.Hour)
			}
		})
	}
	insert(t, s, recorded(1, true), recorded(2, true), recorded(3, true))
	insert(t, s, recorded(4, false), recorded(5, true), recorded(6, true), recorded(7, false), recorded(8, false))
	n, err := s.PruneEvents(t.Context(), before)
	if err != nil || n != 5 {
		t.Fatalf("PruneEvents: %d, %v, want 5", n, err)
	}
	insert(t, s, recorded(9, false))
	wantChained(t, s, map[string]int64{"replica-a": 9})

	insert(t, s, recorded(10, true), recorded(11, false))
	if n, err := s.PruneEvents(t.Context(), before); err != nil || n != 1 {
		t.Fatalf("PruneEvents again: %d, %v, want 1", n, err)
	}
	wantChained(t, s, map[string]int64{"replica-a": 11})
}

func checkpointsRoundTrip(t *testing.T, s ChainedState) {
	at := func(seq int64) domain.Checkpoint {
		return signer().Sign(domain.ChainHead{Chain: 7, ReplicaID: "replica-a", Seq: seq, Hash: domain.ChainHash{byte(seq), 31: 9}}, moment)
	}
	other := signer().Sign(domain.ChainHead{Chain: 7, Seq: 2}, time.Now())
	for _, batch := range [][]domain.Checkpoint{{at(2)}, {at(5), at(1)}, {other}, nil} {
		if err := s.AddCheckpoints(t.Context(), batch); err != nil {
			t.Fatalf("AddCheckpoints: %v", err)
		}
	}
	got, err := s.Checkpoints(t.Context())
	if err != nil {
		t.Fatalf("Checkpoints: %v", err)
	}
	if diff := cmp.Diff([]domain.Checkpoint{at(1), at(2), at(5)}, got); diff != "" {
		t.Errorf("checkpoints (-want +got):\n%s", diff)
	}
	if got, err = s.LastCheckpoints(t.Context()); err != nil || len(got) != 1 || got[0].Seq != 5 {
		t.Errorf("LastCheckpoints: %+v, %v, want that of place 5", got, err)
	}
	first, last, err := s.EventRows(t.Context())
	if first != 0 || last != 0 || err != nil {
		t.Errorf("EventRows of no rows: %d, %d, %v", first, last, err)
	}
}
