package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/envelope"
	"github.com/apex-tradebill/omni-secrets/adapters/gsm"
	"github.com/apex-tradebill/omni-secrets/adapters/token"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

const (
	previousKeysEnv     = "OMNI_BREAKGLASS_PRIVATE_KEYS_PREVIOUS"
	privateKeyFileEnv   = "OMNI_BREAKGLASS_PRIVATE_KEY_FILE"
	privateKeySecretEnv = "OMNI_BREAKGLASS_PRIVATE_KEY_SECRET"
	previousJWTEnv      = "JWT_SECRET_PREVIOUS"
	jwtFileEnv          = "JWT_SECRET_FILE"
)

const (
	maxKeyFile      = 64 << 10        // bytes; that is hundreds of keys
	keyFileEvery    = 5 * time.Second // how soon a changed file is noticed
	keySecretEvery  = time.Minute     // and a new version of a secret
	secretVersionIn = "/versions/"
)

// readJWTSecrets reads the shared secrets for tokens.
func (c *config) readJWTSecrets() error {
	k := &c.Keys
	if k.JWTSecretFile == "" {
		if k.JWTSecretPrevious.IsZero() {
			return nil
		}
		if c.JWTSecret.IsZero() {
			return fmt.Errorf("%s is set without %s; the previous secret is for the time in which a new one takes its place", previousJWTEnv, jwtSecretEnv)
		}
		k.jwtPrevious = []domain.Value{k.JWTSecretPrevious.Value}
		return checkJWTSecrets(previousJWTEnv, k.jwtPrevious)
	}
	if !c.JWTSecret.IsZero() || !k.JWTSecretPrevious.IsZero() {
		return fmt.Errorf("%s has the secrets for tokens, one a line, the current one first; unset %s and %s", jwtFileEnv, jwtSecretEnv, previousJWTEnv)
	}
	secrets, err := readKeyFile(k.JWTSecretFile)
	if err == nil {
		err = checkJWTSecrets(k.JWTSecretFile, secrets)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", jwtFileEnv, err)
	}
	c.JWTSecret, k.jwtPrevious = sensitive{secrets[0]}, secrets[1:]
	return nil
}

func checkJWTSecrets(where string, secrets []domain.Value) error {
	for i, secret := range secrets {
		if n := len(secret.Reveal()); n < token.MinSecretBytes {
			return fmt.Errorf("%s: secret %d has %d bytes; HS256 needs %d or more; 'omni-secrets keygen --jwt-secret' makes one", where, i+1, n, token.MinSecretBytes)
		}
	}
	return nil
}

// readBreakGlassKey reads the private keys and makes the opener, when there is to be one.
func (c *config) readBreakGlassKey() error {
	k := &c.Keys
	var set []string
	for _, s := range []struct {
		name string
		set  bool
	}{{privateKeyEnv, !c.BreakGlassKey.IsZero()}, {privateKeyFileEnv, k.BreakGlassFile != ""}, {privateKeySecretEnv, k.BreakGlassSecret != ""}} {
		if s.set {
			set = append(set, s.name)
		}
	}
	switch {
	case len(set) > 1:
		return fmt.Errorf("%s are both set, and a key comes from one place; unset one", strings.Join(set[:2], " and "))
	case !k.BreakGlassPrevious.IsZero() && c.BreakGlassKey.IsZero():
		return fmt.Errorf("%s goes with %s alone; a file or a secret has the previous keys on lines of their own, after the current one", previousKeysEnv, privateKeyEnv)
	case len(set) == 0:
		return nil
	case k.BreakGlassSecret != "":
		if _, _, err := secretVersion(k.BreakGlassSecret); err != nil {
			return fmt.Errorf("%s: %w", privateKeySecretEnv, err)
		}
		if c.Environment != domain.Production && slices.Contains(c.ProductionProjects, secretProject(k.BreakGlassSecret)) {
			return fmt.Errorf("%s: environment violation: OMNI_ENVIRONMENT is %q, but the secret is in a production project; point it elsewhere", privateKeySecretEnv, c.Environment)
		}
		c.breakGlass = envelope.NewOpenerWithoutKeys(c.BreakGlassAllowV1)
		return nil
	}
	var texts []domain.Value
	var err error
	if k.BreakGlassFile != "" {
		texts, err = readKeyFile(k.BreakGlassFile)
	} else {
		texts = append([]domain.Value{c.BreakGlassKey.Value}, split(k.BreakGlassPrevious.Value, ',')...)
	}
	if err == nil {
		c.breakGlass = envelope.NewOpenerWithoutKeys(c.BreakGlassAllowV1)
		err = c.useBreakGlassKeys(texts)
	}
	if err != nil {
		c.breakGlass = nil
		name := set[0]
		if !k.BreakGlassPrevious.IsZero() {
			name += " (key 1), " + previousKeysEnv + " (from key 2)"
		}
		return fmt.Errorf("%s: %w; 'omni-secrets keygen' makes a pair", name, err)
	}
	return nil
}

