// Package envelope seals and opens break-glass envelopes: a secret value encrypted to the server's X25519 key,
// as base64 of a JSON object whose binary fields are base64 themselves.
//
//	{"version":1,"nonce","ephemeralPublicKey","ciphertext"}   NaCl box: X25519, XSalsa20-Poly1305
//	{"version":2,"enc","ciphertext"}                          HPKE base mode (RFC 9180): DHKEM(X25519, HKDF-SHA256),
//	                                                          HKDF-SHA256, ChaCha20-Poly1305
//
// Version 2 authenticates which secret the value is for and until when, so that a captured envelope serves for
// no other secret and for no later expiry. Version 1 authenticates neither, and is for clients that exist.
package envelope

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/crypto/nacl/box"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// Sizes in bytes. Those of NaCl are in https://nacl.cr.yp.to/box.html; enc is RFC 9180 section 7.1's Nenc, the
// tag section 7.3's Nt. Both formats have a tag of the same size.
const (
	nonceBytes = 24
	keyBytes   = 32
	tagBytes   = 16
)

// hpkeInfo is the info parameter of version 2 (RFC 9180 section 5.1): it keeps its keys apart from any other
// use of the same key pair.
const hpkeInfo = "omni-secrets/break-glass/v2"

// aad is what version 2 authenticates beside the value. The expiry is bound as text, so that both sides need
// not agree on how a time is written.
func aad(t domain.SecretType, expiresAt string) []byte { return []byte(string(t) + "\n" + expiresAt) }

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
	key     PrivateKey
	allowV1 bool
}

// NewOpener opens envelopes that were sealed to key's public key; those of version 1 only if allowV1. A zero
// key is an error.
func NewOpener(key PrivateKey, allowV1 bool) (*Opener, error) {
	if key.scalar.IsZero() {
		return nil, errors.New("the break-glass private key is missing")
	}
	return &Opener{key: key, allowV1: allowV1}, nil
}

// Open decrypts e and checks that its value has between 1 and domain.MaxValueBytes bytes.
//
// Opened.Digest is the same for whatever text encodes the same envelope: another base64 alphabet, other white
// space, another order of fields. It leaves version 1's key out, because one X25519 point has several
// encodings and neighbours that give the same shared secret (RFC 7748 section 5), so that a replay could be
// made to look new. Version 2 binds its key into the encryption.
func (o *Opener) Open(e domain.Envelope) (domain.Opened, error) {
	w, err := parse(e.Ciphertext)
	if err != nil {
		return domain.Opened{}, err
	}
	key, err := o.key.ecdh()
	if err != nil {
		return domain.Opened{}, err
	}
	var plaintext []byte
	defer func() { clear(plaintext) }()
	switch w.version {
	case 1:
		if !o.allowV1 {
			return domain.Opened{}, errV1Refused
		}
		plaintext, err = openV1(key, w)
	default:
		plaintext, err = openV2(key, w, aad(e.Type, e.ExpiresAt))
	}
	switch {
	case err != nil:
		return domain.Opened{}, err
	case len(plaintext) == 0:
		return domain.Opened{}, errEmptyValue
	case len(plaintext) > domain.MaxValueBytes:
		return domain.Opened{}, errLongValue
	}
	return domain.Opened{Value: domain.NewValue(plaintext), Version: w.version, Digest: w.digest()}, nil
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
