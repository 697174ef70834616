package client

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Client keeps secrets in memory. It is safe for concurrent use.
type Client struct {
	cfg     Config
	log     *slog.Logger
	started time.Time
	servers *servers

	view atomic.Pointer[view]
	mu   sync.Mutex        // held while the view is replaced
	told map[string]*entry // what OnChange compares with; guarded by mu

	following following
	logged    string // the code of the failure that the log tells of, empty for none; of follow alone

	closeIdle func()
	cancel    context.CancelFunc
	running   sync.WaitGroup
}

// New begins to follow the secrets and returns at once: call Ready or Get to wait for them. Its errors are mistakes in
// cfg, all of them at once. Close the client when it is not needed any more.
func New(cfg Config) (*Client, error) {
	cfg, err := cfg.checked()
	if err != nil {
		return nil, err
	}
	hc, closeIdle := cfg.HTTPClient, func() {}
	if hc == nil {
		hc = newHTTPClient(cfg.ClientCertificate)
		closeIdle = hc.CloseIdleConnections
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Client{
		cfg: cfg, log: cfg.Logger, started: time.Now(), servers: newServers(cfg.BaseURLs, hc),
		following: following{wake: make(chan struct{}, 1), again: make(chan struct{}, 1), nextPoll: jittered(pollDelay)},
		told:      map[string]*entry{}, closeIdle: closeIdle, cancel: cancel,
	}
	first := &view{entries: map[string]*entry{}, complete: len(cfg.SecretTypes) > 0, replaced: make(chan struct{})}
	for _, t := range cfg.SecretTypes {
		first.entries[t] = pending(t, "the server has not said anything about this secret yet")
	}
	c.view.Store(first)

	for _, work := range []func(context.Context){c.follow, c.poll, c.expire, c.notify} {
		c.running.Go(func() { work(ctx) })
	}
	return c, nil
}

// now is the time on the client's clock.
func (c *Client) now() instant { return time.Since(c.started) }

// Get returns a secret from memory, without a lock and without I/O. It waits only while nothing is known of the secret
// yet: for its first state after New, for a value that the server is just fetching for the first time, and up to a
// second for what comes after an override; never longer than ctx.
//
// Errors are *Error. errors.Is finds in them ErrUnavailable, and with it ErrStale when there was a value; ErrRefused;
// ErrNotFollowed; ErrClosed; and the error of ctx when that ended the waiting.
func (c *Client) Get(ctx context.Context, secretType string) (Secret, error) {
	if e := c.view.Load().entries[secretType]; e != nil {
		if s, ok := e.serve(c.now(), c.cfg.MaxStale); ok {
			return s, nil
		}
	}
	return c.await(ctx, secretType)
}

func (c *Client) await(ctx context.Context, secretType string) (Secret, error) {
	for {
		v := c.view.Load()
		s, wait, err := v.look(secretType, c.now(), c.cfg.MaxStale)
		if err == nil {
			return s, nil
		}
		if wait == 0 {
			return Secret{}, err
		}
		if !c.wait(ctx, v, wait) {
			return Secret{}, interrupted(err, ctx)
		}
	}
}

// Ready waits until each secret has a state: a value, or the reason why there is none, which Get then returns. It fails
// when that cannot be had: ctx ended, the client was closed, or the server does not accept the token at all (ErrRefused).
// Without SecretTypes it waits until the server has said which secrets there are.
func (c *Client) Ready(ctx context.Context) error {
	for {
		v := c.view.Load()
		switch {
		case v.closed:
			return errClosed
		case v.settled(c.now()):
			return nil
		case v.final:
			return v.failure
		}
		if !c.wait(ctx, v, v.nextAwaited(c.now())) {
			err := v.failure
			if err == nil {
				err = &Error{Code: CodePending, is: ErrUnavailable, Message: "the server has not said anything about some of the secrets yet"}
			}
			return interrupted(err, ctx)
		}
	}
}

// interrupted is err with the reason why nobody waits for something better.
func interrupted(err *Error, ctx context.Context) *Error { //nolint:revive // err is what it is about
	now := *err
	now.cause = context.Cause(ctx)
	return &now
}

// wait returns when v is no longer the newest view, or it is the instant until, and reports false when ctx ended first.
func (c *Client) wait(ctx context.Context, v *view, until instant) bool {
	var due <-chan time.Time
	if until < forever {
		timer := time.NewTimer(until - c.now())
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-v.replaced:
	case <-due:
	case <-ctx.Done():
		return false
	}
	return true
}

// Close ends everything that the client does, forgets the secrets, and returns when that is done; it waits for a running
// OnChange. Calls of Get that wait, and all later ones, fail with ErrClosed.
func (c *Client) Close() {
	c.update(func(next *view) { next.closed, next.entries = true, nil })
	c.cancel()
	c.running.Wait()
	c.closeIdle()
}
