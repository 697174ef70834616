package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/apex-tradebill/omni-secrets/adapters/envelope"
	"github.com/apex-tradebill/omni-secrets/adapters/token"
	"github.com/apex-tradebill/omni-secrets/domain"
)

const (
	privateKeyEnv  = "OMNI_BREAKGLASS_PRIVATE_KEY"
	jwtSecretEnv   = "JWT_SECRET"
	jwtSecretBytes = 32 // of entropy, the size of HS256's hash (RFC 7518, section 3.2)
)

func newKeygenCommand(s *streams) *cobra.Command {
	var jwtSecret, audit bool
	var into string
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make a break-glass key pair, a secret that signs tokens, or a key that signs the audit trail",
		Long: `Makes a new X25519 key pair for break-glass and prints it as lines for a shell. The private key is for the server
alone; the public key is for everyone who may have to break the glass. With --jwt-secret it makes a secret for
HS256 tokens in their place; with --audit an Ed25519 key pair for checkpoints of the audit trail: the signing key is for the
servers alone, the public key for whoever runs 'omni-secrets audit verify'.

What it prints is secret: send it into a file that only you can read, or into the store of your deployment.

With --into FILE the secret part goes into a file for OMNI_BREAKGLASS_PRIVATE_KEY_FILE or JWT_SECRET_FILE, and is not
printed. If the file is there, the new key is put in front of those that it has, which go on being accepted: the first
step of a rotation. Servers notice within seconds. The runbook has the others.

A key is named by an id, which is not secret: 'omni-secrets doctor', the server's log and errors have it.`,
		Example: `  (umask 077 && omni-secrets keygen > ./breakglass.env)
  omni-secrets keygen --into /etc/omni-secrets/breakglass.key
  omni-secrets keygen --jwt-secret -o json`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			switch {
			case jwtSecret && audit:
				return usageErrorf("--jwt-secret and --audit exclude each other: call it twice")
			case audit && into != "":
				return usageErrorf("--into is for keys that are rotated in a file; send the output of --audit into one")
			case jwtSecret:
				return makeJWTSecret(s, into)
			case audit:
				return printAuditKey(s)
			}
			return makeKeyPair(s, into)
		},
	}
	cmd.Flags().BoolVar(&jwtSecret, "jwt-secret", false, "make "+jwtSecretEnv+", which signs tokens")
	cmd.Flags().BoolVar(&audit, "audit", false, "make "+auditKeyEnv+", which signs checkpoints of the audit trail")
	cmd.Flags().StringVar(&into, "into", "", "put the secret part into `FILE`, before the keys that it has")
	return cmd
}

// newAuditKey is a new signing key, in base64.
func newAuditKey() (string, error) {
	seed := make([]byte, domain.CheckpointSeedBytes)
	if _, err := rand.Read(seed); err != nil {
		return "", fmt.Errorf("make a random key: %w", err)
	}
	return base64.StdEncoding.EncodeToString(seed), nil
}

func printAuditKey(s *streams) error {
	text, err := newAuditKey()
	if err != nil {
		return err
	}
	key, err := parseAuditKey([]byte(text))
	if err != nil {
		return err
	}
	if s.json() {
		return s.printValue(struct {
			PublicKey  string `json:"publicKey"`
			SigningKey string `json:"signingKey"`
		}{key.Public().String(), text})
	}
	return s.print("export %s=%s\nexport %s=%s\n", auditPublicKeyEnv, key.Public(), auditKeyEnv, text)
}

func makeKeyPair(s *streams, into string) error {
	key, err := envelope.GenerateKey()
	if err != nil {
		return err
	}
	public := key.Public()
	private := key.Base64()
	if into != "" {
		if err := putKeyInto(into, private); err != nil {
			return err
		}
		private = ""
	}
	if s.json() {
		return s.printValue(struct {
			KeyID      string `json:"keyId"`
			PublicKey  string `json:"publicKey"`
			PrivateKey string `json:"privateKey,omitempty"`
		}{public.ID(), public.String(), private})
	}
	if into != "" {
		return s.print("# key %s\nexport %s=%s\n", public.ID(), publicKeyEnv, public)
	}
	return s.print("# key %s\nexport %s=%s\nexport %s=%s\n", public.ID(), publicKeyEnv, public, privateKeyEnv, private)
}

func makeJWTSecret(s *streams, into string) error {
	random := make([]byte, jwtSecretBytes)
	if _, err := rand.Read(random); err != nil {
		return fmt.Errorf("make a random secret: %w", err)
	}
	secret := base64.RawURLEncoding.EncodeToString(random)
	id := token.SecretID([]byte(secret))
	if into != "" {
		if err := putKeyInto(into, secret); err != nil {
			return err
		}
		secret = ""
	}
	if s.json() {
		return s.printValue(struct {
			KeyID     string `json:"keyId"`
			JWTSecret string `json:"jwtSecret,omitempty"`
		}{id, secret})
	}
	if into != "" {
		return s.print("# key %s\n", id)
	}
	return s.print("# key %s\nexport %s=%s\n", id, jwtSecretEnv, secret)
}

// putKeyInto makes key the first of those in a file. The file is replaced as a whole, so that a server that reads it
// meanwhile finds the old keys or all of them.
func putKeyInto(path, key string) error {
	wrong := func(err error) error { return usageErrorf("--into: %w", err) }
	var before []domain.Value
	about, err := os.Stat(path)
	switch {
	case err == nil:
		if before, err = readKeyFile(path); err != nil {
			return wrong(err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return wrong(err)
	}
	content := []byte(key + "\n")
	for _, k := range before {
		content = append(append(content, k.Reveal()...), '\n')
	}
	defer clear(content)
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return wrong(err)
	}
	_, err = file.Write(content)
	if err == nil && about != nil {
		err = errors.Join(likeOwner(file, about), file.Chmod(about.Mode().Perm()))
	}
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
		return wrong(err)
	}
	return nil
}
