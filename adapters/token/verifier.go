// Package token checks bearer tokens, which are JWTs (RFC 7519) signed with HS256 and a shared secret or with a
// private key whose public half is in a JSON Web Key Set (RFC 7517), and signs the former.
//
// Which algorithm may verify with which key is decided by the key and never by the token (RFC 8725 section
// 3.1), so that neither "none" nor a public key used as a shared secret gets anywhere.
package token

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const (
	// MaxBytes is the length of the longest token that is looked at.
	MaxBytes = 16 << 10
	// MinSecretBytes is the length of the shortest shared secret, that of the hash (RFC 7518 section 3.2).
	MinSecretBytes = 32
)

// Config says which tokens are accepted. HMACSecret or JWKSURL or both must be set.
type Config struct {
	HMACSecret []byte // shared secret of HS256 tokens; at least MinSecretBytes
	JWKSURL    string // https, or http on a loopback host
	Issuer     string // the iss that tokens must have; "" accepts any
	Audience   string // what must be among a token's aud; "" accepts any

	Logger    *slog.Logger      // nil logs nothing
	Transport http.RoundTripper // fetches the key set; nil is http.DefaultTransport
}

// Verifier is a ports.TokenVerifier. It is safe for concurrent use.
type Verifier struct {
	secret           domain.Value // zero when HS256 is not accepted
	keys             *keySet      // nil when there is no key set
	methods          []string     // the algorithms that are accepted
	required         []string     // the claims that tokens must have
	parser           *jwt.Parser
	issuer, audience string
	checked          checked
}

// New checks c and reports everything that is wrong with it at once. With a JWKSURL it starts to fetch the key
// set in the background and keeps it up to date until ctx is done; it does not wait for it, and a key set that
// cannot be fetched is no error here: until it can, tokens that need it are refused.
func New(ctx context.Context, c Config) (*Verifier, error) {
	var errs []error
	if len(c.HMACSecret) == 0 && c.JWKSURL == "" {
		errs = append(errs, errors.New("neither a shared secret nor a JWKS URL is set: no token could be checked"))
	}
	v := &Verifier{issuer: c.Issuer, audience: c.Audience, required: []string{"exp", "sub"}}
	if len(c.HMACSecret) > 0 {
		errs = append(errs, checkSecret(c.HMACSecret))
		v.secret = domain.NewValue(c.HMACSecret)
		v.methods = append(v.methods, hs256)
	}
	if c.JWKSURL != "" {
		errs = append(errs, checkJWKSURL(c.JWKSURL))
		v.methods = append(v.methods, asymmetric...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}

	options := []jwt.ParserOption{jwt.WithExpirationRequired(), jwt.WithStrictDecoding()}
	if c.Issuer != "" {
		options = append(options, jwt.WithIssuer(c.Issuer))
		v.required = append(v.required, "iss")
	}
	if c.Audience != "" {
		options = append(options, jwt.WithAudience(c.Audience))
		v.required = append(v.required, "aud")
	}
	v.parser = jwt.NewParser(options...)

	if c.JWKSURL != "" {
		if c.Logger == nil {
			c.Logger = slog.New(slog.DiscardHandler)
		}
		v.keys = newKeySet(c.JWKSURL, c.Transport, c.Logger)
		go v.keys.run(ctx)
	}
	return v, nil
}

// Verify checks the token's signature, exp, nbf, iss and aud, without leeway, and reads its sub, scope and
// roles. The error is written for the caller. Verify waits for a fetch of the key set, a few seconds at most,
// when the token names a key that is not known.
func (v *Verifier) Verify(ctx context.Context, token string) (domain.Principal, error) {
	if len(token) > MaxBytes {
		return domain.Principal{}, refuse("the token is longer than %d bytes", MaxBytes)
	}
	id, keys := sha256.Sum256([]byte(token)), v.keys.current()
	if known, ok := v.checked.get(id); ok && known.holds(time.Now(), keys) {
		return known.principal, nil
	}

	claims := jwt.MapClaims{}
	var usedKeys *[]verificationKey
	_, err := v.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (key any, err error) {
		key, usedKeys, err = v.key(ctx, t.Header)
		return key, err
	})
	if err != nil {
		return domain.Principal{}, v.refusal(err, claims)
	}
	p, err := principal(claims)
	if err != nil {
		return domain.Principal{}, err
	}
	v.checked.put(id, verdict{principal: p, expires: expiry(claims), keys: usedKeys})
	return p, nil
}

// key finds what the token must verify with, and the key set that it is from, nil for the shared secret. The
// parser calls it for every token, before any verification.
func (v *Verifier) key(ctx context.Context, header map[string]any) (any, *[]verificationKey, error) {
	alg, _ := header["alg"].(string)
	if !slices.Contains(v.methods, alg) {
		return nil, nil, errAlgorithm
	}
	if _, ok := header["crit"]; ok {
		// RFC 7515 section 4.1.11: extensions that are not understood must not be passed over.
		return nil, nil, refuse("the token's header has critical extensions (crit), which are not supported")
	}
	if alg == hs256 {
		return v.secret.Reveal(), nil, nil
	}
	kid, ok := header["kid"].(string)
	if _, present := header["kid"]; present && !ok {
		return nil, nil, refuse("the token's key id (kid) must be a string")
	}
	keys, from, err := v.keys.find(ctx, kid, alg)
	if err != nil {
		return nil, nil, err
	}
	return jwt.VerificationKeySet{Keys: keys}, from, nil
}

func checkSecret(secret []byte) error {
	if len(secret) < MinSecretBytes {
		return fmt.Errorf("the shared secret for tokens has %d bytes; HS256 needs %d or more", len(secret), MinSecretBytes)
	}
	return nil
}
