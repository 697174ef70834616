package client

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
)

// stableAfter is how long a stream must live before its end counts as a first failure, not as one more.
const stableAfter = 5 * time.Second

// following is what the stream and the polls have to know of each other.
type following struct {
	mu       sync.Mutex
	stream   *session // that confirms the secrets now; nil while there is none
	nextPoll instant  // while there is none
	polled   instant  // when all were asked for last

	wake  chan struct{} // poll should look at this again
	again chan struct{} // the secrets to follow are others than before
}

// session is one stream.
type session struct {
	token     string
	types     []string
	confirmed *confirmation
	silence   time.Duration // that is allowed
	synced    bool          // every first state was received
	syncedAt  instant
	cancel    context.CancelCauseFunc
}

// follow keeps a stream open, at one server after the other, until ctx is done.
func (c *Client) follow(ctx context.Context) {
	retry := backoff{min: minBackoff, max: maxBackoff}
	hops, reasked := 0, false // since a stream was stable
	for ctx.Err() == nil {
		types, some := c.followable()
		if !some { // the polls notice when that changes
			select {
			case <-c.following.again:
			case <-ctx.Done():
			}
			continue
		}
		stream, err := c.watch(ctx, c.servers.from()[0], types)
		if ctx.Err() != nil {
			return
		}
		if stream.synced && c.now()-stream.syncedAt >= stableAfter {
			retry.reset()
			hops, reasked = 0, false
		}
		if errors.Is(err, errRefollow) {
			continue
		}

		f := failureOf(err, stream.token)
		if f.unauthenticated && !reasked && c.hasOtherToken(ctx, stream.token) {
			reasked = true
			continue
		}
		if f.refused && len(types) > 0 && c.separate(ctx, types) {
			continue
		}
		c.failed(ctx, f, f.unauthenticated || f.refused && len(types) == 0 || f.Code == CodeNoToken)

		wait := jittered(retry.next())
		if f.refused {
			wait = jittered(refusedInterval)
		}
		if turn := c.servers.advance(c.now(), c.now()+f.retryAfter); turn > 0 {
			wait = max(wait, turn)
		} else if f.Code == codeShuttingDown && hops < len(c.servers.all)-1 {
			hops++
			wait = 0
		}
		c.log.DebugContext(ctx, "trying to follow the secrets again", "after", wait, "err", f.Error)
		if !pause(ctx, wait) {
			return
		}
	}
}

// followable is what to ask the stream for. None stands for everything; some is false when nothing is left to ask for.
func (c *Client) followable() (types []string, some bool) {
	if len(c.cfg.SecretTypes) == 0 {
		return nil, true
	}
	for name, e := range c.view.Load().entries {
		if e.refusal == nil {
			types = append(types, name)
		}
	}
	slices.Sort(types)
	return types, len(types) > 0
}

// hasOtherToken reports whether the source has another token by now than the one that was not accepted.
func (c *Client) hasOtherToken(ctx context.Context, token string) bool {
	fresh, err := c.bearer(ctx)
	return err == nil && fresh != token
}

func (c *Client) bearer(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	return bearer(ctx, c.cfg.Token)
}

// separate finds out which of the types the server refuses, since a stream takes all or none, and reports whether it
// refused any.
func (c *Client) separate(ctx context.Context, types []string) bool {
	if !c.ask(ctx, types) {
		return false
	}
	left, _ := c.followable()
	return len(left) < len(types)
}

// watch follows types at s until the stream ends, and says why it did.
func (c *Client) watch(ctx context.Context, s *server, types []string) (*session, error) {
	stream := &session{types: types, silence: answerTimeout}
	token, err := c.bearer(ctx)
	if err != nil {
		return stream, err
	}
	stream.token = token
	ctx, stream.cancel = context.WithCancelCause(ctx)
	defer stream.cancel(nil)
	// The first message is due when a proxy that buffers would have given up its silence; later ones as the server says.
	stream.confirmed = confirmedUntil(c.now() + stream.silence)
	stream.confirmed.open.Store(true)
	watchdog := time.AfterFunc(stream.silence, func() { stream.cancel(errSilent) })
	defer watchdog.Stop()

	messages, err := s.rpc.WatchSecrets(authorized(ctx, token), &secretsv1.WatchSecretsRequest{SecretTypes: types})
	if err != nil {
		return stream, cutShort(ctx, err)
	}
	defer c.ended(stream, messages)
	for messages.Receive() {
		now := c.now()
		// Once the silence was too long, values were dropped for it that only a new stream brings back.
		if now >= instant(stream.confirmed.until.Load()) {
			return stream, errSilent
		}
		c.take(ctx, stream, now, s, messages.Msg())
		stream.confirmed.until.Store(int64(now + stream.silence))
		watchdog.Reset(stream.silence)
	}
	if err := messages.Err(); err != nil {
		return stream, cutShort(ctx, err)
	}
	return stream, errStreamEnd
}

