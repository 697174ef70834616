package client

import (
	"maps"
	"time"
)

// view is what the client knows. It is immutable; Get reads it without a lock.
type view struct {
	entries  map[string]*entry
	complete bool   // every secret that there is to follow has an entry
	failure  *Error // what went wrong last, nil since a server was heard
	final    bool   // failure will not pass by itself: nobody should wait for a first state
	closed   bool

	replaced chan struct{} // closed when there is a newer view
}

var errClosed = &Error{Code: CodeClosed, is: ErrClosed, Message: "the client was closed"}

func notFollowed(secretType string) *Error {
	return &Error{
		SecretType: secretType, Code: CodeNotFollowed, is: ErrNotFollowed,
		Message: "this secret is not followed: add it to Config.SecretTypes, or, if that is empty, have the catalog let this token read it",
	}
}

// look finds a secret at now. Without a value, err says why, and the caller may wait until the instant wait for a newer
// view; 0 says not to.
func (v *view) look(secretType string, now instant, maxStale time.Duration) (s Secret, wait instant, err *Error) {
	if v.closed {
		return Secret{}, 0, errClosed.about(secretType)
	}
	e := v.entries[secretType]
	if e == nil {
		if v.complete {
			return Secret{}, 0, notFollowed(secretType)
		}
		e = pending(secretType, "the server has not said yet which secrets there are")
	}
	if e.err == nil {
		if s, ok := e.serve(now, maxStale); ok {
			return s, 0, nil
		}
		e = e.expired(now, v.cause())
	}
	switch {
	case now >= e.awaited:
		return Secret{}, 0, e.err
	case v.failure == nil:
		return Secret{}, e.awaited, e.err
	case v.final:
		return Secret{}, 0, v.failure.about(secretType)
	default:
		return Secret{}, e.awaited, v.failure.about(secretType)
	}
}

// cause is the failure as an error that is nil when there is none.
func (v *view) cause() error {
	if v.failure == nil {
		return nil
	}
	return v.failure
}

// settled reports whether every secret that there is to follow has a state at now.
func (v *view) settled(now instant) bool {
	if !v.complete {
		return false
	}
	for _, e := range v.entries {
		if e.waits(now) {
			return false
		}
	}
	return true
}

// nextAwaited is the next instant after now at which a secret gets a state by waiting alone.
func (v *view) nextAwaited(now instant) instant {
	next := forever
	for _, e := range v.entries {
		if e.err != nil && e.awaited > now {
			next = min(next, e.awaited)
		}
	}
	return next
}

// update publishes a changed copy of the view. change may write to entries; what it does to the rest of the copy is
// kept as well. The first state of a secret is what OnChange compares the next one with, from the moment at which Get
// can return it.
func (c *Client) update(change func(next *view)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.view.Load()
	if last.closed {
		return
	}
	next := *last
	next.entries = maps.Clone(last.entries)
	next.replaced = make(chan struct{})
	change(&next)
	for name, e := range next.entries {
		if c.told[name] == nil && !e.waits(c.now()) {
			c.told[name] = e
		}
	}
	c.view.Store(&next)
	close(last.replaced)
}
