//go:build linux

package faults_test

import (
	"net"
	"sync"
	"testing"
)

// network is a TCP proxy in front of PostgreSQL that breaks as networks do.
type network struct {
	listener net.Listener
	socket   string // of the server
	running  sync.WaitGroup

	mu     sync.Mutex
	change *sync.Cond // of the following
	state  netState
	closed bool
	open   []net.Conn
}

type netState int

const (
	whole     netState = iota
	refusing           // connections are closed as soon as they come, as by a host without a server
	blackhole          // connections stay open and nothing comes through
)

func newNetwork(t *testing.T, socket string) *network {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &network{listener: listener, socket: socket}
	n.change = sync.NewCond(&n.mu)
	n.running.Go(n.accept)
	t.Cleanup(func() {
		n.mu.Lock()
		n.closed = true
		n.change.Broadcast()
		n.mu.Unlock()
		n.cut()
		_ = n.listener.Close()
		n.running.Wait()
	})
	return n
}

func (n *network) address() string { return n.listener.Addr().String() }

func (n *network) set(state netState) {
	n.mu.Lock()
	n.state = state
	n.change.Broadcast()
	n.mu.Unlock()
	if state == refusing {
		n.cut()
	}
}

// cut ends every connection.
func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.open {
		_ = c.Close()
	}
	n.open = nil
}

// halve ends every connection on the server's side and leaves the client's open: it is told nothing.
func (n *network) halve() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state = blackhole
	for _, c := range n.open {
		if c.RemoteAddr().Network() == "unix" {
			_ = c.Close()
		}
	}
}

func (n *network) accept() {
	for {
		client, err := n.listener.Accept()
		if err != nil {
			return
		}
		n.running.Go(func() { n.connect(client) })
	}
}

func (n *network) connect(client net.Conn) {
	n.mu.Lock()
	state := n.state
	n.mu.Unlock()
	server, err := net.Dial("unix", n.socket)
	if state == refusing || err != nil {
		_ = client.Close()
		if err == nil {
			_ = server.Close()
		}
		return
	}
	n.mu.Lock()
	n.open = append(n.open, client, server)
	if n.closed {
		_, _ = client.Close(), server.Close()
	}
	n.mu.Unlock()
	n.running.Go(func() { n.pass(client, server) })
	n.running.Go(func() { n.pass(server, client) })
}

// pass hands on what comes from one end, and its end as well, unless nothing comes through.
func (n *network) pass(from, to net.Conn) {
	defer to.Close()
	chunk := make([]byte, 32<<10)
	for {
		count, err := from.Read(chunk)
		n.mu.Lock()
		for n.state == blackhole && !n.closed {
			n.change.Wait()
		}
		n.mu.Unlock()
		if _, writeErr := to.Write(chunk[:count]); err != nil || writeErr != nil {
			return
		}
	}
}
