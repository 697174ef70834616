package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/apex-tradebill/omni-secrets/adapters/postgres/postgrestest"
)

// The omni-secrets servers.
const (
	sqliteName   = "sqlite"
	fsyncName    = "fsync"
	postgresName = "postgres"
)

var serverNames = []string{bareName, tokenName, sqliteName, fsyncName, postgresName}

const (
	secretType  = "trading_api_key"
	secretPath  = "/internal/apex-omni/secrets/" + secretType
	secretValue = "sample-value-of-48-bytes-0123456789-abcdefghijkl"
	program     = "github.com/apex-tradebill/omni-secrets/cmd/omni-secrets"
)

const catalog = `secrets:
  - {type: ` + secretType + `, owner: load, backend: local_file, reference: value, version: latest, rotationMonths: 12}
`

// server is one that is measured.
type server struct {
	*process
	name    string
	address string
}

// field is where servers are started.
type field struct {
	dir     string // of everything that is kept
	path    string
	program string
	secret  []byte // that tokens are signed with
	token   string
	limits  []string // on the servers, as variables of their environment
	bare    bareConfig
	release []func() error
}

// newField builds the program, unless one is given, and learns from it what the bare servers are to answer.
func (p *plan) newField(ctx context.Context) (_ *field, err error) {
	dir, err := os.MkdirTemp(p.dir, "omni-load-")
	if err != nil {
		return nil, err
	}
	f := &field{dir: dir, path: p.path, program: p.program, secret: []byte(rand.Text() + rand.Text())}
	if p.cores > 0 {
		f.limits = []string{"GOMAXPROCS=" + strconv.Itoa(p.cores)}
	}
	f.release = append(f.release, func() error { return os.RemoveAll(dir) })
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if f.token, err = signToken(f.secret); err != nil {
		return nil, err
	}
	if f.program == "" {
		f.program = filepath.Join(dir, "omni-secrets")
		fmt.Fprintln(p.progress, "building omni-secrets")
		build := exec.CommandContext(ctx, "go", "build", "-o", f.program, program)
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build omni-secrets, from within the repository: %w\n%s", err, out)
		}
	}
	if err := f.learn(ctx); err != nil {
		return nil, err
	}
	return f, nil
}

// learn asks omni-secrets for what the bare servers are to answer, so that it is the same whatever changes. What grows
// with time, the value's age and the number in the request id, it makes as long as after minutes of load.
func (f *field) learn(ctx context.Context) error {
	s, err := f.start(ctx, sqliteName, "model")
	if err != nil {
		return err
	}
	defer s.stop()
	header, body, err := s.get(ctx, secretPath, f.token)
	if err != nil {
		return err
	}
	if !bytes.Contains(body, []byte(secretValue)) {
		return errors.New("omni-secrets does not answer with the secret's value")
	}
	header.Del("Date") // net/http adds its own
	if header.Get("X-Request-Id") != "" {
		header.Set("X-Request-Id", "0123456789ab-1234567")
	}
	body = regexp.MustCompile(`"ageSeconds":[0-9.]+`).ReplaceAll(body, []byte(`"ageSeconds":123.456`))
	header.Set("Content-Length", strconv.Itoa(len(body)))
	f.bare = bareConfig{Header: header, Body: body, Secret: f.secret}
	return nil
}

// start starts a server by its name, with its data in the directory dir of the field.
func (f *field) start(ctx context.Context, name, dir string) (s *server, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("start %s: %w", name, err)
		}
	}()
	switch name {
	case bareName, tokenName:
		return f.startBare(ctx, name)
	case fsyncName:
		return f.startOmni(ctx, name, dir, "", "OMNI_AUDIT_FSYNC=always")
	case postgresName:
		url, release, err := postgrestest.Lend(ctx)
		if err != nil {
			return nil, err
		}
		f.release = append(f.release, release)
		return f.startOmni(ctx, name, dir, url)
	default:
		return f.startOmni(ctx, name, dir, "")
	}
}

func (f *field) startBare(ctx context.Context, name string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(f.bare)
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, self, name)
	cmd.Env = append(cmd.Environ(), f.limits...)
	stdin, err := cmd.StdinPipe() // stays open until the process has ended
	if err != nil {
		end()
		return nil, err
	}
	go func() { _, _ = stdin.Write(config) }() // it says so itself when it is not told
	p, address, err := start(cmd, end, func(line []byte) string { return string(line) })
	if err != nil {
		return nil, err
	}
	return &server{process: p, name: name, address: address}, nil
}

// startOmni starts omni-secrets on SQLite, or on the PostgreSQL of the URL.
func (f *field) startOmni(ctx context.Context, name, dir, url string, more ...string) (*server, error) {
	dir = filepath.Join(f.dir, dir)
	if err := os.MkdirAll(filepath.Join(dir, "secrets"), 0o700); err != nil {
		return nil, err
	}
	err := errors.Join(
		os.WriteFile(filepath.Join(dir, "secrets", "value"), []byte(secretValue), 0o600),
		os.WriteFile(filepath.Join(dir, "catalog.yaml"), []byte(catalog), 0o600),
	)
	if err != nil {
		return nil, err
	}
	if url == "" {
		url = "sqlite:" + filepath.Join(dir, "state.db")
	}
	env := append([]string{
		"PATH=" + f.path, "HOME=" + dir,
		"DATABASE_URL=" + url,
		"OMNI_LISTEN=127.0.0.1:0",
		"OMNI_CATALOG_FILE=" + filepath.Join(dir, "catalog.yaml"),
		"OMNI_LOCAL_FILE_DIR=" + filepath.Join(dir, "secrets"),
		"OMNI_AUDIT_JOURNAL_DIR=" + filepath.Join(dir, "audit-journal"),
		"OMNI_REPLICA_ID=load",
		"GCP_PROJECT_ID=omni-load",
		"JWT_SECRET=" + string(f.secret),
	}, slices.Concat(f.limits, more)...)
	migrate := exec.CommandContext(ctx, f.program, "migrate", "up")
	migrate.Env = env
	if out, err := migrate.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("migrate up: %w\n%s", err, out)
	}
	ctx, end := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, f.program, "serve")
	cmd.Env = env
	p, address, err := start(cmd, end, readyAddress)
	if err != nil {
		return nil, err
	}
	return &server{process: p, name: name, address: address}, nil
}

// readyAddress finds the server's address in the log event of its readiness.
func readyAddress(line []byte) string {
	var event struct {
		Msg     string `json:"msg"`
		Address string `json:"address"`
	}
	if json.Unmarshal(line, &event) != nil || event.Msg != "ready" {
		return ""
	}
	return event.Address
}

// request is what the client sends to a server, the same to all but for the port.
func (f *field) request(s *server) []byte {
	return []byte("GET " + secretPath + " HTTP/1.1\r\nHost: " + s.address + "\r\nAuthorization: Bearer " + f.token + "\r\n\r\n")
}

func (f *field) close() error {
	var errs []error
	for _, release := range slices.Backward(f.release) {
		errs = append(errs, release())
	}
	return errors.Join(errs...)
}
