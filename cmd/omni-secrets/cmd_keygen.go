package main

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/apex-tradebill/omni-secrets/adapters/envelope"
	"github.com/apex-tradebill/omni-secrets/domain"
)

const (
	privateKeyEnv  = "OMNI_BREAKGLASS_PRIVATE_KEY"
	jwtSecretEnv   = "JWT_SECRET"
	jwtSecretBytes = 32 // of entropy, the size of HS256's hash (RFC 7518, section 3.2)
)

func newKeygenCommand(s *streams) *cobra.Command {
	var jwtSecret, audit bool
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make a break-glass key pair, a secret that signs tokens, or a key that signs the audit trail",
		Long: `Makes a new X25519 key pair for break-glass and prints it as lines for a shell. The private key is for the server
alone; the public key is for everyone who may have to break the glass. With --jwt-secret it makes a secret for
HS256 tokens in their place; with --audit an Ed25519 key pair for checkpoints of the audit trail: the signing key is for the
servers alone, the public key for whoever runs 'omni-secrets audit verify'.

What it prints is secret: send it into a file that only you can read, or into the store of your deployment.`,
		Example: `  (umask 077 && omni-secrets keygen > ./breakglass.env)
  omni-secrets keygen --jwt-secret -o json`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			switch {
			case jwtSecret && audit:
				return usageErrorf("--jwt-secret and --audit exclude each other: call it twice")
			case jwtSecret:
				return printJWTSecret(s)
			case audit:
				return printAuditKey(s)
			}
			return printKeyPair(s)
		},
	}
	cmd.Flags().BoolVar(&jwtSecret, "jwt-secret", false, "make "+jwtSecretEnv+", which signs tokens")
	cmd.Flags().BoolVar(&audit, "audit", false, "make "+auditKeyEnv+", which signs checkpoints of the audit trail")
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

func printKeyPair(s *streams) error {
	key, err := envelope.GenerateKey()
	if err != nil {
		return err
	}
	if s.json() {
		return s.printValue(struct {
			PublicKey  string `json:"publicKey"`
			PrivateKey string `json:"privateKey"`
		}{key.Public().String(), key.Base64()})
	}
	return s.print("export %s=%s\nexport %s=%s\n", publicKeyEnv, key.Public(), privateKeyEnv, key.Base64())
}

func printJWTSecret(s *streams) error {
	random := make([]byte, jwtSecretBytes)
	if _, err := rand.Read(random); err != nil {
		return fmt.Errorf("make a random secret: %w", err)
	}
	secret := base64.RawURLEncoding.EncodeToString(random)
	if s.json() {
		return s.printValue(struct {
			JWTSecret string `json:"jwtSecret"`
		}{secret})
	}
	return s.print("export %s=%s\n", jwtSecretEnv, secret)
}
