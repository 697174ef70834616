package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/apex-tradebill/omni-secrets/adapters/envelope"
	"github.com/apex-tradebill/omni-secrets/adapters/journal"
	"github.com/apex-tradebill/omni-secrets/adapters/localfile"
	"github.com/apex-tradebill/omni-secrets/adapters/token"
	"github.com/apex-tradebill/omni-secrets/domain"
)

const devTokenTTL = 24 * time.Hour

const devLong = `Run the whole server on this machine with nothing else installed: SQLite for its state, and a file for each secret
of the catalog, made with a sample value, in the place of Google Secret Manager. Keys, tokens and everything else
are kept in the data directory; remove it to begin anew. Edit a file under DIR/secrets to make a new version, which counts
as a rotation; put version 2 of one beside it, as trading_api_key@2, to rotate to it with 'omni-secrets rotate'.

It prints commands to paste into another terminal, and writes DIR/env with the variables that they use. Log events
go to standard error. Ctrl-C stops it.`

func newDevCommand(s *streams) *cobra.Command {
	var address, dir string
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a server on this machine with sample secrets",
		Long:  devLong,
		Example: `  omni-secrets dev
  omni-secrets dev --listen 127.0.0.1:0 --data-dir /tmp/omni`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return dev(cmd.Context(), s, address, dir) },
	}
	cmd.Flags().StringVar(&address, "listen", "127.0.0.1:8080", "serve on `HOST:PORT`; port 0 takes any that is free")
	cmd.Flags().StringVar(&dir, "data-dir", ".omni-dev", "keep everything under `DIR`")
	return cmd
}

func dev(ctx context.Context, s *streams, address, dir string) (err error) {
	if !isHostPort(address) { // before the directory is filled
		return usageErrorf("--listen %q must be host:port", address).try("give one such as 127.0.0.1:8080, or 127.0.0.1:0 for any port that is free")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c, err := prepareDev(ctx, dir)
	if err != nil {
		return err
	}
	log := newLogger(s.err, c.LogLevel)
	s.prepareServer(ctx, log)
	a, err := newApp(ctx, c, log)
	if errors.Is(err, journal.ErrInUse) {
		return failuref("a server already runs on %s", dir).
			try("use it (. %s), or start another with --data-dir DIR --listen 127.0.0.1:0", shellWord(sourceable(filepath.Join(dir, "env"))))
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	ln, err := listen(ctx, address, "--listen")
	if err != nil {
		return err
	}
	g, err := writeGuide(c, dir, ln.Addr())
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		s.warn("%s can be reached from other machines; the keys of this server are for development", ln.Addr())
	}
	return a.Run(ctx, ln, func() { _ = s.print("%s", g) })
}

// The files of a data directory, beside its folders.
const (
	devJWTSecret     = "jwt-secret"
	devBreakGlassKey = "breakglass-private-key"
	devAuditKey      = "audit-signing-key"
)

// devConfig is the configuration that uses a data directory, without the keys in it.
func devConfig(dir string) (config, error) {
	c, err := readConfig(func(name string) (string, bool) {
		value, ok := map[string]string{
			"DATABASE_URL":           "sqlite:" + filepath.Join(dir, "state.db"),
			"GCP_PROJECT_ID":         "omni-dev",
			"OMNI_LOCAL_FILE_DIR":    filepath.Join(dir, "secrets"),
			"OMNI_AUDIT_JOURNAL_DIR": filepath.Join(dir, "audit-journal"),
			"OMNI_REPLICA_ID":        "dev",
			"JWT_SECRET":             strings.Repeat("x", token.MinSecretBytes), // until its file is read below
		}[name]
		return value, ok
	})
	for i := range c.catalog {
		e := &c.catalog[i]
		e.Backend, e.Reference = localfile.Name, string(e.Type)
	}
	return c, err
}

// isDev reports whether a directory is one that dev has filled.
func isDev(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, devJWTSecret))
	return err == nil
}

// existingDev is the configuration that uses a data directory as it is.
func existingDev(dir string) (config, error) {
	c, err := devConfig(dir)
	err = errors.Join(err, c.readDevKeys(dir))
	if _, missing := os.Stat(filepath.Join(dir, devAuditKey)); err == nil && missing == nil { // older ones have none
		err = c.useDevAuditKey(dir)
	}
	return c, err
}

// readDevKeys has the keys come from the files of a data directory, as a server's do that has them in files.
func (c *config) readDevKeys(dir string) error {
	c.JWTSecret = sensitive{}
	c.Keys.JWTSecretFile, c.Keys.BreakGlassFile = filepath.Join(dir, devJWTSecret), filepath.Join(dir, devBreakGlassKey)
	return errors.Join(c.readJWTSecrets(), c.readBreakGlassKey())
}

