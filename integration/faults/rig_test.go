//go:build linux

package faults_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/apex-tradebill/omni-secrets/adapters/envelope"
	"github.com/apex-tradebill/omni-secrets/adapters/postgres/postgrestest"
	"github.com/apex-tradebill/omni-secrets/adapters/token"
	"github.com/apex-tradebill/omni-secrets/domain"
)

const (
	refreshPath = "/internal/apex-omni/secrets/cache/refresh"
	readPath    = "/internal/apex-omni/secrets/"
	glassPath   = "/ops/apex-omni/secrets/break-glass"
)

// Each secret has its part in the drills.
const (
	apiKey       domain.SecretType = "trading_api_key"       // these three are read and refreshed
	clientSecret domain.SecretType = "trading_client_secret" //
	webhook      domain.SecretType = "webhook_shared_secret" //
	overridden   domain.SecretType = "trading_api_passphrase"
	aside        domain.SecretType = "zk_signing_seed" // for what a drill does on its own
)

var (
	plain = []domain.SecretType{apiKey, clientSecret, webhook}
	all   = append([]domain.SecretType{overridden, aside}, plain...)
)

func secretID(t domain.SecretType) string {
	return "apex-omni-" + strings.ReplaceAll(string(t), "_", "-")
}

// rig is a server with everything around it.
type rig struct {
	db      *postgrestest.Server
	net     *network // between the server and the database
	gsm     *program
	control string // of the emulator
	key     envelope.PrivateKey
	service string // tokens
	ops     string

	program   string // path of omni-secrets
	env       []string
	journal   string // directory
	server    *program
	api       string
	overrides []*override  // of loads that are finished: the next one may find them in place
	step      atomic.Int64 // of the server's clock, a time.Duration
}

