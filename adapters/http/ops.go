package http

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/service"
)

type statusResponse struct {
	Data      []secretStatus `json:"data"`
	UpdatedAt timestamp      `json:"updatedAt"`
}

type secretStatus struct {
	SecretType          domain.SecretType     `json:"secretType"`
	Status              domain.RotationStatus `json:"status"`
	Owner               string                `json:"owner"`
	GCPSecretID         string                `json:"gcpSecretId"`
	GCPVersionAlias     string                `json:"gcpVersionAlias"`
	CacheSource         string                `json:"cacheSource"`
	CacheVersion        *string               `json:"cacheVersion"`
	CacheAgeSeconds     *float64              `json:"cacheAgeSeconds"`
	Stale               bool                  `json:"stale"`
	RotationDueAt       timestamp             `json:"rotationDueAt"`
	RotationState       domain.RotationState  `json:"rotationState"`
	LastRotatedAt       timestamp             `json:"lastRotatedAt"`
	LastValidatedAt     timestamp             `json:"lastValidatedAt"`
	BreakGlassExpiresAt timestamp             `json:"breakGlassExpiresAt"`
	ConsecutiveFailures int                   `json:"consecutiveFailures"`
	LastFailureReason   *domain.Reason        `json:"lastFailureReason"`
	SurvivalSeconds     float64               `json:"survivalSeconds"`
	RotatingToVersion   *string               `json:"rotatingToVersion"`
	RotatingSince       timestamp             `json:"rotatingSince"`
	RotatingBy          *string               `json:"rotatingBy"`
	PinnedVersion       *string               `json:"pinnedVersion"`
	OpenFollowUps       int                   `json:"openFollowUps"`
	FollowUpOpenedAt    timestamp             `json:"followUpOpenedAt"`
}

func (a *api) status(w http.ResponseWriter, r *http.Request, call service.Call) error {
	all, err := a.Service.Status(r.Context(), call)
	if err != nil {
		return err
	}
	list := make([]secretStatus, 0, len(all))
	for _, s := range all {
		list = append(list, statusRow(s))
	}
	a.answer(w, r, http.StatusOK, statusResponse{list, timestamp(time.Now())})
	return nil
}

func statusRow(s service.SecretStatus) secretStatus {
	row := secretStatus{
		SecretType: s.Type, Status: s.Status, Owner: s.Owner,
		GCPSecretID: s.GCPSecretID, GCPVersionAlias: s.GCPVersionAlias,
		CacheSource: s.Source, Stale: s.Stale,
		RotationDueAt: timestamp(s.RotationDueAt), RotationState: s.Rotation,
		LastRotatedAt: timestamp(s.LastRotatedAt), LastValidatedAt: timestamp(s.LastValidatedAt),
		BreakGlassExpiresAt: timestamp(s.OverrideExpiresAt), ConsecutiveFailures: s.Failures, SurvivalSeconds: seconds(s.Survival),
		RotatingToVersion: optional(s.InProgress.To), RotatingSince: timestamp(s.InProgress.BegunAt),
		RotatingBy: optional(s.InProgress.BegunBy.ID), PinnedVersion: optional(s.PinnedVersion),
		OpenFollowUps: s.FollowUps, FollowUpOpenedAt: timestamp(s.FollowUpOpenedAt),
	}
	if s.Source != domain.SourceEmpty {
		age := seconds(s.Age)
		row.CacheVersion, row.CacheAgeSeconds = &s.Version, &age
	}
	if s.LastFailure != "" {
		row.LastFailureReason = &s.LastFailure
	}
	return row
}

type breakGlassRequest struct {
	SecretType string `json:"secretType"`
	Ciphertext string `json:"ciphertext"`
	ExpiresAt  string `json:"expiresAt"`
	Reason     string `json:"reason"`
}

type breakGlassResponse struct {
	SecretType domain.SecretType `json:"secretType"`
	ExpiresAt  string            `json:"expiresAt"`
}

func (a *api) applyBreakGlass(w http.ResponseWriter, r *http.Request, call service.Call) error {
	if err := a.Service.Authorize(r.Context(), call, domain.ScopeBreakGlass, ""); err != nil {
		return err
	}
	var body breakGlassRequest
	if err := decode(w, r, &body, "secretType, ciphertext, expiresAt and reason"); err != nil {
		return err
	}
	if err := required(field{"secretType", body.SecretType}, field{"ciphertext", body.Ciphertext}, field{"expiresAt", body.ExpiresAt}); err != nil {
		return err
	}
	o, err := a.Service.ApplyOverride(r.Context(), call, domain.Envelope{
		Type: domain.SecretType(body.SecretType), Ciphertext: body.Ciphertext, ExpiresAt: body.ExpiresAt,
	}, body.Reason)
	if err != nil {
		return err
	}
	a.answer(w, r, http.StatusCreated, breakGlassResponse{o.Envelope.Type, o.Envelope.ExpiresAt})
	return nil
}

