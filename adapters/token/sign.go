package token

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// Claims is what a token that Sign makes says.
type Claims struct {
	Subject          string
	Scopes, Roles    []string
	Issuer, Audience string    // left out when empty
	IssuedAt         time.Time // left out when zero
	ExpiresAt        time.Time // rounded down to a second
}

// Sign makes an HS256 token, for development and for who issues tokens by hand. Its kid is the SecretID. The secret must
// have MinSecretBytes or more; Subject and ExpiresAt must be set.
func Sign(secret []byte, c Claims) (string, error) {
	if err := checkSecret(secret); err != nil {
		return "", err
	}
	if c.Subject == "" || c.ExpiresAt.IsZero() {
		return "", errors.New("a token needs a subject and a time at which it expires")
	}
	if domain.ReservedSubject(c.Subject) {
		return "", errors.New("the subject is a name that the audit trail uses for itself; take another one")
	}
	claims := jwt.MapClaims{"sub": c.Subject, "exp": c.ExpiresAt.Unix()}
	if len(c.Scopes) > 0 {
		claims["scope"] = strings.Join(c.Scopes, " ")
	}
	if len(c.Roles) > 0 {
		claims["roles"] = c.Roles
	}
	if c.Issuer != "" {
		claims["iss"] = c.Issuer
	}
	if c.Audience != "" {
		claims["aud"] = c.Audience
	}
	if !c.IssuedAt.IsZero() {
		claims["iat"] = c.IssuedAt.Unix()
	}
	unsigned := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
	unsigned.Header["kid"] = SecretID(secret)
	signed, err := unsigned.SignedString(secret)
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	return signed, nil
}
