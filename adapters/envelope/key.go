package envelope

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// PublicKey is the X25519 key that envelopes are sealed to. The zero PublicKey is none.
type PublicKey struct{ key *ecdh.PublicKey }

// PrivateKey is the X25519 key that opens envelopes. Like a domain.Value it cannot be printed; Base64 gives its
// text to those who mean it. The zero PrivateKey is none.
type PrivateKey struct{ scalar domain.Value }

// GenerateKey makes a new private key.
func GenerateKey() (PrivateKey, error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("generating an X25519 key: %w", err)
	}
	return PrivateKey{domain.NewValue(key.Bytes())}, nil
}

// ParsePrivateKey reads base64 of the 32 bytes of a private key. The error says what to mend and does not
// repeat the text.
func ParsePrivateKey(text string) (PrivateKey, error) {
	b, err := parseKey("private", text)
	if err != nil {
		return PrivateKey{}, err
	}
	defer clear(b)
	return PrivateKey{domain.NewValue(b)}, nil
}

// ParsePublicKey reads base64 of the 32 bytes of a public key. A low-order point is an error: what is sealed to
// one, everybody can open.
func ParsePublicKey(text string) (PublicKey, error) {
	b, err := parseKey("public", text)
	if err != nil {
		return PublicKey{}, err
	}
	key, err := ecdh.X25519().NewPublicKey(b)
	if err != nil {
		return PublicKey{}, fmt.Errorf("reading an X25519 public key: %w", err)
	}
	probe, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return PublicKey{}, fmt.Errorf("generating an X25519 key: %w", err)
	}
	if _, err := probe.ECDH(key); err != nil {
		return PublicKey{}, errors.New("the public key is a low-order point, which protects nothing; use one that keygen made")
	}
	return PublicKey{key}, nil
}

func parseKey(kind, text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, fmt.Errorf("the %s key is empty; it must be base64 of %d bytes", kind, keyBytes)
	}
	b, err := decode(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the %s key is not base64; it must be base64 of %d bytes", kind, keyBytes)
	case len(b) != keyBytes:
		return nil, fmt.Errorf("the %s key has %d bytes; it must be base64 of %d", kind, len(b), keyBytes)
	}
	return b, nil
}

// String is the key as ParsePublicKey reads it, "" for the zero key.
func (k PublicKey) String() string {
	if k.key == nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(k.key.Bytes())
}

// ID names the key: the first 8 bytes of its SHA-256, as hexadecimal digits. "" for the zero key. Other keys with the
// same id can be made on purpose, so an id says which key is meant, and is no proof of it.
func (k PublicKey) ID() string {
	if k.key == nil {
		return ""
	}
	sum := sha256.Sum256(k.key.Bytes())
	return hex.EncodeToString(sum[:keyIDBytes])
}

// Public is the key that belongs to k; the zero PublicKey when k is zero.
func (k PrivateKey) Public() PublicKey {
	key, err := k.ecdh()
	if err != nil {
		return PublicKey{}
	}
	return PublicKey{key.PublicKey()}
}

// Base64 is the key as ParsePrivateKey reads it. It is secret.
func (k PrivateKey) Base64() string { return base64.StdEncoding.EncodeToString(k.scalar.Reveal()) }

func (k PrivateKey) ecdh() (*ecdh.PrivateKey, error) {
	key, err := ecdh.X25519().NewPrivateKey(k.scalar.Reveal())
	if err != nil {
		return nil, fmt.Errorf("reading an X25519 private key: %w", err)
	}
	return key, nil
}

func (k PrivateKey) String() string               { return k.scalar.String() }
func (k PrivateKey) Format(s fmt.State, _ rune)   { _, _ = io.WriteString(s, k.String()) }
func (k PrivateKey) LogValue() slog.Value         { return k.scalar.LogValue() }
func (k PrivateKey) MarshalText() ([]byte, error) { return k.scalar.MarshalText() }
