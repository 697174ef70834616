package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	"github.com/apex-tradebill/omni-secrets/adapters/envelope"
	"github.com/apex-tradebill/omni-secrets/adapters/gsm/emulator"
	"github.com/apex-tradebill/omni-secrets/adapters/journal"
	"github.com/apex-tradebill/omni-secrets/adapters/sqlite"
	"github.com/apex-tradebill/omni-secrets/domain"
)

// patient is a deployment that doctor looks at: a SQLite file, secrets in files, a pair of keys.
type patient struct {
	process
	t   *testing.T
	dir string
	key envelope.PrivateKey
}

const doctorCatalog = `secrets:
  - {type: trading_api_key, owner: Security Engineering, backend: local_file, reference: key, version: latest, rotationMonths: 12}
  - {type: webhook_shared_secret, owner: Platform Reliability, backend: local_file, reference: hook, version: latest, rotationMonths: 12, policy: {ttl: 1m}}
`

func newPatient(t *testing.T) *patient {
	t.Helper()
	key, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	p := &patient{t: t, dir: t.TempDir(), key: key}
	p.write("catalog.yaml", doctorCatalog)
	p.write("secrets/key", plaintext+"-1")
	p.write("secrets/hook", plaintext+"-2")
	p.env = map[string]string{
		"DATABASE_URL":                 "sqlite:" + p.path("state.db"),
		"OMNI_AUDIT_JOURNAL_DIR":       p.path("journal"),
		"OMNI_AUDIT_JOURNAL_MAX_BYTES": "1048576",
		"OMNI_CATALOG_FILE":            p.path("catalog.yaml"),
		"OMNI_LOCAL_FILE_DIR":          p.path("secrets"),
		"OMNI_REPLICA_ID":              "replica-1",
		"GCP_PROJECT_ID":               "omni-test",
		jwtSecretEnv:                   plaintext + "-that-signs-tokens",
		privateKeyEnv:                  key.Base64(),
		publicKeyEnv:                   key.Public().String(),
		auditKeyEnv:                    strings.Repeat("A", 43) + "=",
	}
	p.withDatabase(func(db *sqlite.Store) error {
		_, err := db.Migrate(t.Context())
		return err
	})
	return p
}

func (p *patient) path(name string) string { return filepath.Join(p.dir, name) }

