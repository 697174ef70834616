package http

import (
	"encoding/json"
	"log/slog"
	"math"
	"net/http"
	"strconv"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/service"
)

// statusOf is the one table from error codes to HTTP statuses.
var statusOf = map[domain.Code]int{
	domain.CodeUnauthenticated:          http.StatusUnauthorized,
	domain.CodeForbidden:                http.StatusForbidden,
	domain.CodeInvalidRequest:           http.StatusBadRequest,
	domain.CodeUnknownSecretType:        http.StatusNotFound,
	domain.CodeNotFound:                 http.StatusNotFound,
	domain.CodeMethodNotAllowed:         http.StatusMethodNotAllowed,
	domain.CodeInvalidBreakGlassTTL:     http.StatusUnprocessableEntity,
	domain.CodeInvalidBreakGlassPayload: http.StatusUnprocessableEntity,
	domain.CodeNoBreakGlass:             http.StatusNotFound,
	domain.CodeBreakGlassDisabled:       http.StatusServiceUnavailable,
	domain.CodeSecretUnavailable:        http.StatusServiceUnavailable,
	domain.CodeRefreshFailed:            http.StatusServiceUnavailable,
	domain.CodeRotationInProgress:       http.StatusConflict,
	domain.CodeNoRotation:               http.StatusConflict,
	domain.CodeSecretDeprecated:         http.StatusConflict,
	domain.CodeVersionRejected:          http.StatusConflict,
	domain.CodeVersionUnavailable:       http.StatusServiceUnavailable,
	domain.CodeNoFollowUp:               http.StatusNotFound,
	domain.CodeStateUnavailable:         http.StatusServiceUnavailable,
	domain.CodeAuditUnavailable:         http.StatusServiceUnavailable,
	domain.CodeShuttingDown:             http.StatusServiceUnavailable,
	domain.CodeRateLimited:              http.StatusTooManyRequests,
	domain.CodeInternal:                 http.StatusInternalServerError,
}

// problem is an RFC 9457 problem details object with our code, the request's id and, for a refresh, what
// failed; for a read, whether the value must not be used by those who still have it.
type problem struct {
	Type      string           `json:"type"`
	Title     string           `json:"title"`
	Status    int              `json:"status"`
	Detail    string           `json:"detail"`
	Code      domain.Code      `json:"code"`
	RequestID string           `json:"requestId"`
	Failures  []refreshFailure `json:"failures,omitempty"`
	Withdrawn bool             `json:"withdrawn,omitempty"`
}

func (a *api) problem(w http.ResponseWriter, r *http.Request, err error, failures []service.RefreshFailure) {
	e := domain.AsError(err)
	status, ok := statusOf[e.Code]
	if !ok {
		status = http.StatusInternalServerError
	}
	requestID := w.Header().Get(requestIDHeader)
	if status == http.StatusInternalServerError {
		a.Logger.LogAttrs(r.Context(), slog.LevelError, "a request failed", slog.Any("err", e.Err), slog.String("requestId", requestID))
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="omni-secrets"`)
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	a.encode(w, r, problem{
		Type:  "urn:omni-secrets:problem:" + string(e.Code),
		Title: http.StatusText(status), Status: status, Detail: e.Message, Code: e.Code,
		RequestID: requestID, Failures: failuresOf(failures), Withdrawn: e.Withdrawn,
	})
}

func (a *api) answer(w http.ResponseWriter, r *http.Request, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	a.encode(w, r, body)
}

func (a *api) encode(w http.ResponseWriter, r *http.Request, body any) {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil {
		a.Logger.DebugContext(r.Context(), "the client went away before the answer was written", "err", err)
	}
}
