package domain

import (
	"cmp"
	"container/heap"
	"fmt"
	"slices"
	"time"
)

// chainCheck is the check of one chain. It looks for the rows in the order of their places, which is that of their
// numbers too unless somebody changed one or the other.
type chainCheck struct {
	all *ChainCheck
	ChainSummary

	marks    map[int64]ChainHash
	points   []Checkpoint // that are still ahead, in the order of their places
	prunable int64        // no row behind this place can have been old enough to be pruned

	place   int64     // of the last row that was found
	last    ChainHash // its hash
	known   bool      // last is what the next row should follow
	rowID   int64     // the highest number of a row that is in its place
	eventID string    // of the last row that was found

	lastRow   placed
	lastKnown bool         // what the last row should have followed is known
	rival     *LinkedEvent // another row that follows the one before the last

	waiting  rowHeap // rows ahead of a missing one
	gaps     []*gap
	suspects []suspect
	beyond   *LinkedEvent // the last of the rows behind the head
	broken   bool         // the chain is not the one that was signed, which was said
}

// gap is rows that are missing.
type gap struct {
	first, last int64
	missing     int64
	before      ChainHash // what the first of them follows
	known       bool
	finding     *TamperFinding
}

// placed is a row and what it should follow.
type placed struct {
	row    LinkedEvent
	before ChainHash
}

// suspect is a row that does not follow the one before it.
type suspect struct {
	placed
	finding *TamperFinding
}

// order sorts the checkpoints and finds out how much of the chain can have been pruned.
func (c *chainCheck) order(now time.Time) {
	slices.SortFunc(c.points, func(a, b Checkpoint) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), a.SignedAt.Compare(b.SignedAt))
	})
	c.points = slices.CompactFunc(c.points, func(a, b Checkpoint) bool { return a.Seq == b.Seq && a.Hash == b.Hash })
	youngest := now.Add(pruneSlack - AuditRetention)
	// A clock that was wrong may have signed a time to come: a row is as old as any checkpoint behind it says.
	for _, point := range slices.Backward(c.points) {
		if point.SignedAt.Before(youngest) {
			break
		}
		c.prunable = point.Seq
	}
}

func (c *chainCheck) follows(before ChainHash, r *LinkedEvent) bool {
	return r.Foreign == "" && c.all.linker.Hash(before, &r.Event) == r.Hash
}

func (c *chainCheck) take(r LinkedEvent) {
	if r.Seq > c.ChainHead.Seq && (c.place == c.ChainHead.Seq || !c.fits(&r)) {
		if c.beyond == nil || r.Seq > c.beyond.Seq {
			c.beyond = &r
		}
		return
	}
	c.judge(r)
	c.settle()
}

// fits reports whether a row follows the last one.
func (c *chainCheck) fits(r *LinkedEvent) bool { return c.known && c.follows(c.last, r) }

// judge decides about a row as soon as its number comes up.
func (c *chainCheck) judge(r LinkedEvent) {
	switch {
	case c.fits(&r) && (r.Seq != c.place || !c.suspected()):
		if r.Seq != c.place+1 {
			why := fmt.Sprintf("it says that its place is %d, but it follows the event in place %d", r.Seq, c.place)
			r.Seq = c.place + 1
			c.misplaced(&r, why)
		}
		c.put(r)
	case c.explained(&r):
	case r.Seq <= c.place:
		c.late(&r)
	case r.Seq == c.place+1:
		c.misfit(r)
	default:
		if hash, ok := c.marks[r.Seq-1]; ok && len(c.waiting) == 0 {
			c.skip(r.Seq-1, hash)
			c.judge(r)
			return
		}
		heap.Push(&c.waiting, r)
		if len(c.waiting) > checkWindow {
			c.leap()
		}
	}
}

// settle goes on with the rows that waited for one that has come.
func (c *chainCheck) settle() {
	for len(c.waiting) > 0 {
		next := c.waiting[0]
		if next.Seq > c.place+1 {
			return
		}
		heap.Pop(&c.waiting)
		switch {
		case c.fits(&next) || !c.known && next.Seq == c.place+1:
			c.put(next)
		case c.explained(&next):
		case next.Seq <= c.place:
			c.late(&next)
		default:
			c.misfit(next)
		}
	}
}

