package main

import (
	"context"
	"errors"

	"github.com/apex-tradebill/omni-secrets/client"
	"github.com/apex-tradebill/omni-secrets/domain"
)

// secretSource is where exec has its values from.
type secretSource struct {
	s      *streams
	flags  *clientFlags
	client *client.Client
	failed *failureWarnings
	bursts *changeBurst      // nil when nobody wants to know of changes
	gone   map[string]string // why a secret has no value, as was said
}

// source begins to fetch what x needs.
func (f *execFlags) source(s *streams, x execution) (*secretSource, error) {
	o := &secretSource{s: s, flags: &f.clientFlags, failed: f.newFailureWarnings(s), gone: map[string]string{}}
	var changed func(client.Change)
	if x.onChange != changeIgnored {
		o.bursts = newChangeBurst()
		changed = func(client.Change) { o.bursts.add() }
	}
	var err error
	o.client, err = f.follow(s, x.secretTypes(), changed, o.failed)
	return o, err
}

// first waits for a value of each secret, at most for the timeout in all. Then it hangs up, if changes are ignored.
func (o *secretSource) first(ctx context.Context, x execution) (map[string]domain.Value, error) {
	within, cancel := context.WithTimeout(ctx, o.flags.timeout)
	defer cancel()
	values := map[string]domain.Value{}
	for _, secretType := range x.secretTypes() {
		secret, err := o.client.Get(within, secretType)
		if err != nil {
			return nil, o.flags.readError(ctx, secretType, err, o.failed)
		}
		if err := x.accept(secretType, secret.Value); err != nil {
			return nil, err
		}
		if secret.Stale {
			o.s.warn(staleWarning, "the value of "+secretType)
		}
		values[secretType] = secret.Value
	}
	if o.bursts == nil {
		o.client.Close()
		return values, nil
	}
	o.failed.show()
	return values, nil
}

// changes gets something when values may have changed; it is nil when that is ignored.
func (o *secretSource) changes() <-chan struct{} {
	if o.bursts == nil {
		return nil
	}
	return o.bursts.over
}

// newest is the value of a secret, if it has one that x can use. When it has none, the reason is said once.
func (o *secretSource) newest(x execution, secretType string) (value domain.Value, ok bool) {
	atOnce, cancel := context.WithCancel(context.Background())
	cancel()
	secret, err := o.client.Get(atOnce, secretType)
	if errors.Is(err, context.Canceled) {
		return domain.Value{}, false // it is being fetched, and there will be another change
	}
	if err == nil {
		err = x.accept(secretType, secret.Value)
	}
	if err != nil {
		if why := oneLine(errorDetail(err)); o.gone[secretType] != why {
			o.gone[secretType] = why
			o.s.warn("%s has no value to use now, and the command goes on with the one it has: %s", secretType, why)
		}
		return domain.Value{}, false
	}
	delete(o.gone, secretType)
	return secret.Value, true
}

// close ends the following.
func (o *secretSource) close() {
	o.client.Close()
	if o.bursts != nil {
		o.bursts.stop()
	}
}
