// Package postgrestest gives tests databases on a real PostgreSQL: each test a fresh one, cloned from a
// template that was migrated once.
//
// The server is, in this order, the one of OMNI_TEST_DATABASE_URL (a superuser's), a throw-away cluster of the
// PostgreSQL that is installed here, started when the first test asks, or a container where a Docker daemon
// answers. Without any of them the test is skipped; where CI=true it fails.
package postgrestest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/apex-tradebill/omni-secrets/adapters/postgres"
)

// shared is what the tests of this process have in common.
var shared struct {
	sync.Mutex
	within   bool // Main runs
	server   *Server
	template string
}

// Main runs the tests of a package that uses Database or Empty, stops the server after them, and fails when a
// goroutine is left over. It belongs into TestMain and does not return.
func Main(m interface{ Run() int }, allowed ...goleak.Option) {
	shared.Lock()
	shared.within = true
	shared.Unlock()

	code := m.Run()
	err := tearDown()
	if err == nil && code == 0 {
		err = goleak.Find(allowed...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "postgrestest:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// Database returns the URL of a new database with the schema of today. After the test it is dropped, and the
// test fails when a connection to it was left open.
func Database(t testing.TB) string {
	t.Helper()
	return create(t, func() (string, error) { return template(t.Context()) })
}

// Empty is Database without a schema.
func Empty(t testing.TB) string {
	t.Helper()
	return create(t, func() (string, error) { return "template0", nil })
}

func create(t testing.TB, from func() (string, error)) string {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if !shared.within {
		t.Fatal("postgrestest: TestMain must call postgrestest.Main")
	}
	if shared.server == nil {
		server, err := findServer(t.Context())
		if err != nil {
			unavailable(t, err)
		}
		shared.server = server
	}

	source, err := from()
	if err != nil {
		t.Fatalf("postgrestest: template: %v", err)
	}
	server, name := shared.server, "omni_test_"+random()
	if err := server.execute(t.Context(), `CREATE DATABASE `+name+` TEMPLATE `+source); err != nil {
		t.Fatalf("postgrestest: create a database: %v", err)
	}
	t.Cleanup(func() { drop(t, server, name) })
	return server.database(name)
}

// template is the name of a migrated database that nobody is connected to. It is called under the mutex.
func template(ctx context.Context) (string, error) {
	if shared.template != "" {
		return shared.template, nil
	}
	name := "omni_template_" + random()
	if err := shared.server.execute(ctx, `CREATE DATABASE `+name+` TEMPLATE template0`); err != nil {
		return "", err
	}
	shared.template = name // to be dropped, also when it cannot be migrated
	store, err := postgres.Open(ctx, shared.server.database(name), slog.New(slog.DiscardHandler))
	if err != nil {
		return "", err
	}
	_, err = store.Migrate(ctx)
	if closeErr := store.Close(); err == nil {
		err = closeErr
	}
	return name, err
}

const leftOpen = `
SELECT coalesce(string_agg(application_name || ': ' || query, '; '), '')
FROM pg_stat_activity
WHERE datname = $1 AND backend_type = 'client backend'`

// drop drops a database once nobody is connected: a session ends a moment after its connection was closed.
func drop(t testing.TB, server *Server, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second) // t.Context has ended
	defer cancel()
	open := ""
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		err := server.query(ctx, &open, leftOpen, name)
		if err != nil {
			t.Errorf("postgrestest: look for connections: %v", err)
			return
		}
		if open == "" {
			break
		}
	}
	if open != "" {
		t.Errorf("postgrestest: connections were left open: %s", open)
	}
	if err := server.execute(ctx, `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
		t.Errorf("postgrestest: drop the database: %v", err)
	}
}

func tearDown() error {
	shared.Lock()
	defer shared.Unlock()
	shared.within = false
	if shared.server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if shared.template != "" {
		if err := shared.server.execute(ctx, `DROP DATABASE `+shared.template); err != nil {
			return err
		}
	}
	return shared.server.remove()
}

// unavailable ends a test that cannot have a server. Only where there is nothing to have one from may it be
// skipped, and not in CI.
func unavailable(t testing.TB, why error) {
	t.Helper()
	if !errors.Is(why, errNone) || os.Getenv("CI") == "true" {
		t.Fatalf("postgrestest: %v", why)
	}
	t.Skipf("postgrestest: %v", why)
}

// random is a name of its own for whatever tests share a server.
func random() string { return strings.ToLower(rand.Text()) }

// database is the URL of one of the server's databases.
func (s *Server) database(name string) string {
	u := *s.admin
	u.Path = "/" + name
	return u.String()
}

// execute runs a statement on a connection of its own, so that none is left over.
func (s *Server) execute(ctx context.Context, statement string) error {
	return s.connected(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, statement)
		return err
	})
}

func (s *Server) query(ctx context.Context, into any, query string, args ...any) error {
	return s.connected(ctx, func(conn *pgx.Conn) error { return conn.QueryRow(ctx, query, args...).Scan(into) })
}

func (s *Server) connected(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.admin.String())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return f(conn)
}

// external is the server that the environment names.
func external() (*Server, error) {
	admin, err := url.Parse(os.Getenv("OMNI_TEST_DATABASE_URL"))
	if err != nil || !strings.HasPrefix(admin.Scheme, "postgres") {
		return nil, fmt.Errorf("OMNI_TEST_DATABASE_URL is not valid: want postgres://USER:PASSWORD@HOST:PORT/DATABASE")
	}
	return &Server{admin: admin, remove: func() error { return nil }}, nil
}
