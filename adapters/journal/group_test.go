package journal_test

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/adapters/journal"
)

const appenders = 16

// Appends that arrive while a batch is being written go out together with the next one.
func TestConcurrentAppendsShareAWrite(t *testing.T) {
	j := open(t, configIn(t.TempDir()))
	release := journal.HoldWrites(j)
	var wg sync.WaitGroup
	for i := range uint64(appenders) {
		wg.Go(func() {
			if err := j.Append(t.Context(), event(i+1)); err != nil {
				t.Errorf("Append: %v", err)
			}
		})
	}
	deadline := time.Now().Add(10 * time.Second)
	for journal.Joined(j) < appenders && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if n := journal.Joined(j); n != appenders {
		t.Errorf("%d events are in the batch, want %d", n, appenders)
	}
	if n, _ := j.Backlog(); n != 0 {
		t.Errorf("backlog of %d before the write", n)
	}
	release()
	wg.Wait()
	if n, _ := j.Backlog(); n != appenders {
		t.Errorf("backlog of %d, want %d", n, appenders)
	}
}

// On a busy processor an append does not write at once: who is ready to run may join it. Which of them the scheduler
// lets run first is left to chance.
func TestAppendsThatAreReadyShareAWrite(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	j := open(t, configIn(t.TempDir()))
	for range 100 {
		var written atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			appendEvents(t, j, 1, 1)
			written.Store(true)
		})
		for journal.Joined(j) == 0 && !written.Load() {
			runtime.Gosched()
		}
		joined := journal.Joined(j)
		wg.Wait()
		if joined > 0 {
			return
		}
	}
	t.Error("no append has waited for another")
}

// Whatever Close finds on its way is either answered and kept, or refused and gone.
func TestCloseWhileAppending(t *testing.T) {
	for range 20 {
		config := configIn(t.TempDir())
		j := open(t, config)
		var mu sync.Mutex
		var answered []uint64
		var wg sync.WaitGroup
		for i := range uint64(appenders) {
			wg.Go(func() {
				for n := uint64(0); ; n++ {
					seq := i<<32 + n
					if err := j.Append(t.Context(), event(seq)); err != nil {
						if !errors.Is(err, os.ErrClosed) {
							t.Errorf("Append: %v, want os.ErrClosed", err)
						}
						return
					}
					mu.Lock()
					answered = append(answered, seq)
					mu.Unlock()
				}
			})
		}
		for n := 0; n == 0; n, _ = j.Backlog() {
			runtime.Gosched()
		}
		closeJournal(t, j)
		wg.Wait()

		stored := drain(t, open(t, config))
		slices.Sort(answered)
		slices.Sort(stored)
		if diff := cmp.Diff(answered, stored); diff != "" {
			t.Errorf("events (-answered +stored):\n%s", diff)
		}
	}
}
