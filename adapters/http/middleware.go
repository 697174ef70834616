package http

import (
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/service"
)

const requestIDHeader = "X-Request-Id"

// handler answers a request of a caller whose token was verified. An error that it returns becomes a problem.
type handler func(w http.ResponseWriter, r *http.Request, call service.Call) error

// authenticated verifies the bearer token before h.
func (a *api) authenticated(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requestID := w.Header().Get(requestIDHeader)
		call, err := a.Service.Authenticate(r.Context(), r.Header.Get("Authorization"), requestID)
		if err == nil {
			err = h(w, r, call)
		}
		if err != nil {
			a.problem(w, r, err, nil)
		}
	})
}

// observed gives each request an id, measures it, answers what no route takes, and survives a panic.
func (a *api) observed(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		header := w.Header()
		header.Set(requestIDHeader, a.Service.RequestID(r.Header.Get(requestIDHeader)))
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Cache-Control", "no-store")

		sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		route, known := mux.Handler(r)
		pattern := routeOf(known)
		defer func() {
			if p := recover(); p != nil {
				a.panicked(sw, r, p)
			}
			a.Observe(r.Method, pattern, sw.status, time.Since(began))
		}()
		if known == "" {
			a.unrouted(sw, r, route)
			return
		}
		mux.ServeHTTP(sw, r)
	})
}

// routeOf is the path of a pattern of the mux, "" for none: a fixed set of names, whatever clients send.
func routeOf(pattern string) string {
	if _, path, ok := strings.Cut(pattern, " "); ok {
		return path
	}
	return ""
}

// unrouted answers as the mux would, with a problem for a body.
func (a *api) unrouted(w http.ResponseWriter, r *http.Request, muxAnswer http.Handler) {
	probe := &discarded{header: make(http.Header)}
	muxAnswer.ServeHTTP(probe, r)
	switch {
	case probe.status == http.StatusMethodNotAllowed:
		allow := probe.header.Get("Allow")
		w.Header().Set("Allow", allow)
		a.problem(w, r, &domain.Error{Code: domain.CodeMethodNotAllowed, Message: "this path takes " + allow}, nil)
	case probe.header.Get("Location") != "":
		w.Header().Set("Location", probe.header.Get("Location"))
		w.WriteHeader(probe.status)
	default:
		a.problem(w, r, &domain.Error{Code: domain.CodeNotFound, Message: "there is nothing at this path; GET /openapi.yaml describes the API"}, nil)
	}
}

func (a *api) panicked(w *statusWriter, r *http.Request, p any) {
	if p == http.ErrAbortHandler { //nolint:errorlint // net/http itself compares what was recovered like this
		panic(p)
	}
	a.Logger.LogAttrs(r.Context(), slog.LevelError, "a request made the program panic",
		slog.Any("panic", p), slog.String("stack", string(debug.Stack())), slog.String("requestId", w.Header().Get(requestIDHeader)))
	if !w.wrote {
		a.problem(w, r, domain.AsError(nil), nil)
	}
}

// statusWriter remembers what was answered.
type statusWriter struct {
	http.ResponseWriter
	status int
	wrote  bool
}

func (w *statusWriter) WriteHeader(status int) {
	if !w.wrote {
		w.status, w.wrote = status, true
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	w.wrote = true
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

type discarded struct {
	header http.Header
	status int
}

func (d *discarded) Header() http.Header         { return d.header }
func (d *discarded) Write(b []byte) (int, error) { return len(b), nil }
func (d *discarded) WriteHeader(status int)      { d.status = status }