func (p *patient) write(name, content string) {
	p.t.Helper()
	if err := os.MkdirAll(filepath.Dir(p.path(name)), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(p.path(name), []byte(content), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *patient) withDatabase(f func(*sqlite.Store) error) {
	p.t.Helper()
	db, err := sqlite.Open(p.t.Context(), p.path("state.db"))
	if err != nil {
		p.t.Fatal(err)
	}
	if err := f(db); err != nil {
		p.t.Error(err)
	}
	if err := db.Close(); err != nil {
		p.t.Error(err)
	}
}

// due gives the secrets of the catalog their rows, with these deadlines.
func (p *patient) due(deadlines map[domain.SecretType]time.Time) {
	p.t.Helper()
	p.withDatabase(func(db *sqlite.Store) error {
		var rows []domain.Metadata
		for t, due := range deadlines {
			m := domain.NewMetadata(domain.Entry{Type: t, Backend: "local_file", Reference: "key", Version: "latest", Owner: "Security Engineering"}, "development", time.Now())
			m.RotationDueAt = due
			rows = append(rows, m)
		}
		return db.EnsureMetadata(p.t.Context(), rows, func(t domain.SecretType) domain.Event {
			return domain.Event{
				ID: domain.EventID{Start: 1, Seq: uint64(len(t))}, Type: t, Action: domain.ActionWriteMetadata, Actor: domain.Automation,
				Result: domain.ResultSuccess, ReplicaID: "replica-1", RecordedAt: time.Now(),
			}
		})
	})
}

// examine runs doctor and checks what holds for every run: nothing secret is printed, and nothing is changed.
func (p *patient) examine(args ...string) outcome {
	p.t.Helper()
	before := p.files()
	o := p.run(p.t, append([]string{"doctor"}, args...)...)
	for _, secret := range []string{plaintext, p.key.Base64()} {
		if strings.Contains(o.out+o.err, secret) {
			p.t.Errorf("a secret was printed:\n%s%s", o.out, o.err)
		}
	}
	if diff := cmp.Diff(before, p.files()); diff != "" {
		p.t.Errorf("files were changed (-before +after):\n%s", diff)
	}
	return o
}

// files is every file of the deployment, with its content.
func (p *patient) files() map[string]string {
	p.t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			files[path] = "a folder"
			return err
		}
		content, err := os.ReadFile(path)
		files[path] = string(content)
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return files
}

// findingsOf reads what doctor printed as JSON.
func findingsOf(t *testing.T, o outcome) []finding {
	t.Helper()
	var document struct{ Checks []finding }
	if err := json.Unmarshal([]byte(o.out), &document); err != nil {
		t.Fatalf("%v:\n%s%s", err, o.out, o.err)
	}
	return document.Checks
}

func TestDoctorFindsNothingWrong(t *testing.T) {
	p := newPatient(t)
	o := p.examine()
	o.want(t, exitOK)
	for _, vary := range []struct{ pattern, shown string }{
		{`\d{8}T\S+`, "VERSION"}, {`\([\d.]+m?s\)`, "(TIME)"}, {`\d+ MiB`, "N MiB"}, {`id is [0-9a-f]{16}`, "id is KEY"},
	} {
		o.out = regexp.MustCompile(vary.pattern).ReplaceAllString(o.out, vary.shown)
	}
	golden(t, "doctor.golden", o.out)
}

func TestDoctorAsJSON(t *testing.T) {
	p := newPatient(t)
	if err := os.Remove(p.path("secrets/hook")); err != nil {
		t.Fatal(err)
	}
	o := p.examine("-o", "json")
	o.want(t, exitUnhealthy, "1 of 11 checks failed")
	var document map[string]any
	if err := json.Unmarshal([]byte(o.out), &document); err != nil {
		t.Fatal(err)
	}
	if document["failed"] != 1.0 || document["ok"] != 7.0 || document["skipped"] != 3.0 || document["warning"] != 0.0 {
		t.Errorf("counts: %v", document)
	}
	var failed []finding
	for _, f := range findingsOf(t, o) {
		if f.Status == verdictFailed {
			failed = append(failed, f)
		}
	}
	if len(failed) != 1 || failed[0].Check != "backend" || failed[0].SecretType != "webhook_shared_secret" ||
		!strings.Contains(failed[0].Detail, "not_found") || !strings.Contains(failed[0].Next, "put the file hook into OMNI_LOCAL_FILE_DIR") {
		t.Errorf("failed: %+v", failed)
	}
}

func TestDoctorTellsAllThatIsWrongAndGoesOn(t *testing.T) {
	p := newPatient(t)
	maps.Copy(p.env, map[string]string{"DATABASE_URL": "", jwtSecretEnv: plaintext[:10], "OMNI_CACHE_TTL_SECONDS": "0", "OMNI_MAX_STALE": "soon"})
	p.examine().want(t, exitUnhealthy,
		"failed   configuration: DATABASE_URL is not set", "failed   configuration: JWT_SECRET has 10 bytes",
		"failed   configuration: OMNI_CACHE_TTL_SECONDS is 0", "failed   configuration: OMNI_MAX_STALE",
		"skipped  database: ", "ok       backend trading_api_key: local_file has version", "ok       break-glass: ", "ok       journal: ",
		"4 of ")

	p = newPatient(t)
	p.env["OMNI_JWKS_URL"] = "http://keys.example.com/jwks"
	p.examine().want(t, exitUnhealthy, "failed   configuration: ", "JWKS")
}

func TestDoctorLooksAtTheDatabase(t *testing.T) {
	t.Run("missing", func(t *testing.T) {
		p := newPatient(t)
		p.env["DATABASE_URL"] = "sqlite:" + p.path("elsewhere/state.db")
		p.examine().want(t, exitUnhealthy, "failed   database: sqlite: inspect", "next: 'omni-secrets migrate up' makes it", "skipped  rotation")
	})
	t.Run("not migrated", func(t *testing.T) {
		p := newPatient(t)
		p.write("empty.db", "")
		p.env["DATABASE_URL"] = "sqlite:" + p.path("empty.db")
		p.examine().want(t, exitUnhealthy, "failed   database: the database schema has version 0", "run `omni-secrets migrate up`")
	})
	t.Run("PostgreSQL that is away", func(t *testing.T) {
		p := newPatient(t)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = listener.Close()
		p.env["DATABASE_URL"] = "postgres://omni:" + plaintext + "@" + listener.Addr().String() + "/omni"
		p.examine().want(t, exitUnhealthy, "failed   database: postgres: ping", "next: check that PostgreSQL runs", "skipped  rotation")
	})
	t.Run("deadlines", func(t *testing.T) {
		p := newPatient(t)
		p.due(map[domain.SecretType]time.Time{
			"trading_api_key":       time.Now().Add(-50 * time.Hour),
			"webhook_shared_secret": time.Now().Add(10*24*time.Hour + time.Hour),
		})
		p.examine().want(t, exitOK,
			"warning  rotation trading_api_key: overdue for 2d2h, since", "next: Security Engineering rotates it",
			"warning  rotation webhook_shared_secret: due in 10d")
	})
}

func TestDoctorAsksSecretManager(t *testing.T) {
	p := newPatient(t)
	gsm, endpoint := startEmulator(t)
	delete(p.env, "OMNI_CATALOG_FILE")
	p.env["OMNI_GSM_ENDPOINT"] = endpoint
	name := func(id string) string { return "projects/omni-test/secrets/apex-omni-" + id }
	for _, id := range []string{"trading-api-key", "trading-client-secret", "trading-api-passphrase", "webhook-shared-secret"} {
		if _, err := gsm.Put(name(id), []byte(plaintext+id)); err != nil {
			t.Fatal(err)
		}
	}
	if err := gsm.Disable(name("trading-api-passphrase") + "/versions/1"); err != nil {
		t.Fatal(err)
	}
	for secret, mode := range map[string]emulator.Mode{"trading-client-secret": emulator.Deny, "webhook-shared-secret": emulator.Unavailable} {
		if err := gsm.SetFault(emulator.Fault{Mode: mode, Secret: name(secret)}); err != nil {
			t.Fatal(err)
		}
	}
	p.examine().want(t, exitUnhealthy,
		"ok       backend trading_api_key: gsm has version 1 ",
		"failed   backend trading_client_secret: permission_denied: ",
		"next: grant the server's identity roles/secretmanager.secretAccessor (the permission secretmanager.versions.access) on "+name("trading-client-secret"),
		"failed   backend trading_api_passphrase: version_disabled: ", "next: enable the version",
		"failed   backend zk_signing_seed: not_found: ", "next: create "+name("zk-signing-seed"),
		"failed   backend webhook_shared_secret: unavailable: ", "next: the backend does not answer",
		"4 of ")

	for method := range gsm.Calls() {
		if method != "AccessSecretVersion" {
			t.Errorf("doctor called %s", method)
		}
	}
}

func TestDoctorTellsHowFarItIs(t *testing.T) {
	p := newPatient(t)
	c, err := readConfig(func(name string) (string, bool) { value, ok := p.env[name]; return value, ok })
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	checkBackends(t.Context(), c, nil, func(done, of int) { told = append(told, fmt.Sprintf("%d of %d", done, of)) })
	if diff := cmp.Diff([]string{"1 of 2", "2 of 2"}, told); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
}

func TestDoctorRefusesLatestAsTheServerDoes(t *testing.T) {
	p := newPatient(t)
	gsm, endpoint := startEmulator(t)
	delete(p.env, "OMNI_CATALOG_FILE")
	p.env["OMNI_GSM_ENDPOINT"], p.env["OMNI_ALLOW_LATEST_VERSION"] = endpoint, "false"
	p.examine().want(t, exitUnhealthy, "failed   backend trading_api_key: latest_forbidden: ", "next: name a version by its number")
	if calls := gsm.Calls(); len(calls) > 0 {
		t.Errorf("calls: %v", calls)
	}
}

func TestDoctorFetchesNothingFromAForeignProject(t *testing.T) {
	p := newPatient(t)
	gsm, endpoint := startEmulator(t)
	delete(p.env, "OMNI_CATALOG_FILE")
	p.env["OMNI_GSM_ENDPOINT"], p.env["OMNI_PRODUCTION_PROJECTS"] = endpoint, "omni-test"
	p.examine().want(t, exitUnhealthy,
		`failed   configuration: environment violation: OMNI_ENVIRONMENT is "development", and trading_api_key is in the production project omni-test`,
		"skipped  backend: ")
	if calls := gsm.Calls(); len(calls) > 0 {
		t.Errorf("calls: %v", calls)
	}
}

func TestDoctorComparesTheKeys(t *testing.T) {
	other, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		change map[string]string
		code   int
		want   string
	}{
		{"no public key here", map[string]string{publicKeyEnv: ""}, exitOK, "ok       break-glass: the public key of the private key here is "},
		{"of another pair", map[string]string{publicKeyEnv: other.Public().String()}, exitUnhealthy, "failed   break-glass: OMNI_BREAKGLASS_PUBLIC_KEY does not belong to"},
		{"no key at all", map[string]string{publicKeyEnv: "x"}, exitUnhealthy, "failed   break-glass: OMNI_BREAKGLASS_PUBLIC_KEY: "},
		{"no private key", map[string]string{privateKeyEnv: ""}, exitOK, "warning  break-glass: OMNI_BREAKGLASS_PRIVATE_KEY is not set"},
		{"a damaged private key", map[string]string{privateKeyEnv: plaintext}, exitUnhealthy, "failed   break-glass: OMNI_BREAKGLASS_PRIVATE_KEY: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPatient(t)
			maps.Copy(p.env, tc.change)
			p.examine().want(t, tc.code, tc.want)
		})
	}
}

