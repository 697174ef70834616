// Package http serves the REST API of Omni Secrets: it turns requests into calls of the use cases and their
// results into JSON, and errors into RFC 9457 problems. What may be done by whom is decided behind it.
package http

import (
	_ "embed"
	"log/slog"
	"net/http"
	"time"

	"github.com/apex-tradebill/omni-secrets/service"
)

// Spec is the OpenAPI 3.1 document of the API, as it is served at /openapi.yaml.
//
//go:embed openapi.yaml
var Spec []byte

// Build says which program is running.
type Build struct {
	Version   string `json:"version"`
	Revision  string `json:"revision"`
	GoVersion string `json:"goVersion"`
}

// Config is what the API is made of. Everything is required unless its comment says otherwise.
type Config struct {
	Service *service.Service
	Metrics http.Handler // GET /metrics; nil has no such path
	Observe func(method, route string, status int, took time.Duration)
	Logger  *slog.Logger
	Build   Build
}

type api struct{ Config }

// New returns the handler of the whole API. It is safe for concurrent use.
func New(cfg Config) http.Handler {
	a := &api{cfg}
	mux := http.NewServeMux()

	mux.Handle("POST /internal/apex-omni/secrets/cache/refresh", a.authenticated(a.refresh))
	mux.Handle("GET /internal/apex-omni/secrets/{secretType}", a.authenticated(a.read))
	mux.Handle("GET /ops/apex-omni/secrets/status", a.authenticated(a.status))
	mux.Handle("POST /ops/apex-omni/secrets/break-glass", a.authenticated(a.applyBreakGlass))
	mux.Handle("DELETE /ops/apex-omni/secrets/break-glass/{secretType}", a.authenticated(a.clearBreakGlass))
	mux.Handle("GET /ops/apex-omni/secrets/break-glass/follow-ups", a.authenticated(a.followUps))
	mux.Handle("POST /ops/apex-omni/secrets/break-glass/follow-ups/{overrideId}/close", a.authenticated(a.closeFollowUp))
	mux.Handle("POST /ops/apex-omni/secrets/rotation-preview", a.authenticated(a.previewRotation))
	mux.Handle("POST /ops/apex-omni/secrets/rotations", a.authenticated(a.beginRotation))
	mux.Handle("POST /ops/apex-omni/secrets/rotations/{secretType}/promote", a.authenticated(a.endRotation(cfg.Service.PromoteRotation)))
	mux.Handle("POST /ops/apex-omni/secrets/rotations/{secretType}/abort", a.authenticated(a.endRotation(cfg.Service.AbortRotation)))
	mux.Handle("POST /ops/apex-omni/secrets/rotations/{secretType}/record", a.authenticated(a.recordRotation))
	mux.Handle("GET /ops/apex-omni/secrets/audit-events", a.authenticated(a.auditEvents))

	if cfg.Metrics != nil {
		mux.Handle("GET /metrics", cfg.Metrics)
	}
	mux.HandleFunc("GET /livez", a.livez)
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.HandleFunc("GET /version", a.version)
	mux.HandleFunc("GET /openapi.yaml", a.openapi)
	return a.observed(mux)
}
