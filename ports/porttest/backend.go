package porttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// BackendHarness is a ports.SecretBackend to be checked, with the means to change what lies behind it. Hooks
// may be nil where the backend cannot do such a thing; their cases are then left out.
type BackendHarness struct {
	Backend ports.SecretBackend

	Reference string // of the secret that Put makes and changes
	Unknown   string // a well-formed reference of no secret

	// Put gives the secret a new value, of any size, and returns the version that it has, or "" when the
	// backend names versions only as they are fetched.
	Put func(t *testing.T, value []byte) (version string)

	Disable func(t *testing.T, version string) // hook: the version cannot be read until further notice
	Destroy func(t *testing.T, version string) // hook: nor ever again
	Remove  func(t *testing.T)                 // hook: takes the secret away

	Outage  func(t *testing.T, on bool) // hook: the backend cannot be reached
	Deny    func(t *testing.T, on bool) // hook: we may not read
	Corrupt func(t *testing.T, on bool) // hook: values are damaged on their way

	// Hang is a hook: the backend stops to answer. caught returns once a Fetch waits for its answer.
	Hang func(t *testing.T) (caught func())
}

// RunSecretBackend checks an implementation of ports.SecretBackend. create returns a harness whose secret does
// not exist yet; whatever it opened is ended by t.Cleanup.
func RunSecretBackend(t *testing.T, create func(t *testing.T) BackendHarness) {
	t.Helper()
	always := func(*backendTest) bool { return true }
	cases := []struct {
		name  string
		given func(hooks *backendTest) bool
		run   func(t *testing.T, b *backendTest)
	}{
		{"latest is the newest value, with its concrete version", always, fetchLatest},
		{"a version can be fetched by its name", always, fetchByVersion},
		{"an older version gives its own value or is not found", always, fetchOlder},
		{"a value that did not change keeps its version", always, fetchUnchanged},
		{"values put in quick succession have a version each", always, fetchSuccession},
		{"an unknown secret is not found", always, fetchUnknown},
		{"an unknown version is not found", always, fetchUnknownVersion},
		{"a malformed reference is not found", always, fetchMalformed},
		{"an empty value is an invalid payload", always, fetchEmpty},
		{"a value of the largest size is fetched", always, fetchLargest},
		{"a larger value is an invalid payload", always, fetchTooLarge},
		{"a binary value comes back byte for byte", always, fetchBinary},
		{"a cancelled context ends the fetch", always, fetchCancelled},
		{"concurrent fetches agree, version by version, while the value changes", always, fetchConcurrently},
		{"a context that ends during a fetch ends it", func(b *backendTest) bool { return b.Hang != nil }, fetchHangs},
		{"a disabled version is refused", func(b *backendTest) bool { return b.Disable != nil }, fetchDisabled},
		{"a destroyed version is refused", func(b *backendTest) bool { return b.Destroy != nil }, fetchDestroyed},
		{"a secret that was taken away is not found", func(b *backendTest) bool { return b.Remove != nil }, fetchRemoved},
		{"an outage passes", func(b *backendTest) bool { return b.Outage != nil }, fetchOutage},
		{"a denial is told from an outage", func(b *backendTest) bool { return b.Deny != nil }, fetchDenied},
		{"a damaged value is not given out", func(b *backendTest) bool { return b.Corrupt != nil }, fetchCorrupt},
	}
	hooks := &backendTest{BackendHarness: create(t)}
	for _, c := range cases {
		if !c.given(hooks) {
			continue
		}
		t.Run(c.name, func(t *testing.T) { c.run(t, &backendTest{BackendHarness: create(t)}) })
	}
}

// backendTest remembers what was put, to look for it where it must not be.
type backendTest struct {
	BackendHarness
	mu       sync.Mutex
	payloads []string
}

func (b *backendTest) put(t *testing.T, value string) (version string) {
	t.Helper()
	b.mu.Lock()
	b.payloads = append(b.payloads, value)
	b.mu.Unlock()
	return b.Put(t, []byte(value))
}

// fetch expects a value and a concrete version.
func (b *backendTest) fetch(t *testing.T, version string) domain.Fetched {
	t.Helper()
	got, err := b.Backend.Fetch(t.Context(), b.Reference, version)
	if err != nil {
		t.Fatalf("Fetch(%q, %q): %v", b.Reference, version, err)
	}
	if got.Version == "" || got.Version == domain.LatestVersion {
		t.Fatalf("Fetch(%q, %q) gave the version %q, want a concrete one", b.Reference, version, got.Version)
	}
	return got
}

// fails expects a failure for one of the reasons.
func (b *backendTest) fails(t *testing.T, reference, version string, want ...domain.Reason) {
	t.Helper()
	got, err := b.Backend.Fetch(t.Context(), reference, version)
	b.check(t, got, err, want...)
}

