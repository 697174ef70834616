package service

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// MaxConcurrentFetches bounds the fetches that no reader waits for.
const MaxConcurrentFetches = 32

// Config is what a Service is made of. Everything is required unless its comment says otherwise.
type Config struct {
	Catalog     domain.Catalog
	Policy      domain.CachePolicy
	Environment string
	ReplicaID   string

	Backends  map[string]ports.SecretBackend // by the name that catalog entries use
	Metadata  ports.Metadata
	Overrides ports.Overrides
	Rotations ports.Rotations
	FollowUps ports.FollowUps
	Audit     ports.AuditStore
	Journal   ports.AuditJournal
	Drain     ports.JournalReader
	Envelopes ports.EnvelopeOpener     // nil refuses every override
	Tokens    ports.TokenVerifier      // nil when Authenticate is not used
	Validator ports.CandidateValidator // nil refuses webhook and http-probe rules
	Meter     ports.Meter
	Logger    *slog.Logger

	Certificates ports.CertificateVerifier // nil: a client certificate lets nobody in
	Limits       Limits

	Leadership ports.Leadership
	Replicas   ports.Replicas // nil when no other process uses the database

	// Chains and CheckpointKey are for checkpoints of the audit trail. Without a key there are none.
	Chains          ports.AuditChains
	CheckpointKey   domain.CheckpointKey
	CheckpointEvery time.Duration

	// Spread places each refresh within the policy's jitter; it returns numbers in [-1, 1]. nil is random.
	Spread func() float64
}

// Service holds the secrets and the use cases on them. It is safe for concurrent use.
type Service struct {
	cfg   Config
	log   *slog.Logger
	slots map[domain.SecretType]*slot
	order []*slot // as the catalog lists them

	events    eventIDs
	requests  requestIDs
	schedule  *schedule
	served    *slotNotes        // whose row does not tell what is served
	found     *slotNotes        // whose row does not tell of the version behind the alias
	overrides sync.Mutex        // held while overrides change in the database and then here
	delisted  []domain.Override // open, of secrets that the catalog does not list; guarded by overrides
	expiries  chan struct{}     // wakes the worker that ends overrides
	rotations rotationMonitor
	steps     sync.Mutex // held while standings change in the database and then here
	followUps followUps
	leading   atomic.Bool

	checkpoints checkpoints

	refreshed map[domain.SecretType]domain.RefreshRequest // the refresh requests that there were when they were followed last

	refreshes, applies, failed *limit

	ending     context.Context // done when watches are to end
	endWatches context.CancelFunc

	life    context.Context // of fetches: ends when Run ends, not with the reader that asked
	endLife context.CancelFunc
	fetches tracker

	started atomic.Bool
	untried atomic.Int64  // secrets that were never fetched nor failed
	tried   chan struct{} // closed when untried reaches 0
}

// New checks cfg and makes a Service that serves nothing yet.
func New(cfg Config) (*Service, error) {
	if err := cfg.Catalog.Validate(); err != nil {
		return nil, err
	}
	if cfg.Spread == nil {
		cfg.Spread = func() float64 { return 2*mathrand.Float64() - 1 } //nolint:gosec // jitter, not a secret
	}
	life, endLife := context.WithCancel(context.Background())
	s := &Service{
		cfg: cfg, log: cfg.Logger,
		slots:    make(map[domain.SecretType]*slot, len(cfg.Catalog)),
		events:   newEventIDs(),
		requests: newRequestIDs(),
		schedule: newSchedule(),
		served:   newSlotNotes(),
		found:    newSlotNotes(),
		expiries: make(chan struct{}, 1),
		life:     life, endLife: endLife,
		tried:     make(chan struct{}),
		refreshed: make(map[domain.SecretType]domain.RefreshRequest),
		rotations: newRotationMonitor(),

		checkpoints: checkpoints{signed: make(map[domain.ChainID]domain.Checkpoint)},
	}
	s.refreshes = newLimit(LimitRefresh, cfg.Limits.Refreshes, cfg.Logger)
	s.applies = newLimit(LimitBreakGlass, cfg.Limits.Overrides, cfg.Logger)
	s.failed = newLimit(LimitFailedToken, cfg.Limits.FailedTokens, cfg.Logger)
	s.ending, s.endWatches = context.WithCancel(context.Background())
	var errs []error
	for _, e := range cfg.Catalog {
		backend, ok := cfg.Backends[e.Backend]
		if !ok {
			errs = append(errs, fmt.Errorf("catalog: %s: there is no backend %q", e.Type, e.Backend))
			continue
		}
		sl := newSlot(e, e.Policy(cfg.Policy), backend)
		s.slots[e.Type] = sl
		s.order = append(s.order, sl)
	}
	s.untried.Store(int64(len(s.order)))
	return s, errors.Join(errs...)
}

