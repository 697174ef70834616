package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"github.com/apex-tradebill/omni-secrets/adapters/catalogfile"
	"github.com/apex-tradebill/omni-secrets/adapters/certificate"
	"github.com/apex-tradebill/omni-secrets/adapters/envelope"
	"github.com/apex-tradebill/omni-secrets/adapters/gsm"
	"github.com/apex-tradebill/omni-secrets/adapters/localfile"
	"github.com/apex-tradebill/omni-secrets/adapters/token"
	"github.com/apex-tradebill/omni-secrets/adapters/validator"
	"github.com/apex-tradebill/omni-secrets/domain"
)

// config is what `serve` reads from the environment. `dev` fills it in by itself.
type config struct {
	Environment        string   `env:"OMNI_ENVIRONMENT" envDefault:"development"`
	ProductionProjects []string `env:"OMNI_PRODUCTION_PROJECTS"`
	ReplicaID          string   `env:"OMNI_REPLICA_ID"` // the host's name when empty

	DatabaseURL string `env:"DATABASE_URL"`
	Listen      string `env:"OMNI_LISTEN" envDefault:"127.0.0.1:8080"`
	TLSCertFile string `env:"OMNI_TLS_CERT_FILE"` // without both it serves plain HTTP
	TLSKeyFile  string `env:"OMNI_TLS_KEY_FILE"`

	CatalogFile  string `env:"OMNI_CATALOG_FILE"` // the embedded catalog when empty
	GCPProjectID string `env:"GCP_PROJECT_ID"`
	GSMEndpoint  string `env:"OMNI_GSM_ENDPOINT"`
	AllowLatest  bool   `env:"OMNI_ALLOW_LATEST_VERSION" envDefault:"true"`
	LocalFileDir string `env:"OMNI_LOCAL_FILE_DIR"`

	CacheTTLSeconds int           `env:"OMNI_CACHE_TTL_SECONDS" envDefault:"300"`
	MaxStale        time.Duration `env:"OMNI_MAX_STALE" envDefault:"30m"`
	DeniedGrace     time.Duration `env:"OMNI_DENIED_GRACE" envDefault:"5m"`

	ValidationHosts []string `env:"OMNI_VALIDATION_ALLOWED_HOSTS"`

	BreakGlassKey     sensitive `env:"OMNI_BREAKGLASS_PRIVATE_KEY"`
	BreakGlassAllowV1 bool      `env:"OMNI_BREAKGLASS_ALLOW_V1" envDefault:"true"`

	JWTSecret   sensitive `env:"JWT_SECRET"`
	JWKSURL     string    `env:"OMNI_JWKS_URL"`
	JWTIssuer   string    `env:"JWT_ISSUER"`
	JWTAudience string    `env:"JWT_AUDIENCE"`

	TLSClientCAFile     string `env:"OMNI_TLS_CLIENT_CA_FILE"`
	TLSClientScopesFile string `env:"OMNI_TLS_CLIENT_SCOPES_FILE"`

	MetricsListen  string `env:"OMNI_METRICS_LISTEN"` // /metrics is on OMNI_LISTEN when empty
	DebugListen    string `env:"OMNI_DEBUG_LISTEN"`   // no profiles when empty
	MaxConnections int    `env:"OMNI_MAX_CONNECTIONS" envDefault:"10000"`

	RefreshLimit     int `env:"OMNI_REFRESHES_PER_MINUTE" envDefault:"60"`
	OverrideLimit    int `env:"OMNI_OVERRIDES_PER_MINUTE" envDefault:"30"`
	FailedTokenLimit int `env:"OMNI_FAILED_TOKENS_PER_MINUTE" envDefault:"60"`

	JournalDir      string `env:"OMNI_AUDIT_JOURNAL_DIR"`
	JournalMaxBytes int64  `env:"OMNI_AUDIT_JOURNAL_MAX_BYTES" envDefault:"1073741824"`
	JournalFsync    string `env:"OMNI_AUDIT_FSYNC" envDefault:"never"`

	AuditKey             sensitive     `env:"OMNI_AUDIT_SIGNING_KEY"`
	AuditKeyFile         string        `env:"OMNI_AUDIT_SIGNING_KEY_FILE"`
	AuditCheckpointEvery time.Duration `env:"OMNI_AUDIT_CHECKPOINT_EVERY" envDefault:"5m"`

	LogLevel slog.Level `env:"OMNI_LOG_LEVEL" envDefault:"INFO"`

	Keys keySettings // where else keys come from

	catalog    domain.Catalog
	breakGlass *envelope.Opener // nil without a key
	validator  *validator.Validator
	auditKey   domain.CheckpointKey // zero without a key

	certificates *certificate.Files // nil for plain HTTP
}

