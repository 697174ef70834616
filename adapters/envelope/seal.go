package envelope

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/crypto/nacl/box"

	"github.com/apex-tradebill/omni-secrets/domain"
)

type envelopeV1 struct {
	Version            int    `json:"version"`
	Nonce              []byte `json:"nonce"`
	EphemeralPublicKey []byte `json:"ephemeralPublicKey"`
	Ciphertext         []byte `json:"ciphertext"`
}

type envelopeV2 struct {
	Version    int    `json:"version"`
	KeyID      string `json:"kid"`
	Enc        []byte `json:"enc"`
	Ciphertext []byte `json:"ciphertext"`
}

// Seal encrypts value to a server's key and returns the text of the envelope. Version is 1 or 2. An envelope of
// version 2 names its key, and opens only with the same t and expiresAt (RFC 3339), to the letter. The value must have
// between 1 and domain.MaxValueBytes bytes.
func Seal(to PublicKey, t domain.SecretType, expiresAt string, value domain.Value, version int) (string, error) {
	plaintext := value.Reveal()
	switch {
	case to.key == nil:
		return "", errors.New("the public key to seal to is missing")
	case len(plaintext) == 0:
		return "", errors.New("the value to seal is empty")
	case len(plaintext) > domain.MaxValueBytes:
		return "", fmt.Errorf("the value to seal has %d bytes; %d are allowed", len(plaintext), domain.MaxValueBytes)
	}
	var sealed any
	var err error
	switch version {
	case 1:
		sealed, err = sealV1(to.key, plaintext)
	case 2:
		sealed, err = sealV2(to, aad(t, expiresAt, to.ID()), plaintext)
	default:
		return "", fmt.Errorf("envelope version %d is not known; use 1 or 2", version)
	}
	if err != nil {
		return "", err
	}
	object, err := json.Marshal(sealed)
	if err != nil {
		return "", fmt.Errorf("encoding the envelope: %w", err)
	}
	return base64.StdEncoding.EncodeToString(object), nil
}

func sealV1(to *ecdh.PublicKey, plaintext []byte) (envelopeV1, error) {
	public, private, err := box.GenerateKey(rand.Reader)
	if err != nil {
		return envelopeV1{}, fmt.Errorf("generating an ephemeral key: %w", err)
	}
	var nonce [nonceBytes]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return envelopeV1{}, fmt.Errorf("choosing a nonce: %w", err)
	}
	ciphertext := box.Seal(nil, plaintext, &nonce, (*[keyBytes]byte)(to.Bytes()), private)
	return envelopeV1{Version: 1, Nonce: nonce[:], EphemeralPublicKey: public[:], Ciphertext: ciphertext}, nil
}

func sealV2(to PublicKey, aad, plaintext []byte) (envelopeV2, error) {
	public, err := hpke.NewDHKEMPublicKey(to.key)
	if err != nil {
		return envelopeV2{}, fmt.Errorf("using the public key: %w", err)
	}
	enc, sender, err := hpke.NewSender(public, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), []byte(hpkeInfo))
	if err != nil {
		return envelopeV2{}, fmt.Errorf("agreeing on a key: %w", err)
	}
	ciphertext, err := sender.Seal(aad, plaintext)
	if err != nil {
		return envelopeV2{}, fmt.Errorf("encrypting: %w", err)
	}
	return envelopeV2{Version: 2, KeyID: to.ID(), Enc: enc, Ciphertext: ciphertext}, nil
}
