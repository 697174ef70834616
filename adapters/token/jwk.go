package token

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/MicahParks/jwkset"
)

// Names of algorithms (RFC 7518 section 3.1, RFC 8037 section 3.1).
const hs256 = "HS256"

var (
	rsaAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	asymmetric    = append([]string{"ES256", "ES384", "ES512", "EdDSA"}, rsaAlgorithms...)
)

// minRSABits is the size of the smallest RSA key that RFC 7518 section 3.3 allows.
const minRSABits = 2048

// verificationKey is a public key together with the algorithms that it may verify.
type verificationKey struct {
	id         string // "" when it has none
	key        any    // *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
	algorithms []string
}

// parseKeySet reads a JWK Set. Keys that cannot verify tokens are left out, as RFC 7517 section 5 asks; unusable
// says why, one error a key.
func parseKeySet(text []byte) (keys []verificationKey, unusable []error, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, nil, fmt.Errorf("decoding the key set: %w", err)
	}
	if set.Keys == nil {
		return nil, nil, errors.New(`decoding the key set: it has no member "keys"`)
	}
	for i, raw := range set.Keys {
		key, err := parseKey(raw)
		if err != nil {
			unusable = append(unusable, fmt.Errorf("key %d of the set: %w", i+1, err))
			continue
		}
		keys = append(keys, key)
	}
	return keys, unusable, nil
}

func parseKey(raw json.RawMessage) (verificationKey, error) {
	// Private false ignores the private half of keys, and refuses symmetric ones, which are nothing else.
	jwk, err := jwkset.NewJWKFromRawJSON(raw, jwkset.JWKMarshalOptions{Private: false}, jwkset.JWKValidateOptions{})
	if err != nil {
		return verificationKey{}, err
	}
	fields := jwk.Marshal()
	if fields.USE != "" && fields.USE != jwkset.UseSig {
		return verificationKey{}, fmt.Errorf("its use is %q and not %q", fields.USE, jwkset.UseSig)
	}
	if len(fields.KEYOPS) > 0 && !slices.Contains(fields.KEYOPS, jwkset.KeyOpsVerify) {
		return verificationKey{}, fmt.Errorf("its key_ops do not include %q", jwkset.KeyOpsVerify)
	}
	algorithms, err := algorithmsOf(jwk.Key())
	if err != nil {
		return verificationKey{}, err
	}
	if alg := fields.ALG.String(); alg != "" {
		if !slices.Contains(algorithms, alg) {
			return verificationKey{}, fmt.Errorf("its alg %q does not suit its type", alg)
		}
		algorithms = []string{alg}
	}
	return verificationKey{id: fields.KID, key: jwk.Key(), algorithms: algorithms}, nil
}

// algorithmsOf is what a key of this type may verify. An elliptic curve determines its hash (RFC 7518 section 3.4).
func algorithmsOf(key any) ([]string, error) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSABits {
			return nil, fmt.Errorf("it has %d bits; RSA keys need %d or more", k.N.BitLen(), minRSABits)
		}
		return rsaAlgorithms, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return []string{"ES256"}, nil
		case elliptic.P384():
			return []string{"ES384"}, nil
		case elliptic.P521():
			return []string{"ES512"}, nil
		}
	case ed25519.PublicKey:
		return []string{"EdDSA"}, nil
	}
	return nil, errors.New("keys of its type do not verify signatures")
}
