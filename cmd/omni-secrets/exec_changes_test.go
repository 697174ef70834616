package main

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestChangeBurst(t *testing.T) {
	for _, tc := range []struct {
		name    string
		changes []time.Duration // when
		over    []time.Duration // when that is told
	}{
		{"one", []time.Duration{0}, []time.Duration{changesSettle}},
		{"close together", []time.Duration{0, 100 * time.Millisecond, 400 * time.Millisecond}, []time.Duration{400*time.Millisecond + changesSettle}},
		{"apart", []time.Duration{0, 2 * time.Second}, []time.Duration{changesSettle, 2*time.Second + changesSettle}},
		{"without end", every(changesSettle/2, 2*changesAtMost), []time.Duration{changesAtMost}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				b := newChangeBurst()
				defer b.stop()
				go func() {
					for _, at := range tc.changes {
						time.Sleep(at - time.Since(began)) //nolint:forbidigo // simulated: in a bubble
						b.add()
					}
				}()
				for _, want := range tc.over {
					<-b.over
					if got := time.Since(began); got != want {
						t.Errorf("told after %s, want %s", got, want)
					}
				}
				time.Sleep(tc.changes[len(tc.changes)-1] - time.Since(began)) //nolint:forbidigo // simulated: in a bubble; the goroutine above ends
				synctest.Wait()
			})
		})
	}
}

// every is each instant that is a multiple of step, until the end.
func every(step, end time.Duration) []time.Duration {
	var at []time.Duration
	for t := time.Duration(0); t < end; t += step {
		at = append(at, t)
	}
	return at
}

func TestChangeBurstThatWasStoppedTellsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newChangeBurst()
		b.add()
		b.stop()
		b.add()
		time.Sleep(time.Minute) //nolint:forbidigo // simulated: in a bubble
		select {
		case <-b.over:
			t.Error("it told of a change")
		default:
		}
	})
}