// check checks the outcome of a Fetch that must have failed, for any reason when none is wanted, and that it
// holds no payload.
func (b *backendTest) check(t *testing.T, got domain.Fetched, err error, want ...domain.Reason) {
	t.Helper()
	if err == nil {
		t.Fatalf("Fetch gave version %q, want a failure for %v", got.Version, want)
	}
	if !got.Value.IsZero() || got.Version != "" {
		t.Errorf("Fetch failed and gave version %q all the same", got.Version)
	}
	failed, ok := errors.AsType[*domain.FetchError](err)
	if !ok {
		t.Fatalf("Fetch failed with %T (%v), want a *domain.FetchError", err, err)
	}
	if len(want) > 0 && !slices.Contains(want, failed.Reason) {
		t.Errorf("Fetch failed for %q (%v), want one of %q", failed.Reason, err, want)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, shown := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err), fmt.Sprintf("%#v", failed.Err)} {
		for _, p := range b.payloads {
			if p != "" && strings.Contains(shown, p) {
				t.Fatalf("the error of Fetch holds the payload")
			}
		}
	}
}

func wantValue(t *testing.T, got domain.Fetched, want string) {
	t.Helper()
	if !bytes.Equal(got.Value.Reveal(), []byte(want)) {
		t.Errorf("version %s has %d bytes that are not the %d bytes put", got.Version, len(got.Value.Reveal()), len(want))
	}
}

func fetchLatest(t *testing.T, b *backendTest) {
	b.put(t, "first-plaintext")
	wantValue(t, b.fetch(t, domain.LatestVersion), "first-plaintext")
	version := b.put(t, "second-plaintext")
	got := b.fetch(t, domain.LatestVersion)
	wantValue(t, got, "second-plaintext")
	if version != "" && got.Version != version {
		t.Errorf("latest is version %q, want %q", got.Version, version)
	}
}

func fetchByVersion(t *testing.T, b *backendTest) {
	b.put(t, "some-plaintext")
	latest := b.fetch(t, domain.LatestVersion)
	named := b.fetch(t, latest.Version)
	wantValue(t, named, "some-plaintext")
	if named.Version != latest.Version {
		t.Errorf("version %q calls itself %q", latest.Version, named.Version)
	}
}

func fetchOlder(t *testing.T, b *backendTest) {
	b.put(t, "first-plaintext")
	first := b.fetch(t, domain.LatestVersion)
	b.put(t, "second-plaintext")
	got, err := b.Backend.Fetch(t.Context(), b.Reference, first.Version)
	if err != nil {
		b.check(t, got, err, domain.ReasonNotFound)
		return
	}
	wantValue(t, got, "first-plaintext")
	if got.Version != first.Version {
		t.Errorf("version %q calls itself %q", first.Version, got.Version)
	}
}

func fetchUnchanged(t *testing.T, b *backendTest) {
	b.put(t, "some-plaintext")
	first := b.fetch(t, domain.LatestVersion)
	for range 3 {
		if again := b.fetch(t, domain.LatestVersion); again.Version != first.Version {
			t.Fatalf("the version became %q without a change, was %q", again.Version, first.Version)
		}
	}
}

func fetchSuccession(t *testing.T, b *backendTest) {
	seen := make(map[string]int)
	for i := range 20 {
		value := fmt.Sprintf("plaintext-%02d", i) // of one length
		b.put(t, value)
		got := b.fetch(t, domain.LatestVersion)
		wantValue(t, got, value)
		if other, ok := seen[got.Version]; ok {
			t.Fatalf("values %d and %d share the version %q", other, i, got.Version)
		}
		seen[got.Version] = i
	}
}

func fetchUnknown(t *testing.T, b *backendTest) {
	b.fails(t, b.Reference, domain.LatestVersion, domain.ReasonNotFound) // before the first Put
	b.put(t, "some-plaintext")
	b.fails(t, b.Unknown, domain.LatestVersion, domain.ReasonNotFound)
}

func fetchUnknownVersion(t *testing.T, b *backendTest) {
	b.put(t, "some-plaintext")
	for _, version := range []string{"4711", "no-such-version", "../1", "Latest", ""} {
		b.fails(t, b.Reference, version, domain.ReasonNotFound)
	}
}

func fetchMalformed(t *testing.T, b *backendTest) {
	b.put(t, "some-plaintext")
	for _, reference := range []string{"", ".", "/", "..", b.Reference + "/", b.Reference + "/../x", "../" + b.Reference, b.Reference + "\x00"} {
		b.fails(t, reference, domain.LatestVersion, domain.ReasonNotFound)
	}
}

func fetchEmpty(t *testing.T, b *backendTest) {
	b.put(t, "")
	b.fails(t, b.Reference, domain.LatestVersion, domain.ReasonInvalidPayload)
}

