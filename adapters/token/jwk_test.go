package token_test

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/apex-tradebill/omni-secrets/adapters/token"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Making keys takes time, so tests share them.
var (
	rsaKey     = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	smallRSA   = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 1024)) })
	p256Key    = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	p384Key    = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
	p521Key    = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)) })
	ed25519Key = sync.OnceValue(func() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(secret) })
	x25519Key  = sync.OnceValue(func() *ecdh.PrivateKey { return must(ecdh.X25519().GenerateKey(rand.Reader)) })
)

// jwk is a key as a key set publishes it.
func jwk(key any, about jwkset.JWKMetadataOptions) jwkset.JWKMarshal {
	if signer, ok := key.(crypto.Signer); ok {
		key = signer.Public()
	}
	_, symmetric := key.([]byte)
	options := jwkset.JWKOptions{Metadata: about, Marshal: jwkset.JWKMarshalOptions{Private: symmetric}, Validate: jwkset.JWKValidateOptions{SkipAll: true}}
	return must(jwkset.NewJWKFromKey(key, options)).Marshal()
}

func keySetText(keys ...any) []byte {
	if keys == nil {
		keys = []any{}
	}
	return must(json.Marshal(map[string]any{"keys": keys}))
}

// serve publishes a key set on this machine.
func serve(t testing.TB, text []byte) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_, _ = w.Write(text)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/keys"
}

func kid(id string) jwkset.JWKMetadataOptions { return jwkset.JWKMetadataOptions{KID: id} }
func header(id string) map[string]any         { return map[string]any{"kid": id} }
func sharedConnections() *http.Transport      { return &http.Transport{DisableKeepAlives: true} }
func verifierOf(t testing.TB, keys ...any) *token.Verifier {
	t.Helper()
	return newVerifier(t, token.Config{HMACSecret: secret, JWKSURL: serve(t, keySetText(keys...)), Transport: sharedConnections()})
}

func TestTheKeyDecidesTheAlgorithm(t *testing.T) {
	v := verifierOf(t,
		jwk(rsaKey(), kid("rsa")), jwk(p256Key(), kid("p256")), jwk(p384Key(), kid("p384")), jwk(p521Key(), kid("p521")), jwk(ed25519Key(), kid("ed25519")),
		jwk(rsaKey(), jwkset.JWKMetadataOptions{KID: "rsa-ps256", ALG: "PS256", USE: "sig", KEYOPS: []jwkset.KEYOPS{"verify"}}),
	)
	keys := map[string]crypto.Signer{"rsa": rsaKey(), "rsa-ps256": rsaKey(), "p256": p256Key(), "p384": p384Key(), "p521": p521Key(), "ed25519": ed25519Key()}
	for id, methods := range map[string][]jwt.SigningMethod{
		"rsa": {
			jwt.SigningMethodRS256, jwt.SigningMethodRS384, jwt.SigningMethodRS512,
			jwt.SigningMethodPS256, jwt.SigningMethodPS384, jwt.SigningMethodPS512,
		},
		"rsa-ps256": {jwt.SigningMethodPS256},
		"p256":      {jwt.SigningMethodES256},
		"p384":      {jwt.SigningMethodES384},
		"p521":      {jwt.SigningMethodES512},
		"ed25519":   {jwt.SigningMethodEdDSA},
	} {
		for _, method := range methods {
			t.Run(id+" verifies "+method.Alg(), func(t *testing.T) {
				for name, h := range map[string]map[string]any{"with kid": header(id), "without kid": nil} {
					p, err := v.Verify(t.Context(), signed(t, method, keys[id], good(), h))
					if err != nil || p.Subject != "pricing-engine" {
						t.Errorf("%s: %+v, %v", name, p, err)
					}
				}
			})
		}
	}

	for name, c := range map[string]struct {
		method jwt.SigningMethod
		key    any
		id     string
	}{
		"RS256 with a key for PS256": {jwt.SigningMethodRS256, rsaKey(), "rsa-ps256"},
		"ES256 with a P-384 key":     {jwt.SigningMethodES256, p256Key(), "p384"},
		"RS256 with a P-256 key":     {jwt.SigningMethodRS256, rsaKey(), "p256"},
		"EdDSA with an RSA key":      {jwt.SigningMethodEdDSA, ed25519Key(), "rsa"},
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			wantRefusal(t, v, signed(t, c.method, c.key, good(), header(c.id)), "not in the key set, or not for its algorithm")
		})
	}
	t.Run("a signature of another key of the type is refused", func(t *testing.T) {
		other := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		wantRefusal(t, v, signed(t, jwt.SigningMethodES256, other, good(), header("p256")), "signature does not verify")
	})
	t.Run("a key id that is no string is refused", func(t *testing.T) {
		wantRefusal(t, v, signed(t, jwt.SigningMethodES256, p256Key(), good(), map[string]any{"kid": 7}), "kid) must be a string")
	})
	t.Run("the shared secret works beside the key set", func(t *testing.T) {
		if _, err := v.Verify(t.Context(), signed(t, jwt.SigningMethodHS256, secret, good(), header("rsa"))); err != nil {
			t.Error(err)
		}
	})
}

