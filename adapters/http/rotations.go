package http

import (
	"context"
	"net/http"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/service"
)

type previewRequest struct {
	SecretType       string `json:"secretType"`
	GCPSecretVersion string `json:"gcpSecretVersion"`
	DryRunWebhookURL string `json:"dryRunWebhookUrl"`
}

type previewResponse struct {
	Validated bool             `json:"validated"`
	LatencyMs float64          `json:"latencyMs"`
	Version   string           `json:"version"`
	ErrorCode domain.CheckCode `json:"errorCode,omitempty"`
	Message   string           `json:"message,omitempty"`
}

func (a *api) previewRotation(w http.ResponseWriter, r *http.Request, call service.Call) error {
	if err := a.Service.Authorize(r.Context(), call, domain.ScopeRotate, ""); err != nil {
		return err
	}
	var body previewRequest
	if err := decode(w, r, &body, "secretType, gcpSecretVersion and dryRunWebhookUrl"); err != nil {
		return err
	}
	if err := required(field{"secretType", body.SecretType}, field{"gcpSecretVersion", body.GCPSecretVersion}); err != nil {
		return err
	}
	found, err := a.Service.PreviewRotation(r.Context(), call, domain.SecretType(body.SecretType), body.GCPSecretVersion, body.DryRunWebhookURL)
	if err != nil {
		return err
	}
	answer := previewResponse{Validated: found.Failed == nil, LatencyMs: milliseconds(found.Took), Version: found.Version}
	if found.Failed != nil {
		answer.ErrorCode, answer.Message = found.Failed.Code, found.Failed.Message
	}
	a.answer(w, r, http.StatusOK, answer)
	return nil
}

type beginRotationRequest struct {
	SecretType       string `json:"secretType"`
	GCPSecretVersion string `json:"gcpSecretVersion"`
}

func (a *api) beginRotation(w http.ResponseWriter, r *http.Request, call service.Call) error {
	if err := a.Service.Authorize(r.Context(), call, domain.ScopeRotate, ""); err != nil {
		return err
	}
	var body beginRotationRequest
	if err := decode(w, r, &body, "secretType and gcpSecretVersion"); err != nil {
		return err
	}
	if err := required(field{"secretType", body.SecretType}, field{"gcpSecretVersion", body.GCPSecretVersion}); err != nil {
		return err
	}
	after, err := a.Service.BeginRotation(r.Context(), call, domain.SecretType(body.SecretType), body.GCPSecretVersion)
	if err != nil {
		return err
	}
	a.answer(w, r, http.StatusCreated, statusRow(after))
	return nil
}

// endRotation promotes or aborts. It takes no version: a caller who means another than the one in progress is refused,
// not ignored.
func (a *api) endRotation(end func(context.Context, service.Call, domain.SecretType) (service.SecretStatus, error)) handler {
	return func(w http.ResponseWriter, r *http.Request, call service.Call) error {
		t := domain.SecretType(r.PathValue("secretType"))
		if err := a.Service.Authorize(r.Context(), call, domain.ScopeRotate, t); err != nil {
			return err
		}
		if err := decode(w, r, &struct{}{}, "no fields"); err != nil {
			return err
		}
		after, err := end(r.Context(), call, t)
		if err != nil {
			return err
		}
		a.answer(w, r, http.StatusOK, statusRow(after))
		return nil
	}
}

type recordRotationRequest struct {
	RotatedAt *string `json:"rotatedAt"` // now when it is missing
}

func (a *api) recordRotation(w http.ResponseWriter, r *http.Request, call service.Call) error {
	t := domain.SecretType(r.PathValue("secretType"))
	if err := a.Service.Authorize(r.Context(), call, domain.ScopeRotate, t); err != nil {
		return err
	}
	var body recordRotationRequest
	if err := decode(w, r, &body, "rotatedAt"); err != nil {
		return err
	}
	var at time.Time
	if body.RotatedAt != nil {
		var err error
		if at, err = time.Parse(time.RFC3339, *body.RotatedAt); err != nil || at.IsZero() {
			return invalid("rotatedAt must be an RFC 3339 time such as 2026-01-31T12:00:00Z, or be left out for now")
		}
	}
	after, err := a.Service.RecordRotation(r.Context(), call, t, at)
	if err != nil {
		return err
	}
	a.answer(w, r, http.StatusOK, statusRow(after))
	return nil
}

type followUpsResponse struct {
	Data []followUp `json:"data"`
}

type followUp struct {
	OverrideID string            `json:"overrideId"`
	SecretType domain.SecretType `json:"secretType"`
	OpenedAt   timestamp         `json:"openedAt"`
	AppliedBy  string            `json:"appliedBy"`
	Reason     *string           `json:"reason"`
	Overdue    bool              `json:"overdue"`
}

func (a *api) followUps(w http.ResponseWriter, r *http.Request, call service.Call) error {
	open, err := a.Service.OpenFollowUps(r.Context(), call)
	if err != nil {
		return err
	}
	now := time.Now()
	body := followUpsResponse{Data: make([]followUp, 0, len(open))}
	for _, f := range open {
		body.Data = append(body.Data, followUp{
			OverrideID: f.OverrideID, SecretType: f.Type, OpenedAt: timestamp(f.OpenedAt),
			AppliedBy: f.AppliedBy.ID, Reason: optional(f.Reason), Overdue: f.LateAt(now),
		})
	}
	a.answer(w, r, http.StatusOK, body)
	return nil
}

type closeFollowUpRequest struct {
	Reason string `json:"reason"`
}

func (a *api) closeFollowUp(w http.ResponseWriter, r *http.Request, call service.Call) error {
	if err := a.Service.Authorize(r.Context(), call, domain.ScopeBreakGlass, ""); err != nil {
		return err
	}
	var body closeFollowUpRequest
	if err := decode(w, r, &body, "reason"); err != nil {
		return err
	}
	if err := a.Service.CloseFollowUp(r.Context(), call, r.PathValue("overrideId"), body.Reason); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