// newRig starts all but omni-secrets itself.
func newRig(t *testing.T, more ...string) *rig {
	t.Helper()
	r := &rig{db: postgrestest.NewServer(t), program: filepath.Join(bin, "omni-secrets")}
	admin, err := url.Parse(r.db.URL())
	if err != nil {
		t.Fatal(err)
	}
	r.net = newNetwork(t, socketOf(t, admin))
	r.sql(t, "postgres", `CREATE DATABASE omni TEMPLATE template0`)
	run(t, []string{"DATABASE_URL=" + r.direct("omni")}, "migrate", "up")

	seeds := t.TempDir()
	for _, secret := range all {
		if err := os.WriteFile(filepath.Join(seeds, secretID(secret)), []byte("value-of-"+string(secret)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.gsm = start(t, nil, filepath.Join(bin, "gsm-emulator"), "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--project", "omni-test", "--seed-dir", seeds)
	var endpoint string
	ready := regexp.MustCompile(`ready: gRPC on (\S+), control on (\S+)`)
	if !r.gsm.output.Await(0, patience, func(line string) bool {
		m := ready.FindStringSubmatch(line)
		if m != nil {
			endpoint, r.control = m[1], m[2]
		}
		return m != nil
	}) {
		t.Fatal("the emulator did not get ready")
	}

	if r.key, err = envelope.GenerateKey(); err != nil {
		t.Fatal(err)
	}
	secret := []byte("a-secret-of-the-drills-of-48-bytes-0123456789abc")
	r.service = sign(t, secret, "svc-trading", domain.ScopeRead.String(), domain.ScopeCacheRefresh.String())
	r.ops = sign(t, secret, "sre", domain.ScopeOps.Names()...)
	r.journal = filepath.Join(t.TempDir(), "journal")
	r.env = append([]string{
		"DATABASE_URL=postgres://postgres@" + r.net.address() + "/omni?sslmode=disable",
		"OMNI_LISTEN=127.0.0.1:0",
		"OMNI_GSM_ENDPOINT=" + endpoint,
		"GCP_PROJECT_ID=omni-test",
		"OMNI_REPLICA_ID=replica-1",
		"OMNI_BREAKGLASS_PRIVATE_KEY=" + r.key.Base64(),
		"JWT_SECRET=" + string(secret),
		"OMNI_CACHE_TTL_SECONDS=2",
		"OMNI_REFRESHES_PER_MINUTE=0", "OMNI_OVERRIDES_PER_MINUTE=0", // one caller does the work of many
		"OMNI_AUDIT_JOURNAL_DIR=" + r.journal,
	}, more...)
	return r
}

// socketOf is the Unix socket of a server that postgrestest started. One in a container has none: the drills stop and
// freeze processes, which needs them here.
func socketOf(t *testing.T, admin *url.URL) string {
	t.Helper()
	dir := admin.Query().Get("host")
	if dir == "" {
		const why = "the drills need a PostgreSQL that is installed here: they stop and freeze its processes"
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	return filepath.Join(dir, ".s.PGSQL.5432")
}

func sign(t *testing.T, secret []byte, subject string, scopes ...string) string {
	t.Helper()
	signed, err := token.Sign(secret, token.Claims{Subject: subject, Scopes: scopes, ExpiresAt: time.Now().AddDate(1, 0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// serve starts omni-secrets and waits until it is ready.
func (r *rig) serve(t *testing.T) {
	t.Helper()
	r.server = start(t, r.env, r.program, "serve")
	var address string
	if !r.server.output.Await(0, patience, func(line string) bool {
		var m struct{ Msg, Address string }
		_ = json.Unmarshal([]byte(line), &m)
		address = m.Address
		return m.Msg == "ready"
	}) {
		t.Fatalf("omni-secrets did not get ready:\n%s", r.server.output.Tail(60))
	}
	r.api = "http://" + address
}

// direct is the URL of a database, past the network.
func (r *rig) direct(database string) string {
	u, err := url.Parse(r.db.URL())
	if err != nil {
		panic(err)
	}
	u.Path = "/" + database
	return u.String()
}

// query asks a database, past the network, and scans each row.
func (r *rig) query(t *testing.T, database string, scan func(pgx.Rows) error, query string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, r.direct(database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func (r *rig) sql(t *testing.T, database string, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		r.query(t, database, func(pgx.Rows) error { return nil }, statement)
	}
}

func (r *rig) number(t *testing.T, database, query string, args ...any) (n int) {
	t.Helper()
	r.query(t, database, func(rows pgx.Rows) error { return rows.Scan(&n) }, query, args...)
	return n
}

// steer calls the emulator's control API.
func (r *rig) steer(t *testing.T, method, path, body string) {
	t.Helper()
	a, err := r.send(t.Context(), method, r.control+path, "", "", body)
	if err != nil || a.status >= 300 {
		t.Fatalf("%s %s: %v %s", method, path, err, a.body)
	}
}

type answer struct {
	status int
	header http.Header
	body   string
}

// send is a request by a client that gives up after patience.
func (r *rig) send(ctx context.Context, method, address, bearer, id, body string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	if id != "" {
		req.Header.Set("X-Request-Id", id)
	}
	if strings.HasPrefix(body, "{") {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(text)}, errors.Join(err, resp.Body.Close())
}

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DialContext: (&net.Dialer{}).DialContext}}

// metric is the value of a series without labels.
func (r *rig) metric(t *testing.T, name string) float64 {
	t.Helper()
	a, err := r.send(t.Context(), "GET", r.api+"/metrics", "", "", "")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(a.body) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			f, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// refresh asks for a fetch and reports whether it succeeded.
func (r *rig) refresh(t *testing.T, secret domain.SecretType, id string) (answer, bool) {
	t.Helper()
	a, err := r.send(t.Context(), "POST", r.api+refreshPath, r.service, id, `{"secretType":"`+string(secret)+`"}`)
	return a, err == nil && a.status == http.StatusAccepted
}

// apply injects a value; the answer's status is 0 when there was none.
func (r *rig) apply(t *testing.T, secret domain.SecretType, value string, ttl time.Duration, id string) *override {
	t.Helper()
	o := &override{id: id, secret: secret, value: value, sent: time.Now()}
	o.expires = o.sent.Add(ttl).Truncate(time.Millisecond)
	expiresAt := o.expires.Add(time.Duration(r.step.Load())).UTC().Format("2006-01-02T15:04:05.000Z07:00")
	sealed, err := envelope.Seal(r.key.Public(), secret, expiresAt, domain.NewValue([]byte(value)), 2)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]string{"secretType": string(secret), "ciphertext": sealed, "expiresAt": expiresAt})
	if err != nil {
		t.Fatal(err)
	}
	a, err := r.send(t.Context(), "POST", r.api+glassPath, r.ops, id, string(body))
	o.answered = time.Now()
	if err == nil {
		o.status = a.status
	}
	return o
}

// mustApply injects a value, for longer than ttl if this machine is so slow that it comes after its expiry.
func (r *rig) mustApply(t *testing.T, secret domain.SecretType, value string, ttl time.Duration) *override {
	t.Helper()
	for ; ; ttl *= 2 {
		o := r.apply(t, secret, value, ttl, "")
		if o.status == http.StatusCreated {
			return o
		}
		if o.status != http.StatusUnprocessableEntity || ttl > 10*time.Minute {
			t.Fatalf("the override %s was not taken: %d", value, o.status)
		}
	}
}

// clear ends an override before its time.
func (r *rig) clear(t *testing.T, o *override) {
	t.Helper()
	sent := time.Now()
	a, err := r.send(t.Context(), "DELETE", r.api+glassPath+"/"+string(o.secret), r.ops, "", "")
	o.clearSent = sent
	if err == nil && a.status == http.StatusNoContent {
		o.cleared = time.Now()
	}
}

// read asks for a secret once.
func (r *rig) read(ctx context.Context, secret domain.SecretType, id string) read {
	seen := read{id: id, secret: secret, began: time.Now()}
	a, err := r.send(ctx, "GET", r.api+readPath+string(secret), r.service, id, "")
	seen.ended = time.Now()
	if err != nil {
		seen.err = err
		return seen
	}
	seen.status, seen.body = a.status, a.body
	var m struct {
		Value, Version, Source string
		Stale                  bool
	}
	if a.status == http.StatusOK {
		seen.err = json.Unmarshal([]byte(a.body), &m)
		seen.value, seen.version, seen.source, seen.stale = m.Value, m.Version, m.Source, m.Stale
		seen.body = ""
	}
	return seen
}
