package memory

import (
	"sync"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// Store implements the ports for state, audit and replicas.
type Store struct {
	mu      sync.Mutex
	outage  outage
	changed chan struct{} // closed at the next change that other replicas follow

	contents
}

// contents is what a database holds.
type contents struct {
	metadata  map[domain.SecretType]domain.Metadata
	overrides map[string]*override                  // by id, ended ones included
	digests   map[string]bool                       // of every override that was ever stored
	rotations map[domain.SecretType]domain.Rotation // in progress
	followUps []domain.FollowUp                     // closed ones included
	events    []storedEvent                         // in the order of their rows
	eventIDs  map[domain.EventID]bool               // of events
	lastRow   int64

	chains      map[string]*domain.ChainHead // by replica
	marks       map[domain.ChainID][]domain.ChainMark
	checkpoints []domain.Checkpoint
	linker      domain.Linker

	requests    map[domain.SecretType]domain.RefreshRequest
	lastRequest int64
}

var (
	_ ports.Metadata    = (*Store)(nil)
	_ ports.Overrides   = (*Store)(nil)
	_ ports.Rotations   = (*Store)(nil)
	_ ports.FollowUps   = (*Store)(nil)
	_ ports.AuditStore  = (*Store)(nil)
	_ ports.AuditChains = (*Store)(nil)
	_ ports.Replicas    = (*Store)(nil)
)

// New returns an empty Store.
func New() *Store {
	return &Store{changed: make(chan struct{}), contents: contents{
		metadata:  make(map[domain.SecretType]domain.Metadata),
		overrides: make(map[string]*override),
		digests:   make(map[string]bool),
		rotations: make(map[domain.SecretType]domain.Rotation),
		eventIDs:  make(map[domain.EventID]bool),
		chains:    make(map[string]*domain.ChainHead),
		marks:     make(map[domain.ChainID][]domain.ChainMark),
		requests:  make(map[domain.SecretType]domain.RefreshRequest),
	}}
}

// FailWith makes every call return err and change nothing, as if the database were gone, until FailWith(nil).
func (s *Store) FailWith(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outage.err = err
	s.announce()
}

// FailOver exchanges what the store holds for what standby holds, which is not to be used any more. Who watches is told.
func (s *Store) FailOver(standby *Store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.contents = standby.contents
	s.announce()
}

// stored is t as a database keeps it: in UTC, to the microsecond.
func stored(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
