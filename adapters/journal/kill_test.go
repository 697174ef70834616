package journal_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apex-tradebill/omni-secrets/adapters/journal"
)

// The environment that makes this test program the one that is killed.
const (
	appenderDir  = "JOURNAL_TEST_APPENDER_DIR"
	appenderSync = "JOURNAL_TEST_APPENDER_SYNC"
)

// appendUntilKilled prints the sequence number of every event once its Append has returned.
func appendUntilKilled(dir string, sync bool) {
	config := configIn(dir)
	config.Sync, config.SegmentBytes = sync, 64<<10
	j, err := journal.Open(config)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var seq atomic.Uint64
	for range 8 {
		go func() {
			for {
				n := seq.Add(1)
				if err := j.Append(context.Background(), event(n)); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				fmt.Fprintf(os.Stdout, "%d\n", n) // one write(2), to a pipe: whole or not at all
			}
		}()
	}
	select {}
}

func TestNothingAnsweredIsLostByKill(t *testing.T) {
	for name, sync := range map[string]string{"written": "", "written and flushed": "1"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			answered := make(map[uint64]int) // every start counts from 1
			for range 3 {                    // and finds what the one before left
				for _, seq := range runAndKill(t, dir, sync, 500) {
					answered[seq]++
				}
			}

			j := open(t, configIn(dir))
			stored := make(map[uint64]int)
			for _, seq := range drain(t, j) {
				stored[seq]++
			}
			for seq, n := range answered {
				if stored[seq] < n {
					t.Errorf("event %d was answered %d times and stored %d times", seq, n, stored[seq])
				}
			}
		})
	}
}

// runAndKill kills the appender after it answered count events, and returns everything that it answered.
func runAndKill(t *testing.T, dir, sync string, count int) []uint64 {
	t.Helper()
	appender := exec.CommandContext(t.Context(), os.Args[0])
	appender.Env = append(os.Environ(), appenderDir+"="+dir, appenderSync+"="+sync)
	errors := new(strings.Builder)
	appender.Stderr = errors
	output, err := appender.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := appender.Start(); err != nil {
		t.Fatal(err)
	}

	var answered []uint64
	for lines := bufio.NewScanner(output); lines.Scan(); {
		var seq uint64
		if _, err := fmt.Sscanf(lines.Text(), "%d", &seq); err != nil {
			t.Fatalf("the appender says %q", lines.Text())
		}
		if answered = append(answered, seq); len(answered) == count {
			if err := appender.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = appender.Wait() // it was killed
	if len(answered) < count {
		t.Fatalf("the appender ended by itself after %d events: %s", len(answered), errors)
	}
	return answered
}
