package main

import (
	"crypto/tls"
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

	JournalDir      string `env:"OMNI_AUDIT_JOURNAL_DIR"`
	JournalMaxBytes int64  `env:"OMNI_AUDIT_JOURNAL_MAX_BYTES" envDefault:"1073741824"`
	JournalFsync    string `env:"OMNI_AUDIT_FSYNC" envDefault:"never"`

	AuditKey             sensitive     `env:"OMNI_AUDIT_SIGNING_KEY"`
	AuditKeyFile         string        `env:"OMNI_AUDIT_SIGNING_KEY_FILE"`
	AuditCheckpointEvery time.Duration `env:"OMNI_AUDIT_CHECKPOINT_EVERY" envDefault:"5m"`

	LogLevel slog.Level `env:"OMNI_LOG_LEVEL" envDefault:"INFO"`

	catalog    domain.Catalog
	breakGlass *envelope.Opener // nil without a key
	tls        *tls.Config      // nil for plain HTTP
	validator  *validator.Validator
	auditKey   domain.CheckpointKey // zero without a key
}

// sensitive is the text of a variable that must not be printed.
type sensitive struct{ domain.Value }

// UnmarshalText takes the variable's text.
func (s *sensitive) UnmarshalText(text []byte) error { //nolint:unparam // it is an encoding.TextUnmarshaler
	if len(text) > 0 {
		s.Value = domain.NewValue(append([]byte(nil), text...))
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
	errs = append(errs, err, c.validate(), c.readTLS(), c.readCatalog(), c.readValidator(), c.readBreakGlassKey(), c.readAuditKey())
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
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
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
	if c.GSMEndpoint != "" && c.Environment == domain.Production {
		wrong("OMNI_GSM_ENDPOINT is for the emulator and is refused in production; unset it")
	}
	if c.JWTSecret.IsZero() && c.JWKSURL == "" {
		wrong("neither JWT_SECRET nor OMNI_JWKS_URL is set, so no token could be checked; 'omni-secrets keygen --jwt-secret' makes a secret")
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

// readTLS reads the certificate and its key, when there are any.
func (c *config) readTLS() error {
	if c.TLSCertFile == "" && c.TLSKeyFile == "" {
		return nil
	}
	if c.TLSCertFile == "" || c.TLSKeyFile == "" {
		return errors.New("OMNI_TLS_CERT_FILE and OMNI_TLS_KEY_FILE belong together; set both, or neither for plain HTTP")
	}
	certificate, err := tls.LoadX509KeyPair(c.TLSCertFile, c.TLSKeyFile)
	if err != nil {
		return fmt.Errorf("OMNI_TLS_CERT_FILE, OMNI_TLS_KEY_FILE: %w; both are PEM, the certificate with its chain", err)
	}
	c.tls = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}}
	return nil
}

func (c *config) readBreakGlassKey() error {
	if c.BreakGlassKey.IsZero() {
		return nil
	}
	key, err := envelope.ParsePrivateKey(string(c.BreakGlassKey.Reveal()))
	if err == nil {
		c.breakGlass, err = envelope.NewOpener(key, c.BreakGlassAllowV1)
	}
	if err != nil {
		return fmt.Errorf("%s: %w; 'omni-secrets keygen' makes a pair", privateKeyEnv, err)
	}
	return nil
}

// policy is the cache policy with the configured numbers.
func (c *config) policy() domain.CachePolicy {
	p := domain.DefaultCachePolicy()
	p.TTL = time.Duration(c.CacheTTLSeconds) * time.Second
	p.MaxStale, p.DeniedGrace = c.MaxStale, c.DeniedGrace
	return p
}
