package domain

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// Tampering is a kind of what a check of the audit trail finds.
type Tampering string

const (
	TamperEdited     Tampering = "edited"     // the row, or its link, is not what was stored
	TamperRemoved    Tampering = "removed"    // rows between others are missing
	TamperCutOff     Tampering = "cut_off"    // the last rows are missing
	TamperReordered  Tampering = "reordered"  // the row is not in its place
	TamperInserted   Tampering = "inserted"   // the row was put in by somebody else
	TamperDuplicate  Tampering = "duplicate"  // another row holds the place that this one claims
	TamperUnlinked   Tampering = "unlinked"   // the row has no link, though links had begun
	TamperRewritten  Tampering = "rewritten"  // the links are consistent, but are not those that were signed
	TamperCheckpoint Tampering = "checkpoint" // the signature of a checkpoint does not hold
)

// TamperFinding is one thing that is wrong with the audit trail.
type TamperFinding struct {
	Kind      Tampering
	Chain     ChainID // 0 when it is about a row without a link
	ReplicaID string
	Seq       int64 // first place in the chain that it is about
	LastSeq   int64 // last one; Seq unless there are several
	Row       int64 // number of the row that shows it; 0 when there is none
	EventID   string
	Detail    string
}

// ChainEvidence is what the rows of the audit trail are held against.
type ChainEvidence struct {
	Heads       []ChainHead
	Marks       []ChainMark
	Checkpoints []Checkpoint // whose signatures hold
	Now         time.Time
}

// ChainSummary is what a check learnt of one chain.
type ChainSummary struct {
	ChainHead
	Rows        int64 // that were checked
	First       int64 // Seq of the first of them; 0 for none
	Checkpoints int64 // that confirmed a row
	SignedSeq   int64 // place of the last confirmed row: what comes after it is held by the database's word alone
	SignedAt    time.Time
}

const (
	// A row that is missing is waited for while this many others of its chain go by: after that it was removed.
	checkWindow = 4096
	// Findings that are kept of one kind and chain; the rest is counted.
	maxFindings = 1000
	// Rows that were edited are compared with each other: some may have changed places.
	maxSuspects = 128
	// pruneSlack is how much younger than AuditRetention a pruned event may be, by a checkpoint that saw it: an event
	// can have waited in a journal before it was stored.
	pruneSlack = 7 * 24 * time.Hour
)

// ChainCheck checks the rows of an audit trail, which it takes in the order of their numbers. It needs memory for
// checkpoints, findings, and a few thousand rows of each chain in which something is missing. Not safe for concurrent
// use.
type ChainCheck struct {
	chains    map[ChainID]*chainCheck
	strangers map[ChainID]*stranger
	linker    Linker
	linked    bool // a row with a link was seen

	findings []*TamperFinding
	counts   map[findingKey]int

	rows, unlinked int64
}

type findingKey struct {
	chain ChainID
	kind  Tampering
}

// stranger is a chain that has no head: it began during the check, or its head was removed.
type stranger struct {
	rows  int64
	first LinkedEvent
}

// NewChainCheck begins a check. The checkpoints must have been read before the heads, and the heads before the first row.
func NewChainCheck(e ChainEvidence) *ChainCheck {
	c := &ChainCheck{
		chains:    make(map[ChainID]*chainCheck, len(e.Heads)),
		strangers: make(map[ChainID]*stranger),
		counts:    make(map[findingKey]int),
	}
	for _, h := range e.Heads {
		begin := BeginChain(h.Chain, h.ReplicaID)
		c.chains[h.Chain] = &chainCheck{
			all: c, ChainSummary: ChainSummary{ChainHead: h}, last: begin.Hash, known: true,
			marks: make(map[int64]ChainHash), prunable: math.MaxInt64,
		}
	}
	for _, m := range e.Marks {
		if chain := c.chains[m.Chain]; chain != nil {
			chain.marks[m.Seq] = m.Hash
		}
	}
	for _, point := range e.Checkpoints {
		chain := c.chains[point.Chain]
		if chain == nil {
			s := c.strange(point.Chain)
			if point.Seq > s.first.Seq { // no row yet
				s.first = LinkedEvent{Event: Event{ReplicaID: point.ReplicaID}, Chain: point.Chain, Seq: point.Seq}
			}
			continue
		}
		chain.points = append(chain.points, point)
	}
	for _, chain := range c.chains {
		chain.order(e.Now)
	}
	return c
}

