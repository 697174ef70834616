package client

import (
	"context"
	"slices"
	"time"

	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
)

const (
	// pollDelay is how long there must have been no stream before secrets are asked for one by one.
	pollDelay = time.Second

	// refusedInterval is how often a refused secret is asked for again: somebody has to change a catalog or a grant first.
	refusedInterval = time.Minute
)

// pollConfirms is how long a polled value counts as current: until the next poll, with time for it to be late.
func pollConfirms(interval time.Duration) time.Duration { return interval + interval/2 }

// poll asks for the secrets one by one while there is no stream, and for refused ones at any time, until ctx is done.
func (c *Client) poll(ctx context.Context) {
	retry := backoff{min: pollDelay, max: c.cfg.PollInterval}
	for ctx.Err() == nil {
		due, all, next := c.duePolls(c.now())
		if len(due) == 0 && !all {
			select {
			case <-c.following.wake:
			case <-c.at(next):
			case <-ctx.Done():
			}
			continue
		}
		if !all {
			c.ask(ctx, due)
			continue
		}
		c.following.mu.Lock()
		c.following.nextPoll = forever // or earlier, by who needs one before this round has ended
		c.following.mu.Unlock()
		answered := c.ask(ctx, due)
		wait := c.cfg.PollInterval
		if answered {
			retry.reset()
		} else {
			wait = retry.next()
		}
		c.following.mu.Lock()
		c.following.polled = c.now()
		early := max(c.following.nextPoll, c.following.polled+pollDelay)
		c.following.nextPoll = min(early, c.following.polled+jittered(wait))
		c.following.mu.Unlock()
	}
}

// duePolls are the secrets to ask for now; all of those that are not refused when there is no stream. next is the
// instant at which there will be others.
func (c *Client) duePolls(now instant) (due []string, all bool, next instant) {
	c.following.mu.Lock()
	next = c.following.nextPoll
	if c.following.stream != nil {
		next = forever
	}
	c.following.mu.Unlock()
	all = now >= next
	for name, e := range c.view.Load().entries {
		switch {
		case e.refusal == nil && all, e.refusal != nil && now >= e.refusedAt+refusedInterval:
			due = append(due, name)
		case e.refusal != nil:
			next = min(next, e.refusedAt+refusedInterval)
		}
	}
	slices.Sort(due)
	return due, all, next
}

// at is a channel that gets something at that instant; nil for never.
func (c *Client) at(when instant) <-chan time.Time {
	if when == forever {
		return nil
	}
	return time.After(when - c.now())
}

// pollNow asks for the secrets without delay, if there is no stream. A server that answers with what is over by then is
// asked no more often than others.
func (c *Client) pollNow() {
	c.following.mu.Lock()
	defer c.following.mu.Unlock()
	c.following.nextPoll = max(c.now(), c.following.polled+pollDelay)
	signal(c.following.wake)
}

// ask asks for each of the types, the server in use first, and reports whether each was answered, be it by a refusal.
func (c *Client) ask(ctx context.Context, types []string) bool {
	left := c.servers.from()
	for _, name := range types {
		for len(left) > 0 && !c.askOne(ctx, left[0], name) {
			left = left[1:]
		}
		if len(left) == 0 {
			return false
		}
	}
	return true
}

// askOne brings what s says about a secret into the view, unless the view has something newer by then, or a stream tells
// of the secret already. It reports false when s does not answer.
func (c *Client) askOne(ctx context.Context, s *server, name string) bool {
	last := c.view.Load().entries[name]
	if last == nil || last.streamed() {
		return true // it left meanwhile, or a stream took over
	}
	asked := c.now()
	answer, err := c.getSecret(ctx, s, name)
	var next *entry
	if err == nil {
		next = received(answer.GetSecret(), asked, confirmedUntil(asked+pollConfirms(c.cfg.PollInterval)))
		if next == nil || next.secret.Type != name {
			err = &failure{Error: &Error{Code: CodeNoAnswer, Message: "what answers there is not Omni Secrets", is: ErrUnavailable}}
		}
	}
	answered := true
	switch {
	case err == nil:
	case err.refused:
		next = last.refused(name, c.now(), err.Error)
	case err.noValue && err.withdrawn:
		err.Code, err.Message = CodeWithdrawn, "the value was revoked and must not be used any more: "+err.Message
		next = withoutValue(name, err.Error)
	case err.noValue:
		next = last.unconfirmed(c.now(), withoutValue(name, err.Error))
	default:
		c.log.DebugContext(ctx, "asking for a secret failed", "baseUrl", s.url, "secretType", name, "err", err.Error)
		if last.refusal == nil {
			return false
		}
		answered, next = false, last.refused(name, c.now(), last.refusal) // it is due again later, not at once
	}

	newest := false
	c.update(func(v *view) {
		if newest = v.entries[name] == last; newest {
			v.entries[name] = next
		}
	})
	if newest {
		c.noteRefusal(ctx, last, next)
	}
	return answered
}

// getSecret asks s, with another token if there is one when the first is not accepted.
func (c *Client) getSecret(ctx context.Context, s *server, name string) (*secretsv1.GetSecretResponse, *failure) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	rejected := ""
	for {
		token, err := c.bearer(ctx)
		if err != nil {
			f := failureOf(err, "")
			return nil, &f
		}
		answer, err := s.rpc.GetSecret(authorized(ctx, token), &secretsv1.GetSecretRequest{SecretType: name})
		if err == nil {
			return answer, nil
		}
		f := failureOf(err, token)
		if !f.unauthenticated || rejected != "" || !c.hasOtherToken(ctx, token) {
			return nil, &f
		}
		rejected = token
	}
}

// noteRefusal tells the log, and the stream, when a secret is refused or no longer refused.
func (c *Client) noteRefusal(ctx context.Context, last, next *entry) {
	switch {
	case last.refusal == nil && next.refusal != nil:
		c.log.WarnContext(ctx, "the server refuses a secret; it is asked for again now and then", "secretType", next.secret.Type, "err", next.refusal)
	case last.refusal != nil && next.refusal == nil:
		c.log.InfoContext(ctx, "the server no longer refuses a secret", "secretType", next.secret.Type)
		c.refollow()
	}
}

// refollow has the stream opened anew, with all that may be followed now.
func (c *Client) refollow() {
	c.following.mu.Lock()
	defer c.following.mu.Unlock()
	if c.following.stream != nil {
		c.following.stream.cancel(errRefollow)
	}
	signal(c.following.again)
}
