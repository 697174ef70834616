package token

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/golang-jwt/jwt/v5"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// sharedSecrets are those that HS256 tokens may be signed with: while one is being replaced, the new one and the
// ones before it. They never change; a rotation replaces all of them, so that what was verified with them can be told.
type sharedSecrets struct {
	ids  []string
	keys []jwt.VerificationKey
}

func newSharedSecrets(secrets []domain.Value) (*sharedSecrets, error) {
	if len(secrets) == 0 {
		return nil, errors.New("there is no shared secret for tokens")
	}
	s := new(sharedSecrets)
	var errs []error
	for _, secret := range secrets {
		errs = append(errs, checkSecret(secret.Reveal()))
		s.ids = append(s.ids, SecretID(secret.Reveal()))
		s.keys = append(s.keys, secret.Reveal())
	}
	return s, errors.Join(errs...)
}

// find is the secrets that a token with this key id may be signed with: the one that it names, and when it names none
// of them, or nothing, each of them. Issuers that know nothing of our ids go on working.
func (s *sharedSecrets) find(id string) []jwt.VerificationKey {
	for i, known := range s.ids {
		if id == known {
			return s.keys[i : i+1]
		}
	}
	return s.keys
}

// SecretID names a shared secret without telling it, as 16 hexadecimal digits: the kid of the tokens that Sign makes.
// Who has a token can try guesses of its secret anyway, so an id gives no more away.
func SecretID(secret []byte) string {
	h := sha256.New()
	h.Write([]byte("omni-secrets/token-key-id\n"))
	h.Write(secret)
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func checkSecret(secret []byte) error {
	if len(secret) < MinSecretBytes {
		return fmt.Errorf("the shared secret for tokens has %d bytes; HS256 needs %d or more", len(secret), MinSecretBytes)
	}
	return nil
}
