package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/apex-tradebill/omni-secrets/adapters/certificate"
	"github.com/apex-tradebill/omni-secrets/adapters/connect"
	"github.com/apex-tradebill/omni-secrets/adapters/gsm"
	api "github.com/apex-tradebill/omni-secrets/adapters/http"
	"github.com/apex-tradebill/omni-secrets/adapters/journal"
	"github.com/apex-tradebill/omni-secrets/adapters/localfile"
	"github.com/apex-tradebill/omni-secrets/adapters/otel"
	"github.com/apex-tradebill/omni-secrets/adapters/token"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
	"github.com/apex-tradebill/omni-secrets/service"
)

const (
	// Together with closing the database, which takes 2 s at most, a stop takes less than 10 s.
	drainTimeout = 4 * time.Second // for requests under way
	flushTimeout = 2 * time.Second // for audit events still in the journal, after that
)

// app is a server with all its parts.
type app struct {
	log     *slog.Logger
	service *service.Service
	handler http.Handler
	keys    []*keyPlace // that are looked at again and again
	metrics http.Handler
	close   []func() error // in the order of opening

	certificates *certificate.Files // nil for plain HTTP
	sides        []side             // listeners beside that of the APIs
	connections  int                // that may be open
	patience     patience
	listener     atomic.Pointer[boundedListener]
}

// newApp opens what c asks for and puts the parts together. ctx must last as long as the app.
func newApp(ctx context.Context, c config, log *slog.Logger) (_ *app, err error) {
	if foreign := c.catalog.ForeignProjects(c.Environment, c.ProductionProjects); len(foreign) > 0 {
		return nil, environmentViolation(ctx, log, c.Environment, foreign)
	}
	tokens, err := token.New(ctx, token.Config{
		HMACSecret: c.JWTSecret.Reveal(), Previous: c.Keys.jwtPrevious, JWKSURL: c.JWKSURL, Issuer: c.JWTIssuer, Audience: c.JWTAudience, Logger: log,
	})
	if err != nil {
		return nil, &exitError{code: exitConfig, err: err}
	}
	var envelopes ports.EnvelopeOpener
	if c.breakGlass != nil {
		envelopes = c.breakGlass
		if ids := c.breakGlass.KeyIDs(); len(ids) > 0 {
			log.InfoContext(ctx, "break-glass keys", "keyIds", ids)
		}
	} else {
		log.WarnContext(ctx, "break-glass is disabled: neither "+privateKeyEnv+" nor its file or secret is set")
	}

	if c.auditKey.IsZero() {
		log.WarnContext(ctx, "the audit trail has no signed checkpoints: "+auditKeyEnv+" is not set")
	}

	a := &app{log: log, certificates: c.certificates, connections: c.MaxConnections, patience: usualPatience}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	store, err := openMigrated(ctx, c.DatabaseURL, log)
	if err != nil {
		return nil, err
	}
	a.close = append(a.close, store.Close)
	if err := awaitDatabase(ctx, store, log); err != nil {
		return nil, err
	}
	if err := store.CheckSchema(ctx); err != nil {
		return nil, err
	}
	auditJournal, err := journal.Open(journal.Config{
		Dir: c.JournalDir, Sync: c.JournalFsync == "always", MaxBytes: c.JournalMaxBytes, Logger: log,
	})
	if err != nil {
		return nil, err
	}
	a.close = append(a.close, auditJournal.Close)
	backends, err := a.openBackends(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := a.readKeys(ctx, c, tokens, backends[gsm.Name]); err != nil {
		return nil, err
	}
	build := thisBuild()
	metrics, err := otel.New(otel.Config{Version: build.Version, Revision: build.Revision, Catalog: c.catalog})
	if err != nil {
		return nil, err
	}
	a.close = append(a.close, func() error { return metrics.Shutdown(context.WithoutCancel(ctx)) })

	leadership, replicas := cooperation(store)
	var clients ports.CertificateVerifier
	if c.certificates != nil && c.certificates.KnowsClients() {
		clients = c.certificates
	}
	a.service, err = service.New(service.Config{
		Catalog: c.catalog, Policy: c.policy(), Environment: c.Environment, ReplicaID: c.ReplicaID,
		Backends: backends, Metadata: store, Overrides: store, Rotations: store, FollowUps: store, Audit: store, Leadership: leadership, Replicas: replicas,
		Journal: auditJournal, Drain: auditJournal, Envelopes: envelopes, Tokens: tokens, Validator: c.validator, Meter: metrics, Logger: log,
		Certificates: clients, Limits: service.Limits{Refreshes: c.RefreshLimit, Overrides: c.OverrideLimit, FailedTokens: c.FailedTokenLimit},
		Chains: store, CheckpointKey: c.auditKey, CheckpointEvery: c.AuditCheckpointEvery,
	})
	if err != nil {
		return nil, err
	}
	metrics.ObserveState(func() otel.State { return stateOf(a.service, time.Now()) })
	metrics.ObserveEdge(func() otel.Edge { return a.edgeOf(a.service) })
	rpc, err := connect.New(connect.Config{Service: a.service, Meters: metrics.Provider(), Logger: log})
	if err != nil {
		return nil, err
	}
	a.metrics = metrics.Handler()
	public := a.metrics
	if c.MetricsListen != "" {
		public = nil
	}
	a.handler = secured(onOnePort(rpc, api.New(api.Config{
		Service: a.service, Metrics: public, Observe: metrics.ObserveRequest, Logger: log,
		Build: api.Build{Version: build.Version, Revision: build.Revision, GoVersion: build.GoVersion},
	})))
	return a, nil
}

// onOnePort gives each request to the API that it is for.
func onOnePort(rpc, rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if connect.Serves(r.URL.Path) {
			rpc.ServeHTTP(w, r)
		} else {
			rest.ServeHTTP(w, r)
		}
	})
}

