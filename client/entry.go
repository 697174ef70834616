package client

import (
	"math"
	"sync/atomic"
	"time"
)

// An instant is a time on the monotonic clock of this process: how long after the client was made.
type instant = time.Duration

// forever is later than every other instant.
const forever instant = math.MaxInt64

// after is d later than at, and never wraps round.
func after(at instant, d time.Duration) instant {
	if d > 0 && at > forever-d {
		return forever
	}
	return at + d
}

// A confirmation says until when what was heard counts as current. The entries that one stream sent share one, which
// moves on with every message; a poll makes its own.
type confirmation struct {
	until atomic.Int64
	open  atomic.Bool // the stream is there; once it has ended it does not come back
}

func confirmedUntil(at instant) *confirmation {
	c := new(confirmation)
	c.until.Store(int64(at))
	return c
}

// overrideGrace is how long after the end of an override the next state is waited for, while a server is heard: it is
// on its way.
const overrideGrace = time.Second

// entry is what is known of one secret. It is immutable, but for its confirmation.
//
//	awaited ──► value ◄──► no value      and each of them may be refused besides
type entry struct {
	secret Secret

	// Without a value.
	err     *Error  // why there is none; nil when there is one
	awaited instant // until then the next state is worth waiting for; 0 for not at all

	// With a value.
	confirmed *confirmation
	staleFrom instant // the server itself calls it stale, since then; else forever
	ends      instant // the end of an override; else forever

	// The server does not know this secret or does not give it to this token: the stream leaves it out.
	refusal   *Error  // nil when it is not refused
	refusedAt instant // when it was last
}

// streamed reports whether there is a stream that told e: it tells what is newer by itself, and nothing twice.
func (e *entry) streamed() bool { return e.confirmed != nil && e.confirmed.open.Load() }

// staleSince is from when on nobody vouches for the value.
func (e *entry) staleSince() instant { return min(e.staleFrom, instant(e.confirmed.until.Load())) }

// usableUntil is the instant from which the value must not be used any more.
func (e *entry) usableUntil(maxStale time.Duration) instant {
	return min(e.ends, after(e.staleSince(), maxStale))
}

// waits reports whether there is no value at now, but the next state is worth waiting for.
func (e *entry) waits(now instant) bool { return e.err != nil && now < e.awaited }

// serve is the value as it may be used at now.
func (e *entry) serve(now instant, maxStale time.Duration) (s Secret, ok bool) {
	if e.err != nil {
		return Secret{}, false
	}
	stale := e.staleSince()
	if now >= e.ends || now >= after(stale, maxStale) {
		return Secret{}, false
	}
	s = e.secret
	s.Stale = s.Stale || now >= stale
	return s, true
}

// unconfirmed is what is left of e when the server has nothing to serve now: the last good value, as stale and with no
// more time than it had. without is what is left when e has no value; a value that became too old stays the reason, until
// the server is about to have another.
func (e *entry) unconfirmed(now instant, without *entry) *entry {
	switch {
	case e == nil:
		return without
	case e.err != nil:
		if e.err.is != ErrStale || without.err.is != ErrUnavailable || now < without.awaited { //nolint:errorlint // fields of ours, never wrapped
			return without
		}
		return e.tooOld(without.err)
	}
	next := *e
	next.secret.Stale = true
	next.staleFrom = min(e.staleSince(), now)
	next.refusal = nil
	return &next
}

// refused is what is left of e, which may be nil, when the server refuses the secret: somebody took it out of the
// catalog, or the grant away. The process knows the value already, so it may finish what it does within MaxStale.
func (e *entry) refused(secretType string, now instant, why *Error) *entry {
	next := e.unconfirmed(now, withoutValue(secretType, why))
	next.refusal, next.refusedAt = why.about(secretType), now
	return next
}

// expired is what is left of e once its value may not be used any more. cause is what went wrong last, nil for nothing.
func (e *entry) expired(now instant, cause error) *entry {
	if e.refusal != nil {
		next := withoutValue(e.secret.Type, e.refusal)
		next.refusal, next.refusedAt = e.refusal, e.refusedAt
		return next
	}
	if now < e.ends {
		return e.tooOld(cause)
	}
	next := withoutValue(e.secret.Type, &Error{
		Code: CodeOverrideEnded, is: ErrUnavailable, cause: cause,
		Message: "the override has ended, and the server has not said what comes after it",
	})
	if e.ends < instant(e.confirmed.until.Load()) {
		next.awaited = after(e.ends, overrideGrace)
	}
	return next
}

// tooOld is what is left of e when MaxStale is over.
func (e *entry) tooOld(cause error) *entry {
	return withoutValue(e.secret.Type, &Error{
		Code: CodeStale, is: ErrStale, cause: cause,
		Message: "the last value was not confirmed for longer than MaxStale, so it is not used any more",
	})
}

// withoutValue is a secret that has none, for the reason why.
func withoutValue(secretType string, why *Error) *entry {
	return &entry{secret: Secret{Type: secretType}, err: why.about(secretType)}
}

// pending is a secret of which nothing is known yet.
func pending(secretType, why string) *entry {
	e := withoutValue(secretType, &Error{Code: CodePending, is: ErrUnavailable, Message: why})
	e.awaited = forever
	return e
}