// leap gives the next missing rows up, up to the first that waits.
func (c *chainCheck) leap() {
	next := c.waiting[0].Seq
	if hash, ok := c.marks[next-1]; ok {
		c.skip(next-1, hash)
	} else {
		c.lose(next - 1)
	}
	c.settle()
}

// lose notes that the rows up to this place are missing.
func (c *chainCheck) lose(through int64) {
	g := &gap{first: c.place + 1, last: through, missing: through - c.place, before: c.last, known: c.known}
	g.finding = &TamperFinding{
		Kind: TamperRemoved, Chain: c.Chain, ReplicaID: c.ReplicaID, Seq: g.first, LastSeq: g.last, Row: c.rowID, EventID: c.eventID,
		Detail: fmt.Sprintf("%d events are missing after %s", g.missing, c.after()),
	}
	c.all.found(g.finding)
	c.gaps = append(c.gaps, g)
	c.place, c.known = through, false
	for len(c.points) > 0 && c.points[0].Seq <= through {
		if c.points[0].Seq == through {
			c.last, c.known = c.points[0].Hash, true
		}
		c.points = c.points[1:]
	}
}

// after names the event that comes before what is missing.
func (c *chainCheck) after() string {
	if c.eventID == "" {
		return "the beginning of the chain"
	}
	return "event " + c.eventID
}

// skip goes over rows that were pruned.
func (c *chainCheck) skip(through int64, hash ChainHash) {
	if through > c.prunable {
		c.all.found(&TamperFinding{
			Kind: TamperRemoved, Chain: c.Chain, ReplicaID: c.ReplicaID, Seq: max(c.place, c.prunable) + 1, LastSeq: through,
			Row: c.rowID, EventID: c.eventID,
			Detail: "said to be pruned, but signed checkpoints show that these events were not old enough; after " + c.after(),
		})
	}
	for len(c.points) > 0 && c.points[0].Seq <= through {
		if p := c.points[0]; p.Seq == through {
			c.confirm(p, hash, nil)
		}
		c.points = c.points[1:]
	}
	c.place, c.last, c.known = through, hash, true
}

// put takes a row as the next one of the chain.
func (c *chainCheck) put(r LinkedEvent) {
	late := len(c.waiting) > 0 && c.waiting[0].Row < r.Row && c.rowID < c.waiting[0].Row
	switch {
	case late:
		c.misplaced(&r, "its number is higher than those of the rows that follow it")
	case r.Row < c.rowID:
		c.misplaced(&r, "its number is lower than those of the rows before it")
	default:
		c.rowID = r.Row
	}
	c.advance(r)
}

// advance goes on to a row, whatever is to be thought of it.
func (c *chainCheck) advance(r LinkedEvent) {
	if c.rival != nil {
		c.duplicate(c.rival)
		c.rival = nil
	}
	c.lastRow, c.lastKnown = placed{r, c.last}, c.known
	if c.Rows++; c.First == 0 {
		c.First = r.Seq
	}
	c.place, c.last, c.known, c.eventID = r.Seq, r.Hash, true, r.EventID
	for len(c.points) > 0 && c.points[0].Seq <= r.Seq {
		if p := c.points[0]; p.Seq == r.Seq {
			c.confirm(p, r.Hash, &r)
		}
		c.points = c.points[1:]
	}
	if r.Seq == c.ChainHead.Seq && r.Hash != c.ChainHead.Hash && !c.broken {
		c.broken = true
		c.all.found(&TamperFinding{
			Kind: TamperRewritten, Chain: c.Chain, ReplicaID: c.ReplicaID, Seq: c.SignedSeq + 1, LastSeq: r.Seq, Row: r.Row, EventID: r.EventID,
			Detail: "the head of the chain in omni_audit_chains has another hash than its last event: a row of these, or the head, was changed",
		})
	}
}