func TestDoctorLooksAtTheJournal(t *testing.T) {
	t.Run("in use", func(t *testing.T) {
		p := newPatient(t)
		j, err := journal.Open(journal.Config{Dir: p.path("journal"), Logger: newLogger(t.Output(), 0)})
		if err != nil {
			t.Fatal(err)
		}
		p.examine().want(t, exitOK, "ok       journal: a running server has it open, as it should; ")
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		p.examine().want(t, exitOK, "ok       journal: no server has it open; ")
	})
	t.Run("damaged", func(t *testing.T) {
		p := newPatient(t)
		p.write("journal/events-000000000001.log.corrupt", "")
		p.examine().want(t, exitOK, "warning  journal: ", "damaged files that end in .corrupt: 1 in ", "next: look into them")
	})
	t.Run("with events that the database refused", func(t *testing.T) {
		p := newPatient(t)
		p.write("journal/rejected.log", "a record\nanother\n")
		p.examine().want(t, exitOK, "warning  journal: ", "events that the database refused: 2 in rejected.log of ", "next: mend what refuses them")
	})
	t.Run("nearly full", func(t *testing.T) {
		p := newPatient(t)
		p.write("journal/events-000000000001.log", strings.Repeat(".", 600<<10))
		p.examine().want(t, exitOK, "warning  journal: 0 MiB of events wait for the database, of 1 MiB at most")
	})
	t.Run("a file in its place", func(t *testing.T) {
		p := newPatient(t)
		p.write("journal", "")
		p.examine().want(t, exitUnhealthy, "failed   journal: journal: inspect: ")
	})
}

