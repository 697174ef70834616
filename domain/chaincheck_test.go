package domain_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

var checkedAt = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// trail is an audit trail and what belongs to it, for tests to tamper with.
type trail struct {
	rows     []domain.LinkedEvent
	evidence domain.ChainEvidence
	key      domain.CheckpointKey
}

// newTrail has n events for each chain, in turns, with the row numbers 1, 2, 3, ..., and a checkpoint at every tenth.
func newTrail(t *testing.T, n int, replicas ...string) *trail {
	t.Helper()
	tr := &trail{key: signingKey(t, 1)}
	var linker domain.Linker
	for i, replica := range replicas {
		tr.evidence.Heads = append(tr.evidence.Heads, domain.BeginChain(domain.ChainID(i+1), replica))
	}
	for seq := range n {
		for i := range tr.evidence.Heads {
			h := &tr.evidence.Heads[i]
			e := linkedEvent
			e.ID.Seq, e.ReplicaID, e.RequestID = uint64(seq+1), h.ReplicaID, fmt.Sprint(seq+1)
			e.RecordedAt = checkedAt.Add(time.Duration(seq-n) * time.Minute)
			linker.Append(h, &e)
			tr.rows = append(tr.rows, domain.LinkedEvent{
				Event: e, EventID: e.ID.String(), Row: int64(len(tr.rows) + 1), Chain: h.Chain, Seq: h.Seq, Hash: h.Hash,
			})
			if h.Seq%10 == 0 {
				tr.evidence.Checkpoints = append(tr.evidence.Checkpoints, tr.key.Sign(*h, e.RecordedAt))
			}
		}
	}
	tr.evidence.Now = checkedAt
	return tr
}

// at is the row in a place of the first chain.
func (tr *trail) at(seq int64) *domain.LinkedEvent {
	i := slices.IndexFunc(tr.rows, func(r domain.LinkedEvent) bool { return r.Chain == 1 && r.Seq == seq })
	return &tr.rows[i]
}

func (tr *trail) remove(from, to int64) {
	tr.rows = slices.DeleteFunc(tr.rows, func(r domain.LinkedEvent) bool { return r.Chain == 1 && r.Seq >= from && r.Seq <= to })
}

// relink makes the links of the first chain fit from a place on.
func (tr *trail) relink(from int64) {
	var linker domain.Linker
	h := tr.evidence.Heads[0]
	begin := domain.BeginChain(h.Chain, h.ReplicaID)
	begin.Seq, begin.Hash = from-1, tr.at(from-1).Hash
	for i := range tr.rows {
		if r := &tr.rows[i]; r.Chain == 1 && r.Seq >= from {
			linker.Append(&begin, &r.Event)
			r.Seq, r.Hash = begin.Seq, begin.Hash
		}
	}
	tr.evidence.Heads[0] = begin
}

func (tr *trail) check() *domain.ChainCheck {
	slices.SortFunc(tr.rows, func(a, b domain.LinkedEvent) int { return int(a.Row - b.Row) })
	check := domain.NewChainCheck(tr.evidence)
	for _, r := range tr.rows {
		check.Take(r)
	}
	check.Finish(tr.evidence.Heads, tr.evidence.Marks)
	return check
}

// told lists findings as "kind first-last".
func told(check *domain.ChainCheck) string {
	findings, _ := check.Findings()
	var all []string
	for _, f := range findings {
		place := fmt.Sprint(f.Seq)
		if f.LastSeq > f.Seq {
			place += fmt.Sprintf("-%d", f.LastSeq)
		}
		all = append(all, string(f.Kind)+" "+place)
	}
	return strings.Join(all, ", ")
}