// Take checks the next row.
func (c *ChainCheck) Take(r LinkedEvent) {
	c.rows++
	if r.Chain == 0 {
		c.unlinked++
		if c.linked {
			c.found(&TamperFinding{
				Kind: TamperUnlinked, Row: r.Row, EventID: r.EventID,
				Detail: "stored without a link after links had begun: by hand, or by a replica of an older version",
			})
		}
		return
	}
	c.linked = true
	if chain := c.chains[r.Chain]; chain != nil {
		chain.take(r)
		return
	}
	s := c.strange(r.Chain)
	if s.rows == 0 {
		s.first = r
	}
	s.rows++
}

func (c *ChainCheck) strange(id ChainID) *stranger {
	s := c.strangers[id]
	if s == nil {
		s = new(stranger)
		c.strangers[id] = s
	}
	return s
}

// Finish ends the check. It wants the heads and the marks as they are now, after the last row: the trail may have grown
// and have been pruned meanwhile.
func (c *ChainCheck) Finish(heads []ChainHead, marks []ChainMark) {
	now := make(map[ChainID]ChainHead, len(heads))
	for _, h := range heads {
		now[h.Chain] = h
	}
	for _, m := range marks {
		if chain := c.chains[m.Chain]; chain != nil {
			chain.marks[m.Seq] = m.Hash
		}
	}
	for _, chain := range c.ordered() {
		chain.finish(now)
	}
	for id, s := range c.strangers {
		if _, began := now[id]; began {
			continue
		}
		f := &TamperFinding{
			Kind: TamperRemoved, Chain: id, ReplicaID: s.first.ReplicaID, Seq: 1, LastSeq: s.first.Seq, Row: s.first.Row, EventID: s.first.EventID,
			Detail: fmt.Sprintf("the record of this chain is gone; %d rows are left, and cannot be checked", s.rows),
		}
		if s.rows == 0 {
			f.Detail = "the whole chain is gone: a signed checkpoint says that it had this many events"
		}
		c.found(f)
	}
	c.findings = slices.DeleteFunc(c.findings, func(f *TamperFinding) bool { return f.Kind == "" })
	slices.SortStableFunc(c.findings, func(a, b *TamperFinding) int {
		return cmp.Or(cmp.Compare(a.ReplicaID, b.ReplicaID), cmp.Compare(a.Chain, b.Chain), cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Row, b.Row))
	})
}

func (c *ChainCheck) ordered() []*chainCheck {
	return slices.SortedFunc(maps.Values(c.chains), func(a, b *chainCheck) int {
		return cmp.Or(cmp.Compare(a.ReplicaID, b.ReplicaID), cmp.Compare(a.Chain, b.Chain))
	})
}

// Rows is how many rows were taken, and how many of them have no link.
func (c *ChainCheck) Rows() (all, unlinked int64) { return c.rows, c.unlinked }

// Chains is what was learnt of each chain, by replica.
func (c *ChainCheck) Chains() []ChainSummary {
	var all []ChainSummary
	for _, chain := range c.ordered() {
		all = append(all, chain.ChainSummary)
	}
	return all
}

// Findings is what is wrong, by chain and place, and how much more there is than is listed.
func (c *ChainCheck) Findings() (listed []TamperFinding, more int) {
	for _, f := range c.findings {
		listed = append(listed, *f)
	}
	for _, n := range c.counts {
		more += max(0, n-maxFindings)
	}
	return listed, more
}

// Report adds what was found elsewhere, such as a checkpoint whose signature does not hold.
func (c *ChainCheck) Report(f TamperFinding) { c.found(&f) }

func (c *ChainCheck) found(f *TamperFinding) {
	f.LastSeq = max(f.LastSeq, f.Seq)
	key := findingKey{f.Chain, f.Kind}
	if c.counts[key]++; c.counts[key] <= maxFindings {
		c.findings = append(c.findings, f)
	}
}

// withdraw takes back a finding that was explained by something else.
func (c *ChainCheck) withdraw(f *TamperFinding) {
	if f.Kind != "" {
		c.counts[findingKey{f.Chain, f.Kind}]--
		f.Kind = "" // Finish drops it
	}
}
