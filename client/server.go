package client

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1/secretsv1connect"
)

// Times that a server is given.
const (
	connectTimeout = 5 * time.Second
	answerTimeout  = 10 * time.Second // for the headers of an answer, for a whole poll, for the first message of a stream
	tokenTimeout   = 10 * time.Second // for the TokenSource
	pingAfter      = 15 * time.Second // of silence on HTTP/2
)

// maxMessage is the largest answer that is read: a value of 64 KiB and what is known of it, with room to spare.
const maxMessage = 128 << 10

// newHTTPClient is the client of this package's own.
func newHTTPClient(certificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)) *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, GetClientCertificate: certificate},
		Proxy:                  nil, // not that of the environment: tokens and secrets go where BaseURLs says
		DialContext:            (&net.Dialer{Timeout: connectTimeout, KeepAlive: pingAfter}).DialContext,
		TLSHandshakeTimeout:    connectTimeout,
		ResponseHeaderTimeout:  answerTimeout,
		IdleConnTimeout:        time.Minute,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter},
		DisableCompression:     true, // secrets do not compress
		MaxResponseHeaderBytes: 64 << 10,
	}}
}

// server is one base URL.
type server struct {
	url string
	rpc secretsv1connect.SecretsServiceClient

	notBefore instant // the server asked not to be called before; guarded by servers.mu
}

// servers are the base URLs, with the one to use now. Safe for concurrent use.
type servers struct {
	all     []*server
	mu      sync.Mutex
	current int
}

func newServers(urls []string, hc *http.Client) *servers {
	// What is sent must arrive where it was meant for, and a stream has no end that a timeout could know.
	own := *hc
	own.Timeout = 0
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	s := &servers{}
	for _, url := range urls {
		s.all = append(s.all, &server{url: url, rpc: secretsv1connect.NewSecretsServiceClient(&own, url,
			connect.WithReadMaxBytes(maxMessage),
			connect.WithAcceptCompression("gzip", nil, nil), // secrets do not compress, and bombs do
		)})
	}
	return s
}

// from is every server once, the one in use first.
func (s *servers) from() []*server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(append([]*server(nil), s.all[s.current:]...), s.all[:s.current]...)
}

// advance is called when the server in use failed, and asked not to be called before notBefore. It makes another one
// that in use, and returns how long to wait for it.
func (s *servers) advance(now, notBefore instant) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[s.current].notBefore = notBefore
	best := (s.current + 1) % len(s.all)
	for i := 2; i <= len(s.all) && s.all[best].notBefore > now; i++ {
		if next := (s.current + i) % len(s.all); s.all[next].notBefore < s.all[best].notBefore {
			best = next
		}
	}
	s.current = best
	return max(0, s.all[best].notBefore-now)
}

// authorized is ctx for one call with token, "" for none.
func authorized(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	ctx, call := connect.NewClientContext(ctx)
	call.RequestHeader().Set("Authorization", "Bearer "+token)
	return ctx
}