func TestChainCheck(t *testing.T) {
	cases := []struct {
		name   string
		tamper func(tr *trail)
		want   string
	}{
		{"nothing was done", func(*trail) {}, ""},
		{"an actor was changed", func(tr *trail) { tr.at(5).Actor.ID = "somebody else" }, "edited 5"},
		{"a text was moved to the next column", func(tr *trail) { tr.at(5).Source, tr.at(5).Version = "", "cache" }, "edited 5"},
		{"a time was changed by a microsecond", func(tr *trail) { tr.at(5).RecordedAt = tr.at(5).RecordedAt.Add(time.Microsecond) }, "edited 5"},
		{"a row is of a form that no program writes", func(tr *trail) { tr.at(5).Foreign = "its reason is an empty text" }, "edited 5"},
		{"a hash was changed", func(tr *trail) { tr.at(5).Hash[0]++ }, "edited 5"},
		{"a row was changed, with its hash", func(tr *trail) {
			r := tr.at(5)
			r.Actor.ID = "somebody else"
			r.Hash = new(domain.Linker).Hash(tr.at(4).Hash, &r.Event)
		}, "edited 6"},
		{"the first row was changed", func(tr *trail) { tr.at(1).Actor.ID = "somebody else" }, "edited 1"},
		{"the last row was changed", func(tr *trail) { tr.at(30).Actor.ID = "somebody else" }, "edited 30"},
		{"the last row was changed, with its hash", func(tr *trail) {
			tr.rows = tr.rows[:0:0]
			*tr = *newTrail(t, 29, "omni-0")
			tr.at(29).Actor.ID = "somebody else"
			head := tr.evidence.Heads[0]
			tr.relink(29)
			tr.evidence.Heads[0] = head
		}, "rewritten 21-29"},
		{"a row was changed, and all after it made to fit", func(tr *trail) { tr.at(15).Actor.ID = "somebody else"; tr.relink(15) }, "rewritten 11-20"},
		{"a row was removed", func(tr *trail) { tr.remove(5, 5) }, "removed 5"},
		{"the first rows were removed", func(tr *trail) { tr.remove(1, 5) }, "removed 1-5"},
		{"rows were removed in two places", func(tr *trail) { tr.remove(5, 6); tr.remove(20, 24) }, "removed 5-6, removed 20-24"},
		{"a row was removed, and those after it were given its place", func(tr *trail) {
			tr.remove(5, 5)
			for i := range tr.rows {
				if tr.rows[i].Seq > 5 {
					tr.rows[i].Seq--
				}
			}
		}, "rewritten 1-10, edited 5, cut_off 30"},
		{"the last rows were removed", func(tr *trail) { tr.remove(28, 30) }, "cut_off 28-30"},
		{"the last rows were removed, and the head set back", func(tr *trail) {
			tr.remove(28, 30)
			tr.evidence.Heads[0].Seq, tr.evidence.Heads[0].Hash = 27, tr.at(27).Hash
		}, "cut_off 28-30"},
		{"all rows were removed", func(tr *trail) { tr.remove(1, 30) }, "cut_off 1-30"},
		{"the chain was removed", func(tr *trail) { tr.remove(1, 30); tr.evidence.Heads = nil }, "removed 1-30"},
		{"the head was removed", func(tr *trail) { tr.evidence.Heads = nil }, "removed 1"},
		{"two rows have each other's columns", func(tr *trail) { a, b := tr.at(5), tr.at(9); a.Event, b.Event = b.Event, a.Event }, "reordered 5, reordered 9"},
		{"two rows have each other's places", func(tr *trail) { a, b := tr.at(5), tr.at(9); a.Seq, b.Seq = b.Seq, a.Seq }, "reordered 5, reordered 9"},
		{"two neighbours have each other's places", func(tr *trail) { a, b := tr.at(5), tr.at(6); a.Seq, b.Seq = b.Seq, a.Seq }, "reordered 5, reordered 6"},
		{"two rows have each other's numbers", func(tr *trail) { a, b := tr.at(5), tr.at(9); a.Row, b.Row = b.Row, a.Row }, "reordered 5, reordered 9"},
		{"a row has another place", func(tr *trail) { tr.at(5).Seq = 1 << 40 }, "reordered 5"},
		{"a row was moved to the end of the table", func(tr *trail) { tr.at(5).Row = 1000 }, "reordered 5"},
		{"a row was moved to the front of the table", func(tr *trail) { tr.at(15).Row = -1 }, "reordered 15"},
		{"a copy of a row was put in at the end", func(tr *trail) { r := *tr.at(5); r.Row = 1000; tr.rows = append(tr.rows, r) }, "duplicate 5"},
		{"a row was put in behind the head", func(tr *trail) { r := *tr.at(30); r.Row, r.Seq = 1000, 31; tr.rows = append(tr.rows, r) }, "inserted 31"},
		{"a row was put in between, with a place that another has", func(tr *trail) {
			r := *tr.at(5)
			tr.at(5).Row = -5 // makes room
			r.Actor.ID, r.EventID = "somebody else", "forged"
			for i := range tr.rows {
				tr.rows[i].Row *= 2
			}
			tr.at(5).Row = 10
			r.Row, r.Seq = 11, 6
			tr.rows = append(tr.rows, r)
		}, "inserted 6"},
		{"a row was put in between, linked, and the places after it moved on", func(tr *trail) {
			r := *tr.at(5)
			for i := range tr.rows {
				tr.rows[i].Row *= 2
				if tr.rows[i].Seq > 5 {
					tr.rows[i].Seq++
				}
			}
			r.EventID, r.Row, r.Seq = "forged", 11, 6
			r.Hash = new(domain.Linker).Hash(tr.at(5).Hash, &r.Event)
			tr.rows = append(tr.rows, r)
			tr.evidence.Heads[0].Seq, tr.evidence.Checkpoints = 31, nil
		}, "inserted 6"},
		{"a row without a link was put in", func(tr *trail) { tr.rows = append(tr.rows, domain.LinkedEvent{Row: 1000, EventID: "x"}) }, "unlinked 0"},
		{"rows without a link were there before", func(tr *trail) { tr.rows = append(tr.rows, domain.LinkedEvent{Row: -1, EventID: "x"}) }, ""},
		{"the first rows were pruned", func(tr *trail) {
			tr.evidence.Marks = []domain.ChainMark{{Chain: 1, Seq: 5, Hash: tr.at(5).Hash}}
			tr.evidence.Now = checkedAt.Add(domain.AuditRetention)
			tr.remove(1, 5)
		}, ""},
		{"rows were pruned, but one that was stored before them stays", func(tr *trail) {
			tr.evidence.Marks = []domain.ChainMark{{Chain: 1, Seq: 3, Hash: tr.at(3).Hash}, {Chain: 1, Seq: 8, Hash: tr.at(8).Hash}}
			tr.evidence.Now = checkedAt.Add(domain.AuditRetention)
			tr.remove(1, 3)
			tr.remove(5, 8)
		}, ""},
		{"all rows were pruned", func(tr *trail) {
			tr.evidence.Marks = []domain.ChainMark{{Chain: 1, Seq: 30, Hash: tr.at(30).Hash}}
			tr.evidence.Now = checkedAt.Add(domain.AuditRetention)
			tr.remove(1, 30)
		}, ""},
		{"young rows are said to be pruned", func(tr *trail) {
			tr.evidence.Marks = []domain.ChainMark{{Chain: 1, Seq: 15, Hash: tr.at(15).Hash}}
			tr.remove(1, 15)
		}, "removed 11-15"},
		{"the row after the pruned ones was changed", func(tr *trail) {
			tr.evidence.Marks = []domain.ChainMark{{Chain: 1, Seq: 5, Hash: tr.at(5).Hash}}
			tr.evidence.Now = checkedAt.Add(domain.AuditRetention)
			tr.remove(1, 5)
			tr.at(6).Actor.ID = "somebody else"
		}, "edited 6"},
		{"more was removed than was pruned", func(tr *trail) {
			tr.evidence.Marks = []domain.ChainMark{{Chain: 1, Seq: 5, Hash: tr.at(5).Hash}}
			tr.evidence.Now = checkedAt.Add(domain.AuditRetention)
			tr.remove(1, 7)
		}, "removed 1-7"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			tr := newTrail(t, 30, "omni-0")
			c.tamper(tr)
			check := tr.check()
			if got := told(check); got != c.want {
				findings, _ := check.Findings()
				t.Errorf("found %q, want %q: %+v", got, c.want, findings)
			}
		})
	}
}