func TestDoctorAsksARunningServer(t *testing.T) {
	status := func(rows string) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{
			statusRoute:  answer(200, `{"data":[`+rows+`],"updatedAt":"2026-03-01T12:00:00.000Z"}`),
			"GET /livez": answer(200, `{}`),
		}
	}
	for _, tc := range []struct {
		name, row string
		code      int
		want      []string
	}{
		{"warm", `{"secretType":"trading_api_key","cacheSource":"gsm","survivalSeconds":2043.5}`, exitOK, []string{"ok       survival trading_api_key: 34m4s, as 127.0.0.1:"}},
		{
			"in an outage", `{"secretType":"trading_api_key","cacheSource":"gsm","stale":true,"survivalSeconds":600,"consecutiveFailures":4,"lastFailureReason":"unavailable"}`, exitOK,
			[]string{"warning  survival trading_api_key: 10m0s, as ", "fetches fail: 4 (unavailable)", "next: mend the backend within that time"},
		},
		{
			"overridden", `{"secretType":"trading_api_key","cacheSource":"break_glass","survivalSeconds":600}`, exitOK,
			[]string{"warning  survival trading_api_key: 10m0s, as ", "next: when the backend is back: omni-secrets refresh --secret-type trading_api_key"},
		},
		{
			"nothing", `{"secretType":"trading_api_key","cacheSource":"empty","survivalSeconds":0,"consecutiveFailures":2,"lastFailureReason":"not_found"}`, exitUnhealthy,
			[]string{"failed   survival trading_api_key: ", "has nothing to serve: fetches fail: 2 (not_found)"},
		},
		{"an older server", `{"secretType":"trading_api_key","cacheSource":"gsm"}`, exitOK, []string{"skipped  survival trading_api_key: "}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, api := newPatient(t), newFakeAPI(t, status(tc.row))
			maps.Copy(p.env, api.process().env)
			p.examine().want(t, tc.code, append(tc.want, "clock server: the clock of 127.0.0.1:")...)
			for _, r := range api.requests() {
				if r.Method != http.MethodGet || r.Path != statusPath && r.Path != "/livez" {
					t.Errorf("it asked for %+v", r)
				}
			}
		})
	}
	t.Run("without a token it asks for the clock alone", func(t *testing.T) {
		p, api := newPatient(t), newFakeAPI(t, map[string]http.HandlerFunc{"GET /livez": answer(200, `{}`)})
		p.env["OMNI_API_URL"] = api.url
		p.examine().want(t, exitOK, "clock server: the clock of 127.0.0.1:", "skipped  survival: give --token, with the scope ops.omni.secrets.read")
	})
	t.Run("from a machine without the server's environment", func(t *testing.T) {
		api := newFakeAPI(t, status(`{"secretType":"trading_api_key","cacheSource":"gsm","survivalSeconds":2043.5}`))
		o := api.process().run(t, "doctor")
		o.want(t, exitOK, "skipped  configuration: this is not the server's environment", "next: run it where 'serve' runs",
			"ok       clock server: the clock of 127.0.0.1:", "ok       survival trading_api_key: 34m4s", "2 ok, 0 with a warning, 0 failed, 1 skipped")
	})
	t.Run("it does not accept the token", func(t *testing.T) {
		p, api := newPatient(t), newFakeAPI(t, map[string]http.HandlerFunc{statusRoute: refusing(403, "FORBIDDEN", "no")})
		maps.Copy(p.env, api.process().env)
		p.examine().want(t, exitUnhealthy, "failed   survival: ask the server", "next: the token lacks scope ops.omni.secrets.read")
	})
	t.Run("it is gone", func(t *testing.T) {
		p := newPatient(t)
		p.env["OMNI_API_URL"], p.env["OMNI_TOKEN"] = "http://127.0.0.1:1", testToken
		p.examine().want(t, exitUnhealthy, "failed   clock server: no answer from 127.0.0.1:1", "failed   survival: ask the server", "next: is the server running?")
	})
	t.Run("its clock is wrong", func(t *testing.T) {
		for ahead, want := range map[time.Duration]verdict{-time.Hour: verdictFailed, time.Hour: verdictFailed, 4900 * time.Millisecond: verdictWarning} {
			p := newPatient(t)
			api := newFakeAPI(t, map[string]http.HandlerFunc{"GET /livez": func(http.ResponseWriter, *http.Request) {}})
			api.date = func() string { return time.Now().Add(ahead).UTC().Format(http.TimeFormat) }
			p.env["OMNI_API_URL"] = api.url
			p.examine().want(t, map[verdict]int{verdictFailed: exitUnhealthy, verdictWarning: exitOK}[want],
				fmt.Sprintf("%-8s clock server: the clock of 127.0.0.1:", want), "next: set the wrong one by NTP")
		}
	})
}