func (a *api) clearBreakGlass(w http.ResponseWriter, r *http.Request, call service.Call) error {
	if err := a.Service.ClearOverride(r.Context(), call, domain.SecretType(r.PathValue("secretType"))); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

type auditResponse struct {
	Data       []auditEvent `json:"data"`
	NextCursor *string      `json:"nextCursor"`
}

type auditEvent struct {
	EventID          string           `json:"eventId"`
	SecretType       *string          `json:"secretType"`
	Action           domain.Action    `json:"action"`
	ActorType        domain.ActorType `json:"actorType"`
	ActorID          string           `json:"actorId"`
	Result           domain.Result    `json:"result"`
	ErrorCode        *string          `json:"errorCode"`
	GCPSecretVersion *string          `json:"gcpSecretVersion"`
	Source           *string          `json:"source"`
	DurationMs       float64          `json:"durationMs"`
	RequestID        *string          `json:"requestId"`
	ReplicaID        string           `json:"replicaId"`
	Reason           *string          `json:"reason"`
	RecordedAt       timestamp        `json:"recordedAt"`
}

func (a *api) auditEvents(w http.ResponseWriter, r *http.Request, call service.Call) error {
	if err := a.Service.Authorize(r.Context(), call, domain.ScopeAudit, ""); err != nil {
		return err
	}
	filter, err := eventFilter(r.URL.RawQuery)
	if err != nil {
		return err
	}
	page, err := a.Service.ListEvents(r.Context(), call, filter)
	if err != nil {
		return err
	}
	body := auditResponse{Data: make([]auditEvent, 0, len(page.Events)), NextCursor: optional(page.Cursor())}
	for _, e := range page.Events {
		body.Data = append(body.Data, auditEvent{
			EventID: e.ID.String(), SecretType: optional(string(e.Type)), Action: e.Action,
			ActorType: e.Actor.Type, ActorID: e.Actor.ID, Result: e.Result, ErrorCode: optional(e.ErrorCode),
			GCPSecretVersion: optional(e.Version), Source: optional(e.Source),
			DurationMs: milliseconds(e.Duration),
			RequestID:  optional(e.RequestID), ReplicaID: e.ReplicaID, Reason: optional(e.Reason),
			RecordedAt: timestamp(e.RecordedAt),
		})
	}
	a.answer(w, r, http.StatusOK, body)
	return nil
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

var filterNames = []string{"secretType", "action", "actorId", "result", "since", "until", "limit", "cursor"}

func eventFilter(query string) (domain.EventFilter, error) {
	q, err := url.ParseQuery(query) // what cannot be read is not left out: the page would be of other events
	if err != nil {
		return domain.EventFilter{}, invalid("the query cannot be read; it is name=value, joined by &, each escaped for URLs")
	}
	for name, values := range q {
		if !slices.Contains(filterNames, name) {
			return domain.EventFilter{}, invalid("there is no such query parameter; there are secretType, action, actorId, result, since, until, limit and cursor")
		}
		if len(values) > 1 {
			return domain.EventFilter{}, invalid("query parameter %s is given more than once", name)
		}
	}
	f := domain.EventFilter{
		Type: domain.SecretType(q.Get("secretType")), Action: domain.Action(q.Get("action")),
		ActorID: q.Get("actorId"), Result: domain.Result(q.Get("result")),
	}
	for _, bound := range []struct {
		name string
		into *time.Time
	}{{"since", &f.Since}, {"until", &f.Until}} {
		text := q.Get(bound.name)
		if text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return f, invalid("%s must be an RFC 3339 time such as 2026-01-31T12:00:00Z", bound.name)
		}
		*bound.into = at
	}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > domain.MaxEventPage {
			return f, invalid("limit must be 1 to %d", domain.MaxEventPage)
		}
		f.Limit = n
	}
	if text := q.Get("cursor"); text != "" {
		before, err := domain.ParseCursor(text)
		if err != nil {
			return f, err
		}
		f.Before = before
	}
	return f, nil
}
