package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/apex-tradebill/omni-secrets/adapters/token"
	"github.com/apex-tradebill/omni-secrets/domain"
)

const (
	defaultTokenTTL = 15 * time.Minute
	maxTokenTTL     = 24 * time.Hour
)

// What --scope and --role take.
var (
	knownScopes = append((domain.ScopeOps | domain.ScopeCacheRefresh | domain.ScopeRead).Names(), "omni:manage", "omni:ops")
	knownRoles  = []string{"ops", "omni-ops"}
)

// tokenFlags are the flags of token.
type tokenFlags struct {
	subject       string
	scopes, roles []string
	ttl           time.Duration
}

func newTokenCommand(s *streams) *cobra.Command {
	var f tokenFlags
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make a token that a server with the same JWT_SECRET accepts",
		Long: `Makes a token signed with JWT_SECRET, or the first secret in JWT_SECRET_FILE (HS256), for development, drills and
emergencies; where tokens come from an identity provider there is no need for it. JWT_ISSUER and JWT_AUDIENCE are put
into the token when they are set, as the server requires them then.

Scopes:
  svc.omni.secrets.cache       refresh the cache
  svc.omni.secrets.read        read values
  ops.omni.secrets.read        read the status
  ops.omni.secrets.breakglass  apply and end overrides
  ops.omni.secrets.rotate      preview and run rotations
  ops.omni.secrets.audit       read the audit trail
  omni:manage, omni:ops        every ops scope; so do the roles ops and omni-ops`,
		Example: `  export OMNI_TOKEN=$(omni-secrets token --subject ana@example.com --scope omni:ops --ttl 1h)
  omni-secrets token --subject svc-pricing --scope svc.omni.secrets.read --scope svc.omni.secrets.cache`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return mintToken(s, f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.subject, "subject", "", "`WHO` the token is for, as the audit trail will name them")
	flags.StringSliceVar(&f.scopes, "scope", nil, "what the token allows: a `SCOPE`; may be repeated")
	flags.StringSliceVar(&f.roles, "role", nil, "a `ROLE`: ops or omni-ops; may be repeated")
	flags.DurationVar(&f.ttl, "ttl", defaultTokenTTL, "the token is valid for this `DURATION`, at most 24h")
	must(cmd.RegisterFlagCompletionFunc("scope", cobra.FixedCompletions(knownScopes, cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(knownRoles, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func mintToken(s *streams, f tokenFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	secret, err := signingSecret(s)
	if err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Second)
	claims := token.Claims{
		Subject: f.subject, Scopes: f.scopes, Roles: f.roles,
		Issuer: s.env("JWT_ISSUER"), Audience: s.env("JWT_AUDIENCE"),
		IssuedAt: now, ExpiresAt: now.Add(f.ttl),
	}
	signed, err := token.Sign(secret.Reveal(), claims)
	if err != nil {
		return failuref("sign the token: %w", err)
	}
	if s.json() {
		return s.printValue(struct {
			Token     string    `json:"token"`
			Subject   string    `json:"subject"`
			Scopes    []string  `json:"scopes,omitempty"`
			Roles     []string  `json:"roles,omitempty"`
			ExpiresAt time.Time `json:"expiresAt"`
		}{signed, f.subject, f.scopes, f.roles, claims.ExpiresAt})
	}
	return s.print("%s\n", signed)
}

// signingSecret is the shared secret that is in use: JWT_SECRET, or the first in JWT_SECRET_FILE.
func signingSecret(s *streams) (domain.Value, error) {
	secret := domain.NewValue([]byte(s.env(jwtSecretEnv)))
	if path := s.env(jwtFileEnv); path != "" && len(secret.Reveal()) == 0 {
		secrets, err := readKeyFile(path)
		if err != nil {
			return domain.Value{}, configErrorf("%s: %w", jwtFileEnv, err)
		}
		secret = secrets[0]
	}
	if len(secret.Reveal()) < token.MinSecretBytes {
		return domain.Value{}, configErrorf("%s is missing, or shorter than %d bytes", jwtSecretEnv, token.MinSecretBytes).
			try("set it, or %s, to what the server has; 'omni-secrets keygen --jwt-secret' makes a secret for a new server", jwtFileEnv)
	}
	return secret, nil
}

func (f tokenFlags) check() error {
	switch {
	case strings.TrimSpace(f.subject) == "":
		return usageErrorf("--subject is missing").try("say who the token is for: the audit trail names them by it")
	case domain.ReservedSubject(f.subject):
		return usageErrorf("--subject is a name that the audit trail uses for itself").try("take another one")
	case len(f.scopes)+len(f.roles) == 0:
		return usageErrorf("a token without --scope and --role allows nothing").try("--scope is one of %s", strings.Join(knownScopes, ", "))
	case f.ttl < time.Second || f.ttl > maxTokenTTL:
		return usageErrorf("--ttl must be at least 1s and at most 24h")
	}
	for _, scope := range f.scopes {
		if err := oneOf("scope", scope, knownScopes); err != nil {
			return err
		}
	}
	for _, role := range f.roles {
		if err := oneOf("role", role, knownRoles); err != nil {
			return err
		}
	}
	return nil
}
