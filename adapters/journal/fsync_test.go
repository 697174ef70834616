package journal_test

import (
	"os"
	"testing"

	"github.com/apex-tradebill/omni-secrets/adapters/journal"
)

// What is written to /dev/null cannot be flushed to disk: fdatasync(2) refuses it. So an answer that waits for the disk
// fails, and one that does not is given.
func TestAppendAnswersOnlyAfterFsync(t *testing.T) {
	for name, sync := range map[string]bool{"always": true, "never": false} {
		t.Run(name, func(t *testing.T) {
			c := configIn(t.TempDir())
			c.Sync = sync
			j := open(t, c)
			appendEvents(t, j, 1, 1)
			null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			segment := journal.ReplaceSegment(j, null)
			err = j.Append(t.Context(), event(2))
			journal.ReplaceSegment(j, segment)
			if (err != nil) != sync {
				t.Errorf("Append to what cannot be flushed: %v", err)
			}
			_ = null.Close()
		})
	}
}
