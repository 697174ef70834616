package client

import (
	"context"
	"maps"
	"slices"
)

// notify tells OnChange and the log of changes, one at a time, until ctx is done. It compares what it told last with
// what there is now, so that a callback that takes its time costs no memory and misses only what was overtaken.
func (c *Client) notify(ctx context.Context) {
	for {
		v, e := c.nextChange()
		if v.closed {
			return
		}
		if e != nil {
			c.tell(ctx, e)
			continue
		}
		if !c.wait(ctx, v, v.nextAwaited(c.now())) {
			return
		}
	}
}

// nextChange brings told up to the newest view and stops at the first change, which it returns; nil when there is none.
// The first state of a secret is no change.
func (c *Client) nextChange() (*view, *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, now := c.view.Load(), c.now()
	maps.DeleteFunc(c.told, func(name string, _ *entry) bool { return v.entries[name] == nil })
	for _, name := range slices.Sorted(maps.Keys(v.entries)) {
		e, last := v.entries[name], c.told[name]
		if e == last || e.waits(now) {
			continue
		}
		c.told[name] = e
		if last != nil && (last.err == nil) != (e.err == nil) || last != nil && e.err == nil && !last.secret.sameValue(e.secret) {
			return v, e
		}
	}
	return v, nil
}

func (c *Client) tell(ctx context.Context, e *entry) {
	change := Change{Secret: e.secret}
	if e.err != nil {
		change.Err = e.err
		c.log.WarnContext(ctx, "a secret has no value any more", "secretType", e.secret.Type, "err", e.err)
	} else {
		c.log.InfoContext(ctx, "a secret changed", "secretType", e.secret.Type, "secretVersion", e.secret.Version, "secretSource", e.secret.Source)
	}
	if c.cfg.OnChange != nil {
		c.cfg.OnChange(change)
	}
}