// The other chain is as it was, whatever happens in one.
func TestChainCheckTellsChainsApart(t *testing.T) {
	tr := newTrail(t, 30, "omni-0", "omni-1")
	tr.at(5).Actor.ID = "somebody else"
	tr.remove(12, 14)
	check := tr.check()
	if got, want := told(check), "edited 5, removed 12-14"; got != want {
		t.Errorf("found %q, want %q", got, want)
	}
	chains := check.Chains()
	if len(chains) != 2 || chains[0].Rows != 27 || chains[1].Rows != 30 || chains[1].Checkpoints != 3 || chains[1].SignedSeq != 30 || chains[1].First != 1 {
		t.Errorf("chains: %+v", chains)
	}
}

// A row that was moved further than rows are waited for is still one that was moved, not one that is missing.
func TestChainCheckFindsRowsThatWereMovedFar(t *testing.T) {
	tr := newTrail(t, 10_000, "omni-0")
	tr.at(5).Row = 100_000
	tr.at(7).Row = 100_001
	if got, want := told(tr.check()), "reordered 5, reordered 7"; got != want {
		t.Errorf("found %q, want %q", got, want)
	}
}

func TestChainCheckKeepsItsFindingsBounded(t *testing.T) {
	tr := newTrail(t, 5000, "omni-0")
	for i := range tr.rows {
		tr.rows[i].Actor.ID = "somebody else"
	}
	listed, more := tr.check().Findings()
	if len(listed) != 1000 || more != 4000 {
		t.Errorf("%d findings are listed and %d more counted, want 1000 and 4000", len(listed), more)
	}
}

