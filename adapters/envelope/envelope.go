// Package envelope seals and opens break-glass envelopes: a secret value encrypted to the server's X25519 key,
// as base64 of a JSON object whose binary fields are base64 themselves.
//
//	{"version":1,"nonce","ephemeralPublicKey","ciphertext"}   NaCl box: X25519, XSalsa20-Poly1305
//	{"version":2,"enc","ciphertext"}                          HPKE base mode (RFC 9180): DHKEM(X25519, HKDF-SHA256),
//	{"version":2,"kid","enc","ciphertext"}                    HKDF-SHA256, ChaCha20-Poly1305
//
// Version 2 authenticates which secret the value is for and until when, so that a captured envelope serves for
// no other secret and for no later expiry. Version 1 authenticates neither, and is for clients that exist.
//
// A server may have several private keys, while one is being replaced. kid is the id of the public key that the
// envelope was sealed to (PublicKey.ID), and is authenticated too; without it each key is tried.
package envelope

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/nacl/box"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// Sizes in bytes. Those of NaCl are in https://nacl.cr.yp.to/box.html; enc is RFC 9180 section 7.1's Nenc, the
// tag section 7.3's Nt. Both formats have a tag of the same size.
const (
	nonceBytes = 24
	keyBytes   = 32
	tagBytes   = 16
	keyIDBytes = 8
)

// hpkeInfo is the info parameter of version 2 (RFC 9180 section 5.1): it keeps its keys apart from any other
// use of the same key pair.
const hpkeInfo = "omni-secrets/break-glass/v2"

// aad is what version 2 authenticates beside the value. The expiry is bound as text, so that both sides need
// not agree on how a time is written. The key id is there when the envelope has one: as neither a type nor a time has a
// line feed, an envelope with an id is never taken for one without.
func aad(t domain.SecretType, expiresAt, keyID string) []byte {
	bound := string(t) + "\n" + expiresAt
	if keyID != "" {
		bound += "\n" + keyID
	}
	return []byte(bound)
}

var (
	errV1Refused   = errors.New("version 1 envelopes are not accepted here; send version 2")
	errV1Decrypt   = errors.New("the envelope does not decrypt: it was sealed for another key, or was changed; seal it again with the server's current public key")
	errV2Decrypt   = errors.New("the envelope does not decrypt: it was sealed for another key, secretType or expiresAt, or was changed; seal it again with the server's current public key and send secretType and expiresAt exactly as they were sealed")
	errLowOrderKey = errors.New("the envelope's ephemeralPublicKey is a low-order point; use a freshly generated X25519 key")
	errEmptyValue  = errors.New("the envelope's value is empty; seal the secret's value")
	errLongValue   = fmt.Errorf("the envelope's value is larger than %d bytes; seal a shorter one", domain.MaxValueBytes)
)

// Opener is a ports.EnvelopeOpener. It is safe for concurrent use.
type Opener struct {
	keys    *atomic.Pointer[[]openingKey] // to nil until there is one
	allowV1 bool
}

// openingKey is a private key with the id of its public key.
type openingKey struct {
	id  string
	key PrivateKey
}

// NewOpener opens envelopes that were sealed to the public key of key or of one of the previous ones; those of
// version 1 only if allowV1. A zero key is an error.
func NewOpener(key PrivateKey, allowV1 bool, previous ...PrivateKey) (*Opener, error) {
	o := NewOpenerWithoutKeys(allowV1)
	if err := o.UseKeys(append([]PrivateKey{key}, previous...)); err != nil {
		return nil, err
	}
	return o, nil
}

// NewOpenerWithoutKeys is for keys that come later, by UseKeys. Until then Open returns ports.ErrNoKey.
func NewOpenerWithoutKeys(allowV1 bool) *Opener {
	return &Opener{keys: new(atomic.Pointer[[]openingKey]), allowV1: allowV1}
}

// UseKeys replaces the private keys. The first is the one that envelopes should be sealed to; the others are for
// envelopes that were sealed before. No key, or a zero one, is an error and changes nothing.
func (o *Opener) UseKeys(keys []PrivateKey) error {
	if len(keys) == 0 {
		return errNoPrivateKey
	}
	list := make([]openingKey, 0, len(keys))
	for _, key := range keys {
		if key.scalar.IsZero() {
			return errNoPrivateKey
		}
		list = append(list, openingKey{key.Public().ID(), key})
	}
	o.keys.Store(&list)
	return nil
}

