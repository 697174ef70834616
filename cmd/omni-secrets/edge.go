package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/apex-tradebill/omni-secrets/adapters/otel"
	"github.com/apex-tradebill/omni-secrets/service"
)

const (
	maxStreams     = 1000             // on one HTTP/2 connection
	pingAfter      = 30 * time.Second // of silence on one, and for its answer: what is dead is noticed within a minute
	maxHeaderBytes = 32 << 10

	// maxSideConnections is for the listeners of metrics and of debugging, which few have reason to call.
	maxSideConnections = 64
)

// patience is how long clients may take. Streams have a deadline for each write instead of the last two: see
// adapters/connect.
type patience struct {
	header  time.Duration // from the first byte of a request to the end of its headers; of a TLS handshake too
	request time.Duration // to the end of its body
	answer  time.Duration // from there to the end of the answer
	idle    time.Duration // between requests
}

var usualPatience = patience{
	header: 5 * time.Second, request: 15 * time.Second, answer: time.Minute /* a refresh waits for backends */, idle: 2 * time.Minute,
}

// newServer makes the server of every listener. tlsConfig is nil for plain HTTP.
func newServer(handler http.Handler, tlsConfig *tls.Config, log *slog.Logger, p patience) *http.Server {
	return &http.Server{
		Handler:           handler,
		TLSConfig:         tlsConfig,
		Protocols:         protocols(),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams, SendPingTimeout: pingAfter, PingTimeout: pingAfter},
		ReadHeaderTimeout: p.header,
		ReadTimeout:       p.request,
		WriteTimeout:      p.answer,
		IdleTimeout:       p.idle,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// protocols are HTTP/1.1 and HTTP/2, also without TLS: gRPC needs the latter.
func protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// serveOn serves until the server is shut down.
func serveOn(server *http.Server, ln net.Listener) error {
	serve := server.Serve
	if server.TLSConfig != nil {
		serve = func(ln net.Listener) error { return server.ServeTLS(ln, "", "") }
	}
	if err := serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Values of headers that each answer has. Nobody may write to them.
var (
	noSniff    = []string{"nosniff"}
	noStore    = []string{"no-store"}
	noReferrer = []string{"no-referrer"}
	loadsNone  = []string{"default-src 'none'; frame-ancestors 'none'"}
	onlyTLS    = []string{"max-age=31536000"}
)

// secured puts on every answer what keeps a browser from making more of it than it is.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header["X-Content-Type-Options"] = noSniff
		header["Cache-Control"] = noStore
		header["Referrer-Policy"] = noReferrer
		header["Content-Security-Policy"] = loadsNone
		if r.TLS != nil {
			header["Strict-Transport-Security"] = onlyTLS
		}
		next.ServeHTTP(w, r)
	})
}

// boundedListener closes connections beyond a number at once, so that whoever opens many costs no memory and no files, and
// clients go on to another replica.
type boundedListener struct {
	net.Listener
	most          int64
	log           *slog.Logger
	open, refused atomic.Int64
	told          rate.Sometimes
}

func newBoundedListener(ln net.Listener, most int, log *slog.Logger) *boundedListener {
	return &boundedListener{Listener: ln, most: int64(most), log: log, told: rate.Sometimes{Interval: time.Minute}}
}

// Accept returns the next connection that there is room for.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.most {
			return &boundedConn{Conn: conn, left: func() { l.open.Add(-1) }}, nil
		}
		l.open.Add(-1)
		l.refused.Add(1)
		_ = conn.Close()
		l.told.Do(func() {
			l.log.WarnContext(context.Background(), "connections are refused: as many are open as may be (OMNI_MAX_CONNECTIONS)", "open", l.most)
		})
	}
}

// boundedConn makes room when it is closed.
type boundedConn struct {
	net.Conn
	once sync.Once
	left func()
}

// Close closes the connection.
func (c *boundedConn) Close() error {
	c.once.Do(c.left)
	return c.Conn.Close()
}

// side is a listener beside the one of the APIs.
type side struct {
	ln      net.Listener
	handler http.Handler
}

// listenBeside opens the listeners of metrics and of debugging, those that c asks for.
func (a *app) listenBeside(ctx context.Context, c config) error {
	for _, one := range []struct {
		name, address, setting string
		handler                http.Handler
	}{
		{"metrics", c.MetricsListen, "OMNI_METRICS_LISTEN", a.metricsHandler()},
		{"debugging", c.DebugListen, "OMNI_DEBUG_LISTEN", debugHandler()},
	} {
		if one.address == "" {
			continue
		}
		ln, err := listen(ctx, one.address, one.setting)
		if err != nil {
			return err
		}
		a.close = append(a.close, func() error {
			if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
				return err
			}
			return nil
		})
		a.sides = append(a.sides, side{newBoundedListener(ln, maxSideConnections, a.log), secured(one.handler)})
		a.log.InfoContext(ctx, "listening for "+one.name, "address", ln.Addr().String()) //nolint:sloglint // one of two constants
	}
	return nil
}

// metricsHandler is what OMNI_METRICS_LISTEN serves: metrics, and the probes, which have no client certificate.
func (a *app) metricsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", a.metrics)
	mux.Handle("GET /livez", a.handler)
	mux.Handle("GET /readyz", a.handler)
	return mux
}

// edgeOf is what the gauges of the network show.
func (a *app) edgeOf(s *service.Service) otel.Edge {
	edge := otel.Edge{RateLimited: s.LimitCounts()}
	if ln := a.listener.Load(); ln != nil {
		edge.Connections, edge.ConnectionsRefused = ln.open.Load(), ln.refused.Load()
	}
	if a.certificates != nil {
		edge.CertificateExpires, edge.TLSReloadFailed = a.certificates.Expires(), a.certificates.ReloadFailed()
	}
	return edge
}
