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
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
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
	HMACSecret []byte         // shared secret of HS256 tokens; at least MinSecretBytes
	Previous   []domain.Value // further shared secrets, whose tokens are still accepted; each as long
	JWKSURL    string         // https, or http on a loopback host
	Issuer     string         // the iss that tokens must have; "" accepts any
	Audience   string         // what must be among a token's aud; "" accepts any

	Logger    *slog.Logger      // nil logs nothing
	Transport http.RoundTripper // fetches the key set; nil is http.DefaultTransport
}

// Verifier is a ports.TokenVerifier. It is safe for concurrent use.
type Verifier struct {
	secrets          atomic.Pointer[sharedSecrets] // nil when HS256 is not accepted
	keys             *keySet                       // nil when there is no key set
	methods          []string                      // the algorithms that are accepted
	required         []string                      // the claims that tokens must have
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
		secrets, err := newSharedSecrets(append([]domain.Value{domain.NewValue(c.HMACSecret)}, c.Previous...))
		errs = append(errs, err)
		v.secrets.Store(secrets)
		v.methods = append(v.methods, hs256)
	}
	if c.JWKSURL != "" {
		errs = append(errs, CheckJWKSURL(c.JWKSURL))
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
	id, keys, secrets := sha256.Sum256([]byte(token)), v.keys.current(), v.secrets.Load()
	if known, ok := v.checked.get(id); ok && known.holds(time.Now(), keys, secrets) {
		return known.principal, nil
	}

	claims := jwt.MapClaims{}
	var used verdict
	_, err := v.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (key any, err error) {
		key, used, err = v.key(ctx, t.Header)
		return key, err
	})
	if err != nil {
		return domain.Principal{}, v.refusal(err, claims)
	}
	p, err := principal(claims)
	if err != nil {
		return domain.Principal{}, err
	}
	used.principal, used.expires = p, expiry(claims)
	v.checked.put(id, used)
	return p, nil
}

// UseSecrets replaces the shared secrets: the first and any number of previous ones. Tokens that were signed with
// another one are refused from now on, also those that were accepted before. It is an error, and changes nothing,
// when one is too short or the Verifier was made without a shared secret.
func (v *Verifier) UseSecrets(secrets []domain.Value) error {
	if v.secrets.Load() == nil {
		return errors.New("tokens with a shared secret are not accepted here; set JWT_SECRET or JWT_SECRET_FILE and restart")
	}
	shared, err := newSharedSecrets(secrets)
	if err != nil {
		return err
	}
	v.secrets.Store(shared)
	return nil
}

// key finds what the token must verify with, and the set that it is from, as a verdict that says no more. The parser
// calls it for every token, before any verification.
func (v *Verifier) key(ctx context.Context, header map[string]any) (any, verdict, error) {
	alg, _ := header["alg"].(string)
	if !slices.Contains(v.methods, alg) {
		return nil, verdict{}, errAlgorithm
	}
	if _, ok := header["crit"]; ok {
		// RFC 7515 section 4.1.11: extensions that are not understood must not be passed over.
		return nil, verdict{}, refuse("the token's header has critical extensions (crit), which are not supported")
	}
	kid, ok := header["kid"].(string)
	if alg == hs256 {
		secrets := v.secrets.Load()
		return jwt.VerificationKeySet{Keys: secrets.find(kid)}, verdict{secrets: secrets}, nil
	}
	if _, present := header["kid"]; present && !ok {
		return nil, verdict{}, refuse("the token's key id (kid) must be a string")
	}
	keys, from, err := v.keys.find(ctx, kid, alg)
	if err != nil {
		return nil, verdict{}, err
	}
	return jwt.VerificationKeySet{Keys: keys}, verdict{keys: from}, nil
}
