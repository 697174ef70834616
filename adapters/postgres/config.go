package postgres

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// connectTimeout bounds each attempt to connect, unless the URL says otherwise.
const connectTimeout = 5 * time.Second

// sessionSettings are what every session asks the server for, unless the URL says otherwise. They are in
// milliseconds where they are numbers.
var sessionSettings = map[string]string{
	"application_name":                    "omni-secrets",
	"statement_timeout":                   "5000",
	"lock_timeout":                        "2000",
	"idle_in_transaction_session_timeout": "10000",
	// The server, too, notices within seconds that our host is gone, and frees the leader's lock.
	"tcp_keepalives_idle":     "5", // seconds, as the next
	"tcp_keepalives_interval": "2",
	"tcp_keepalives_count":    "3",
}

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}

// CheckURL reports what Open would refuse about a URL. It repeats nothing of it.
func CheckURL(url string) error {
	_, err := parse(url)
	return err
}

// parse reads the URL. Its errors repeat nothing of it: a password that is not percent-encoded is cut apart by
// URL parsing and turns up as a port, a path or a parameter.
func parse(url string) (*pgxpool.Config, error) {
	scheme, rest, _ := strings.Cut(url, "://")
	if scheme != "postgres" && scheme != "postgresql" {
		return nil, errors.New("the database URL must begin with postgres://")
	}
	if end := strings.IndexAny(rest, "/?#"); end >= 0 && strings.ContainsAny(rest[end:], "@#") {
		return nil, errors.New("the database URL has a / ? # or @ where none belongs: percent-encode those in its user and password")
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		// Not wrapped: its text may hold parts of the password.
		return nil, errors.New("the database URL, or a PG* variable of the environment, is not valid: want postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full, with special characters percent-encoded")
	}

	for name, value := range sessionSettings {
		if _, given := config.ConnConfig.RuntimeParams[name]; !given {
			config.ConnConfig.RuntimeParams[name] = value
		}
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	config.ConnConfig.DialFunc = (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext
	return config, nil
}

// connect opens a connection outside the pool. purpose shows in pg_stat_activity, behind the application's
// name.
func (s *Store) connect(ctx context.Context, purpose string) (*pgx.Conn, error) {
	config := s.pool.Config().ConnConfig
	config.RuntimeParams["application_name"] += " " + purpose
	return pgx.ConnectConfig(ctx, config)
}

// disconnect closes a connection of connect, also when ctx is done.
func disconnect(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // closed it is, whatever it says
}