func fetchLargest(t *testing.T, b *backendTest) {
	value := strings.Repeat("large-plaintext ", domain.MaxValueBytes/16)
	b.put(t, value)
	wantValue(t, b.fetch(t, domain.LatestVersion), value)
}

func fetchTooLarge(t *testing.T, b *backendTest) {
	b.put(t, strings.Repeat("large-plaintext ", domain.MaxValueBytes/16)+"!")
	b.fails(t, b.Reference, domain.LatestVersion, domain.ReasonInvalidPayload)
}

func fetchBinary(t *testing.T, b *backendTest) {
	every := make([]byte, 256)
	for c := range every {
		every[c] = byte(c)
	}
	value := "\xef\xbb\xbf\r\n \x00\xff\xfe" + string(every) + " \r\n\n"
	b.put(t, value)
	wantValue(t, b.fetch(t, domain.LatestVersion), value)
}

func fetchCancelled(t *testing.T, b *backendTest) {
	b.put(t, "some-plaintext")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	got, err := b.Backend.Fetch(ctx, b.Reference, domain.LatestVersion)
	b.check(t, got, err)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error %v does not wrap context.Canceled", err)
	}
}

func fetchHangs(t *testing.T, b *backendTest) {
	b.put(t, "some-plaintext")
	caught := b.Hang(t)
	ctx, cancel := context.WithCancel(t.Context())
	var got domain.Fetched
	var err error
	var wg sync.WaitGroup
	wg.Go(func() { got, err = b.Backend.Fetch(ctx, b.Reference, domain.LatestVersion) })
	caught()
	cancel()
	wg.Wait()
	b.check(t, got, err)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error %v does not wrap context.Canceled", err)
	}
}

func fetchConcurrently(t *testing.T, b *backendTest) {
	b.put(t, "plaintext-00")
	var mu sync.Mutex
	values := make(map[string]string) // by version
	race(func(i int) {
		if i == 0 {
			for n := range 10 {
				b.put(t, fmt.Sprintf("plaintext-%02d", n+1))
			}
			return
		}
		for range 10 {
			got, err := b.Backend.Fetch(t.Context(), b.Reference, domain.LatestVersion)
			if err != nil {
				t.Errorf("Fetch: %v", err)
				return
			}
			value := string(got.Value.Reveal())
			mu.Lock()
			if known, ok := values[got.Version]; ok && known != value {
				t.Errorf("version %q had two values", got.Version)
			}
			values[got.Version] = value
			mu.Unlock()
		}
	})
	wantValue(t, b.fetch(t, domain.LatestVersion), "plaintext-10")
}

func fetchDisabled(t *testing.T, b *backendTest) {
	b.put(t, "first-plaintext")
	version := b.put(t, "second-plaintext")
	b.Disable(t, version)
	b.fails(t, b.Reference, version, domain.ReasonVersionDisabled)
	b.fails(t, b.Reference, domain.LatestVersion, domain.ReasonVersionDisabled) // not the one before
}

func fetchDestroyed(t *testing.T, b *backendTest) {
	b.put(t, "first-plaintext")
	version := b.put(t, "second-plaintext")
	b.Destroy(t, version)
	b.fails(t, b.Reference, version, domain.ReasonVersionDisabled)
	b.fails(t, b.Reference, domain.LatestVersion, domain.ReasonVersionDisabled)
}

func fetchRemoved(t *testing.T, b *backendTest) {
	b.put(t, "some-plaintext")
	b.fetch(t, domain.LatestVersion)
	b.Remove(t)
	b.fails(t, b.Reference, domain.LatestVersion, domain.ReasonNotFound)
}

func fetchOutage(t *testing.T, b *backendTest) {
	b.put(t, "some-plaintext")
	b.Outage(t, true)
	b.fails(t, b.Reference, domain.LatestVersion, domain.ReasonUnavailable, domain.ReasonDeadlineExceeded)
	b.Outage(t, false)
	wantValue(t, b.fetch(t, domain.LatestVersion), "some-plaintext")
}

func fetchDenied(t *testing.T, b *backendTest) {
	b.put(t, "some-plaintext")
	b.Deny(t, true)
	b.fails(t, b.Reference, domain.LatestVersion, domain.ReasonPermissionDenied, domain.ReasonUnauthenticated)
	b.Deny(t, false)
	wantValue(t, b.fetch(t, domain.LatestVersion), "some-plaintext")
}

func fetchCorrupt(t *testing.T, b *backendTest) {
	b.put(t, "some-plaintext")
	b.Corrupt(t, true)
	b.fails(t, b.Reference, domain.LatestVersion, domain.ReasonChecksumMismatch)
	b.Corrupt(t, false)
	wantValue(t, b.fetch(t, domain.LatestVersion), "some-plaintext")
}
