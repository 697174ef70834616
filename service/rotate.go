package service

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// Preview is what the checks of a version found.
type Preview struct {
	Version string
	Took    time.Duration
	Failed  *domain.CheckError // nil when it passed all of them
}

// PreviewRotation fetches a version of a secret and checks it, without a change to what is served: it can be read, is
// neither the version nor the value that is served, and passes the rules of the catalog. webhook, unless empty, is the
// URL of one more to ask.
//
// Errors are *domain.Error: CodeForbidden, CodeUnknownSecretType, CodeInvalidRequest, CodeRotationInProgress while it
// rotates to another version, CodeStateUnavailable, CodeAuditUnavailable.
func (s *Service) PreviewRotation(ctx context.Context, call Call, t domain.SecretType, version, webhook string) (Preview, error) {
	ctx = context.WithoutCancel(ctx) // it is finished even if the caller goes away; each step bounds its own time
	began := time.Now()
	step, err := s.newStep(ctx, call, t, domain.ActionRotationPreview, "")
	if err != nil {
		return Preview{}, err
	}
	if err := step.setVersion(ctx, version); err != nil {
		return Preview{}, err
	}
	standing, err := step.standing(ctx)
	if err != nil {
		return Preview{}, err
	}
	if standing.Rotating() && standing.Rotation.To != version {
		_, err := standing.Status.After(domain.StepBegin)
		return Preview{}, step.refuse(ctx, err)
	}

	preview := Preview{Version: version}
	_, served := s.heldVersion(ctx, step.sl, standing)
	err = s.check(ctx, step.sl, served, version, webhook)
	preview.Took = time.Since(began)
	if failed, ok := errors.AsType[*domain.CheckError](err); ok {
		preview.Failed = failed
	} else if err != nil {
		return Preview{}, step.refuse(ctx, &domain.Error{Code: domain.CodeInvalidRequest, Message: err.Error()})
	}
	e := step.event(domain.ResultSuccess)
	e.Duration = preview.Took
	if preview.Failed != nil {
		e.Result, e.ErrorCode = domain.ResultFailure, string(preview.Failed.Code)
		s.log.InfoContext(ctx, "a version did not pass its checks", "secretType", t, "version", version,
			"check", preview.Failed.Check, "code", preview.Failed.Code, "requestId", call.RequestID, "err", preview.Failed)
	}
	if err := s.cfg.Journal.Append(ctx, e); err != nil {
		return Preview{}, s.auditUnavailable(ctx, err)
	}
	return preview, nil
}

// BeginRotation begins to rotate a secret to a version that passes the checks of a preview. What is served stays, and
// stays the same even if newer versions are added, until the rotation is promoted or aborted.
//
// Errors are *domain.Error: CodeForbidden, CodeUnknownSecretType, CodeInvalidRequest, CodeRotationInProgress,
// CodeSecretDeprecated, CodeVersionRejected, CodeVersionUnavailable, CodeStateUnavailable.
func (s *Service) BeginRotation(ctx context.Context, call Call, t domain.SecretType, version string) (SecretStatus, error) {
	ctx = context.WithoutCancel(ctx) // it is finished even if the caller goes away; each step bounds its own time
	step, err := s.newStep(ctx, call, t, domain.ActionRotationBegin, domain.StepBegin)
	if err != nil {
		return SecretStatus{}, err
	}
	if err := step.setVersion(ctx, version); err != nil {
		return SecretStatus{}, err
	}
	standing, err := step.legal(ctx)
	if err != nil {
		return SecretStatus{}, err
	}
	held, served := s.heldVersion(ctx, step.sl, standing)
	if err := s.check(ctx, step.sl, served, version, ""); err != nil {
		return SecretStatus{}, step.refuse(ctx, rejected(version, err))
	}

	r := domain.Rotation{
		ID: "rot-" + rand.Text(), Type: t, From: held, To: version,
		BegunBy: call.Principal.Actor(), BegunAt: time.Now().UTC().Truncate(time.Microsecond),
	}
	return step.take(ctx, func(ctx context.Context, current domain.Standing) (domain.Standing, domain.Rotated, bool, error) {
		if standing.Newest == "" && current.Newest != "" { // meanwhile a replica has noted the first version, which it serves
			standing.Newest, r.From = current.Newest, current.Newest
		}
		switch {
		case current != standing:
			return current, domain.Rotated{}, false, nil
		case r.From == version && r.From != held:
			return current, domain.Rotated{}, false, rejected(version, unchanged(version))
		}
		e := step.event(domain.ResultSuccess)
		e.Reason = "the version that is served is " + r.From
		next := current.Begun(r)
		ok, err := s.cfg.Rotations.BeginRotation(ctx, r, current.Newest, next, e)
		return next, domain.Rotated{}, ok, err
	})
}

