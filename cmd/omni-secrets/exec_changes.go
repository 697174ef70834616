package main

import (
	"sync"
	"time"
)

// A rotation often changes several secrets one after the other. They are waited for, but not without end.
const (
	changesSettle = 500 * time.Millisecond
	changesAtMost = 5 * time.Second
)

// changeBurst tells of changes when none came for changesSettle, or after changesAtMost. It is safe for concurrent use.
type changeBurst struct {
	over chan struct{} // gets something at the end of each burst

	mu      sync.Mutex
	began   time.Time // zero between bursts
	timer   *time.Timer
	stopped bool
}

func newChangeBurst() *changeBurst { return &changeBurst{over: make(chan struct{}, 1)} }

// add says that something changed. It never waits.
func (b *changeBurst) add() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return
	}
	if b.began.IsZero() {
		b.began = time.Now()
	}
	wait := min(changesSettle, changesAtMost-time.Since(b.began))
	if b.timer == nil {
		b.timer = time.AfterFunc(wait, b.end)
		return
	}
	b.timer.Reset(wait)
}

func (b *changeBurst) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.began = time.Time{}
	select {
	case b.over <- struct{}{}:
	default: // nobody looked since the last one, and who looks sees everything
	}
}

// stop ends the waiting.
func (b *changeBurst) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	if b.timer != nil {
		b.timer.Stop()
	}
}
