package integration_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/apex-tradebill/omni-secrets/adapters/envelope"
	"github.com/apex-tradebill/omni-secrets/adapters/token"
	"github.com/apex-tradebill/omni-secrets/domain"
)

const (
	refreshPath = "/internal/apex-omni/secrets/cache/refresh"
	readPath    = "/internal/apex-omni/secrets/"
	statusPath  = "/ops/apex-omni/secrets/status"
	glassPath   = "/ops/apex-omni/secrets/break-glass"

	followUpsPath = glassPath + "/follow-ups"
	previewPath   = "/ops/apex-omni/secrets/rotation-preview"
	rotationsPath = "/ops/apex-omni/secrets/rotations"
)

var allOps = domain.ScopeOps.Names()

// server is a running omni-secrets and what a client needs to use it.
type server struct {
	*program
	dir       string // of its data
	postgres  string // URL of its database; "" when that is state.db in dir
	api       string
	service   string // token
	ops       string // token
	secret    []byte // that signs tokens
	publicKey string

	mu     sync.Mutex
	bodies []string // every answer but values read on purpose
}

// startDev runs `omni-secrets dev` in dir and waits until it is ready.
func startDev(t testing.TB, dir string) *server {
	t.Helper()
	p := start(t, nil, "omni-secrets", "dev", "--listen", "127.0.0.1:0", "--data-dir", dir)
	if !p.stdout.Await(0, patience, func(line string) bool { return strings.Contains(line, "ready") }) {
		t.Fatalf("dev did not get ready:\n%s\n%s", p.stdout.Text(), p.stderr.Text())
	}
	exported := regexp.MustCompile(`(?m)^export (\w+)=(\S+)$`)
	content, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil {
		t.Fatal(err)
	}
	env := make(map[string]string)
	for _, m := range exported.FindAllStringSubmatch(string(content), -1) {
		env[m[1]] = m[2]
	}
	secret, err := os.ReadFile(filepath.Join(dir, "jwt-secret"))
	if err != nil {
		t.Fatal(err)
	}
	return &server{
		program: p, dir: dir, api: env["API"], service: env["SERVICE_TOKEN"], ops: env["OPS_JWT"],
		publicKey: env["OMNI_BREAKGLASS_PUBLIC_KEY"], secret: secret,
	}
}

// database opens the server's database, as an auditor does or, to write, behind the program's back.
func (s *server) database(mode string) *sql.DB {
	s.t.Helper()
	driver, name := "sqlite", "file:"+filepath.Join(s.dir, "state.db")+"?mode="+mode+"&_pragma=busy_timeout(5000)"
	if s.postgres != "" {
		driver, name = "pgx", s.postgres
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		s.t.Fatal(err)
	}
	return db
}

// serving is the environment of `omni-secrets serve` against an emulator.
type serving struct {
	dir      string
	env      []string
	secret   []byte
	key      envelope.PrivateKey
	postgres string
}

// prepareServe migrates a database and makes keys.
func prepareServe(t testing.TB, gsmEndpoint string, more ...string) *serving {
	t.Helper()
	s := &serving{dir: t.TempDir(), secret: []byte("integration-test-secret-of-48-bytes-0123456789ab")}
	var err error
	if s.key, err = envelope.GenerateKey(); err != nil {
		t.Fatal(err)
	}
	s.env = append([]string{
		"DATABASE_URL=sqlite:" + filepath.Join(s.dir, "state.db"),
		"OMNI_LISTEN=127.0.0.1:0",
		"OMNI_GSM_ENDPOINT=" + gsmEndpoint,
		"GCP_PROJECT_ID=omni-test",
		"OMNI_REPLICA_ID=replica-1",
		"OMNI_BREAKGLASS_PRIVATE_KEY=" + s.key.Base64(),
		"JWT_SECRET=" + string(s.secret),
	}, more...)
	run(t, s.env, "", "migrate", "up").want(t, 0)
	return s
}

// start runs `omni-secrets serve` and waits until it is ready.
func (s *serving) start(t testing.TB) *server {
	t.Helper()
	p := start(t, s.env, "omni-secrets", "serve")
	address, _ := p.logged("ready")["address"].(string)
	return &server{
		program: p, dir: s.dir, postgres: s.postgres, api: "http://" + address, secret: s.secret, publicKey: s.key.Public().String(),
		service: sign(t, s.secret, "svc-trading", domain.ScopeRead.String(), domain.ScopeCacheRefresh.String()),
		ops:     sign(t, s.secret, "sre", allOps...),
	}
}