func TestPrivateHalfOfAPublishedKeyIsIgnored(t *testing.T) {
	options := jwkset.JWKOptions{Metadata: kid("id"), Marshal: jwkset.JWKMarshalOptions{Private: true}}
	v := verifierOf(t, must(jwkset.NewJWKFromKey(p256Key(), options)).Marshal())
	if _, err := v.Verify(t.Context(), signed(t, jwt.SigningMethodES256, p256Key(), good(), header("id"))); err != nil {
		t.Error(err)
	}
}

// The classic confusion: a public key, which everybody has, used as the shared secret of HS256.
func TestPublicKeyIsNoSharedSecret(t *testing.T) {
	der := must(x509.MarshalPKIXPublicKey(rsaKey().Public()))
	for name, bytes := range map[string][]byte{"DER": der, "modulus": rsaKey().N.Bytes(), "PEM": pemOf(der)} {
		forged := signed(t, jwt.SigningMethodHS256, bytes, good(), header("rsa"))
		t.Run(name+", beside a shared secret", func(t *testing.T) {
			wantRefusal(t, verifierOf(t, jwk(rsaKey(), kid("rsa"))), forged, "signature does not verify")
		})
		t.Run(name+", with the key set alone", func(t *testing.T) {
			v := newVerifier(t, token.Config{JWKSURL: serve(t, keySetText(jwk(rsaKey(), kid("rsa")))), Transport: sharedConnections()})
			wantRefusal(t, v, forged, "algorithm (alg) is not accepted")
		})
	}
}

func TestKeysThatDoNotVerifyTokens(t *testing.T) {
	published := []byte(strings.Repeat("k", 32))
	for name, c := range map[string]struct {
		key    any
		method jwt.SigningMethod
		sign   any
		want   string
	}{
		"symmetric":          {jwk(published, kid("id")), jwt.SigningMethodHS256, published, "signature does not verify"},
		"for encryption":     {jwk(rsaKey(), jwkset.JWKMetadataOptions{KID: "id", USE: "enc"}), jwt.SigningMethodRS256, rsaKey(), "not in the key set"},
		"for signing alone":  {jwk(rsaKey(), jwkset.JWKMetadataOptions{KID: "id", KEYOPS: []jwkset.KEYOPS{"sign"}}), jwt.SigningMethodRS256, rsaKey(), "not in the key set"},
		"alg of another":     {jwk(rsaKey(), jwkset.JWKMetadataOptions{KID: "id", ALG: "ES256"}), jwt.SigningMethodRS256, rsaKey(), "not in the key set"},
		"alg of a symmetric": {jwk(rsaKey(), jwkset.JWKMetadataOptions{KID: "id", ALG: "HS256"}), jwt.SigningMethodRS256, rsaKey(), "not in the key set"},
		"too small":          {jwk(smallRSA(), kid("id")), jwt.SigningMethodRS256, smallRSA(), "not in the key set"},
		"of another use":     {jwk(x25519Key().PublicKey(), kid("id")), jwt.SigningMethodEdDSA, ed25519Key(), "not in the key set"},
		"of unknown type":    {map[string]any{"kty": "LATTICE", "kid": "id"}, jwt.SigningMethodRS256, rsaKey(), "not in the key set"},
		"malformed":          {map[string]any{"kty": 7}, jwt.SigningMethodRS256, rsaKey(), "not in the key set"},
	} {
		t.Run(name, func(t *testing.T) {
			v := verifierOf(t, c.key, jwk(p256Key(), kid("other")))
			wantRefusal(t, v, signed(t, c.method, c.sign, good(), header("id")), c.want)
			if _, err := v.Verify(t.Context(), signed(t, jwt.SigningMethodES256, p256Key(), good(), header("other"))); err != nil {
				t.Errorf("the set's other key: %v", err)
			}
		})
	}
}
