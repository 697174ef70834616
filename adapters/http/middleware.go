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
		call, err := a.Service.Authenticate(r.Context(), credentials(r), requestID)
		if err == nil {
			err = h(w, r, call)
		}
		if err != nil {
			a.problem(w, r, err, nil)
		}
	})
}

// credentials are what the request brings. A client certificate counts only when the handshake has verified it.
func credentials(r *http.Request) service.Credentials {
	c := service.Credentials{Authorization: r.Header.Get("Authorization"), Address: r.RemoteAddr}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		c.Certificates = r.TLS.PeerCertificates
	}
	return c
}

// observed gives each request an id, measures it, answers what no route takes, and survives a panic.
func (a *api) observed(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		sw := &statusWriter{ResponseWriter: w, request: r, status: http.StatusOK}
		sw.requestID[0] = a.Service.RequestID(r.Header.Get(requestIDHeader))
		header := w.Header()
		header[requestIDHeader] = sw.requestID[:]
		header["Cache-Control"] = noStore
		defer func() {
			if p := recover(); p != nil {
				a.panicked(sw, r, p)
			}
			a.Observe(r.Method, routeOf(r.Pattern), sw.status, time.Since(began))
		}()
		mux.ServeHTTP(sw, r)
		if sw.unrouted {
			a.unrouted(sw, r)
		}
	})
}

// Values of headers that each answer has. Nobody may write to them.
var (
	noStore         = []string{"no-store"}
	varyAccept      = []string{"Accept"}
	applicationJSON = []string{"application/json"}
)

// routeOf is the path of a pattern of the mux, "" for none: a fixed set of names, whatever clients send.
func routeOf(pattern string) string {
	if _, path, ok := strings.Cut(pattern, " "); ok {
		return path
	}
	return ""
}

// unrouted answers as the mux did, which found no route, with a problem for a body.
func (a *api) unrouted(w *statusWriter, r *http.Request) {
	status := w.status
	w.unrouted, w.wrote, w.answering = false, false, true
	switch allow := w.Header().Get("Allow"); {
	case status == http.StatusMethodNotAllowed:
		a.problem(w, r, &domain.Error{Code: domain.CodeMethodNotAllowed, Message: "this path takes " + allow}, nil)
	case w.Header().Get("Location") != "":
		w.Header().Del("Content-Type") // of a page
		w.WriteHeader(status)
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

// statusWriter remembers what was answered. What the mux itself answers, because it has no route or sends the caller to a
// cleaner path, goes nowhere.
type statusWriter struct {
	http.ResponseWriter
	request   *http.Request
	requestID [1]string // the value of its header
	status    int
	wrote     bool
	unrouted  bool
	answering bool // by ourselves
}

func (w *statusWriter) WriteHeader(status int) {
	if !w.wrote {
		w.status, w.wrote = status, true
		w.unrouted = (w.request.Pattern == "" || w.Header().Get("Location") != "") && !w.answering // no handler redirects
	}
	if !w.unrouted {
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *statusWriter) Write(b []byte) (int, error) {
	w.wrote = true
	if w.unrouted {
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