var errNoPrivateKey = errors.New("the break-glass private key is missing")

// KeyIDs are those of the keys in use, the first one's first. They are not secret.
func (o *Opener) KeyIDs() []string {
	var ids []string
	if keys := o.keys.Load(); keys != nil {
		for _, k := range *keys {
			ids = append(ids, k.id)
		}
	}
	return ids
}

// Open decrypts e and checks that its value has between 1 and domain.MaxValueBytes bytes.
//
// Opened.Digest is the same for whatever text encodes the same envelope: another base64 alphabet, other white
// space, another order of fields. It leaves version 1's key out, because one X25519 point has several
// encodings and neighbours that give the same shared secret (RFC 7748 section 5), so that a replay could be
// made to look new. Version 2 binds its key, and the key id when there is one, into the encryption.
func (o *Opener) Open(e domain.Envelope) (domain.Opened, error) {
	w, err := parse(e.Ciphertext)
	if err != nil {
		return domain.Opened{}, err
	}
	if w.version == 1 && !o.allowV1 {
		return domain.Opened{}, errV1Refused
	}
	keys, err := o.keysFor(w)
	if err != nil {
		return domain.Opened{}, err
	}
	var plaintext []byte
	var opener string
	for _, k := range keys {
		if plaintext, err = k.open(e, w); err == nil {
			opener = k.id
			break
		}
	}
	defer func() { clear(plaintext) }()
	switch {
	case err != nil:
		return domain.Opened{}, err
	case len(plaintext) == 0:
		return domain.Opened{}, errEmptyValue
	case len(plaintext) > domain.MaxValueBytes:
		return domain.Opened{}, errLongValue
	}
	return domain.Opened{Value: domain.NewValue(plaintext), Version: w.version, Digest: w.digest(), KeyID: opener}, nil
}

// keysFor is the keys that may open w, at least one: the one that it names, or all of them.
func (o *Opener) keysFor(w wire) ([]openingKey, error) {
	keys := o.keys.Load()
	if keys == nil {
		return nil, ports.ErrNoKey
	}
	if w.keyID == "" {
		return *keys, nil
	}
	for i, k := range *keys {
		if k.id == w.keyID {
			return (*keys)[i : i+1], nil
		}
	}
	return nil, fmt.Errorf("the envelope was sealed for another key than this server has, which is %s; seal it again with the server's current public key",
		strings.Join(o.KeyIDs(), " or "))
}

func (k openingKey) open(e domain.Envelope, w wire) ([]byte, error) {
	key, err := k.key.ecdh()
	if err != nil {
		return nil, err
	}
	if w.version == 1 {
		return openV1(key, w)
	}
	return openV2(key, w, aad(e.Type, e.ExpiresAt, w.keyID))
}

// openV1 refuses low-order keys itself, because box.Open does not: with one, the shared secret is all zeros and
// the envelope is sealed to everybody.
func openV1(key *ecdh.PrivateKey, w wire) ([]byte, error) {
	ephemeral, err := ecdh.X25519().NewPublicKey(w.key)
	if err != nil {
		return nil, errV1Decrypt
	}
	if _, err := key.ECDH(ephemeral); err != nil {
		return nil, errLowOrderKey
	}
	plaintext, ok := box.Open(nil, w.ciphertext, (*[nonceBytes]byte)(w.nonce), (*[keyBytes]byte)(w.key), (*[keyBytes]byte)(key.Bytes()))
	if !ok {
		return nil, errV1Decrypt
	}
	return plaintext, nil
}

func openV2(key *ecdh.PrivateKey, w wire, aad []byte) ([]byte, error) {
	private, err := hpke.NewDHKEMPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("using the break-glass private key: %w", err)
	}
	recipient, err := hpke.NewRecipient(w.key, private, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), []byte(hpkeInfo))
	if err != nil {
		return nil, errV2Decrypt
	}
	plaintext, err := recipient.Open(aad, w.ciphertext)
	if err != nil {
		return nil, errV2Decrypt
	}
	return plaintext, nil
}

// digest identifies the envelope. All parts but the last have a fixed size, so no two envelopes run together.
func (w wire) digest() string {
	h := sha256.New()
	h.Write([]byte{byte(w.version)}) //nolint:gosec // 1 or 2
	if w.version == 1 {
		h.Write(w.nonce)
	} else {
		h.Write(w.key)
	}
	h.Write(w.ciphertext)
	return hex.EncodeToString(h.Sum(nil))
}