// heldVersion is the version that is served everywhere while the secret rotates: not what is old here, nor what nobody
// has taken up yet. served is the same, or "" where what the alias stands for cannot be read: then nobody may be served,
// and a rotation to the version before is the way out.
func (s *Service) heldVersion(ctx context.Context, sl *slot, standing domain.Standing) (held, served string) {
	here := sl.snapshot().state.Version
	switch {
	case standing.Pinned != "":
		return standing.Pinned, standing.Pinned
	case standing.Newest == "" || here == standing.Newest:
		return here, here
	}
	alias, err := sl.backend.Fetch(ctx, sl.entry.Reference, sl.entry.Version)
	switch {
	case err != nil:
		return standing.Newest, ""
	case domain.CompareVersions(alias.Version, standing.Newest) < 0:
		return alias.Version, alias.Version // somebody went back to it
	default:
		return standing.Newest, standing.Newest
	}
}

// PromoteRotation ends the rotation of a secret with success: from the moment at which it returns, no reader of this
// replica gets another version than the new one, and a second later none of any other replica that reaches the
// database. A version that cannot be read now is not put in place. An override stays on top.
//
// Errors are *domain.Error: CodeForbidden, CodeUnknownSecretType, CodeNoRotation, CodeSecretDeprecated,
// CodeVersionRejected, CodeVersionUnavailable, CodeStateUnavailable.
func (s *Service) PromoteRotation(ctx context.Context, call Call, t domain.SecretType) (SecretStatus, error) {
	ctx = context.WithoutCancel(ctx)
	step, err := s.newStep(ctx, call, t, domain.ActionRotationPromote, domain.StepPromote)
	if err != nil {
		return SecretStatus{}, err
	}
	standing, err := step.legal(ctx)
	if err != nil {
		return SecretStatus{}, err
	}
	r := standing.Rotation
	step.version = r.To
	began := time.Now()
	got, err := s.fetchVersion(ctx, step.sl, r.To)
	if err != nil {
		return SecretStatus{}, step.refuse(ctx, rejected(r.To, err))
	}

	return step.take(ctx, func(ctx context.Context, standing domain.Standing) (domain.Standing, domain.Rotated, bool, error) {
		e := step.event(domain.ResultSuccess)
		e.Reason = "the version before was " + r.From
		next, rotated := standing.Promoted(), step.sl.entry.RotatedAt(e.RecordedAt)
		ok, err := s.cfg.Rotations.EndRotation(ctx, r.ID, domain.RotationPromoted, next, rotated, e)
		if ok {
			s.put(step.sl, got, began, next)
		}
		return next, rotated, ok, err
	})
}

// put serves a version that was just promoted.
func (s *Service) put(sl *slot, got domain.Fetched, began time.Time, standing domain.Standing) {
	sl.mu.Lock()
	before, after := sl.changeLocked(func(v *view) {
		v.state = sl.policy.Succeed(got, sl.entry.Backend, began, s.cfg.Spread())
		v.standing, v.found, v.replaceBy = standing, "", time.Time{}
	})
	if sl.flight == nil {
		s.schedule.set(sl, after.state.NextFetch)
	}
	sl.mu.Unlock()
	s.fetched(sl, before, after, nil)
}