// confirm holds a checkpoint against the hash in its place.
func (c *chainCheck) confirm(p Checkpoint, hash ChainHash, r *LinkedEvent) {
	if p.Hash == hash {
		c.Checkpoints++
		c.SignedSeq, c.SignedAt = p.Seq, p.SignedAt
		return
	}
	if c.broken {
		return
	}
	c.broken = true
	f := &TamperFinding{
		Kind: TamperRewritten, Chain: c.Chain, ReplicaID: c.ReplicaID, Seq: c.SignedSeq + 1, LastSeq: p.Seq, EventID: c.eventID,
		Detail: fmt.Sprintf("the checkpoint that was signed at %s has another hash for place %d: one or more of these events were changed, and the links after them made to fit",
			p.SignedAt.Format(time.RFC3339), p.Seq),
	}
	if r != nil {
		f.Row = r.Row
	}
	c.all.found(f)
}

// misplaced reports a row that is not where it belongs.
func (c *chainCheck) misplaced(r *LinkedEvent, why string) {
	c.all.found(&TamperFinding{Kind: TamperReordered, Chain: c.Chain, ReplicaID: c.ReplicaID, Seq: r.Seq, Row: r.Row, EventID: r.EventID, Detail: why})
}

// misfit is a row in its place that does not follow the row before it.
func (c *chainCheck) misfit(r LinkedEvent) {
	detail := "its hash does not follow from its columns and the event before it"
	if r.Foreign != "" {
		detail = r.Foreign
	}
	f := &TamperFinding{Kind: TamperEdited, Chain: c.Chain, ReplicaID: c.ReplicaID, Seq: r.Seq, Row: r.Row, EventID: r.EventID, Detail: detail}
	c.all.found(f)
	if len(c.suspects) == maxSuspects {
		c.suspects = slices.Delete(c.suspects, 0, 1)
	}
	c.suspects = append(c.suspects, suspect{placed{r, c.last}, f})
	c.rowID = max(c.rowID, r.Row)
	c.advance(r)
}

// explained reports whether a row that does not follow the last one shows what is wrong with that: then all is well
// with this row.
func (c *chainCheck) explained(r *LinkedEvent) bool {
	if !c.lastKnown {
		return false
	}
	last, rival := c.lastRow, c.rival
	c.rival = nil
	var s *suspect
	if c.suspected() {
		s = &c.suspects[len(c.suspects)-1]
	}
	intruder := func() {
		if s != nil {
			c.all.withdraw(s.finding)
			c.suspects = c.suspects[:len(c.suspects)-1]
		}
		c.all.found(&TamperFinding{
			Kind: TamperInserted, Chain: c.Chain, ReplicaID: c.ReplicaID, Seq: last.row.Seq, Row: last.row.Row, EventID: last.row.EventID,
			Detail: "the events after it do not follow it, but the one before it",
		})
	}
	switch {
	case rival != nil && c.follows(rival.Hash, r): // two rows claimed the last place, and this one decides
		intruder()
		c.put(*r)
		return true
	case s != nil && r.Seq == c.place+1 && c.follows(c.all.linker.Hash(last.before, &last.row.Event), r):
		s.finding.Detail = "its hash was changed; its columns are as they were stored"
		c.put(*r)
		return true
	case !c.follows(last.before, r):
		if rival != nil {
			c.duplicate(rival)
		}
		return false
	case s != nil:
		intruder()
		c.put(*r)
		return true
	default:
		c.rival = r
		return true
	}
}

// suspected reports whether the last row does not follow the one before it.
func (c *chainCheck) suspected() bool {
	n := len(c.suspects)
	return n > 0 && c.suspects[n-1].row.Row == c.lastRow.row.Row
}

// duplicate is a row that claims a place which another one holds.
func (c *chainCheck) duplicate(r *LinkedEvent) {
	c.all.found(&TamperFinding{
		Kind: TamperDuplicate, Chain: c.Chain, ReplicaID: c.ReplicaID, Seq: r.Seq, Row: r.Row, EventID: r.EventID,
		Detail: "another event has this place in the chain",
	})
}