// prepareDev fills the data directory with what is missing and returns the configuration that uses it.
func prepareDev(ctx context.Context, dir string) (config, error) {
	c, err := devConfig(dir)
	if err != nil {
		return c, err
	}
	if err := os.MkdirAll(c.LocalFileDir, 0o700); err != nil {
		return c, fmt.Errorf("make the data directory: %w", err)
	}
	for _, e := range c.catalog {
		if err := makeUnlessThere(filepath.Join(c.LocalFileDir, e.Reference), func() (string, error) {
			return "sample-" + strings.ReplaceAll(e.Reference, "_", "-") + "-" + rand.Text(), nil
		}); err != nil {
			return c, err
		}
	}
	if err := makeUnlessThere(filepath.Join(dir, devJWTSecret), func() (string, error) {
		b := make([]byte, jwtSecretBytes)
		_, err := rand.Read(b)
		return base64.RawURLEncoding.EncodeToString(b), err
	}); err != nil {
		return c, err
	}
	if err := makeUnlessThere(filepath.Join(dir, devBreakGlassKey), func() (string, error) {
		k, err := envelope.GenerateKey()
		return k.Base64(), err
	}); err != nil {
		return c, err
	}
	if err := c.readDevKeys(dir); err != nil {
		return c, fmt.Errorf("%w; remove the file in %s to have it made anew", err, dir)
	}

	if err := makeUnlessThere(filepath.Join(dir, devAuditKey), newAuditKey); err != nil {
		return c, err
	}
	if err := c.useDevAuditKey(dir); err != nil {
		return c, fmt.Errorf("%w; remove the file to have it made anew", err)
	}

	store, err := openDatabase(ctx, c.DatabaseURL, nil)
	if err != nil {
		return c, err
	}
	_, err = store.Migrate(ctx)
	return c, errors.Join(err, store.Close())
}

func (c *config) useDevAuditKey(dir string) error {
	c.AuditKeyFile = filepath.Join(dir, devAuditKey)
	return c.readAuditKey()
}

// makeUnlessThere makes a file, for its owner alone, when it is not there.
func makeUnlessThere(path string, newContent func() (string, error)) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	made, err := newContent()
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(made), 0o600)
}

// sourceable is a path as a shell's . takes it: without a slash it would be looked for along PATH.
func sourceable(path string) string {
	if strings.HasPrefix(path, "/") || strings.HasPrefix(path, ".") {
		return path
	}
	return "./" + path
}

// ownAddress is how this machine reaches a listener: one on every address is reached on loopback, which no token leaves.
func ownAddress(address net.Addr) string {
	if tcp, ok := address.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
	}
	return address.String()
}

// writeGuide writes DIR/env and returns what to print once the server is ready.
func writeGuide(c config, dir string, address net.Addr) (string, error) {
	now := time.Now()
	sign := func(subject string, scopes domain.Scope) (string, error) {
		return token.Sign(c.JWTSecret.Reveal(), token.Claims{
			Subject: subject, Scopes: scopes.Names(), IssuedAt: now, ExpiresAt: now.Add(devTokenTTL),
		})
	}
	service, err := sign("dev-service", domain.ScopeCacheRefresh|domain.ScopeRead)
	if err != nil {
		return "", err
	}
	ops, err := sign("dev-operator", domain.ScopeOps)
	if err != nil {
		return "", err
	}

	api := "http://" + ownAddress(address)
	env := fmt.Sprintf("export API=%s\nexport OMNI_API_URL=%s\nexport SERVICE_TOKEN=%s\nexport OPS_JWT=%s\nexport OMNI_BREAKGLASS_PUBLIC_KEY=%s\nexport OMNI_AUDIT_PUBLIC_KEY=%s\n",
		api, api, service, ops, c.Keys.breakGlass[0].Public(), c.auditKey.Public())
	envFile := filepath.Join(dir, "env")
	if err := os.WriteFile(envFile, []byte(env), 0o600); err != nil {
		return "", err
	}
	program := "omni-secrets"
	if strings.Contains(os.Args[0], "go-build") { //nolint:forbidigo // it only words the hint
		program = "go run ./cmd/omni-secrets"
	}
	return fmt.Sprintf(devGuide, api, shellWord(filepath.Join(dir, "secrets")), shellWord(sourceable(envFile)), program,
		shellWord(filepath.Join(dir, "secrets", "trading_client_secret"))), nil
}

const devGuide = `
Omni Secrets is ready on %[1]s (Ctrl-C stops it)

Its secrets are the files in %[2]s. In another terminal, in this directory:

  . %[3]s                          # API, SERVICE_TOKEN, OPS_JWT and the break-glass key

  # what is served, and from where
  %[4]s status --token $OPS_JWT

  # read a secret, as a service does
  curl -sS -H "Authorization: Bearer $SERVICE_TOKEN" $API/internal/apex-omni/secrets/trading_api_key

  # fetch all of them anew
  curl -sS -X POST -H "Authorization: Bearer $SERVICE_TOKEN" $API/internal/apex-omni/secrets/cache/refresh

  # break-glass: put a value in place for 25 minutes
  mkdir -p tmp && (umask 077 && printf %%s 'a value' > tmp/secret.plaintext)
  %[4]s breakglass --secret-type trading_api_key --secret-value-file ./tmp/secret.plaintext --ttl 25m --reason drill --token $OPS_JWT

  # rotate: version 2 of a secret is a file beside it
  (umask 077 && printf %%s 'a new value' > %[5]s@2)
  %[4]s rotate preview --secret-type trading_client_secret --version 2 --token $OPS_JWT
  %[4]s rotate begin --secret-type trading_client_secret --version 2 --token $OPS_JWT
  %[4]s rotate promote --secret-type trading_client_secret --token $OPS_JWT

  # metrics, and who did what
  curl -sS $API/metrics | grep ^omni_
  %[4]s audit list --token $OPS_JWT

`
