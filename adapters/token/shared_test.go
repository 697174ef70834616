package token_test

import (
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/apex-tradebill/omni-secrets/adapters/token"
	"github.com/apex-tradebill/omni-secrets/domain"
)

var nextSecret = []byte("fedcba9876543210fedcba9876543210")

func values(secrets ...[]byte) []domain.Value {
	var list []domain.Value
	for _, s := range secrets {
		list = append(list, domain.NewValue(s))
	}
	return list
}

const badSignature = "the token's signature does not verify"

func TestTokensOfBothSecretsAreAcceptedDuringARotation(t *testing.T) {
	before := signed(t, jwt.SigningMethodHS256, secret, good(), nil)
	after := signed(t, jwt.SigningMethodHS256, nextSecret, good(), nil)
	foreign := signed(t, jwt.SigningMethodHS256, []byte(strings.Repeat("f", 32)), good(), nil)

	v := newVerifier(t, token.Config{HMACSecret: secret})
	wantVerified(t, v, before)
	wantRefusal(t, v, after, badSignature)

	if err := v.UseSecrets(values(nextSecret, secret)); err != nil {
		t.Fatal(err)
	}
	wantVerified(t, v, before)
	wantVerified(t, v, after)
	wantRefusal(t, v, foreign, badSignature)

	if err := v.UseSecrets(values(nextSecret)); err != nil {
		t.Fatal(err)
	}
	wantVerified(t, v, after)
	wantRefusal(t, v, before, badSignature) // although it was remembered as verified
}

func TestPreviousSecretsFromTheStart(t *testing.T) {
	v := newVerifier(t, token.Config{HMACSecret: nextSecret, Previous: values(secret)})
	wantVerified(t, v, signed(t, jwt.SigningMethodHS256, secret, good(), nil))
	wantVerified(t, v, signed(t, jwt.SigningMethodHS256, nextSecret, good(), nil))
}

func TestTheKeyIDOfASharedSecret(t *testing.T) {
	v := newVerifier(t, token.Config{HMACSecret: nextSecret, Previous: values(secret)})
	for name, c := range map[string]struct {
		key  []byte
		kid  any
		want string // "" is verified
	}{
		"names its secret":          {secret, token.SecretID(secret), ""},
		"names the other secret":    {secret, token.SecretID(nextSecret), badSignature},
		"is of the issuer's making": {secret, "key-2026", ""},
		"is no string":              {secret, 7, ""},
		"names a secret that is not known, which it is signed with": {
			[]byte(strings.Repeat("f", 32)), token.SecretID([]byte(strings.Repeat("f", 32))), badSignature,
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := signed(t, jwt.SigningMethodHS256, c.key, good(), map[string]any{"kid": c.kid})
			if c.want == "" {
				wantVerified(t, v, text)
			} else {
				wantRefusal(t, v, text, c.want)
			}
		})
	}
}

func TestSecretsThatCannotBeUsedChangeNothing(t *testing.T) {
	v := newVerifier(t, token.Config{HMACSecret: secret})
	for name, secrets := range map[string][]domain.Value{
		"none": nil, "a short one": values([]byte("short")), "a short one among the previous": values(nextSecret, []byte("short")),
	} {
		t.Run(name, func(t *testing.T) {
			if err := v.UseSecrets(secrets); err == nil {
				t.Error("no error")
			}
			wantVerified(t, v, signed(t, jwt.SigningMethodHS256, secret, good(), nil))
			wantRefusal(t, v, signed(t, jwt.SigningMethodHS256, nextSecret, good(), nil), badSignature)
		})
	}
	if _, err := token.New(t.Context(), token.Config{HMACSecret: secret, Previous: values([]byte("short"))}); err == nil {
		t.Error("New takes a short previous secret")
	}
}

func TestWithAKeySetAloneNoSharedSecretIsTaken(t *testing.T) {
	v := newVerifier(t, token.Config{JWKSURL: "http://127.0.0.1:1/keys"})
	if err := v.UseSecrets(values(secret)); err == nil {
		t.Error("no error")
	}
	wantRefusal(t, v, signed(t, jwt.SigningMethodHS256, secret, good(), nil), "algorithm")
}