// Close closes the parts, the last opened first.
func (a *app) Close() error {
	var errs []error
	for _, closePart := range slices.Backward(a.close) {
		errs = append(errs, closePart())
	}
	a.close = nil
	return errors.Join(errs...)
}

// Run serves on ln until ctx is done: then it answers the requests under way, moves the audit events that are
// left to the database, and returns. onReady is called once, when every secret was fetched or failed to be.
func (a *app) Run(ctx context.Context, ln net.Listener, onReady func()) error {
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	if err := a.service.Start(ctx); err != nil {
		return errors.Join(err, ln.Close())
	}
	bounded := newBoundedListener(ln, a.connections, a.log)
	a.listener.Store(bounded)
	var secure *tls.Config
	if a.certificates != nil {
		secure = a.certificates.Server()
	}
	servers := []*http.Server{newServer(a.handler, secure, a.log, a.patience)}
	listeners := []net.Listener{bounded}
	for _, s := range a.sides {
		servers, listeners = append(servers, newServer(s.handler, nil, a.log, a.patience)), append(listeners, s.ln)
	}

	parts, running := errgroup.WithContext(work)
	parts.Go(func() error { return a.service.Run(running) })
	for _, place := range a.keys {
		parts.Go(func() error { return place.follow(running, a.log, a.service.ReopenOverrides) })
	}
	for i, server := range servers {
		parts.Go(func() error { return serveOn(server, listeners[i]) })
	}
	if a.certificates != nil {
		parts.Go(func() error { return a.certificates.Run(running, a.log) })
	}
	parts.Go(func() error {
		if a.service.AwaitFirstFetches(running) == nil {
			onReady()
		}
		return nil
	})
	parts.Go(func() error {
		select {
		case <-ctx.Done():
		case <-running.Done():
		}
		a.log.InfoContext(ctx, "stopping: requests under way are answered first")
		a.service.EndWatches()
		draining, cancel := context.WithTimeout(work, drainTimeout)
		defer cancel()
		for _, server := range servers {
			if err := server.Shutdown(draining); err != nil {
				a.log.WarnContext(ctx, "requests were still under way and are cut off", "err", err)
				_ = server.Close()
			}
		}
		stopWork()
		return nil
	})
	err := parts.Wait()

	flushing, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	if err := a.service.Flush(flushing); err != nil {
		events, _ := a.service.JournalBacklog(time.Now())
		a.log.WarnContext(ctx, "audit events stay in the journal until the next start", "events", events, "err", err)
	}
	if err := a.service.Checkpoint(flushing); err != nil {
		a.log.WarnContext(ctx, "the last audit events have no checkpoint until the leader signs one", "err", err)
	}
	a.log.InfoContext(ctx, "stopped")
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// openBackends opens those that the catalog uses.
func (a *app) openBackends(ctx context.Context, c config) (map[string]ports.SecretBackend, error) {
	backends := make(map[string]ports.SecretBackend)
	for _, e := range c.catalog {
		if backends[e.Backend] != nil {
			continue
		}
		b, err := openBackend(ctx, c, e.Backend)
		if err != nil {
			return nil, err
		}
		a.close = append(a.close, b.Close)
		backends[e.Backend] = b
	}
	return backends, nil
}

// readKeys prepares the places whose keys may change, and reads them once. A secret that cannot be read now is read
// later: a server must start while Secret Manager is away.
func (a *app) readKeys(ctx context.Context, c config, tokens *token.Verifier, backend ports.SecretBackend) error {
	if c.Keys.BreakGlassSecret != "" && backend == nil {
		opened, err := openBackend(ctx, c, gsm.Name)
		if err != nil {
			return err
		}
		a.close = append(a.close, opened.Close)
		backend = opened
	}
	for _, place := range []*keyPlace{tokenKeys(c, tokens), breakGlassKeys(c, backend)} {
		if place != nil {
			place.look(ctx, a.log)
			a.keys = append(a.keys, place)
		}
	}
	return nil
}

// secretBackend is one that is open.
type secretBackend interface {
	ports.SecretBackend
	Close() error
}

// openBackend opens the backend that catalog entries call name.
func openBackend(ctx context.Context, c config, name string) (secretBackend, error) {
	switch name {
	case gsm.Name:
		return gsm.New(ctx, gsm.Config{Endpoint: c.GSMEndpoint, AllowLatest: c.AllowLatest})
	case localfile.Name:
		b, err := localfile.New(c.LocalFileDir)
		if err != nil {
			return nil, fmt.Errorf("OMNI_LOCAL_FILE_DIR: %w", err)
		}
		return b, nil
	default:
		return nil, fmt.Errorf("there is no backend %q", name)
	}
}

func environmentViolation(ctx context.Context, log *slog.Logger, environment string, foreign []domain.Entry) error {
	for _, e := range foreign {
		log.ErrorContext(ctx, domain.EventEnvironmentViolation,
			"environment", environment, "secretType", e.Type, "project", e.Project())
	}
	return configErrorf("environment violation: OMNI_ENVIRONMENT is %q, but the catalog points into the production project %s (first: %s); point it elsewhere, or set OMNI_ENVIRONMENT=production where that is true",
		environment, foreign[0].Project(), foreign[0].Type)
}

// stateOf is what the gauges show.
func stateOf(s *service.Service, now time.Time) otel.State {
	state := otel.State{Leader: s.Leading()}
	for _, st := range s.Snapshot(now) {
		state.Secrets = append(state.Secrets, otel.SecretState{
			Type: st.Type, CacheSource: st.CachedSource, CacheVersion: st.CachedVersion, CacheAge: st.CachedAge, Survival: st.Survival,
			RotationDueAt: st.RotationDueAt, Overdue: st.Rotation == domain.RotationOverdue,
			BreakGlassActive: !st.OverrideExpiresAt.IsZero(), BreakGlassExpiresAt: st.OverrideExpiresAt, FollowUpOpenedAt: st.FollowUpOpenedAt,
		})
	}
	state.JournalEvents, state.DrainLag = s.JournalBacklog(now)
	journal := s.JournalUsage()
	state.JournalBytes, state.JournalLimit, state.SetAside = journal.Bytes, journal.Limit, journal.SetAside
	state.LastCheckpoint = s.LastCheckpoint()
	return state
}
