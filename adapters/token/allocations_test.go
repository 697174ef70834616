//go:build !race

package token_test

import (
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/apex-tradebill/omni-secrets/adapters/token"
)

// A service sends the same token with each of its reads. The one allocation is a copy of the token's text, to hash it.
func TestAKnownTokenAllocatesOnce(t *testing.T) {
	v := newVerifier(t, token.Config{HMACSecret: secret, Issuer: "issuer", Audience: "omni"})
	text := signed(t, jwt.SigningMethodHS256, secret, claims(jwt.MapClaims{"scope": "svc.omni.secrets.read"}), nil)
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		if _, err := v.Verify(ctx, text); err != nil {
			t.Fatal(err)
		}
	}); n > 1 {
		t.Errorf("%v allocations, want 1 at most", n)
	}
}