func sign(t testing.TB, secret []byte, subject string, scopes ...string) string {
	t.Helper()
	signed, err := token.Sign(secret, token.Claims{Subject: subject, Scopes: scopes, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

type answer struct {
	t      testing.TB
	status int
	header http.Header
	body   string
}

// try sends a request as curl does: a body without a content type of its own.
func (s *server) try(method, path, bearer, body string, headers ...string) (answer, error) {
	return s.tryWith(client, method, path, bearer, body, headers...)
}

// tryWith is try by another client.
func (s *server) tryWith(client *http.Client, method, path, bearer, body string, headers ...string) (answer, error) {
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.api+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return answer{}, err
	}
	if !strings.HasPrefix(path, readPath) || resp.StatusCode != http.StatusOK {
		s.mu.Lock()
		s.bodies = append(s.bodies, string(text)+fmt.Sprint(resp.Header))
		s.mu.Unlock()
	}
	return answer{s.t, resp.StatusCode, resp.Header, string(text)}, nil
}

var client = &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

func (s *server) do(method, path, bearer, body string) answer {
	s.t.Helper()
	a, err := s.try(method, path, bearer, body)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (a answer) want(status int, code domain.Code) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	if code != "" && a.json()["code"] != string(code) {
		a.t.Fatalf("want code %s: %s", code, a.body)
	}
	return a
}

func (a answer) json() map[string]any {
	a.t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		a.t.Fatalf("%s: %v", a.body, err)
	}
	return m
}

// wantRead checks what a service gets.
func (s *server) wantRead(t domain.SecretType, value, source string, stale bool) map[string]any {
	s.t.Helper()
	m := s.do("GET", readPath+string(t), s.service, "").want(200, "").json()
	if m["value"] != value || m["source"] != source || m["stale"] != stale {
		s.t.Fatalf("read %s = %v, want %q from %s, stale %v", t, m, value, source, stale)
	}
	return m
}

// status is the row of one secret.
func (s *server) status(t domain.SecretType) map[string]any {
	s.t.Helper()
	rows, _ := s.do("GET", statusPath, s.ops, "").want(200, "").json()["data"].([]any)
	for _, row := range rows {
		if row, _ := row.(map[string]any); row["secretType"] == string(t) {
			return row
		}
	}
	s.t.Fatalf("no status of %s: %v", t, rows)
	return nil
}

// metric is the value of a series as /metrics shows it; "" when it is not there.
func (s *server) metric(name string, labels ...string) string {
	s.t.Helper()
	a := s.do("GET", "/metrics", "", "").want(200, "")
	if !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
		s.t.Fatalf("metrics are %s", a.header.Get("Content-Type"))
	}
series:
	for line := range strings.Lines(a.body) {
		if !strings.HasPrefix(line, name+"{") && !strings.HasPrefix(line, name+" ") {
			continue
		}
		for i := 0; i < len(labels); i += 2 {
			if !strings.Contains(line, fmt.Sprintf("%s=%q", labels[i], labels[i+1])) {
				continue series
			}
		}
		return line[strings.LastIndexByte(strings.TrimSpace(line), ' ')+1 : len(strings.TrimRight(line, "\n"))]
	}
	return ""
}

func (s *server) wantMetric(value, name string, labels ...string) {
	s.t.Helper()
	if got := s.metric(name, labels...); got != value {
		s.t.Fatalf("%s%v is %q, want %q", name, labels, got, value)
	}
}

// query reads the database as an auditor does.
func (s *server) query(query string, args ...any) []map[string]any {
	s.t.Helper()
	db := s.database("ro")
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(s.t.Context(), query, args...)
	if err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		s.t.Fatal(err)
	}
	var list []map[string]any
	for rows.Next() {
		cells, targets := make([]any, len(columns)), make([]any, len(columns))
		for i := range cells {
			targets[i] = &cells[i]
		}
		if err := rows.Scan(targets...); err != nil {
			s.t.Fatal(err)
		}
		row := make(map[string]any)
		for i, c := range columns {
			row[c] = cells[i]
		}
		list = append(list, row)
	}
	if err := rows.Err(); err != nil {
		s.t.Fatal(err)
	}
	return list
}

// wantEvents waits until SQL has this many events that fit the condition.
func (s *server) wantEvents(n int, condition string, args ...any) []map[string]any {
	s.t.Helper()
	var rows []map[string]any
	eventually(s.t, fmt.Sprintf("%d events where %s %v", n, condition, args), func() bool {
		rows = s.query("SELECT * FROM omni_secret_access_events WHERE "+condition, args...)
		return len(rows) == n
	})
	return rows
}

// wantNoTrace checks that none of the plaintexts is in what the run left: logs, output, metrics, answers, SQL
// and journal files. Files that hold secrets on purpose are passed over.
func (s *server) wantNoTrace(plaintexts ...string) {
	s.t.Helper()
	places := map[string]string{
		"log": s.stderr.Text(), "output": s.stdout.Text(), "answers": strings.Join(s.bodies, "\n"),
	}
	if a, err := s.try("GET", "/metrics", "", ""); err == nil {
		places["metrics"] = a.body
	}
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && d.IsDir() && d.Name() == "secrets" {
				return fs.SkipDir
			}
			return err
		}
		content, err := os.ReadFile(path)
		places[path] = string(content)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if len(places) < 5 {
		s.t.Fatalf("only looked at %d places", len(places))
	}
	for place, content := range places {
		for _, plaintext := range plaintexts {
			if plaintext != "" && strings.Contains(content, plaintext) {
				s.t.Errorf("a plaintext is in %s", place)
			}
		}
	}
}

// execute changes the database behind the program's back.
func (s *server) execute(query string, args ...any) {
	s.t.Helper()
	db := s.database("rw")
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(s.t.Context(), query, args...); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
}
