package token

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// maxChecked bounds one generation of checked tokens; there are two. An entry takes about 100 bytes.
const maxChecked = 4096

// checked remembers tokens that were verified, so that a service that sends the same token with each of its
// reads does not cost a signature check and a JSON parse every time. Refused tokens are never remembered, so
// only who has valid tokens can fill it. Tokens are kept as their SHA-256, which takes no longer for a good
// guess than for a bad one, and leaves nothing in memory that could be used.
//
// When the young generation is full it becomes the old one, and what was not asked for meanwhile is forgotten.
type checked struct {
	mu         sync.RWMutex
	young, old map[[sha256.Size]byte]verdict
}

// verdict is what a token was found to be. It holds until the token expires or the keys change.
type verdict struct {
	principal domain.Principal
	expires   time.Time
	keys      *[]verificationKey // those that it was checked with; nil for a shared secret
	secrets   *sharedSecrets     // those that it was checked with; nil for a key of a key set
}

func (c *checked) get(id [sha256.Size]byte) (verdict, bool) {
	c.mu.RLock()
	v, young := c.young[id]
	ok := young
	if !young {
		v, ok = c.old[id]
	}
	c.mu.RUnlock()
	if ok && !young {
		c.put(id, v)
	}
	return v, ok
}

func (c *checked) put(id [sha256.Size]byte, v verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young == nil || len(c.young) >= maxChecked {
		c.old, c.young = c.young, make(map[[sha256.Size]byte]verdict)
	}
	c.young[id] = v
}

// holds reports whether v is still true at now with these keys and secrets. The comparison with the expiry is the
// one of the parser: a token is valid before exp, not at it (RFC 7519 section 4.1.4).
func (v verdict) holds(now time.Time, keys *[]verificationKey, secrets *sharedSecrets) bool {
	return now.Before(v.expires) && (v.keys == nil || v.keys == keys) && (v.secrets == nil || v.secrets == secrets)
}

// expiry is the exp of claims that were validated.
func expiry(claims jwt.MapClaims) time.Time {
	exp, err := claims.GetExpirationTime()
	if err != nil || exp == nil {
		return time.Time{}
	}
	return exp.Time
}