// What arrives and what is pruned while the rows are read is no tampering.
func TestChainCheckOfALiveTrail(t *testing.T) {
	tr := newTrail(t, 40, "omni-0", "omni-1")
	later := tr.evidence
	tr.evidence.Heads = slices.Clone(later.Heads)
	tr.evidence.Heads[0].Seq, tr.evidence.Heads[0].Hash = 30, tr.at(30).Hash
	tr.evidence.Heads = tr.evidence.Heads[:1] // the other one began later
	tr.evidence.Checkpoints = slices.DeleteFunc(tr.evidence.Checkpoints, func(c domain.Checkpoint) bool { return c.Chain != 1 || c.Seq > 30 })
	tr.evidence.Now = checkedAt.Add(domain.AuditRetention)
	mark := domain.ChainMark{Chain: 1, Seq: 6, Hash: tr.at(6).Hash}
	tr.remove(1, 6)
	tr.remove(35, 36) // committed after its page was read

	check := domain.NewChainCheck(tr.evidence)
	for _, r := range tr.rows {
		check.Take(r)
	}
	check.Finish(later.Heads, []domain.ChainMark{mark})
	if got := told(check); got != "" {
		t.Errorf("found %q", got)
	}
}

// A clock that ran ahead when a checkpoint was signed must not make every later pruning look wrong.
func TestChainCheckBearsAClockThatWasWrong(t *testing.T) {
	tr := newTrail(t, 30, "omni-0")
	tr.evidence.Checkpoints[0] = tr.key.Sign(domain.ChainHead{Chain: 1, Seq: 10, Hash: tr.at(10).Hash}, checkedAt.AddDate(1, 0, 0))
	tr.evidence.Marks = []domain.ChainMark{{Chain: 1, Seq: 25, Hash: tr.at(25).Hash}}
	tr.evidence.Now = checkedAt.Add(domain.AuditRetention)
	tr.remove(1, 25)
	if got := told(tr.check()); got != "" {
		t.Errorf("found %q", got)
	}
}

// Whatever single thing is done to a trail, something is found, and nothing ends in a panic.
func FuzzChainCheck(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 1))
		tr := newTrail(t, 40, "omni-0", "omni-1")
		r := &tr.rows[random.IntN(len(tr.rows))]
		switch random.IntN(7) {
		case 0:
			r.Reason = "changed"
		case 1:
			r.Hash[random.IntN(32)] ^= 1 << random.IntN(8)
		case 2:
			r.Seq += int64(1 + random.IntN(100))
		case 3:
			r.Chain = 3 - r.Chain
		case 4:
			r.Row += int64(1000 + random.IntN(100))
			if r.Seq == 40 {
				r.Row = -1 // the last of a chain may have any higher number
			}
		case 5:
			forged := *r
			forged.Row += 1000
			tr.rows = append(tr.rows, forged)
		case 6:
			i := random.IntN(len(tr.rows))
			tr.rows = slices.Delete(tr.rows, i, i+1)
		}
		if told(tr.check()) == "" {
			t.Error("nothing was found")
		}
	})
}
