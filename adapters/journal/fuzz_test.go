package journal_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/apex-tradebill/omni-secrets/adapters/journal"
)

// Whatever the cursor's file holds, the journal opens, what is appended from then on is drained, and everything is
// drained in order; a file that is no record of ours leaves nothing out.
func FuzzCursor(f *testing.F) {
	f.Fuzz(func(t *testing.T, content string, sealed bool) {
		config, _, _, _ := written(t)
		file := []byte(content)
		if sealed {
			file = journal.Seal(content)
		}
		rewrite(t, filepath.Join(config.Dir, "cursor"), file)
		j := open(t, config)
		appendEvents(t, j, 6, 6)
		got := drain(t, j)
		if !slices.IsSorted(got) || len(got) == 0 || got[len(got)-1] != 6 {
			t.Errorf("drained %v, want all up to 6, in order", got)
		}
		if !sealed && len(got) != 6 {
			t.Errorf("drained %v, though the cursor is no record", got)
		}
		if n, _ := j.Backlog(); n != 0 {
			t.Errorf("a backlog of %d after the drain", n)
		}
	})
}
