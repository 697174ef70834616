package envelope_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/nacl/box"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// fields takes an envelope apart, so that tests can change it.
func fields(t testing.TB, ciphertext string) map[string]any {
	t.Helper()
	object, err := base64.StdEncoding.DecodeString(ciphertext)
	if err != nil {
		t.Fatal(err)
	}
	var f map[string]any
	if err := json.Unmarshal(object, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func object(t testing.TB, f map[string]any) []byte {
	t.Helper()
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func encode(object []byte) string { return base64.StdEncoding.EncodeToString(object) }

// with is f with one field set, or left out when value is nil.
func with(f map[string]any, name string, value any) map[string]any {
	f = maps.Clone(f)
	if value == nil {
		delete(f, name)
	} else {
		f[name] = value
	}
	return f
}

func bytesOf(t testing.TB, f map[string]any, name string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(f[name].(string))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDigestIsOfTheEnvelopeAndNotOfItsText(t *testing.T) {
	key, opener := keyAndOpener(t)
	for version, keyField := range map[int]string{1: "ephemeralPublicKey", 2: "enc"} {
		t.Run(fmt.Sprintf("version %d", version), func(t *testing.T) {
			ciphertext := seal(t, key, version, plaintext)
			opened, err := opener.Open(addressed(ciphertext))
			if err != nil {
				t.Fatal(err)
			}
			f := fields(t, ciphertext)
			compact := object(t, f)
			indented, err := json.MarshalIndent(f, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			rawKey := bytesOf(t, f, keyField)
			for name, text := range map[string]string{
				"fields in another order":     encode(compact),
				"white space":                 encode(indented),
				"outer base64 unpadded":       base64.RawStdEncoding.EncodeToString(indented),
				"outer base64 for URLs":       base64.URLEncoding.EncodeToString(indented),
				"outer base64 with line ends": ciphertext[:40] + "\r\n" + ciphertext[40:] + "\n",
				"inner base64 for URLs":       encode(object(t, with(f, keyField, base64.RawURLEncoding.EncodeToString(rawKey)))),
				"escaped characters":          encode(bytes.Replace(compact, []byte(`"version"`), []byte(`"\u0076ersion"`), 1)),
			} {
				again, err := opener.Open(addressed(text))
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if again.Digest != opened.Digest {
					t.Errorf("%s: digest changed", name)
				}
			}
			other, err := opener.Open(addressed(seal(t, key, version, plaintext)))
			if err != nil {
				t.Fatal(err)
			}
			if other.Digest == opened.Digest {
				t.Error("another envelope with the same value has the same digest")
			}
		})
	}
}

func TestDigestCoversTheCiphertext(t *testing.T) {
	key, opener := keyAndOpener(t)
	public, private, err := box.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	to, nonce := keyBytes(t, key.Public().String()), make([]byte, 24)
	digest := func(value string) string {
		opened, err := opener.Open(addressed(encode(object(t, map[string]any{
			"version": 1, "nonce": encode(nonce), "ephemeralPublicKey": encode(public[:]),
			"ciphertext": encode(box.Seal(nil, []byte(value), (*[24]byte)(nonce), (*[32]byte)(to), private)),
		}))))
		if err != nil {
			t.Fatal(err)
		}
		return opened.Digest
	}
	if digest("one value") == digest("another one") {
		t.Error("envelopes with one nonce and key and two values have the same digest")
	}
}

// X25519 ignores the top bit of a public key (RFC 7748 section 5), so a replayed envelope can carry a changed key.
func TestChangedKeyDoesNotHideAReplay(t *testing.T) {
	key, opener := keyAndOpener(t)
	flipped := func(version int, field string) (original, changed domain.Envelope) {
		ciphertext := seal(t, key, version, plaintext)
		f := fields(t, ciphertext)
		k := bytesOf(t, f, field)
		k[31] ^= 0x80
		return addressed(ciphertext), addressed(encode(object(t, with(f, field, encode(k)))))
	}
	t.Run("version 1 has the same digest", func(t *testing.T) {
		original, changed := flipped(1, "ephemeralPublicKey")
		a, err := opener.Open(original)
		if err != nil {
			t.Fatal(err)
		}
		b, err := opener.Open(changed)
		if err != nil {
			t.Fatal(err)
		}
		if a.Digest != b.Digest {
			t.Error("the digest depends on how the key is written")
		}
	})
	t.Run("version 2 is refused", func(t *testing.T) {
		_, changed := flipped(2, "enc")
		wantRefusal(t, opener, changed, "does not decrypt")
	})
}

// With a low-order key the shared secret is zero, whatever the private key: everybody can seal and open.
func TestLowOrderKeysAreRefused(t *testing.T) {
	_, opener := keyAndOpener(t)
	one := make([]byte, 32)
	one[0] = 1
	for name, point := range map[string][]byte{"zero": make([]byte, 32), "one": one} {
		t.Run("version 1, "+name, func(t *testing.T) {
			var shared, anyScalar [32]byte
			box.Precompute(&shared, (*[32]byte)(point), &anyScalar)
			nonce := make([]byte, 24)
			wantRefusal(t, opener, addressed(encode(object(t, map[string]any{
				"version": 1, "nonce": encode(nonce), "ephemeralPublicKey": encode(point),
				"ciphertext": encode(box.SealAfterPrecomputation(nil, []byte(plaintext), (*[24]byte)(nonce), &shared)),
			}))), "low-order")
		})
		t.Run("version 2, "+name, func(t *testing.T) {
			wantRefusal(t, opener, addressed(encode(object(t, map[string]any{
				"version": 2, "enc": encode(point), "ciphertext": encode(make([]byte, 48)),
			}))), "does not decrypt")
		})
	}
}

func TestMalformedEnvelopesAreRefused(t *testing.T) {
	key, opener := keyAndOpener(t)
	v1, v2 := fields(t, seal(t, key, 1, plaintext)), fields(t, seal(t, key, 2, plaintext))
	o1, o2 := object(t, v1), object(t, v2)
	tampered := bytesOf(t, v2, "ciphertext")
	tampered[0] ^= 1

	for name, c := range map[string]struct{ text, want string }{
		"empty":                     {"", "not one JSON object"},
		"not base64":                {"{}", "not base64"},
		"alphabets mixed":           {"+_+_", "not base64"},
		"not JSON":                  {encode([]byte("hello")), "not one JSON object"},
		"an array":                  {encode([]byte("[1]")), "not one JSON object"},
		"cut short":                 {encode(o1[:len(o1)-1]), "not one JSON object"},
		"a comma too many":          {encode([]byte(`{"version":1,}`)), "not one JSON object"},
		"two objects":               {encode(append(slices.Clip(o1), o2...)), "not one JSON object"},
		"bytes after the object":    {encode(append(slices.Clip(o1), 'x')), "not one JSON object"},
		"a field twice":             {encode(append([]byte(`{"version":1,`), o1[1:]...)), "not one JSON object"},
		"a nested object":           {encode(object(t, with(v1, "nonce", map[string]any{}))), "not one JSON object"},
		"a null":                    {encode([]byte(`{"version":null}`)), "not one JSON object"},
		"no version":                {encode(object(t, with(v1, "version", nil))), "version must be"},
		"version 3":                 {encode(object(t, with(v1, "version", 3))), "version must be"},
		"version as text":           {encode(object(t, with(v1, "version", "1"))), "version must be"},
		"version in another case":   {encode(bytes.Replace(o1, []byte("version"), []byte("Version"), 1)), "version must be"},
		"v1 with an unknown field":  {encode(object(t, with(v1, "note", "x"))), "and no other"},
		"v1 without a nonce":        {encode(object(t, with(v1, "nonce", nil))), "must have the fields"},
		"v1 with a field renamed":   {encode(bytes.Replace(o1, []byte("nonce"), []byte("Nonce"), 1)), "nonce must be a string"},
		"v1 with a numeric nonce":   {encode(object(t, with(v1, "nonce", 7))), "nonce must be a string"},
		"v1 nonce not base64":       {encode(object(t, with(v1, "nonce", "***"))), "nonce is not base64"},
		"v1 nonce too short":        {encode(object(t, with(v1, "nonce", encode(make([]byte, 23))))), "nonce has 23 bytes"},
		"v1 key too long":           {encode(object(t, with(v1, "ephemeralPublicKey", encode(make([]byte, 33))))), "ephemeralPublicKey has 33 bytes"},
		"v1 ciphertext without tag": {encode(object(t, with(v1, "ciphertext", encode(make([]byte, 15))))), "ciphertext has 15 bytes"},
		"v1 tampered":               {encode(object(t, with(v1, "ciphertext", encode(make([]byte, 60))))), "does not decrypt"},
		"v2 with an unknown field":  {encode(object(t, with(v2, "aad", "x"))), "and no other"},
		"v2 with v1's fields":       {encode(object(t, with(v1, "version", 2))), "version 2 must have"},
		"v2 key too short":          {encode(object(t, with(v2, "enc", encode(make([]byte, 31))))), "enc has 31 bytes"},
		"v2 tampered":               {encode(object(t, with(v2, "ciphertext", encode(tampered)))), "does not decrypt"},
		"too long":                  {strings.Repeat("A", 1<<20), "longer than"},
	} {
		t.Run(name, func(t *testing.T) { wantRefusal(t, opener, addressed(c.text), c.want) })
	}
}

func TestIllegalValuesAreRefused(t *testing.T) {
	key, opener := keyAndOpener(t)
	for name, c := range map[string]struct {
		value []byte
		want  string
	}{
		"empty":     {nil, "value is empty"},
		"too large": {make([]byte, domain.MaxValueBytes+1), "larger than 65536 bytes"},
	} {
		t.Run("version 1, "+name, func(t *testing.T) {
			public, private, err := box.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			nonce := make([]byte, 24)
			to := keyBytes(t, key.Public().String())
			wantRefusal(t, opener, addressed(encode(object(t, map[string]any{
				"version": 1, "nonce": encode(nonce), "ephemeralPublicKey": encode(public[:]),
				"ciphertext": encode(box.Seal(nil, c.value, (*[24]byte)(nonce), (*[32]byte)(to), private)),
			}))), c.want)
		})
		t.Run("version 2, "+name, func(t *testing.T) {
			point, err := ecdh.X25519().NewPublicKey(keyBytes(t, key.Public().String()))
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
			sealed, err := sender.Seal([]byte(string(secretType)+"\n"+expiresAt), c.value)
			if err != nil {
				t.Fatal(err)
			}
			wantRefusal(t, opener, addressed(encode(object(t, map[string]any{
				"version": 2, "enc": encode(enc), "ciphertext": encode(sealed),
			}))), c.want)
		})
	}
}

func keyBytes(t testing.TB, text string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever comes in, an envelope opens to a legal value or is refused, and opening it again gives the same digest.
func FuzzOpen(f *testing.F) {
	golden1, golden2 := readGolden(f, "v1.json"), readGolden(f, "v2.json")
	opener := newOpener(f, parsePrivate(f, golden1.PrivateKey), true)
	for _, seed := range []string{
		golden1.Ciphertext, golden2.Ciphertext, "", encode([]byte(`{"version":1}`)), encode([]byte(`{"version":2,"enc":"","ciphertext":""}`)),
		encode(object(f, with(fields(f, golden1.Ciphertext), "ephemeralPublicKey", encode(make([]byte, 32))))),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, ciphertext string) {
		e := domain.Envelope{Type: golden2.SecretType, ExpiresAt: golden2.ExpiresAt, Ciphertext: ciphertext}
		opened, err := opener.Open(e)
		if err != nil {
			if !opened.Value.IsZero() || opened.Digest != "" {
				t.Error("a refused envelope has a value or a digest")
			}
			return
		}
		if n := len(opened.Value.Reveal()); n < 1 || n > domain.MaxValueBytes {
			t.Errorf("opened a value of %d bytes", n)
		}
		if again, err := opener.Open(e); err != nil || again.Digest != opened.Digest {
			t.Errorf("opening again: %v, digest %s, then %s", err, opened.Digest, again.Digest)
		}
	})
}
