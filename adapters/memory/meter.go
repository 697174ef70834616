package memory

import (
	"sync"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// Meter implements ports.Meter and can be asked for its counts.
type Meter struct {
	mu       sync.Mutex
	reads    map[readLabels]int
	stale    map[domain.SecretType]int
	failures map[failureLabels]int
	fetches  map[fetchLabels]int
}

type (
	readLabels struct {
		t      domain.SecretType
		source string
	}
	failureLabels struct {
		t      domain.SecretType
		reason domain.Reason
	}
	fetchLabels struct{ source, outcome string }
)

var _ ports.Meter = (*Meter)(nil)

// NewMeter returns a Meter with all counts at 0.
func NewMeter() *Meter {
	return &Meter{
		reads:    make(map[readLabels]int),
		stale:    make(map[domain.SecretType]int),
		failures: make(map[failureLabels]int),
		fetches:  make(map[fetchLabels]int),
	}
}

// SecretRead implements ports.Meter.
func (m *Meter) SecretRead(t domain.SecretType, source string, stale bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads[readLabels{t, source}]++
	if stale {
		m.stale[t]++
	}
}

// SecretFailed implements ports.Meter.
func (m *Meter) SecretFailed(t domain.SecretType, reason domain.Reason) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failures[failureLabels{t, reason}]++
}

// FetchDone implements ports.Meter. The time that it took is not kept.
func (m *Meter) FetchDone(source, outcome string, _ time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fetches[fetchLabels{source, outcome}]++
}

// Reads counts the reads of t from source, stale ones included.
func (m *Meter) Reads(t domain.SecretType, source string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reads[readLabels{t, source}]
}

// StaleReads counts the reads of t that were stale, from any source.
func (m *Meter) StaleReads(t domain.SecretType) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stale[t]
}

// Failures counts the failures of t for reason.
func (m *Meter) Failures(t domain.SecretType, reason domain.Reason) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failures[failureLabels{t, reason}]
}

// Fetches counts the fetches from source that ended with outcome: "ok" or a domain.Reason.
func (m *Meter) Fetches(source, outcome string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fetches[fetchLabels{source, outcome}]
}