// late is a row whose place was passed.
func (c *chainCheck) late(r *LinkedEvent) {
	for _, g := range c.gaps {
		if r.Seq < g.first || r.Seq > g.last {
			continue
		}
		if r.Seq == g.first && g.known && !c.follows(g.before, r) {
			break // an intruder in the place of the one that is missing
		}
		c.Rows++
		c.misplaced(r, "its number is higher than those of the rows that follow it")
		if g.missing--; g.missing == 0 {
			c.all.withdraw(g.finding)
		} else {
			g.finding.Detail = fmt.Sprintf("%d of these events are missing", g.missing)
		}
		return
	}
	c.duplicate(r)
}

// finish looks at what is left when there are no more rows. heads are those of now.
func (c *chainCheck) finish(heads map[ChainID]ChainHead) {
	for len(c.waiting) > 0 {
		c.leap()
	}
	if c.rival != nil {
		c.duplicate(c.rival)
	}
	for _, g := range c.gaps { // a partition may have been dropped while the rows were read
		if _, pruned := c.marks[g.last]; pruned && g.last <= c.prunable {
			c.all.withdraw(g.finding)
		}
	}
	end := c.ChainHead.Seq
	if hash, ok := c.marks[end]; ok && c.place < end {
		c.skip(end, hash)
	}
	signed := false
	if n := len(c.points); n > 0 && c.points[n-1].Seq > end {
		end, signed = c.points[n-1].Seq, true
	}
	if c.place < end {
		detail := fmt.Sprintf("the last %d events are missing, after %s", end-c.place, c.after())
		if signed {
			detail += "; a signed checkpoint has seen them"
		}
		c.all.found(&TamperFinding{
			Kind: TamperCutOff, Chain: c.Chain, ReplicaID: c.ReplicaID, Seq: c.place + 1, LastSeq: end, Row: c.rowID, EventID: c.eventID, Detail: detail,
		})
	}
	now, there := heads[c.Chain]
	if c.beyond != nil && (!there || c.beyond.Seq > now.Seq) {
		c.all.found(&TamperFinding{
			Kind: TamperInserted, Chain: c.Chain, ReplicaID: c.ReplicaID, Seq: c.beyond.Seq, Row: c.beyond.Row, EventID: c.beyond.EventID,
			Detail: fmt.Sprintf("it is behind the head of the chain, which is %d: it was put in, or the head was set back", now.Seq),
		})
	}
	c.exchanged()
}

// exchanged looks among the rows that were edited for those that hold each other's columns.
func (c *chainCheck) exchanged() {
	for i := range c.suspects {
		here := &c.suspects[i]
		for j := range c.suspects {
			there := c.suspects[j].row
			if i == j || there.Foreign != "" || here.finding.Kind != TamperEdited || c.all.linker.Hash(here.before, &there.Event) != here.row.Hash {
				continue
			}
			c.all.withdraw(here.finding)
			c.all.found(&TamperFinding{
				Kind: TamperReordered, Chain: c.Chain, ReplicaID: c.ReplicaID, Seq: here.row.Seq, Row: here.row.Row, EventID: here.row.EventID,
				Detail: fmt.Sprintf("in its place belongs event %s, which is in place %d", there.EventID, there.Seq),
			})
			break
		}
	}
}

// rowHeap is a heap of rows by place.
type rowHeap []LinkedEvent

func (h rowHeap) Len() int { return len(h) }
func (h rowHeap) Less(i, j int) bool {
	return h[i].Seq < h[j].Seq || h[i].Seq == h[j].Seq && h[i].Row < h[j].Row
}
func (h rowHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push is called by the heap.
func (h *rowHeap) Push(x any) {
	r, _ := x.(LinkedEvent)
	*h = append(*h, r)
}

// Pop is called by the heap.
func (h *rowHeap) Pop() any {
	last := len(*h) - 1
	r := (*h)[last]
	(*h)[last] = LinkedEvent{}
	*h = (*h)[:last]
	return r
}
