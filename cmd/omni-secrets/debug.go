package main

import (
	"net"
	"net/http"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"time"
)

// maxRecording is the longest profile of the processor, or trace, that is taken: an answer may take a minute.
const maxRecording = 50 * time.Second

// debugHandler is what OMNI_DEBUG_LISTEN serves, at the paths that `go tool pprof` knows. It is written here because
// net/http/pprof puts itself into the mux that everybody shares, and shows the command line too.
func debugHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/{profile}", func(w http.ResponseWriter, r *http.Request) {
		p := pprof.Lookup(r.PathValue("profile"))
		if p == nil {
			http.Error(w, "there is no such profile", http.StatusNotFound)
			return
		}
		debug, err := strconv.Atoi(r.FormValue("debug"))
		if err != nil {
			debug = 0
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		if debug > 0 {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		}
		_ = p.WriteTo(w, debug)
	})
	mux.HandleFunc("GET /debug/pprof/profile", func(w http.ResponseWriter, r *http.Request) {
		record(w, r, 30*time.Second, func() error { return pprof.StartCPUProfile(w) }, pprof.StopCPUProfile)
	})
	mux.HandleFunc("GET /debug/pprof/trace", func(w http.ResponseWriter, r *http.Request) {
		record(w, r, time.Second, func() error { return trace.Start(w) }, trace.Stop)
	})
	return fromThisMachine(mux)
}

// record lets something be recorded for as many seconds as the request says.
func record(w http.ResponseWriter, r *http.Request, usual time.Duration, start func() error, stop func()) {
	took := usual
	if text := r.FormValue("seconds"); text != "" {
		seconds, err := strconv.ParseFloat(text, 64)
		if took = time.Duration(seconds * float64(time.Second)); err != nil || took <= 0 || took > maxRecording {
			http.Error(w, "seconds must be more than 0 and at most "+strconv.Itoa(int(maxRecording/time.Second)), http.StatusBadRequest)
			return
		}
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if start() != nil {
		http.Error(w, "another recording is being made; try again when it is done", http.StatusConflict)
		return
	}
	defer stop()
	timer := time.NewTimer(took)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
}

// fromThisMachine refuses what a web page makes a browser on this machine send, by a name that leads here.
func fromThisMachine(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if !isLoopback(host) {
			http.Error(w, "call this by localhost or 127.0.0.1", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
