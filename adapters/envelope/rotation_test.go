package envelope_test

import (
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/apex-tradebill/omni-secrets/adapters/envelope"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

func newKey(t testing.TB) envelope.PrivateKey {
	t.Helper()
	key, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newOpenerOf(t testing.TB, keys ...envelope.PrivateKey) *envelope.Opener {
	t.Helper()
	o, err := envelope.NewOpener(keys[0], true, keys[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// sealWithoutKeyID seals as clients do that know of no key ids.
func sealWithoutKeyID(t testing.TB, to envelope.PrivateKey, value string) string {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(to.Public().String())
	if err != nil {
		t.Fatal(err)
	}
	point, err := ecdh.X25519().NewPublicKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	public, err := hpke.NewDHKEMPublicKey(point)
	if err != nil {
		t.Fatal(err)
	}
	enc, sender, err := hpke.NewSender(public, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), []byte("omni-secrets/break-glass/v2"))
	if err != nil {
		t.Fatal(err)
	}
	about := addressed("")
	sealed, err := sender.Seal([]byte(string(about.Type)+"\n"+about.ExpiresAt), []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return encode(object(t, map[string]any{"version": 2, "enc": enc, "ciphertext": sealed}))
}

func TestEnvelopesOfEachKeyOpenDuringARotation(t *testing.T) {
	before, after, foreign := newKey(t), newKey(t), newKey(t)
	for name, sealFor := range map[string]func(envelope.PrivateKey) string{
		"version 1":                  func(k envelope.PrivateKey) string { return seal(t, k, 1, plaintext) },
		"version 2":                  func(k envelope.PrivateKey) string { return seal(t, k, 2, plaintext) },
		"version 2 without a key id": func(k envelope.PrivateKey) string { return sealWithoutKeyID(t, k, plaintext) },
	} {
		t.Run(name, func(t *testing.T) {
			o := newOpenerOf(t, after, before)
			for _, key := range []envelope.PrivateKey{after, before} {
				opened, err := o.Open(addressed(sealFor(key)))
				if err != nil || string(opened.Value.Reveal()) != plaintext || opened.KeyID != key.Public().ID() {
					t.Errorf("opened by %q, want %q: %v", opened.KeyID, key.Public().ID(), err)
				}
			}
			wantRefusal(t, o, addressed(sealFor(foreign)), "sealed for another key")

			if err := o.UseKeys([]envelope.PrivateKey{after}); err != nil {
				t.Fatal(err)
			}
			wantRefusal(t, o, addressed(sealFor(before)), "sealed for another key")
		})
	}
}

func TestTheKeyIDIsAuthenticated(t *testing.T) {
	one, two := newKey(t), newKey(t)
	o := newOpenerOf(t, one, two)
	named, bare := fields(t, seal(t, one, 2, plaintext)), fields(t, sealWithoutKeyID(t, one, plaintext))
	for name, c := range map[string]struct {
		envelope map[string]any
		want     string
	}{
		"exchanged for that of another key": {with(named, "kid", two.Public().ID()), "does not decrypt"},
		"taken out":                         {with(named, "kid", nil), "does not decrypt"},
		"put in":                            {with(bare, "kid", one.Public().ID()), "does not decrypt"},
		"of no key of the server":           {with(named, "kid", "0123456789abcdef"), "which is " + one.Public().ID() + " or " + two.Public().ID()},
		"in upper case":                     {with(named, "kid", "ABCDEF0123456789"), "16 hexadecimal digits"},
		"too short":                         {with(named, "kid", "01234567"), "16 hexadecimal digits"},
		"empty":                             {with(named, "kid", ""), "16 hexadecimal digits"},
		"a number":                          {with(named, "kid", 1234567890123456), "16 hexadecimal digits"},
	} {
		t.Run(name, func(t *testing.T) { wantRefusal(t, o, addressed(encode(object(t, c.envelope))), c.want) })
	}
}

// The file was sealed by this package when envelopes first named their keys: its format is a contract.
func TestAnEnvelopeOfTheFirstDayThatNamesItsKeyOpens(t *testing.T) {
	g := readGolden(t, "v2-kid.json")
	key := parsePrivate(t, g.PrivateKey)
	opened, err := newOpenerOf(t, newKey(t), key).Open(domain.Envelope{Type: g.SecretType, Ciphertext: g.Ciphertext, ExpiresAt: g.ExpiresAt})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(opened.Value.Reveal()); got != g.Value || opened.KeyID != "aaa8fff703b50b22" || key.Public().String() != g.PublicKey {
		t.Errorf("opened %q by %s", got, opened.KeyID)
	}
}

func TestOpenerWhoseKeysComeLater(t *testing.T) {
	key := newKey(t)
	o := envelope.NewOpenerWithoutKeys(true)
	e := addressed(seal(t, key, 2, plaintext))
	if _, err := o.Open(e); !errors.Is(err, ports.ErrNoKey) {
		t.Errorf("without a key: %v", err)
	}
	if len(o.KeyIDs()) != 0 {
		t.Errorf("ids of no keys: %v", o.KeyIDs())
	}
	if err := o.UseKeys([]envelope.PrivateKey{key}); err != nil {
		t.Fatal(err)
	}
	for name, keys := range map[string][]envelope.PrivateKey{"none": nil, "a zero one": {newKey(t), {}}} {
		if err := o.UseKeys(keys); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, err := o.Open(e); err != nil {
		t.Error(err)
	}
}

func TestAKeyIDIsTheBeginningOfTheKeysHash(t *testing.T) {
	key := parsePrivate(t, base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))))
	if got, want := key.Public().ID(), "edc6984884814c4d"; got != want {
		t.Errorf("the id is %s, want %s", got, want)
	}
	if got := (envelope.PublicKey{}).ID(); got != "" {
		t.Errorf("the zero key has the id %q", got)
	}
}
