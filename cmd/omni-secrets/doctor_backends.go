package main

import (
	"context"
	"fmt"
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

// checkBackends fetches each secret of the catalog once, looks at how that ends, and lets go of the value. progress is
// told how many of how many are done.
func checkBackends(ctx context.Context, c config, progress func(done, of int)) []finding {
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

	findings := make([]finding, len(c.catalog))
	var fetches errgroup.Group
	fetches.SetLimit(maxDoctorFetches)
	var mu sync.Mutex
	done := 0
	for i, e := range c.catalog {
		fetches.Go(func() error {
			findings[i] = opened[e.Backend].fetch(ctx, e)
			mu.Lock()
			defer mu.Unlock()
			done++
			progress(done, len(c.catalog))
			return nil
		})
	}
	_ = fetches.Wait() // none returns one
	return findings
}

// openedBackend is a backend, or why it could not be opened.
type openedBackend struct {
	backend secretBackend
	err     error
}

// fetch fetches one secret. Of what it gets it tells the version alone.
func (o openedBackend) fetch(ctx context.Context, e domain.Entry) finding {
	if o.err != nil {
		return found(backendCheck, verdictFailed, "%s cannot be opened: %v", e.Backend, o.err).of(e.Type)
	}
	began := time.Now()
	fetched, err := o.backend.Fetch(ctx, e.Reference, e.Version)
	if err != nil {
		return found(backendCheck, verdictFailed, "%v", err).of(e.Type).try("%s", fetchAdvice(e, domain.ReasonOf(err)))
	}
	return found(backendCheck, verdictOK, "%s has version %s (%s)", e.Backend, fetched.Version, time.Since(began).Round(time.Millisecond)).of(e.Type)
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
