package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/apex-tradebill/omni-secrets/adapters/gsm"
	"github.com/apex-tradebill/omni-secrets/domain"
)

const (
	backendCheck = "backend"

	maxDoctorFetches = 8  // at a time
	quietCatalog     = 20 // a catalog up to this size is fetched without a word
)

// checkBackends fetches of each secret what a server serves and what it rotates to, looks at how that ends, and lets go
// of the values. progress is told how many of how many secrets are done.
func checkBackends(ctx context.Context, c config, standings standings, progress func(done, of int)) []finding {
	if len(c.catalog) == 0 {
		return []finding{found(backendCheck, verdictSkipped, "there is no catalog to go by")}
	}
	if len(c.catalog.ForeignProjects(c.Environment, c.ProductionProjects)) > 0 {
		return []finding{found(backendCheck, verdictSkipped, "nothing is fetched for this environment from a production project")}
	}
	opened := make(map[string]openedBackend)
	defer func() {
		for _, o := range opened {
			if o.err == nil {
				_ = o.backend.Close() // nothing was written
			}
		}
	}()
	for _, e := range c.catalog {
		if _, ok := opened[e.Backend]; !ok {
			b, err := openBackend(ctx, c, e.Backend)
			opened[e.Backend] = openedBackend{b, err}
		}
	}

	findings := make([][]finding, len(c.catalog))
	var fetches errgroup.Group
	fetches.SetLimit(maxDoctorFetches)
	var mu sync.Mutex
	done := 0
	for i, e := range c.catalog {
		fetches.Go(func() error {
			standing := standings[e.Type]
			if standing.Origin != e.Origin() {
				standing = domain.Standing{} // a server forgets it when it starts
			}
			findings[i] = opened[e.Backend].examine(ctx, e, standing)
			mu.Lock()
			defer mu.Unlock()
			done++
			progress(done, len(c.catalog))
			return nil
		})
	}
	_ = fetches.Wait() // none returns one
	return slices.Concat(findings...)
}

// openedBackend is a backend, or why it could not be opened.
type openedBackend struct {
	backend secretBackend
	err     error
}

// examine fetches one secret, by the rules by which a server does. Of what it gets it tells the version alone.
func (o openedBackend) examine(ctx context.Context, e domain.Entry, standing domain.Standing) []finding {
	if o.err != nil {
		return []finding{found(backendCheck, verdictFailed, "%s cannot be opened: %v", e.Backend, o.err).of(e.Type)}
	}
	findings := []finding{o.served(ctx, e, standing)}
	if standing.Rotating() {
		findings = append(findings, o.decided(ctx, e, standing.Rotation.To, "which it rotates to",
			"put it back or enable it, or give the rotation up: 'omni-secrets rotate abort'"))
	}
	return findings
}

// served looks at the version that is served: what the catalog says, unless another one is pinned.
func (o openedBackend) served(ctx context.Context, e domain.Entry, standing domain.Standing) finding {
	var alias error
	if standing.AsksFor(e.Version) {
		began := time.Now()
		var fetched domain.Fetched
		if fetched, alias = o.backend.Fetch(ctx, e.Reference, e.Version); alias == nil && standing.Follows(fetched.Version) {
			return found(backendCheck, verdictOK, "%s has version %s (%s)", e.Backend, fetched.Version, time.Since(began).Round(time.Millisecond)).of(e.Type)
		}
		if standing.Pinned == "" {
			return found(backendCheck, verdictFailed, "%v", alias).of(e.Type).try("%s", fetchAdvice(e, domain.ReasonOf(alias)))
		}
	}
	pinned := o.decided(ctx, e, standing.Pinned, "which is pinned", "put it back or enable it, or rotate to another")
	if alias != nil && pinned.Status == verdictOK {
		pinned.Status = verdictWarning
		pinned.Detail += oneLine("; a newer one would not be noticed: " + alias.Error())
		pinned = pinned.try("%s", fetchAdvice(e, domain.ReasonOf(alias)))
	}
	return pinned
}

// decided looks at a version that a rotation decided about. missing is what to do when it is not there.
func (o openedBackend) decided(ctx context.Context, e domain.Entry, version, why, missing string) finding {
	began := time.Now()
	_, err := o.backend.Fetch(ctx, e.Reference, version)
	if err == nil {
		return found(backendCheck, verdictOK, "%s has version %s, %s (%s)", e.Backend, version, why, time.Since(began).Round(time.Millisecond)).of(e.Type)
	}
	advice := missing
	if reason := domain.ReasonOf(err); reason != domain.ReasonNotFound && reason != domain.ReasonVersionDisabled {
		advice = fetchAdvice(e, reason)
	}
	return found(backendCheck, verdictFailed, "version %s, %s: %v", version, why, err).of(e.Type).try("%s", advice)
}

// fetchAdvice is what to do about a fetch that failed.
func fetchAdvice(e domain.Entry, reason domain.Reason) string {
	local := e.Backend != gsm.Name
	switch reason {
	case domain.ReasonPermissionDenied:
		if local {
			return fmt.Sprintf("let the server's user read the file %s in OMNI_LOCAL_FILE_DIR", e.Reference)
		}
		return fmt.Sprintf("grant the server's identity roles/secretmanager.secretAccessor (the permission secretmanager.versions.access) on %s; it is also denied where that secret does not exist", e.Reference)
	case domain.ReasonUnauthenticated:
		return "the credentials are not accepted: check GOOGLE_APPLICATION_CREDENTIALS or the workload identity, and this machine's clock"
	case domain.ReasonNotFound:
		if local {
			return fmt.Sprintf("put the file %s into OMNI_LOCAL_FILE_DIR, or correct its reference or version in the catalog", e.Reference)
		}
		return fmt.Sprintf("create %s with a version, or correct its reference or version in the catalog", e.Reference)
	case domain.ReasonVersionDisabled:
		return "enable the version, or add a new one: latest is the one that was created last, also when it is disabled"
	case domain.ReasonLatestForbidden:
		return "name a version by its number in the catalog, or set OMNI_ALLOW_LATEST_VERSION=true"
	case domain.ReasonInvalidPayload:
		return fmt.Sprintf("add a version with 1 to %d bytes", domain.MaxValueBytes)
	case domain.ReasonResourceExhausted:
		return "the quota is used up: wait a minute, look who else reads, or have it raised"
	case domain.ReasonChecksumMismatch:
		return "the answer was damaged on its way: try again, and look at proxies in between"
	default:
		if local {
			return "look at the folder OMNI_LOCAL_FILE_DIR and its disk"
		}
		return "the backend does not answer: check the network, DNS and OMNI_GSM_ENDPOINT from here, and https://status.cloud.google.com; see below how long each secret is still served"
	}
}

// progress shows on a terminal how far a long catalog is.
func (s *streams) progress() func(done, of int) {
	if !isTerminal(s.err) {
		return func(int, int) {}
	}
	return func(done, of int) {
		if of <= quietCatalog {
			return
		}
		line := fmt.Sprintf("\r%d of %d secrets fetched", done, of)
		if done == of {
			line = "\r\x1b[K" // it goes as it came
		}
		_, _ = fmt.Fprint(s.err, line)
	}
}