// AbortRotation ends the rotation of a secret without a change: what was served when it began is served on, until a
// version appears that is newer than the one that was given up.
//
// Errors are *domain.Error: CodeForbidden, CodeUnknownSecretType, CodeNoRotation, CodeSecretDeprecated,
// CodeStateUnavailable.
func (s *Service) AbortRotation(ctx context.Context, call Call, t domain.SecretType) (SecretStatus, error) {
	ctx = context.WithoutCancel(ctx)
	step, err := s.newStep(ctx, call, t, domain.ActionRotationAbort, domain.StepAbort)
	if err != nil {
		return SecretStatus{}, err
	}
	standing, err := step.legal(ctx)
	if err != nil {
		return SecretStatus{}, err
	}
	r := standing.Rotation
	step.version = r.To
	return step.take(ctx, func(ctx context.Context, standing domain.Standing) (domain.Standing, domain.Rotated, bool, error) {
		next := standing.Aborted()
		ok, err := s.cfg.Rotations.EndRotation(ctx, r.ID, domain.RotationAborted, next, domain.Rotated{}, step.event(domain.ResultSuccess))
		return next, domain.Rotated{}, ok, err
	})
}

// RecordRotation records that a secret was rotated elsewhere, at a time that is not in the future, or now when it is
// zero: the next deadline counts from there. A version that appears behind the alias of the catalog is recorded by itself.
//
// Errors are *domain.Error: CodeForbidden, CodeUnknownSecretType, CodeInvalidRequest, CodeRotationInProgress,
// CodeSecretDeprecated, CodeStateUnavailable.
func (s *Service) RecordRotation(ctx context.Context, call Call, t domain.SecretType, at time.Time) (SecretStatus, error) {
	ctx = context.WithoutCancel(ctx)
	step, err := s.newStep(ctx, call, t, domain.ActionWriteMetadata, domain.StepRecord)
	if err != nil {
		return SecretStatus{}, err
	}
	return step.take(ctx, func(ctx context.Context, standing domain.Standing) (domain.Standing, domain.Rotated, bool, error) {
		if err := s.readMetadata(ctx); err != nil {
			return standing, domain.Rotated{}, false, err
		}
		at := at
		if at.IsZero() {
			at = time.Now()
		}
		last := s.rotations.metadata(step.sl.entry, s.cfg.Environment, at).LastRotatedAt
		switch {
		case at.After(time.Now()):
			return standing, domain.Rotated{}, false, &domain.Error{Code: domain.CodeInvalidRequest, Message: "rotatedAt is in the future of the server's clock; send when the secret was rotated"}
		case at.Before(last):
			return standing, domain.Rotated{}, false, &domain.Error{Code: domain.CodeInvalidRequest, Message: "a later rotation is recorded already, of " + last.UTC().Format(time.RFC3339)}
		}
		e := step.event(domain.ResultSuccess)
		e.Version, e.Reason = standing.Newest, "rotated elsewhere at "+at.UTC().Format(time.RFC3339)
		rotated := step.sl.entry.RotatedAt(at)
		ok, err := s.cfg.Rotations.RecordRotation(ctx, standing.Newest, standing, rotated, e)
		return standing, rotated, ok, err
	})
}

var errNoRow = errors.New("the secret has no row in omni_secret_metadata; was it deleted since this server started?")

// check fetches a version and has it pass everything that a new one must, served being the one that every replica serves.
// Its error is a *domain.CheckError, or says what is wrong with the webhook.
func (s *Service) check(ctx context.Context, sl *slot, served, version, webhook string) error {
	got, err := s.fetchVersion(ctx, sl, version)
	if err != nil {
		return err
	}
	v := sl.snapshot()
	same := func(value domain.Value) bool {
		return !value.IsZero() && got.Value.Equal(value)
	}
	if got.Version == served || got.Version == v.state.Version || same(v.state.Value) || v.overridden(time.Now()) && same(v.value) {
		return unchanged(version)
	}
	rules := sl.entry.Validators
	if webhook != "" {
		rules = append(slices.Clip(rules), domain.Validator{Webhook: &domain.WebhookRule{URL: webhook}})
	}
	candidate := domain.Candidate{Type: sl.entry.Type, Version: got.Version, Value: got.Value}
	for _, rule := range rules {
		if err := s.validate(ctx, rule, candidate); err != nil {
			return err
		}
	}
	return nil
}

