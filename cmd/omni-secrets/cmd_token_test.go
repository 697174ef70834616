package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/token"
	"github.com/apex-tradebill/omni-secrets/domain"
)

var jwtEnv = map[string]string{"JWT_SECRET": "0123456789abcdef0123456789abcdef", "JWT_ISSUER": "issuer", "JWT_AUDIENCE": "audience"}

func TestTokenIsAcceptedByTheServer(t *testing.T) {
	verifier, err := token.New(t.Context(), token.Config{HMACSecret: []byte(jwtEnv["JWT_SECRET"]), Issuer: "issuer", Audience: "audience"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		args string
		want domain.Scope
	}{
		{"one scope", "--scope svc.omni.secrets.read", domain.ScopeRead},
		{"two scopes", "--scope svc.omni.secrets.read --scope svc.omni.secrets.cache", domain.ScopeRead | domain.ScopeCacheRefresh},
		{"scopes with a comma", "--scope svc.omni.secrets.read,ops.omni.secrets.audit", domain.ScopeRead | domain.ScopeAudit},
		{"every ops scope", "--scope omni:ops", domain.ScopeOps},
		{"role", "--role omni-ops", domain.ScopeOps},
		{"role and scope", "--role ops --scope svc.omni.secrets.cache", domain.ScopeOps | domain.ScopeCacheRefresh},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := process{env: jwtEnv}.run(t, append([]string{"token", "--subject", "ana@example.com"}, strings.Fields(tc.args)...)...)
			o.want(t, exitOK)
			got, err := verifier.Verify(t.Context(), strings.TrimSuffix(o.out, "\n"))
			if want := (domain.Principal{Subject: "ana@example.com", Scopes: tc.want}); err != nil || got != want {
				t.Errorf("%v: %+v, want %+v", err, got, want)
			}
		})
	}
}

func TestTokenAsJSON(t *testing.T) {
	for _, tc := range []struct {
		args string
		ttl  time.Duration
	}{{"", 15 * time.Minute}, {"--ttl 24h", 24 * time.Hour}} {
		before := time.Now().Truncate(time.Second)
		o := process{env: jwtEnv}.run(t, append([]string{"token", "--subject", "a", "--scope", "omni:ops", "-o", "json"}, strings.Fields(tc.args)...)...)
		after := time.Now()
		o.want(t, exitOK)
		var got struct {
			Token, Subject string
			Scopes         []string
			ExpiresAt      time.Time
		}
		if err := json.Unmarshal([]byte(o.out), &got); err != nil || got.Token == "" || got.Subject != "a" || len(got.Scopes) != 1 {
			t.Errorf("%v: %+v", err, got)
		}
		if issued := got.ExpiresAt.Add(-tc.ttl); issued.Before(before) || issued.After(after) {
			t.Errorf("%s: expires at %s", tc.args, got.ExpiresAt)
		}
	}
}

func TestTokenBadInput(t *testing.T) {
	short := map[string]string{"JWT_SECRET": plaintext[:20]}
	for _, tc := range []struct {
		name string
		env  map[string]string
		args string
		code int
		want string
	}{
		{"no subject", jwtEnv, "--scope omni:ops", exitUsage, "--subject is missing"},
		{"nothing allowed", jwtEnv, "--subject a", exitUsage, "allows nothing"},
		{"unknown scope", jwtEnv, "--subject a --scope svc.omni.secrets.write", exitUsage, "it is one of svc.omni.secrets.cache, svc.omni.secrets.read, ops.omni.secrets.read"},
		{"a name of the audit trail's own", jwtEnv, "--subject Anonymous --scope omni:ops", exitUsage, "--subject is a name that the audit trail uses for itself"},
		{"unknown role", jwtEnv, "--subject a --role root", exitUsage, "it is one of ops, omni-ops"},
		{"too long", jwtEnv, "--subject a --scope omni:ops --ttl 24h1s", exitUsage, "at most 24h"},
		{"no time", jwtEnv, "--subject a --scope omni:ops --ttl 0s", exitUsage, "at least 1s"},
		{"not a duration", jwtEnv, "--subject a --scope omni:ops --ttl 1day", exitUsage, "invalid argument"},
		{"no secret", nil, "--subject a --scope omni:ops", exitConfig, "JWT_SECRET is missing"},
		{"short secret", short, "--subject a --scope omni:ops", exitConfig, "shorter than 32 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := process{env: tc.env}.run(t, append([]string{"token"}, strings.Fields(tc.args)...)...)
			o.want(t, tc.code, tc.want)
			if secret := tc.env["JWT_SECRET"]; secret != "" && strings.Contains(o.out+o.err, secret) {
				t.Error("JWT_SECRET was printed")
			}
		})
	}
}

// The list is what the domain knows, so that a scope that is added there is not forgotten here.
func TestKnownScopesAndRolesOpenSomething(t *testing.T) {
	var all domain.Scope
	for _, name := range knownScopes {
		if domain.ParseScope(name) == 0 {
			t.Errorf("scope %s opens nothing", name)
		}
		all |= domain.ParseScope(name)
	}
	if every := ^domain.Scope(0); len(all.Names()) != len(every.Names()) {
		t.Errorf("known are %v of %v", all.Names(), every.Names())
	}
	for _, role := range knownRoles {
		if domain.RoleScope(role) == 0 {
			t.Errorf("role %s opens nothing", role)
		}
	}
}
