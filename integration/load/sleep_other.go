//go:build !linux

package main

import "time"

// newSleeper is a sleeper whose sleeps end a millisecond or so late.
func newSleeper() (sleep func(time.Duration), end func()) {
	timer := time.NewTimer(0)
	<-timer.C
	return func(d time.Duration) {
		timer.Reset(d)
		<-timer.C
	}, func() { timer.Stop() }
}