// useBreakGlassKeys has the opener use the keys with these texts.
func (c *config) useBreakGlassKeys(texts []domain.Value) error {
	keys, err := parsePrivateKeys(texts)
	if err == nil {
		err = c.breakGlass.UseKeys(keys)
	}
	if err == nil {
		c.Keys.breakGlass = keys
	}
	return err
}

func parsePrivateKeys(texts []domain.Value) ([]envelope.PrivateKey, error) {
	keys := make([]envelope.PrivateKey, 0, len(texts))
	for i, text := range texts {
		key, err := envelope.ParsePrivateKey(string(text.Reveal()))
		if err != nil && len(texts) > 1 {
			err = fmt.Errorf("key %d: %w", i+1, err)
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// readKeyFile returns the keys in a file, one a line, the current one first; at least one.
func readKeyFile(path string) ([]domain.Value, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := checkPrivate(file); err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	defer clear(content)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(content) > maxKeyFile {
		return nil, fmt.Errorf("%s is larger than %d bytes; it must have a key a line, and nothing else", path, maxKeyFile)
	}
	keys := split(domain.NewValue(content), '\n')
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s is empty; it must have a key a line, the current one first", path)
	}
	return keys, nil
}

// checkPrivate refuses a file that others can read, by the rule that PostgreSQL has for its keys: a file of root may be
// read by its group, which is how Kubernetes mounts a secret for a process that is not root.
func checkPrivate(file *os.File) error {
	about, err := file.Stat()
	if err != nil {
		return err
	}
	if !about.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", file.Name())
	}
	allowed := os.FileMode(0o700)
	if ownedByRoot(about) {
		allowed = 0o740
	}
	if hasPermissions && about.Mode().Perm()&^allowed != 0 {
		return fmt.Errorf("%s has the mode %#o, by which other users may read or change the key; chmod 600 %s, or let root own it with mode 0640 at most",
			file.Name(), about.Mode().Perm(), shellWord(file.Name()))
	}
	return nil
}

// split cuts a list of keys into those that are not empty.
func split(list domain.Value, at byte) []domain.Value {
	var keys []domain.Value
	for part := range bytes.SplitSeq(list.Reveal(), []byte{at}) {
		if part = bytes.TrimSuffix(part, []byte("\r")); len(part) > 0 {
			keys = append(keys, domain.NewValue(part))
		}
	}
	return keys
}

// secretVersion takes projects/*/secrets/*/versions/* apart.
func secretVersion(name string) (reference, version string, err error) {
	reference, version, ok := strings.Cut(name, secretVersionIn)
	if !ok || version == "" || strings.Contains(version, "/") {
		return "", "", errors.New("it must be projects/PROJECT/secrets/SECRET/versions/VERSION; a VERSION of latest follows a rotation by itself")
	}
	return reference, version, gsm.ValidateReference(reference)
}

func secretProject(name string) string {
	project, _, _ := strings.Cut(strings.TrimPrefix(name, "projects/"), "/")
	return project
}

// keyPlace is a place from which keys are read again and again.
type keyPlace struct {
	setting string
	every   time.Duration
	opens   bool // they open overrides
	read    func(context.Context) ([]domain.Value, error)
	use     func([]domain.Value) (ids []string, err error)

	seen   [sha256.Size]byte // of the keys that are in use
	failed string            // what was last complained of
}

// look reads the keys, and has them used if they are others than before.
func (p *keyPlace) look(ctx context.Context, log *slog.Logger) (changed bool) {
	texts, err := p.read(ctx)
	if err == nil {
		h := sha256.New()
		for _, text := range texts {
			sum := sha256.Sum256(text.Reveal())
			h.Write(sum[:])
		}
		if now := [sha256.Size]byte(h.Sum(nil)); now != p.seen {
			var ids []string
			if ids, err = p.use(texts); err == nil {
				p.seen, changed = now, true
				log.InfoContext(ctx, "keys read", "setting", p.setting, "keyIds", ids)
			}
		}
	}
	if err == nil {
		p.failed = ""
	} else if ctx.Err() == nil && err.Error() != p.failed {
		p.failed = err.Error()
		log.ErrorContext(ctx, "keys not read; those read before stay in use", "setting", p.setting, "err", err)
	}
	return changed
}

// follow looks again and again until ctx is done. reopen is called after a change of keys that open overrides.
func (p *keyPlace) follow(ctx context.Context, log *slog.Logger, reopen func(context.Context)) error {
	ticker := time.NewTicker(p.every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			if p.look(ctx, log) && p.opens {
				reopen(ctx)
			}
		}
	}
}

