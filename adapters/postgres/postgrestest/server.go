package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Server is a PostgreSQL server that a test has for itself, to stop it.
type Server struct {
	admin  *url.URL // of a user who may do everything
	start  func() error
	stop   func() error
	remove func() error // stops it for good and leaves nothing behind
}

// NewServer starts a server with an empty database. It is removed after the test.
func NewServer(t testing.TB) *Server {
	t.Helper()
	s, err := newServer(t.Context())
	if err != nil {
		unavailable(t, err)
	}
	t.Cleanup(func() {
		if err := s.remove(); err != nil {
			t.Errorf("postgrestest: remove the server: %v", err)
		}
	})
	return s
}

// URL is that of the server's database. It stays the same when the server is started again.
func (s *Server) URL() string { return s.admin.String() }

// Stop ends the server and with it all connections.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if err := s.stop(); err != nil {
		t.Fatalf("postgrestest: stop the server: %v", err)
	}
}

// Start starts a server that was stopped, with its databases, and waits until it answers.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatalf("postgrestest: start the server: %v", err)
	}
}

// Flush makes the server flush to disk whatever is committed, as servers do outside of tests: for benchmarks,
// which would otherwise find commits cheap.
func (s *Server) Flush(t testing.TB) {
	t.Helper()
	if err := s.setFlushing(t.Context(), "on"); err != nil {
		t.Fatalf("postgrestest: configure the server: %v", err)
	}
}

func (s *Server) setFlushing(ctx context.Context, state string) error {
	for _, statement := range []string{
		`ALTER SYSTEM SET fsync = ` + state,
		`ALTER SYSTEM SET full_page_writes = ` + state,
		`SELECT pg_reload_conf()`,
	} {
		if err := s.execute(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

func findServer(ctx context.Context) (*Server, error) {
	if os.Getenv("OMNI_TEST_DATABASE_URL") != "" {
		return external()
	}
	return newServer(ctx)
}

var errNone = errors.New("no PostgreSQL for tests: install it, start Docker, or set OMNI_TEST_DATABASE_URL")

func newServer(ctx context.Context) (*Server, error) {
	var s *Server
	var err error
	switch bin := installed(); {
	case bin != "":
		s, err = newCluster(ctx, bin)
	case dockerAnswers(ctx):
		s, err = newContainer(ctx)
	default:
		return nil, errNone
	}
	if err != nil {
		return nil, err
	}
	if err := s.setFlushing(ctx, "off"); err != nil { // tests need no durability
		return nil, errors.Join(err, s.remove())
	}
	return s, nil
}

// await waits until the server at url answers, unless it ends before.
func await(url string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		conn, err := pgx.Connect(ctx, url)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ended:
			return errors.New("the server ended")
		case <-ctx.Done():
			return fmt.Errorf("the server does not answer: %w", err)
		case <-again.C:
		}
	}
}