// keySettings are where keys come from, other than JWT_SECRET and OMNI_BREAKGLASS_PRIVATE_KEY. A file or a secret has a
// key a line: the first is the one in use, the others are those that it replaced.
type keySettings struct {
	JWTSecretPrevious sensitive `env:"JWT_SECRET_PREVIOUS"`
	JWTSecretFile     string    `env:"JWT_SECRET_FILE"`

	BreakGlassPrevious sensitive `env:"OMNI_BREAKGLASS_PRIVATE_KEYS_PREVIOUS"` // comma-separated
	BreakGlassFile     string    `env:"OMNI_BREAKGLASS_PRIVATE_KEY_FILE"`
	BreakGlassSecret   string    `env:"OMNI_BREAKGLASS_PRIVATE_KEY_SECRET"` // projects/*/secrets/*/versions/*

	jwtPrevious []domain.Value        // after the one that config has
	breakGlass  []envelope.PrivateKey // all of them; none until a secret was fetched
}

// sensitive is the text of a variable that must not be printed.
type sensitive struct{ domain.Value }

// UnmarshalText takes the variable's text.
func (s *sensitive) UnmarshalText(text []byte) error { //nolint:unparam // it is an encoding.TextUnmarshaler
	if len(text) > 0 {
		s.Value = domain.NewValue(text)
	}
	return nil
}

// readConfig reads the environment and reports everything that is wrong with it at once.
func readConfig(lookupEnv func(string) (string, bool)) (config, error) {
	var c config
	fields, err := env.GetFieldParams(&c)
	if err != nil {
		return c, err
	}
	environment := make(map[string]string, len(fields))
	for _, f := range fields {
		if value, ok := lookupEnv(f.Key); ok && value != "" {
			environment[f.Key] = value
		}
	}
	var errs []error
	err = env.ParseWithOptions(&c, env.Options{Environment: environment})
	if several, ok := errors.AsType[env.AggregateError](err); ok {
		for _, e := range several.Errors {
			variable, named := unreadable(e)
			errs = append(errs, named)
			delete(environment, variable)
		}
		// With the defaults in their place, the rest can be checked too.
		err = env.ParseWithOptions(&c, env.Options{Environment: environment})
	}
	errs = append(errs, err, c.readJWTSecrets(), c.validate(), c.checkEdge(), c.readTLS(), c.readCatalog(), c.readValidator(), c.readBreakGlassKey(), c.readAuditKey())
	return c, errors.Join(errs...)
}

// unreadable says which variable could not be read: the library names the field.
func unreadable(err error) (variable string, named error) {
	e, ok := errors.AsType[env.ParseError](err)
	if !ok {
		return "", err
	}
	field, _ := reflect.TypeFor[config]().FieldByName(e.Name)
	variable = field.Tag.Get("env")
	if errors.Is(e.Err, strconv.ErrSyntax) {
		return variable, fmt.Errorf("%s must be %s", variable, map[reflect.Kind]string{
			reflect.Int: "a whole number", reflect.Int64: "a whole number", reflect.Bool: "true or false",
		}[e.Type.Kind()])
	}
	return variable, fmt.Errorf("%s: %w", variable, e.Err)
}