func unchanged(version string) *domain.CheckError {
	return &domain.CheckError{Code: domain.CheckVersionUnchanged, Message: "version " + version + " is the one that is served, or has its value; add a new version with another value"}
}

func (s *Service) validate(ctx context.Context, rule domain.Validator, candidate domain.Candidate) error {
	switch {
	case rule.Format != nil:
		return rule.Format.Check(candidate.Value)
	case s.cfg.Validator != nil:
		return s.cfg.Validator.Validate(ctx, rule, candidate)
	case rule.Webhook != nil:
		return &domain.CheckError{Check: rule.Name(), Code: domain.CheckWebhookForbidden, Message: "this server calls no webhooks; allow the host with OMNI_VALIDATION_ALLOWED_HOSTS"}
	default:
		return &domain.CheckError{Check: rule.Name(), Code: domain.CheckProbeForbidden, Message: "this server sends no probes; allow the host with OMNI_VALIDATION_ALLOWED_HOSTS"}
	}
}

// fetchVersion fetches a version that is not served. Its error is a *domain.CheckError.
func (s *Service) fetchVersion(ctx context.Context, sl *slot, version string) (domain.Fetched, error) {
	e, began := sl.entry, time.Now()
	got, err := sl.backend.Fetch(ctx, e.Reference, version)
	if err == nil && got.Version != version {
		err = &domain.FetchError{Reason: domain.ReasonNotFound, Err: fmt.Errorf("asked for version %s, got %s", version, got.Version)}
	}
	if err == nil {
		s.cfg.Meter.FetchDone(e.Backend, "ok", time.Since(began))
		s.cfg.Meter.SecretRead(e.Type, e.Backend, false)
		return got, nil
	}
	reason := domain.ReasonOf(err)
	s.cfg.Meter.FetchDone(e.Backend, string(reason), time.Since(began))
	return domain.Fetched{}, &domain.CheckError{
		Code: domain.CheckVersionUnreadable, Message: fmt.Sprintf("version %s cannot be read: its backend answered %s", version, reason), Err: err,
	}
}

// rejected is why a version is not rotated to, err being that of its checks.
func rejected(version string, err error) error {
	failed, ok := errors.AsType[*domain.CheckError](err)
	if !ok {
		return err
	}
	if fetch, ok := errors.AsType[*domain.FetchError](err); ok && fetch.Reason.Severity() == domain.Outage {
		return &domain.Error{Code: domain.CodeVersionUnavailable, Message: failed.Message + "; nothing was changed, try again", RetryAfter: time.Second, Err: failed}
	}
	why := failed.Message
	if failed.Check != "" {
		why = failed.Check + ": " + why
	}
	return &domain.Error{Code: domain.CodeVersionRejected, Message: fmt.Sprintf("version %s was not taken: %s (%s)", version, why, failed.Code), Err: failed}
}

// rotationStep is one call about the rotation of a secret.
type rotationStep struct {
	*Service

	call    Call
	sl      *slot
	action  domain.Action
	kind    domain.RotationStep // "" for a preview
	version string              // that it is about; "" while that is not known
}

// newStep refuses a call that may not rotate the secret.
func (s *Service) newStep(ctx context.Context, call Call, t domain.SecretType, action domain.Action, kind domain.RotationStep) (*rotationStep, error) {
	if err := s.Authorize(ctx, call, domain.ScopeRotate, t); err != nil {
		return nil, err
	}
	sl, ok := s.slots[t]
	if !ok {
		return nil, s.refuseUnknown(ctx, call, action, t)
	}
	return &rotationStep{Service: s, call: call, sl: sl, action: action, kind: kind}, nil
}

// setVersion refuses what is not the number of a version.
func (p *rotationStep) setVersion(ctx context.Context, version string) error {
	if !domain.NumberedVersion(version) {
		return p.refuse(ctx, &domain.Error{
			Code:    domain.CodeInvalidRequest,
			Message: "gcpSecretVersion must be the number of a version, such as 7; an alias such as latest may stand for another one a moment later",
		})
	}
	p.version = version
	return nil
}

