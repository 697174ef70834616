package http

import "net/http"

func (a *api) livez(w http.ResponseWriter, r *http.Request) {
	a.answer(w, r, http.StatusOK, map[string]string{"status": "ok"})
}

type readiness struct {
	Status  string   `json:"status"`
	Missing []string `json:"missing"`
}

func (a *api) readyz(w http.ResponseWriter, r *http.Request) {
	if missing := a.Service.NotReady(); len(missing) > 0 {
		a.answer(w, r, http.StatusServiceUnavailable, readiness{"not ready", missing})
		return
	}
	a.answer(w, r, http.StatusOK, readiness{"ready", []string{}})
}

func (a *api) version(w http.ResponseWriter, r *http.Request) { a.answer(w, r, http.StatusOK, a.Build) }

func (a *api) openapi(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(Spec)
}
