package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/client/clienttest"
)

// Whatever --env and --file get, the bindings that come of it are the flags word for word, each with the name of a
// variable and no name twice; a refusal repeats nothing that stands behind a =.
func FuzzBindings(f *testing.F) {
	f.Fuzz(func(t *testing.T, env, env2, file string) {
		specs := slices.DeleteFunc([]string{env, env2, file}, func(s string) bool { return s == "" })
		var files []string
		if file != "" {
			files = []string{file}
		}
		bindings, err := parseBindings(specs[:len(specs)-len(files)], files)
		if err != nil {
			for _, spec := range specs {
				name, value, _ := strings.Cut(spec, "=")
				if len(value) > 40 && !strings.Contains(name, value) && strings.Contains(err.Error(), value) {
					t.Errorf("%q is refused by %v", spec, err)
				}
			}
			return
		}
		var again, names []string
		for _, b := range bindings {
			again = append(again, b.name+"="+b.secretType)
			if !variableName.MatchString(b.name) || slices.Contains(names, b.name) || b.secretType == "" {
				t.Errorf("a binding %+v of %q", b, specs)
			}
			names = append(names, b.name)
		}
		if !slices.Equal(again, specs) {
			t.Errorf("%q is bound as %q", specs, again)
		}
	})
}

// fuzzedSettings are variables of the server. The first two are secrets, and the URLs may hold one.
var fuzzedSettings = []string{
	"JWT_SECRET", "OMNI_BREAKGLASS_PRIVATE_KEY", "DATABASE_URL",
	"OMNI_JWKS_URL", "OMNI_CACHE_TTL_SECONDS", "OMNI_MAX_STALE", "OMNI_DENIED_GRACE", "OMNI_LISTEN", "OMNI_ENVIRONMENT",
	"OMNI_PRODUCTION_PROJECTS", "OMNI_REPLICA_ID", "OMNI_GSM_ENDPOINT", "OMNI_ALLOW_LATEST_VERSION", "OMNI_VALIDATION_ALLOWED_HOSTS",
	"OMNI_BREAKGLASS_ALLOW_V1", "OMNI_AUDIT_JOURNAL_MAX_BYTES", "OMNI_AUDIT_FSYNC", "OMNI_LOG_LEVEL", "GCP_PROJECT_ID", "JWT_ISSUER",
}

// Whatever a variable holds, the settings are ones that the server can run with, or refused in words that hold no secret
// and name the variable.
func FuzzSettings(f *testing.F) {
	const password = "M1splacedPa55word"
	f.Fuzz(func(t *testing.T, which byte, value string) {
		name := fuzzedSettings[int(which)%len(fuzzedSettings)]
		c, err := configOf(map[string]string{name: value})
		if err != nil {
			text := err.Error()
			secret := strings.HasSuffix(name, "_URL") && strings.Contains(text, password) ||
				slices.Contains(fuzzedSettings[:2], name) && len(value) > 20 && strings.Contains(text, value)
			if secret {
				t.Errorf("%s=%q is refused by %v", name, value, err)
			}
			if !strings.Contains(text, name) {
				t.Errorf("%s=%q is refused without its name: %v", name, value, err)
			}
			return
		}
		p := c.policy()
		if p.TTL <= 0 || p.MaxStale < 0 || p.DeniedGrace < 0 || len(c.catalog) == 0 || c.JournalMaxBytes <= 0 || c.Environment == "" {
			t.Errorf("%s=%q makes the settings %+v", name, value, p)
		}
	})
}

// A TTL that is not written as a duration, not positive or longer than 30 minutes is a usage error, before anything is read
// or sent.
func FuzzTTL(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		o := process{env: map[string]string{"OMNI_API_URL": "http://127.0.0.1:1", "OMNI_TOKEN": clienttest.Token}}.
			run(t, "breakglass", "--secret-type", "trading_api_key", "--secret-value-file", "/nowhere/secret", "--ttl="+text)
		if ttl, err := time.ParseDuration(text); (err != nil || ttl <= 0 || ttl > 30*time.Minute) && (o.code != exitUsage || !strings.Contains(o.err, "ttl")) {
			t.Errorf("--ttl=%q ended with %d: %s", text, o.code, o.err)
		}
	})
}