// cutShort is why ctx was cancelled, or else err.
func cutShort(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// ended lets go of a stream, and leaves it to the polls to confirm what it confirmed.
func (c *Client) ended(stream *session, messages *connect.ServerStreamForClient[secretsv1.WatchSecretsResponse]) {
	stream.cancel(nil)
	stream.confirmed.open.Store(false)
	_ = messages.Close()
	told := false // it may have done so without ever being in sync
	for _, e := range c.view.Load().entries {
		told = told || e.confirmed == stream.confirmed
	}
	c.following.mu.Lock()
	defer c.following.mu.Unlock()
	if c.following.stream == stream || told {
		c.following.stream = nil
		c.following.nextPoll = c.now() + jittered(pollDelay)
		signal(c.following.wake)
	}
}

// take brings one message into the view.
func (c *Client) take(ctx context.Context, stream *session, now instant, s *server, message *secretsv1.WatchSecretsResponse) {
	if alive := message.GetKeepAlive(); alive != nil {
		stream.silence = allowedSilence(alive.GetIntervalSeconds())
		if !stream.synced {
			stream.synced, stream.syncedAt = true, now
			c.synced(ctx, stream, s)
		}
		return
	}
	secret, gone := message.GetSecret(), message.GetUnavailable()
	name := secret.GetSecretType() + gone.GetSecretType() // one of them is nil
	if !c.mayFollow(name) {
		return
	}
	c.update(func(next *view) {
		last := next.entries[name]
		if secret != nil {
			if e := received(secret, now, stream.confirmed); e != nil {
				next.entries[name] = e
				return
			}
			gone = &secretsv1.SecretUnavailable{SecretType: name, Reason: "invalid_payload"}
		}
		e := unavailable(last, gone, now)
		e.confirmed = stream.confirmed // that it has none; a value stays as stale as it is
		next.entries[name] = e
	})
}

// maxFollowed bounds what a server can put into memory.
const maxFollowed = 10 * maxSecretTypes

// mayFollow reports whether a secret that the server told of is one to keep.
func (c *Client) mayFollow(name string) bool {
	entries := c.view.Load().entries
	if _, known := entries[name]; known || name == "" {
		return known
	}
	return len(c.cfg.SecretTypes) == 0 && len(entries) < maxFollowed
}

// unavailable is what is left of last, which may be nil, when the server has no value.
func unavailable(last *entry, gone *secretsv1.SecretUnavailable, now instant) *entry {
	name, reason := gone.GetSecretType(), presentable(gone.GetReason(), "")
	switch {
	case gone.GetWithdrawn():
		return withoutValue(name, &Error{
			Code: CodeWithdrawn, is: ErrUnavailable,
			Message: "the value was revoked and must not be used any more (" + reason + "); a new version, or an override, takes its place",
		})
	case reason == "": // the server is just fetching it
		return last.unconfirmed(now, pending(name, "the server is still fetching this secret"))
	}
	return last.unconfirmed(now, withoutValue(name, &Error{
		Code: CodeUnavailable, is: ErrUnavailable,
		Message: "the server has no value (" + reason + "); an operator can inject one by break-glass",
	}))
}

// synced is called when stream has sent every first state. Without SecretTypes, that is everything there is.
func (c *Client) synced(ctx context.Context, stream *session, s *server) {
	c.update(func(next *view) {
		next.complete, next.failure, next.final = true, nil, false
		if len(c.cfg.SecretTypes) > 0 {
			return
		}
		for name, e := range next.entries {
			if e.err != nil && e.confirmed != stream.confirmed {
				delete(next.entries, name)
			}
		}
	})
	c.following.mu.Lock()
	c.following.stream = stream
	c.following.mu.Unlock()
	signal(c.following.wake)
	if types, _ := c.followable(); len(types) != len(stream.types) {
		stream.cancel(errRefollow) // one was accepted while this stream was being opened
	}
	if c.logged != followed {
		c.log.InfoContext(ctx, "the secrets are followed", "baseUrl", s.url)
		c.logged = followed
	}
}

// followed is what Client.logged says while there is nothing to complain of.
const followed = "-"

// failed is called when there is no stream. final: it will not pass by itself.
func (c *Client) failed(ctx context.Context, f failure, final bool) {
	c.update(func(next *view) { next.failure, next.final = f.Error, final })
	if c.logged != f.Code {
		c.logged = f.Code
		c.log.WarnContext(ctx, "the secrets cannot be followed; what is in memory is served for a bounded time", "err", f.Error)
	}
}

// signal leaves a message for a receiver that looks at the whole state anyway.
func signal(to chan<- struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}
