package postgres_test

import (
	"net"
	"strconv"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// proxy stands between the adapter and its server, and can fall silent as a broken network does: connections
// stay open and nothing comes through.
type proxy struct {
	listener net.Listener
	network  string
	address  string
	running  sync.WaitGroup

	mu     sync.Mutex
	change *sync.Cond // of silent and closed
	silent bool
	closed bool
	open   []net.Conn
}

// behindProxy gives the URL of the same database through a proxy that lasts until the test ends.
func behindProxy(t *testing.T, databaseURL string) (*proxy, string) {
	t.Helper()
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		t.Fatalf("parse the URL: %v", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	p := &proxy{listener: listener}
	p.network, p.address = pgconn.NetworkAddress(config.Host, config.Port)
	p.change = sync.NewCond(&p.mu)
	p.running.Go(p.accept)
	t.Cleanup(p.close)

	u := parsed(t, databaseURL)
	u.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(listener.Addr().(*net.TCPAddr).Port))
	q := u.Query()
	q.Del("host")
	u.RawQuery = q.Encode()
	return p, u.String()
}

func (p *proxy) setSilent(silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = silent
	p.change.Broadcast()
}

func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	for _, c := range p.open {
		_ = c.Close()
	}
	p.change.Broadcast()
	p.mu.Unlock()
	_ = p.listener.Close()
	p.running.Wait()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial(p.network, p.address)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.open = append(p.open, client, server)
		if p.closed {
			_, _ = client.Close(), server.Close()
		}
		p.mu.Unlock()
		p.running.Go(func() { p.pass(client, server) })
		p.running.Go(func() { p.pass(server, client) })
	}
}

// pass hands on what comes from one end, and its end as well, unless the proxy is silent.
func (p *proxy) pass(from, to net.Conn) {
	defer to.Close()
	chunk := make([]byte, 32<<10)
	for {
		n, err := from.Read(chunk)
		p.mu.Lock()
		for p.silent && !p.closed {
			p.change.Wait()
		}
		p.mu.Unlock()
		if _, writeErr := to.Write(chunk[:n]); err != nil || writeErr != nil {
			return
		}
	}
}
