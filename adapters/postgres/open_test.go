package postgres_test

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/apex-tradebill/omni-secrets/adapters/postgres"
	"github.com/apex-tradebill/omni-secrets/adapters/postgres/postgrestest"
)

func TestOpenNeedsNoServer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()

	s := open(t, "postgres://omni:hunter2@"+address+"/omni")
	err = s.Ping(t.Context())
	if err == nil {
		t.Fatal("a server that does not exist answered")
	}
	if !strings.Contains(err.Error(), address) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("Ping: %v, want the address and no password in it", err)
	}
}

func TestPing(t *testing.T) {
	if err := open(t, postgrestest.Empty(t)).Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
}

// A password is told by its letters and its digits, which no URL below has elsewhere.
func TestErrorsHoldNoPartOfThePassword(t *testing.T) {
	cases := map[string]string{
		"no scheme":                  "omni:xyzzy4711@localhost/omni",
		"another scheme":             "mysql://omni:xyzzy4711@localhost/omni",
		"keywords instead of a URL":  "host=localhost user=omni password=xyzzy4711",
		"a slash in the password":    "postgres://omni:xyzzy/4711@localhost/omni",
		"a port before the slash":    "postgres://omni:4711/xyzzy@localhost/omni",
		"a question mark in it":      "postgres://omni:4711?xyzzy@localhost/omni",
		"a hash in it":               "postgres://omni:4711#xyzzy@localhost/omni",
		"a bare percent sign in it":  "postgres://omni:4711%xyzzy@localhost/omni",
		"no host":                    "postgres://omni:xyzzy4711",
		"no @":                       "postgres://omni:xyzzy:4711/omni",
		"a bad port":                 "postgres://omni:xyzzy4711@localhost:port/omni",
		"a bad parameter":            "postgres://omni:xyzzy4711@localhost/omni?sslmode=maybe",
		"a bad parameter of ours":    "postgres://omni:xyzzy4711@localhost/omni?pool_max_conns=many",
		"a certificate that is gone": "postgres://omni:xyzzy4711@localhost/omni?sslmode=verify-full&sslrootcert=/nowhere",
	}
	for name, url := range cases {
		t.Run(name, func(t *testing.T) {
			var logged bytes.Buffer
			s, err := postgres.Open(t.Context(), url, slog.New(slog.NewJSONHandler(&logged, nil)))
			if err == nil {
				_ = s.Close()
				t.Fatal("it was opened")
			}
			for _, part := range []string{"xyzzy", "4711"} {
				if strings.Contains(err.Error(), part) || strings.Contains(logged.String(), part) {
					t.Errorf("error %q, log %q, which hold %q", err, &logged, part)
				}
			}
		})
	}
}

func TestWrongPasswordIsNotRepeated(t *testing.T) {
	url := postgrestest.Empty(t)
	// The user does not exist, which servers that trust every user refuse as well.
	err := open(t, asUser(t, url, "nobody_of_ours", "hunter2")).Ping(t.Context())
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "the server refuses this user") {
		t.Errorf("Ping: %v", err)
	}
}

func TestSessionSettings(t *testing.T) {
	url := postgrestest.Empty(t)
	settings := func(url string) map[string]string {
		got := map[string]string{}
		for _, name := range []string{"application_name", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"} {
			got[name] = postgres.Setting(t, open(t, url), name)
		}
		return got
	}
	want := map[string]string{
		"application_name": "omni-secrets", "statement_timeout": "5s", "lock_timeout": "2s",
		"idle_in_transaction_session_timeout": "10s",
	}
	if diff := cmp.Diff(want, settings(url)); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}

	want["statement_timeout"], want["application_name"] = "7s", "drill"
	if diff := cmp.Diff(want, settings(withParameter(t, withParameter(t, url, "statement_timeout", "7000"), "application_name", "drill"))); diff != "" {
		t.Errorf("settings of the URL (-want +got):\n%s", diff)
	}
}
