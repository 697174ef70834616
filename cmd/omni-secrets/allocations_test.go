//go:build !race

package main

import "testing"

// readAllocations is what a read may allocate beneath net/http. It is lowered with each improvement, and not raised in
// passing: the garbage collector's work is part of what a read costs, on any machine alike.
const readAllocations = 6

func TestAReadOverRESTAllocatesNoMoreThanItDid(t *testing.T) {
	read := warmRead(t)
	for range 100 { // the runtime has the text of numbers below 100 ready
		read()
	}
	if n := testing.AllocsPerRun(1000, read); n > readAllocations {
		t.Errorf("%v allocations, want %d at most; go test -bench ReadOverREST -memprofile mem.pprof ./cmd/omni-secrets shows them", n, readAllocations)
	} else if n < readAllocations {
		t.Logf("only %v allocations: lower readAllocations", n)
	}
}