func TestDoctorThatCanCheckNothingFails(t *testing.T) {
	process{}.run(t, "doctor").want(t, exitFailure, "skipped  configuration: this is not the server's environment",
		"skipped  clock server: neither OMNI_API_URL", "skipped  survival: give --api-url", "nothing could be checked here")
}

func TestDoctorOfADevServer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dev")
	c, err := prepareDev(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	o := process{}.run(t, "doctor", "--data-dir", dir)
	o.want(t, exitOK, "ok       configuration: catalog of 5", "ok       backend zk_signing_seed: local_file has version", "ok       database: ")
	for _, secret := range []string{string(c.JWTSecret.Reveal()), c.Keys.breakGlass[0].Base64()} {
		if strings.Contains(o.out, secret) {
			t.Errorf("a secret was printed:\n%s", o.out)
		}
	}
	none := filepath.Join(dir, "none")
	process{}.run(t, "doctor", "--data-dir", none).want(t, exitUnhealthy,
		"failed   configuration: there is no server of 'omni-secrets dev' in "+none+"\n", "next: give the --data-dir", "1 of 1 checks failed")
}

func startEmulator(t *testing.T) (server *emulator.Server, endpoint string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server = emulator.New()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // which a short test stops before it serves
			t.Error(err)
		}
	})
	return server, listener.Addr().String()
}
