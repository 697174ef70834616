package main

import (
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

func configOf(changes map[string]string) (config, error) {
	env := map[string]string{
		"DATABASE_URL":    "sqlite:/var/lib/omni-secrets/state.db",
		"GCP_PROJECT_ID":  "omni-test",
		"JWT_SECRET":      strings.Repeat("s", 32),
		"OMNI_REPLICA_ID": "replica-1",
	}
	maps.Copy(env, changes)
	return readConfig(func(name string) (string, bool) { value, ok := env[name]; return value, ok })
}

func TestConfigDefaults(t *testing.T) {
	c, err := configOf(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.policy(), domain.DefaultCachePolicy(); got != want {
		t.Errorf("policy %+v, want the design's %+v", got, want)
	}
	if c.Environment != "development" || c.Listen != "127.0.0.1:8080" || !c.AllowLatest || !c.BreakGlassAllowV1 || c.breakGlass != nil ||
		c.JournalDir != "/var/lib/omni-secrets/audit-journal" || c.JournalFsync != "never" || c.LogLevel != slog.LevelInfo || len(c.catalog) != 5 {
		t.Errorf("config: %+v", c)
	}
}

func TestConfigTakesEverySetting(t *testing.T) {
	c, err := configOf(map[string]string{
		"OMNI_CACHE_TTL_SECONDS": "60", "OMNI_MAX_STALE": "10m", "OMNI_DENIED_GRACE": "1m",
		"OMNI_PRODUCTION_PROJECTS": "one,two", "OMNI_AUDIT_FSYNC": "always", "OMNI_LOG_LEVEL": "debug", "OMNI_ALLOW_LATEST_VERSION": "false",
	})
	if err != nil {
		t.Fatal(err)
	}
	p := c.policy()
	if p.TTL != time.Minute || p.MaxStale != 10*time.Minute || p.DeniedGrace != time.Minute ||
		len(c.ProductionProjects) != 2 || c.JournalFsync != "always" || c.LogLevel != slog.LevelDebug || c.AllowLatest {
		t.Errorf("config: %+v", c)
	}
}

func TestConfigReportsEverythingAtOnce(t *testing.T) {
	const password = "hunter2-in-a-url"
	_, err := configOf(map[string]string{
		"DATABASE_URL": "mysql://u:" + password + "@h/db", "OMNI_LISTEN": "8080", "OMNI_CACHE_TTL_SECONDS": "0", "OMNI_MAX_STALE": "soon",
		"OMNI_AUDIT_FSYNC": "often", "OMNI_AUDIT_JOURNAL_MAX_BYTES": "1", "JWT_SECRET": "short", "OMNI_BREAKGLASS_PRIVATE_KEY": password,
		"GCP_PROJECT_ID": "", "OMNI_LOG_LEVEL": "loud", "OMNI_ENVIRONMENT": "production", "OMNI_GSM_ENDPOINT": "127.0.0.1:9085",
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, name := range []string{
		"DATABASE_URL", "OMNI_LISTEN", "OMNI_CACHE_TTL_SECONDS", "OMNI_MAX_STALE", "OMNI_AUDIT_FSYNC", "OMNI_AUDIT_JOURNAL_MAX_BYTES",
		"JWT_SECRET", "OMNI_BREAKGLASS_PRIVATE_KEY", "GCP_PROJECT_ID", "OMNI_LOG_LEVEL", "OMNI_GSM_ENDPOINT",
	} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not reported in:\n%v", name, err)
		}
	}
	if strings.Contains(err.Error(), password) {
		t.Errorf("a secret is repeated:\n%v", err)
	}
}

// What can be told without asking anybody is a matter of the settings, and stands in the same list as the others.
func TestServeRefusesWhatCannotBe(t *testing.T) {
	for name, c := range map[string]struct{ variable, value, want string }{
		"a password that is not encoded": {"DATABASE_URL", "postgres://u:xyzzy@ss/w@h/x", "DATABASE_URL: the database URL has a / ? # or @ where none belongs: percent-encode"},
		"a database's port":              {"DATABASE_URL", "postgres://u:xyzzy@h:99999999/x", "DATABASE_URL: the database URL, or a PG* variable of the environment, is not valid"},
		"a mode of TLS":                  {"DATABASE_URL", "postgres://u:xyzzy@h/x?sslmode=maybe", "DATABASE_URL: the database URL"},
		"an emulator without a port":     {"OMNI_GSM_ENDPOINT", "foo", `OMNI_GSM_ENDPOINT: endpoint "foo" must be host:port, such as 127.0.0.1:9085`},
		"an emulator's port":             {"OMNI_GSM_ENDPOINT", "127.0.0.1:99999", `OMNI_GSM_ENDPOINT: endpoint "127.0.0.1:99999" must be host:port`},
		"a key set over plain HTTP":      {"OMNI_JWKS_URL", "http://keys.example.com/jwks", "OMNI_JWKS_URL: the JWKS URL must begin with https://"},
		"a port":                         {"OMNI_LISTEN", "127.0.0.1:99999", `OMNI_LISTEN "127.0.0.1:99999" must be host:port, such as 0.0.0.0:8080`},
		"no port":                        {"OMNI_LISTEN", "127.0.0.1:", `OMNI_LISTEN "127.0.0.1:" must be host:port`},
		"a port for metrics":             {"OMNI_METRICS_LISTEN", ":99999", `OMNI_METRICS_LISTEN ":99999" must be host:port, such as 0.0.0.0:9090`},
		"a port for profiles":            {"OMNI_DEBUG_LISTEN", "127.0.0.1:99999", `OMNI_DEBUG_LISTEN "127.0.0.1:99999" must be host:port of this machine`},
	} {
		t.Run(name, func(t *testing.T) {
			env := map[string]string{
				"DATABASE_URL": "sqlite:" + filepath.Join(t.TempDir(), "state.db"), "GCP_PROJECT_ID": "omni-test", "JWT_SECRET": strings.Repeat("s", 32), "OMNI_CACHE_TTL_SECONDS": "0",
			}
			env[c.variable] = c.value
			o := process{env: env}.run(t, "serve")
			o.want(t, exitConfig, "omni-secrets: "+c.want, "omni-secrets: OMNI_CACHE_TTL_SECONDS is 0")
			if c.variable == "DATABASE_URL" {
				up := process{env: env}.run(t, "migrate", "up")
				up.want(t, exitConfig, "omni-secrets: "+c.want)
				if strings.Contains(o.err+up.err, "xyzzy") {
					t.Errorf("a password is repeated:\n%s%s", o.err, up.err)
				}
			}
		})
	}
}

// A name that a person takes for production must not be taken for another one: the emulator would be let in.
func TestProductionIsWrittenInOneWay(t *testing.T) {
	for _, c := range []struct {
		environment          string
		starts, withEmulator bool
	}{
		{"production", true, false},
		{"development", true, true},
		{"pre-production", true, true},
		{"Production", false, false},
		{"PRODUCTION", false, false},
		{"production ", false, false},
		{"\tproduction\n", false, false},
	} {
		t.Run(c.environment, func(t *testing.T) {
			_, err := configOf(map[string]string{"OMNI_ENVIRONMENT": c.environment})
			if (err == nil) != c.starts || err != nil && !strings.Contains(err.Error(), "OMNI_ENVIRONMENT is "+strconv.Quote(c.environment)+"; write production") {
				t.Errorf("%q: %v", c.environment, err)
			}
			_, err = configOf(map[string]string{"OMNI_ENVIRONMENT": c.environment, "OMNI_GSM_ENDPOINT": "127.0.0.1:9085"})
			refused := err != nil && strings.Contains(err.Error(), "OMNI_GSM_ENDPOINT is for the emulator and is refused in production")
			if refused == c.withEmulator {
				t.Errorf("%q with an emulator: %v", c.environment, err)
			}
		})
	}
}

// The runbook shows what a server with wrong settings prints.
func TestTheRunbookShowsTheListOfWhatIsWrong(t *testing.T) {
	runbook, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	o := process{env: map[string]string{"OMNI_CACHE_TTL_SECONDS": "5m", "JWT_SECRET": "short"}}.run(t, "serve")
	o.want(t, exitConfig)
	if shown := "$ OMNI_CACHE_TTL_SECONDS=5m JWT_SECRET=short omni-secrets serve\n" + o.err + "$ echo $?\n78\n"; !strings.Contains(string(runbook), shown) {
		t.Errorf("the runbook should show:\n%s", shown)
	}
}

func TestConfigOfValidators(t *testing.T) {
	file := filepath.Join(t.TempDir(), "catalog.yaml")
	if err := os.WriteFile(file, []byte(`secrets:
  - type: api_key
    owner: Payments
    backend: gsm
    reference: projects/p/secrets/s
    version: latest
    rotationMonths: 12
    validators:
      - format: {minLength: 32}
      - webhook: {url: "https://a.hooks.example.com/omni?token=hush"}
      - httpProbe: {url: "https://api.example.com/v1/account", header: X-API-Key}
      - httpProbe: {url: "http://127.0.0.1:8081/", header: X-API-Key}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		hosts string
		want  []string // parts of the message; none: it starts
	}{
		"all are listed": {"api.example.com, *.hooks.example.com:443,127.0.0.0/8", nil},
		"none is listed": {"", []string{
			"catalog: api_key: validator 2 (webhook): a.hooks.example.com:443 is not among the allowed hosts",
			"add it to OMNI_VALIDATION_ALLOWED_HOSTS", "validator 3 (http-probe): api.example.com:443", "validator 4 (http-probe)",
		}},
		"one is not listed": {"*.hooks.example.com,127.0.0.1", []string{"validator 3 (http-probe): api.example.com:443 is not among"}},
		"a list with mistakes": {"https://api.example.com,*.com", []string{
			`OMNI_VALIDATION_ALLOWED_HOSTS: "https://api.example.com": list the host alone`, `OMNI_VALIDATION_ALLOWED_HOSTS: "*.com": it allows a whole top-level domain`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			read, err := configOf(map[string]string{"OMNI_CATALOG_FILE": file, "OMNI_VALIDATION_ALLOWED_HOSTS": c.hosts, "OMNI_LISTEN": "8080"})
			for _, want := range append(c.want, "OMNI_LISTEN") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not reported in:\n%v", want, err)
				}
			}
			if strings.Contains(err.Error(), "hush") {
				t.Errorf("a URL is repeated:\n%v", err)
			}
			if len(c.want) == 0 && (strings.Contains(err.Error(), "validator") || read.validator == nil) {
				t.Errorf("refused:\n%v", err)
			}
		})
	}
}

func TestEmptyVariableCountsAsNotSet(t *testing.T) {
	if c, err := configOf(map[string]string{"OMNI_CACHE_TTL_SECONDS": "", "OMNI_LISTEN": ""}); err != nil || c.CacheTTLSeconds != 300 {
		t.Errorf("%+v, %v", c, err)
	}
}
