package client

import "context"

// expire drops values that may not be used any more from memory, so that they are not only refused, until ctx is done.
func (c *Client) expire(ctx context.Context) {
	for {
		v, now, next := c.view.Load(), c.now(), forever
		for _, e := range v.entries {
			if e.err == nil {
				next = min(next, e.usableUntil(c.cfg.MaxStale))
			}
		}
		if next <= now {
			c.dropExpired()
			continue
		}
		if !c.wait(ctx, v, next) {
			return
		}
	}
}

func (c *Client) dropExpired() {
	overrideEnded := false
	c.update(func(next *view) {
		now := c.now()
		for name, e := range next.entries {
			if e.err == nil && now >= e.usableUntil(c.cfg.MaxStale) {
				overrideEnded = overrideEnded || now >= e.ends
				next.entries[name] = e.expired(now, next.cause())
			}
		}
	})
	if overrideEnded {
		c.pollNow() // what comes after it; a stream says so by itself
	}
}
