package service

import (
	"context"
	"fmt"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// ListEvents returns a page of the audit trail. Events reach it moments after they are answered.
//
// Errors are *domain.Error: CodeForbidden, CodeInvalidRequest, CodeStateUnavailable.
func (s *Service) ListEvents(ctx context.Context, call Call, f domain.EventFilter) (domain.EventPage, error) {
	if err := s.Authorize(ctx, call, domain.ScopeAudit, ""); err != nil {
		return domain.EventPage{}, err
	}
	if f.Limit == 0 {
		f.Limit = domain.DefaultEventPage
	}
	if err := f.Validate(); err != nil {
		return domain.EventPage{}, err
	}
	page, err := s.cfg.Audit.ListEvents(ctx, f)
	if err != nil {
		return domain.EventPage{}, s.notListed(ctx, "list audit events", err)
	}
	return page, nil
}

// Authorize refuses, and audits, a call whose token lacks the scope. t is what the call is about, "" when that is
// not known. Each use case does so by itself; an edge that checks a request's body asks before, so that such a caller
// is told nothing else.
func (s *Service) Authorize(ctx context.Context, call Call, scope domain.Scope, t domain.SecretType) error {
	if call.Principal.Allows(scope) {
		return nil
	}
	return s.deny(ctx, call, t, "the token lacks the scope "+scope.String())
}

func (s *Service) deny(ctx context.Context, call Call, t domain.SecretType, why string) error {
	e := s.event(call, domain.ActionAccessDenied, t, domain.ResultDenied)
	e.ErrorCode, e.Reason = string(domain.CodeForbidden), why
	s.note(ctx, e)
	return &domain.Error{Code: domain.CodeForbidden, Message: why}
}

// refuseUnknown audits a call about a type that the catalog does not list.
func (s *Service) refuseUnknown(ctx context.Context, call Call, action domain.Action, t domain.SecretType) error {
	e := s.event(call, action, t, domain.ResultFailure)
	e.ErrorCode = string(domain.CodeUnknownSecretType)
	s.note(ctx, e)
	return &domain.Error{Code: domain.CodeUnknownSecretType, Message: "the catalog does not list this secret type; the status endpoint lists those that there are"}
}

// event is an audit event of call, now. A type that could not be a secret's name is left out: it is the
// caller's text.
func (s *Service) event(call Call, action domain.Action, t domain.SecretType, result domain.Result) domain.Event {
	if !t.WellFormed() {
		t = ""
	}
	return domain.Event{
		ID: s.events.next(), Type: t, Action: action, Actor: call.Principal.Actor(), Result: result,
		RequestID: call.RequestID, ReplicaID: s.cfg.ReplicaID, RecordedAt: time.Now(),
	}
}

// note journals an event of something that was refused or failed, even if the caller goes away. Nothing is given away by
// answering such a call without its event, so a full journal only reaches the log.
func (s *Service) note(ctx context.Context, e domain.Event) {
	if err := s.cfg.Journal.Append(context.WithoutCancel(ctx), e); err != nil {
		s.log.ErrorContext(ctx, "an audit event of a refused or failed call was lost",
			"action", e.Action, "secretType", e.Type, "actor", e.Actor.ID, "errorCode", e.ErrorCode, "requestId", e.RequestID, "err", err)
	}
}

func (s *Service) auditUnavailable(ctx context.Context, err error) error {
	s.log.ErrorContext(ctx, "the audit journal does not take events; reads are refused", "err", err)
	return &domain.Error{
		Code:       domain.CodeAuditUnavailable,
		Message:    "the audit event could not be recorded, so this is not answered; an operator must free or mend the audit journal's disk",
		RetryAfter: time.Second, Err: err,
	}
}

func (s *Service) stateUnavailable(ctx context.Context, doing string, err error) error {
	s.log.ErrorContext(ctx, "the database did not take a request", "doing", doing, "err", err)
	return noState(doing, err)
}

// notListed is the same for a look that ends with its caller's ctx. A caller that goes away, or whose own time is up, is no
// fault of the database, and is not told as one.
func (s *Service) notListed(ctx context.Context, doing string, err error) error {
	if ctx.Err() != nil {
		return noState(doing, err)
	}
	return s.stateUnavailable(ctx, doing, err)
}

func noState(doing string, err error) error {
	return &domain.Error{
		Code:       domain.CodeStateUnavailable,
		Message:    "the database does not answer, so nothing was changed, or it cannot be known; look at the status and try again",
		RetryAfter: time.Second, Err: fmt.Errorf("%s: %w", doing, err),
	}
}
