package memory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// Backend implements ports.SecretBackend over values that a test sets, and fails, dawdles and blocks as it is
// told. Unlike a real backend it does not bound the time that it was told to take.
type Backend struct {
	mu      sync.Mutex
	secrets map[string]*secret // by reference
	flying  int                // Fetch calls that have not returned
	peak    int
}

type secret struct {
	versions [][]byte // version "1" first
	disabled map[int]bool
	latest   int // what the alias stands for; 0 for the last version
	failure  domain.Reason
	delay    time.Duration
	held     chan struct{} // nil when Fetch is free to go on
	calls    int
}

var _ ports.SecretBackend = (*Backend)(nil)

// NewBackend returns a Backend without secrets.
func NewBackend() *Backend { return &Backend{secrets: make(map[string]*secret)} }

// Set adds a version with this value to the secret and returns its name: "1", "2", ...
func (b *Backend) Set(reference, value string) (version string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.secret(reference)
	s.versions = append(s.versions, []byte(value))
	return strconv.Itoa(len(s.versions))
}

// Disable makes a version of the secret fail as domain.ReasonVersionDisabled.
func (b *Backend) Disable(reference string, version int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.secret(reference)
	if s.disabled == nil {
		s.disabled = make(map[int]bool)
	}
	s.disabled[version] = true
}

// SetLatest lets the alias stand for a version, or for the last one again when version is 0.
func (b *Backend) SetLatest(reference string, version int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.secret(reference).latest = version
}

// Fail makes every Fetch of the secret fail for reason, until Recover.
func (b *Backend) Fail(reference string, reason domain.Reason) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.secret(reference).failure = reason
}

// Recover ends what Fail began.
func (b *Backend) Recover(reference string) { b.Fail(reference, "") }

// SetDelay makes every Fetch of the secret take d.
func (b *Backend) SetDelay(reference string, d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.secret(reference).delay = d
}

// Hold makes every Fetch of the secret wait until release is called or its context is done. They are counted
// in Calls before they wait.
func (b *Backend) Hold(reference string) (release func()) {
	held := make(chan struct{})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.secret(reference).held = held
	return sync.OnceFunc(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		close(held)
		if s := b.secret(reference); s.held == held {
			s.held = nil
		}
	})
}

// Calls is how many times Fetch was called for the secret.
func (b *Backend) Calls(reference string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.secret(reference).calls
}

// Peak is how many calls of Fetch, for all secrets, ran at the same time at most.
func (b *Backend) Peak() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.peak
}

// Fetch implements ports.SecretBackend. What it answers is decided after the delay and the hold.
func (b *Backend) Fetch(ctx context.Context, reference, version string) (domain.Fetched, error) {
	delay, held := b.begin(reference)
	defer b.done()

	if err := wait(ctx, delay, held); err != nil {
		reason := domain.ReasonUnavailable
		if errors.Is(err, context.DeadlineExceeded) {
			reason = domain.ReasonDeadlineExceeded
		}
		return domain.Fetched{}, &domain.FetchError{Reason: reason, Err: err}
	}
	return b.answer(reference, version)
}

func (b *Backend) begin(reference string) (time.Duration, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.secret(reference)
	s.calls++
	b.flying++
	b.peak = max(b.peak, b.flying)
	return s.delay, s.held
}

func (b *Backend) done() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flying--
}

func wait(ctx context.Context, delay time.Duration, held <-chan struct{}) error {
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
	}
	if held != nil {
		select {
		case <-ctx.Done():
		case <-held:
		}
	}
	return ctx.Err()
}

func (b *Backend) answer(reference, version string) (domain.Fetched, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.secret(reference)
	if s.failure != "" {
		return domain.Fetched{}, &domain.FetchError{Reason: s.failure, Err: errors.New("told to fail")}
	}

	number := s.latest
	if number == 0 {
		number = len(s.versions)
	}
	if version != domain.LatestVersion {
		number, _ = strconv.Atoi(version) // what is no number is version 0, which does not exist
	}
	if number < 1 || number > len(s.versions) {
		return domain.Fetched{}, &domain.FetchError{
			Reason: domain.ReasonNotFound,
			Err:    fmt.Errorf("%s has no version %q", reference, version),
		}
	}

	if s.disabled[number] {
		return domain.Fetched{}, &domain.FetchError{Reason: domain.ReasonVersionDisabled}
	}
	value := s.versions[number-1]
	if len(value) == 0 || len(value) > domain.MaxValueBytes {
		return domain.Fetched{}, &domain.FetchError{
			Reason: domain.ReasonInvalidPayload,
			Err:    fmt.Errorf("%d bytes, want 1 to %d", len(value), domain.MaxValueBytes),
		}
	}
	return domain.Fetched{Value: domain.NewValue(slices.Clone(value)), Version: strconv.Itoa(number)}, nil
}

// secret returns the record of reference, made if need be. It must be called with mu held.
func (b *Backend) secret(reference string) *secret {
	s := b.secrets[reference]
	if s == nil {
		s = new(secret)
		b.secrets[reference] = s
	}
	return s
}