// validate reports everything that is wrong at once, and fills in what follows from other settings.
func (c *config) validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if err := checkDatabaseURL(c.DatabaseURL); err != nil {
		errs = append(errs, err)
	}
	if !isHostPort(c.Listen) {
		wrong("OMNI_LISTEN %q must be host:port, such as 0.0.0.0:8080", c.Listen)
	}
	if c.CacheTTLSeconds < 1 || c.CacheTTLSeconds > 86_400 {
		wrong("OMNI_CACHE_TTL_SECONDS is %d, must be 1 to 86400", c.CacheTTLSeconds)
	}
	if c.MaxStale < 0 {
		wrong("OMNI_MAX_STALE is %s, must not be negative", c.MaxStale)
	}
	if c.DeniedGrace < 0 {
		wrong("OMNI_DENIED_GRACE is %s, must not be negative", c.DeniedGrace)
	}
	production := strings.EqualFold(strings.TrimSpace(c.Environment), domain.Production)
	if production && c.Environment != domain.Production {
		wrong("OMNI_ENVIRONMENT is %q; write %s, in lower case and without spaces, so that what is refused in production is refused here", c.Environment, domain.Production)
	}
	if c.GSMEndpoint != "" && production {
		wrong("OMNI_GSM_ENDPOINT is for the emulator and is refused in production; unset it")
	}
	if c.GSMEndpoint != "" {
		if err := gsm.CheckEndpoint(c.GSMEndpoint); err != nil {
			wrong("OMNI_GSM_ENDPOINT: %w", err)
		}
	}
	if c.JWKSURL != "" {
		if err := token.CheckJWKSURL(c.JWKSURL); err != nil {
			wrong("OMNI_JWKS_URL: %w", err)
		}
	}
	if c.JWTSecret.IsZero() && c.Keys.JWTSecretFile == "" && c.JWKSURL == "" {
		wrong("neither JWT_SECRET, JWT_SECRET_FILE nor OMNI_JWKS_URL is set, so no token could be checked; 'omni-secrets keygen --jwt-secret' makes a secret")
	}
	if secret := c.JWTSecret.Reveal(); len(secret) > 0 && len(secret) < token.MinSecretBytes {
		wrong("JWT_SECRET has %d bytes; HS256 needs %d or more; 'omni-secrets keygen --jwt-secret' makes one", len(secret), token.MinSecretBytes)
	}
	if c.JournalFsync != "never" && c.JournalFsync != "always" {
		wrong("OMNI_AUDIT_FSYNC is %q, must be never or always", c.JournalFsync)
	}
	if c.JournalMaxBytes < 1<<20 {
		wrong("OMNI_AUDIT_JOURNAL_MAX_BYTES is %d, must be 1048576 (1 MiB) or more", c.JournalMaxBytes)
	}
	if c.JournalDir == "" {
		c.JournalDir = "audit-journal" // beside the database when that is a file
		if path, ok := strings.CutPrefix(c.DatabaseURL, "sqlite:"); ok {
			c.JournalDir = filepath.Join(filepath.Dir(path), c.JournalDir)
		}
	}
	if c.ReplicaID == "" {
		host, err := os.Hostname()
		if err != nil {
			wrong("OMNI_REPLICA_ID is not set and the host has no name: %w", err)
		}
		c.ReplicaID = host
	}
	return errors.Join(errs...)
}

// readCatalog reads the catalog, and checks that its references fit their backends.
func (c *config) readCatalog() error {
	text := catalogfile.Default()
	if c.CatalogFile != "" {
		var err error
		if text, err = os.ReadFile(c.CatalogFile); err != nil {
			return fmt.Errorf("OMNI_CATALOG_FILE: %w", err)
		}
	}
	var err error
	c.catalog, err = catalogfile.Parse(text, func(string) string { return c.GCPProjectID })
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range c.catalog {
		var err error
		switch {
		case e.Backend == gsm.Name:
			err = gsm.ValidateReference(e.Reference)
		case e.Backend == localfile.Name && c.LocalFileDir == "":
			err = errors.New("its backend is local_file, but OMNI_LOCAL_FILE_DIR is not set")
		case e.Backend == localfile.Name:
			err = localfile.ValidateReference(e.Reference)
		default:
			err = fmt.Errorf("there is no backend %q; there are %s and %s", e.Backend, gsm.Name, localfile.Name)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("catalog: %s: %w", e.Type, err))
		}
	}
	return errors.Join(errs...)
}