// Start brings the metadata rows up to date and puts the overrides that are still open back in place. It
// needs the database; it fetches nothing.
func (s *Service) Start(ctx context.Context) error {
	if err := s.ensureMetadata(ctx, s.order); err != nil {
		return fmt.Errorf("write metadata: %w", err)
	}
	if err := s.followRotations(ctx); err != nil {
		return fmt.Errorf("load rotations: %w", err)
	}
	if err := s.followOverrides(ctx); err != nil {
		return fmt.Errorf("load overrides: %w", err)
	}
	if err := s.readFollowUps(ctx); err != nil {
		return fmt.Errorf("load follow-ups: %w", err)
	}
	if err := s.skipRefreshRequests(ctx); err != nil {
		return fmt.Errorf("load refresh requests: %w", err)
	}
	s.started.Store(true)
	return nil
}

// Run keeps the secrets fresh, ends overrides, watches rotation deadlines and moves audit events to SQL until
// ctx is done. It returns once all of that has stopped; the use cases must not be called afterwards.
func (s *Service) Run(ctx context.Context) error {
	defer s.fetches.closeAndWait()
	defer s.endLife()
	defer s.EndWatches()

	workers, ctx := errgroup.WithContext(ctx)
	for _, work := range []func(context.Context) error{
		s.keepFresh, s.endOverrides, s.drainJournal, s.writeServed, s.countVersions, s.followReplicas, s.lead, s.sumUpLimits,
	} {
		workers.Go(func() error { return work(ctx) })
	}
	for _, sl := range s.order {
		s.schedule.set(sl, sl.snapshot().state.NextFetch)
	}
	err := workers.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// NotReady lists what keeps the service from serving; empty when it is ready. A secret that could not be
// fetched does not: the others are served.
func (s *Service) NotReady() []string {
	var missing []string
	if s.ending.Err() != nil {
		missing = append(missing, "it is about to stop")
	}
	if !s.started.Load() {
		missing = append(missing, "overrides and metadata are not loaded from the database yet")
	}
	if untried := s.untried.Load(); untried > 0 {
		missing = append(missing, fmt.Sprintf("%d of %d secrets were not fetched yet", untried, len(s.order)))
	}
	return missing
}

// AwaitFirstFetches waits until every secret was fetched, or failed to be, once.
func (s *Service) AwaitFirstFetches(ctx context.Context) error {
	select {
	case <-s.tried:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// eventIDs numbers the audit events of this process.
type eventIDs struct {
	start uint64
	seq   *atomic.Uint64
}

func newEventIDs() eventIDs {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand
	return eventIDs{start: binary.BigEndian.Uint64(b[:]), seq: new(atomic.Uint64)}
}

func (g eventIDs) next() domain.EventID { return domain.EventID{Start: g.start, Seq: g.seq.Add(1)} }

// tracker counts goroutines and takes no more of them once it is closed.
type tracker struct {
	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

// start runs f in a goroutine and reports true, or reports false when the tracker is closed.
func (t *tracker) start(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.wg.Go(f)
	return true
}

func (t *tracker) closeAndWait() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.wg.Wait()
}