// standing is the secret's, as the database has it now. One of another origin is none to take a step from, or to compare with.
func (p *rotationStep) standing(ctx context.Context) (domain.Standing, error) {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	list, err := p.cfg.Rotations.Standings(ctx)
	if err != nil {
		return domain.Standing{}, p.stateUnavailable(ctx, "read the state of the rotation", err)
	}
	i := slices.IndexFunc(list, func(st domain.Standing) bool { return st.Type == p.sl.entry.Type })
	switch {
	case i < 0:
		return domain.Standing{}, p.stateUnavailable(ctx, "read the state of the rotation", errNoRow)
	case list[i].Origin != p.sl.entry.Origin():
		return domain.Standing{}, p.refuse(ctx, &domain.Error{
			Code: domain.CodeStateUnavailable,
			Message: "this replica's catalog names another secret for this type than the database has, as during an update: ask a replica with the newest catalog, " +
				"or try again when the update is over; if none is under way, restart a replica that has the newest catalog",
			RetryAfter: time.Second,
		})
	}
	return list[i], nil
}

// legal is the secret's standing; it refuses the step if it cannot be taken from there.
func (p *rotationStep) legal(ctx context.Context) (domain.Standing, error) {
	standing, err := p.standing(ctx)
	if err != nil {
		return standing, err
	}
	if _, err := standing.Status.After(p.kind); err != nil {
		return standing, p.refuse(ctx, err)
	}
	return standing, nil
}

func (p *rotationStep) event(result domain.Result) domain.Event {
	e := p.Service.event(p.call, p.action, p.sl.entry.Type, result)
	e.Source, e.Version = p.sl.entry.Backend, p.version
	return e
}

// refuse audits a step that was not taken, and returns why.
func (p *rotationStep) refuse(ctx context.Context, err error) error {
	e := p.event(domain.ResultFailure)
	e.ErrorCode = string(domain.AsError(err).Code)
	p.note(ctx, e)
	return err
}

// stepAttempts is how often a step is tried that something else comes before, as long as it stays legal. What the server
// notes by itself does so once for each secret.
const stepAttempts = 3

// take takes the step in the database and then here. store is given the standing there is and returns the next one, and
// whether it was stored; a *domain.Error of it is why the step is refused.
func (p *rotationStep) take(ctx context.Context, store func(context.Context, domain.Standing) (domain.Standing, domain.Rotated, bool, error)) (SecretStatus, error) {
	p.steps.Lock()
	defer p.steps.Unlock()
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	for range stepAttempts {
		standing, err := p.legal(ctx)
		if err != nil {
			return SecretStatus{}, err
		}
		next, rotated, stored, err := store(ctx, standing)
		if refusal, ok := errors.AsType[*domain.Error](err); ok {
			return SecretStatus{}, p.refuse(ctx, refusal)
		}
		if err != nil {
			return SecretStatus{}, p.stateUnavailable(ctx, string(p.action), err)
		}
		if stored {
			p.adopt(p.sl, next)
			p.rotations.stand(next, rotated)
			if !rotated.At.IsZero() {
				p.followUps.rotated(p.sl.entry.Type, rotated.At)
			}
			p.tell(ctx, standing, next)
			return p.status(p.sl, time.Now()), nil
		}
	}
	return SecretStatus{}, p.refuse(ctx, &domain.Error{
		Code:       domain.CodeStateUnavailable,
		Message:    "somebody else took a step of this rotation at the same time; look at the status and try again",
		RetryAfter: time.Second,
	})
}

// tell logs a step that was taken.
func (p *rotationStep) tell(ctx context.Context, before, after domain.Standing) {
	name, r := "", before.Rotation
	switch p.kind {
	case domain.StepBegin:
		name, r = domain.EventRotationBegun, after.Rotation
	case domain.StepPromote:
		name = domain.EventRotationPromoted
	case domain.StepAbort:
		name = domain.EventRotationAborted
	case domain.StepRecord:
		return
	}
	p.log.LogAttrs(ctx, slog.LevelInfo, name, //nolint:sloglint // one of the constants domain.Event…
		append(p.rotationAttrs(p.call, p.sl, r.From, r.To), slog.String("by", p.call.Principal.Subject))...)
}
