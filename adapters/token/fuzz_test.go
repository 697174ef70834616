package token_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/token"
	"github.com/apex-tradebill/omni-secrets/domain"
)

// handSigned is a token with claims that are whatever bytes.
func handSigned(header, claims string) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// Whatever stands in a token that was signed, it opens what its claims say by the plainest reading, or nothing; a token
// that says another algorithm opens nothing.
func FuzzClaims(f *testing.F) {
	v := newVerifier(f, token.Config{HMACSecret: secret, Issuer: "issuer", Audience: "omni"})
	f.Fuzz(func(t *testing.T, header, claims string) {
		p, err := v.Verify(t.Context(), handSigned(header, claims))
		if err != nil {
			if p != (domain.Principal{}) {
				t.Errorf("refused, but with the principal %+v", p)
			}
			return
		}
		var h struct {
			Alg string `json:"alg"`
		}
		if json.Unmarshal([]byte(header), &h) != nil || h.Alg != "HS256" {
			t.Errorf("verified by the header %q", header)
		}
		var c map[string]any
		if err := json.Unmarshal([]byte(claims), &c); err != nil {
			t.Fatalf("verified what is no JSON: %q", claims)
		}
		expires, ok := c["exp"].(float64)
		if c["sub"] != p.Subject || p.Subject == "" || c["iss"] != "issuer" || !ok || expires <= float64(time.Now().Unix()) {
			t.Errorf("%q was verified as %+v", claims, p)
		}
		var want domain.Scope
		for _, name := range listed(c["scope"]) {
			want |= domain.ParseScope(name)
		}
		for _, name := range listed(c["roles"]) {
			want |= domain.RoleScope(name)
		}
		if p.Scopes != want {
			t.Errorf("%q opens %v, want %v", claims, p.Scopes.Names(), want.Names())
		}
	})
}

func listed(claim any) []string {
	switch v := claim.(type) {
	case string:
		return strings.Fields(v)
	case []any:
		var list []string
		for _, one := range v {
			text, _ := one.(string)
			list = append(list, text)
		}
		return list
	}
	return nil
}

// Whatever a key set holds, what is taken from it are public keys of a size that is enough, each for asymmetric algorithms.
func FuzzKeySet(f *testing.F) {
	f.Add(keySetText(jwk(rsaKey(), kid("rsa")), jwk(p256Key(), kid("p256")), jwk(ed25519Key(), kid("ed25519"))))
	f.Add(keySetText(jwk(p521Key(), kid("")), jwk(p384Key(), kid("a")), map[string]any{"kty": "oct", "k": "c2VjcmV0"}))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := token.ReadKeySet(text)
		if err != nil && keys != nil {
			t.Error("a refused set has keys")
		}
		for _, k := range keys {
			switch key := k.Key.(type) {
			case *rsa.PublicKey:
				if key.N.BitLen() < 2048 || key.E < 2 {
					t.Errorf("an RSA key of %d bits with the exponent %d", key.N.BitLen(), key.E)
				}
			case *ecdsa.PublicKey:
				if _, err := key.ECDH(); err != nil {
					t.Errorf("a point that is not on its curve: %v", err)
				}
			case ed25519.PublicKey:
				if len(key) != ed25519.PublicKeySize {
					t.Errorf("an Ed25519 key of %d bytes", len(key))
				}
			default:
				t.Errorf("a key that is a %T", key)
			}
			for _, name := range k.Algorithms {
				if strings.HasPrefix(name, "HS") || strings.EqualFold(name, "none") || name == "" {
					t.Errorf("a public key for %q", name)
				}
			}
			if len(k.Algorithms) == 0 {
				t.Error("a key for no algorithm")
			}
		}
	})
}