// readValidator makes the validator, and checks that it may call the hosts of the catalog's rules. It comes after
// readCatalog.
func (c *config) readValidator() error {
	var err error
	if c.validator, err = validator.New(validator.Config{AllowedHosts: c.ValidationHosts}); err != nil {
		return err
	}
	var errs []error
	for _, e := range c.catalog {
		for i, rule := range e.Validators {
			if rule.URL() == "" {
				continue
			}
			if err := c.validator.CheckURL(rule.URL()); err != nil {
				errs = append(errs, fmt.Errorf("catalog: %s: validator %d (%s): %w", e.Type, i+1, rule.Name(), err))
			}
		}
	}
	return errors.Join(errs...)
}

// readTLS reads the TLS files, when there are any.
func (c *config) readTLS() error {
	if c.TLSCertFile == "" && c.TLSKeyFile == "" {
		if c.TLSClientCAFile != "" || c.TLSClientScopesFile != "" {
			return errors.New("OMNI_TLS_CLIENT_CA_FILE and OMNI_TLS_CLIENT_SCOPES_FILE need OMNI_TLS_CERT_FILE and OMNI_TLS_KEY_FILE: plain HTTP has no client certificates")
		}
		return nil
	}
	if c.TLSCertFile == "" || c.TLSKeyFile == "" {
		return errors.New("OMNI_TLS_CERT_FILE and OMNI_TLS_KEY_FILE belong together; set both, or neither for plain HTTP")
	}
	if c.TLSClientScopesFile != "" && c.TLSClientCAFile == "" {
		return errors.New("OMNI_TLS_CLIENT_SCOPES_FILE needs OMNI_TLS_CLIENT_CA_FILE: without an authority no client certificate can be checked")
	}
	var err error
	c.certificates, err = certificate.New(certificate.Config{
		CertFile: c.TLSCertFile, KeyFile: c.TLSKeyFile, ClientCAFile: c.TLSClientCAFile, ClientScopesFile: c.TLSClientScopesFile,
	})
	return err
}

// isHostPort reports whether address is one to listen on. Its host may be empty, and port 0 is any that is free.
func isHostPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// checkEdge reports what is wrong with the settings of the network.
func (c *config) checkEdge() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.MetricsListen != "" && !isHostPort(c.MetricsListen) {
		wrong("OMNI_METRICS_LISTEN %q must be host:port, such as 0.0.0.0:9090", c.MetricsListen)
	}
	if host, _, _ := net.SplitHostPort(c.DebugListen); c.DebugListen != "" && (!isHostPort(c.DebugListen) || !isLoopback(host)) {
		wrong("OMNI_DEBUG_LISTEN %q must be host:port of this machine alone, such as 127.0.0.1:6060: profiles are for nobody else; reach it through ssh -L or kubectl port-forward", c.DebugListen)
	}
	if c.MaxConnections < 1 {
		wrong("OMNI_MAX_CONNECTIONS is %d, must be 1 or more", c.MaxConnections)
	}
	for name, limit := range map[string]int{
		"OMNI_REFRESHES_PER_MINUTE": c.RefreshLimit, "OMNI_OVERRIDES_PER_MINUTE": c.OverrideLimit, "OMNI_FAILED_TOKENS_PER_MINUTE": c.FailedTokenLimit,
	} {
		if limit < 0 {
			wrong("%s is %d, must be 0 (no limit) or more", name, limit)
		}
	}
	return errors.Join(errs...)
}

// policy is the cache policy with the configured numbers.
func (c *config) policy() domain.CachePolicy {
	p := domain.DefaultCachePolicy()
	p.TTL = time.Duration(c.CacheTTLSeconds) * time.Second
	p.MaxStale, p.DeniedGrace = c.MaxStale, c.DeniedGrace
	return p
}
