package main

import (
	"context"
	"sync"
	"time"
)

// patience is how long an answer may take, and whatever else takes moments.
const patience = 30 * time.Second

// driven is what a pool measured.
type driven struct {
	took    histogram // of unsent requests too
	elapsed time.Duration
	unsent  uint64 // requests of an open loop that were due and for which no connection became free
}

// closedLoop lets each connection send its next request when it has the answer to the last, for d, and one at least.
func (p pool) closedLoop(ctx context.Context, d time.Duration) (driven, error) {
	began := time.Now()
	end := began.Add(d)
	if err := p.prepare(end.Add(patience)); err != nil {
		return driven{}, err
	}
	err := p.each(ctx, func(c *connection) error {
		for now, first := time.Now(), true; first || now.Before(end); first = false {
			if err := c.exchange(); err != nil {
				return err
			}
			answered := time.Now()
			c.took.add(answered.Sub(now))
			now = answered
		}
		return nil
	})
	return p.total(began), err
}

// openLoop sends rate requests a second for d, each on the connection that is free first. A latency counts from when
// the request was due, so that one that had to wait for slow answers shows it. After twice d those that are still
// waiting are given up, and count as having taken until then; but each connection sends its first.
func (p pool) openLoop(ctx context.Context, d time.Duration, rate float64, newSleeper sleeper) (driven, error) {
	began := time.Now()
	giveUp := began.Add(2 * d)
	if err := p.prepare(giveUp.Add(patience)); err != nil {
		return driven{}, err
	}
	due := make(chan time.Time, 1<<10)
	pacing, stop := context.WithCancel(ctx)
	var pacer sync.WaitGroup
	pacer.Go(func() {
		defer close(due)
		sleep, end := newSleeper()
		defer end()
		pace(pacing, due, began, int(rate*d.Seconds()), rate, sleep)
	})
	err := p.each(ctx, func(c *connection) error {
		for intended := range due {
			now := time.Now()
			if now.After(giveUp) && c.took.n > 0 {
				c.took.add(now.Sub(intended))
				c.unsent++
				continue
			}
			if err := c.exchange(); err != nil {
				stop() // ends the other connections too
				return err
			}
			c.took.add(time.Since(intended))
		}
		return nil
	})
	stop()
	pacer.Wait()
	return p.total(began), err
}

// sleeper returns a sleep for one goroutine, and what it must call after the last.
type sleeper func() (sleep func(time.Duration), end func())

// pace sends n times to due, evenly, rate a second. When nobody takes them it does not shift those to come.
func pace(ctx context.Context, due chan<- time.Time, began time.Time, n int, rate float64, sleep func(time.Duration)) {
	for i := range n {
		intended := began.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		sleep(time.Until(intended))
		select {
		case due <- intended:
		case <-ctx.Done():
			return
		}
	}
}

// each runs f for all connections at once. When ctx ends, they are closed.
func (p pool) each(ctx context.Context, f func(*connection) error) error {
	defer context.AfterFunc(ctx, func() { _ = p.close() })()
	errs := make([]error, len(p))
	var all sync.WaitGroup
	for i, c := range p {
		all.Go(func() { errs[i] = f(c) })
	}
	all.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, err := range errs {
		if err != nil {
			return err // the others failed likewise
		}
	}
	return nil
}

func (p pool) total(began time.Time) driven {
	d := driven{elapsed: time.Since(began)}
	for _, c := range p {
		d.took.merge(&c.took)
		d.unsent += c.unsent
	}
	return d
}
