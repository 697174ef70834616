package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// Refreshed is the outcome of an explicit refresh, in the catalog's order.
type Refreshed struct {
	Types    []domain.SecretType
	Failures []RefreshFailure
}

// RefreshFailure is a secret that could not be refreshed, or whose override could not be ended.
type RefreshFailure struct {
	Type   domain.SecretType
	Reason domain.Reason
}

// Refresh fetches one secret, or all of them when t is "", and ends the override of each that succeeded. It
// returns when all are done; each leaves an audit event.
//
// Errors are *domain.Error: CodeForbidden, CodeRateLimited, CodeUnknownSecretType, CodeAuditUnavailable, and CodeRefreshFailed
// together with the failures when nothing could be refreshed.
func (s *Service) Refresh(ctx context.Context, call Call, t domain.SecretType) (Refreshed, error) {
	ctx = context.WithoutCancel(ctx) // it is finished even if the caller goes away; each step bounds its own time
	if err := s.Authorize(ctx, call, domain.ScopeCacheRefresh, t); err != nil {
		return Refreshed{}, err
	}
	if wait := s.refreshes.take(ctx, call.Principal.Subject, call.Principal.Actor()); wait > 0 {
		return Refreshed{}, tooMany("too many refreshes by this caller; values are refreshed in the background without being asked", wait)
	}
	slots := s.order
	if t != "" {
		sl, ok := s.slots[t]
		if !ok {
			return Refreshed{}, s.refuseUnknown(ctx, call, domain.ActionCacheRefresh, t)
		}
		slots = []*slot{sl}
	}

	openThere, stop := s.askWhatIsOpen(ctx)
	defer stop()
	outcomes := make([]refreshOutcome, len(slots))
	var work errgroup.Group
	work.SetLimit(MaxConcurrentFetches)
	for i, sl := range slots {
		work.Go(func() error {
			outcomes[i] = s.refresh(ctx, call, sl, openThere)
			return outcomes[i].unaudited
		})
	}
	unaudited := work.Wait()

	var r Refreshed
	for i, sl := range slots {
		if reason := outcomes[i].failed; reason != "" {
			r.Failures = append(r.Failures, RefreshFailure{sl.entry.Type, reason})
		} else {
			r.Types = append(r.Types, sl.entry.Type)
		}
	}
	s.announceRefresh(ctx, r.Types)
	if unaudited != nil {
		return Refreshed{}, unaudited
	}
	if len(r.Types) == 0 {
		return r, &domain.Error{
			Code:       domain.CodeRefreshFailed,
			Message:    fmt.Sprintf("nothing was refreshed (%s: %s); %s", r.Failures[0].Type, r.Failures[0].Reason, s.left(r.Failures)),
			RetryAfter: time.Second,
		}
	}
	return r, nil
}

// left says what readers get of secrets that could not be refreshed.
func (s *Service) left(failures []RefreshFailure) string {
	now := time.Now()
	var without []string
	for _, f := range failures {
		if _, ok := s.slots[f.Type].serve(now); !ok {
			without = append(without, string(f.Type))
		}
	}
	switch len(without) {
	case 0:
		return "values and overrides in place are served as before"
	case 1:
		return without[0] + " HAS NO VALUE NOW, reads get 503"
	default:
		return strings.Join(without, ", ") + " HAVE NO VALUE NOW, reads get 503"
	}
}

type refreshOutcome struct {
	failed    domain.Reason // "" on success
	unaudited error
}

// askWhatIsOpen begins to ask the database for the overrides that are open: other replicas may have applied some that are not
// known here yet. there waits for the answer; stop is to be called when nobody needs it any more. It does not queue up
// behind those that change overrides, who wait in turn when the database hangs.
func (s *Service) askWhatIsOpen(ctx context.Context) (there func(domain.SecretType) domain.Override, stop func()) {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	open := make(map[domain.SecretType]domain.Override)
	var asking sync.WaitGroup
	asking.Go(func() {
		list, err := s.cfg.Overrides.OpenOverrides(ctx)
		if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
			s.log.WarnContext(ctx, "a refresh ends no override that another replica applied a moment before: the database does not tell what is open", "err", err)
		}
		for _, o := range list {
			open[o.Envelope.Type] = o
		}
	})
	there = func(t domain.SecretType) domain.Override {
		asking.Wait()
		return open[t]
	}
	return there, func() { cancel(); asking.Wait() }
}

// refresh fetches one secret and ends what was open when it began: the override that is known here, and the one that the
// database says is open, if that is another one. The fetch does not wait for the database.
func (s *Service) refresh(ctx context.Context, call Call, sl *slot, there func(domain.SecretType) domain.Override) refreshOutcome {
	began := time.Now()
	here := sl.snapshot().override
	err := s.fetchAnew(ctx, sl)
	if err == nil && here.ID != "" {
		_, err = s.endOpen(ctx, call, here, domain.EndRefreshed)
	}
	if err == nil {
		if open := there(sl.entry.Type); open.ID != "" && open.ID != here.ID {
			_, err = s.endOpen(ctx, call, open, domain.EndRefreshed)
		}
	}

	e := s.event(call, domain.ActionCacheRefresh, sl.entry.Type, domain.ResultSuccess)
	e.Duration = time.Since(began)
	var outcome refreshOutcome
	if err != nil {
		outcome.failed = domain.ReasonOf(err)
		e.Result, e.ErrorCode = domain.ResultFailure, string(outcome.failed)
	} else {
		st := sl.snapshot().state
		e.Version, e.Source = st.Version, st.Source
		s.served.add(sl)
	}
	if err := s.cfg.Journal.Append(ctx, e); err != nil {
		outcome.unaudited = s.auditUnavailable(ctx, err)
	}
	return outcome
}
