package main

import (
	"runtime"
	"syscall"
	"time"
)

// newSleeper is a sleeper whose sleeps end some 50 µs late. The timers of the runtime wait in epoll, by the millisecond,
// which at thousands of requests a second would be most of their latency.
func newSleeper() (sleep func(time.Duration), end func()) {
	runtime.LockOSThread()
	return func(d time.Duration) {
		for deadline := time.Now().Add(d); d > 0; d = time.Until(deadline) {
			left := syscall.NsecToTimespec(d.Nanoseconds())
			if syscall.Nanosleep(&left, nil) == nil {
				return
			}
		}
	}, runtime.UnlockOSThread
}
