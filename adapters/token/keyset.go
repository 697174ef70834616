package token

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"
)

const (
	fetchTimeout    = 5 * time.Second
	refreshInterval = 5 * time.Minute
	// After a failed fetch the next one follows sooner: after retryMin, doubling up to retryMax.
	retryMin, retryMax = time.Second, time.Minute
	// demandInterval is the least time between two fetches that unknown key ids cause: anyone can make those up.
	demandInterval = 10 * time.Second
	maxKeySetBytes = 1 << 20
)

var (
	errKeysNotLoaded = refuse("the token cannot be checked at the moment: the keys to check it with could not be fetched")
	errUnknownKey    = refuse("the token is signed with a key that is not in the key set, or not for its algorithm")
)

// keySet holds the verification keys of a JWK Set, fetched over HTTP. The keys of the last good answer stay in
// use while fetching fails.
//
//	            every refreshInterval, after a failure sooner
//	run: fetch -------------------------------------------------> fetch ...
//	            or when find has met a key id that is not known
type keySet struct {
	url    string
	client *http.Client
	logger *slog.Logger

	keys   atomic.Pointer[[]verificationKey] // nil until the first good answer
	demand *rate.Limiter
	wake   chan struct{} // asks run for a fetch

	stopped chan struct{} // closed when run is over

	mu       sync.Mutex
	fetching chan struct{} // closed when the fetch that goes on, or was asked for, is over; nil when there is none
}

// newKeySet makes a set that is fetched once run is started.
func newKeySet(url string, transport http.RoundTripper, logger *slog.Logger) *keySet {
	k := &keySet{
		url: url,
		client: &http.Client{
			Transport: transport,
			Timeout:   fetchTimeout,
			// A redirect could lead from https to anywhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		logger:   logger,
		demand:   rate.NewLimiter(rate.Every(demandInterval), 1),
		wake:     make(chan struct{}, 1),
		stopped:  make(chan struct{}),
		fetching: make(chan struct{}), // whoever comes before the first fetch waits for it
	}
	return k
}

// run fetches the set until ctx is done.
func (k *keySet) run(ctx context.Context) {
	defer close(k.stopped)
	var last []byte // the good answer that is in use
	retry := retryMin
	for {
		k.mu.Lock()
		if k.fetching == nil {
			k.fetching = make(chan struct{})
		}
		k.mu.Unlock()

		text, err := k.fetch(ctx)
		if err == nil && (last == nil || !bytes.Equal(text, last)) { //nolint:forbidigo // a key set is public
			err = k.use(ctx, text)
		}
		k.mu.Lock()
		close(k.fetching)
		k.fetching = nil
		k.mu.Unlock()

		wait := refreshInterval
		if err == nil {
			last, retry = text, retryMin
		} else if ctx.Err() == nil {
			k.logger.WarnContext(ctx, "token key set not fetched", "err", err, "retryIn", retry.String())
			wait, retry = retry, min(2*retry, retryMax)
		}

		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-k.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

func (k *keySet) fetch(ctx context.Context) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return nil, fmt.Errorf("asking for the key set: %w", err)
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := k.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking for the key set: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking for the key set: HTTP status %d", response.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxKeySetBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading the key set: %w", err)
	}
	if len(text) > maxKeySetBytes {
		return nil, fmt.Errorf("reading the key set: it is larger than %d bytes", maxKeySetBytes)
	}
	return text, nil
}

func (k *keySet) use(ctx context.Context, text []byte) error {
	keys, unusable, err := parseKeySet(text)
	if err != nil {
		return err
	}
	for _, err := range unusable {
		k.logger.WarnContext(ctx, "token key not usable", "err", err)
	}
	k.keys.Store(&keys)
	k.logger.InfoContext(ctx, "token key set changed", "usableKeys", len(keys))
	return nil
}

// current is the keys in use, nil when there are none. A nil keySet has none.
func (k *keySet) current() *[]verificationKey {
	if k == nil {
		return nil
	}
	return k.keys.Load()
}

// find returns the keys that may verify a token with this key id and algorithm, at least one, and the set that
// they are from. A token without a key id may be signed with any key of the set. When there is none, find lets
// the set be fetched again and waits for that, unless that was done a moment ago.
func (k *keySet) find(ctx context.Context, id, algorithm string) ([]jwt.VerificationKey, *[]verificationKey, error) {
	set := k.current()
	if keys := match(set, id, algorithm); len(keys) > 0 {
		return keys, set, nil
	}
	for range 2 { // the fetch that goes on may have been answered before the key was published
		done := k.refetch()
		if done == nil {
			break
		}
		select {
		case <-done:
		case <-k.stopped:
		case <-ctx.Done():
			return nil, nil, errKeysNotLoaded
		}
		set = k.current()
		if keys := match(set, id, algorithm); len(keys) > 0 {
			return keys, set, nil
		}
	}
	if set == nil {
		return nil, nil, errKeysNotLoaded
	}
	return nil, nil, errUnknownKey
}

func match(set *[]verificationKey, id, algorithm string) []jwt.VerificationKey {
	if set == nil {
		return nil
	}
	var keys []jwt.VerificationKey
	for _, key := range *set {
		if (id == "" || id == key.id) && slices.Contains(key.algorithms, algorithm) {
			keys = append(keys, key.key)
		}
	}
	return keys
}

// refetch returns what is closed when the fetch that goes on is over. When none does, it asks run for one, or
// returns nil when it is too soon for that.
func (k *keySet) refetch() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fetching == nil {
		if !k.demand.Allow() {
			return nil
		}
		k.fetching = make(chan struct{})
		select {
		case k.wake <- struct{}{}:
		default:
		}
	}
	return k.fetching
}

// CheckJWKSURL refuses addresses over which anybody on the way could put in a key of their own.
func CheckJWKSURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return errors.New("the JWKS URL is not an absolute URL")
	}
	switch ip := net.ParseIP(u.Hostname()); {
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()):
		return nil
	default:
		return fmt.Errorf("the JWKS URL must begin with https:// (http:// only for this machine itself), not %q", u.Scheme+"://")
	}
}