// tokenKeys is the place of the shared secrets for tokens; nil when they cannot change.
func tokenKeys(c config, tokens *token.Verifier) *keyPlace {
	if c.Keys.JWTSecretFile == "" {
		return nil
	}
	return &keyPlace{
		setting: jwtFileEnv,
		every:   keyFileEvery,
		read:    func(context.Context) ([]domain.Value, error) { return readKeyFile(c.Keys.JWTSecretFile) },
		use: func(secrets []domain.Value) (ids []string, err error) {
			for _, s := range secrets {
				ids = append(ids, token.SecretID(s.Reveal()))
			}
			return ids, tokens.UseSecrets(secrets)
		},
	}
}

// breakGlassKeys is the place of the private keys; nil when they cannot change. backend is Secret Manager's.
func breakGlassKeys(c config, backend ports.SecretBackend) *keyPlace {
	p := &keyPlace{opens: true, use: func(texts []domain.Value) ([]string, error) {
		keys, err := parsePrivateKeys(texts)
		if err == nil {
			err = c.breakGlass.UseKeys(keys)
		}
		return c.breakGlass.KeyIDs(), err
	}}
	switch {
	case c.Keys.BreakGlassFile != "":
		p.setting, p.every = privateKeyFileEnv, keyFileEvery
		p.read = func(context.Context) ([]domain.Value, error) { return readKeyFile(c.Keys.BreakGlassFile) }
	case c.Keys.BreakGlassSecret != "":
		p.setting, p.every = privateKeySecretEnv, keySecretEvery
		p.read = func(ctx context.Context) ([]domain.Value, error) {
			return fetchKeys(ctx, backend, c.Keys.BreakGlassSecret)
		}
	default:
		return nil
	}
	return p
}

// fetchKeys reads keys from a secret.
func fetchKeys(ctx context.Context, backend ports.SecretBackend, name string) ([]domain.Value, error) {
	reference, version, err := secretVersion(name)
	if err != nil {
		return nil, err
	}
	fetched, err := backend.Fetch(ctx, reference, version)
	if err != nil {
		return nil, err
	}
	keys := split(fetched.Value, '\n')
	if len(keys) == 0 {
		return nil, errors.New("the secret has no key; it must have one a line, the current one first")
	}
	return keys, nil
}
