package envelope_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/apex-tradebill/omni-secrets/adapters/envelope"
	"github.com/apex-tradebill/omni-secrets/domain"
)

// What is sealed opens to the same value, in both versions, unless a byte of the envelope, or, in version 2, of its secret
// or expiry has changed: then it does not open, and the refusal has nothing of the value.
func FuzzSeal(f *testing.F) {
	key, opener := keyAndOpener(f)
	f.Fuzz(func(t *testing.T, version byte, secretType, expiresAt string, value []byte, at uint16, change byte) {
		kind := 1 + int(version)%2
		text, err := envelope.Seal(key.Public(), domain.SecretType(secretType), expiresAt, domain.NewValue(value), kind)
		if legal := len(value) >= 1 && len(value) <= domain.MaxValueBytes; !legal {
			if err == nil {
				t.Errorf("sealed a value of %d bytes", len(value))
			}
			return
		}
		if err != nil {
			return // a secret or an expiry that no server would take
		}
		e := domain.Envelope{Type: domain.SecretType(secretType), ExpiresAt: expiresAt, Ciphertext: text}
		opened, err := opener.Open(e)
		if err != nil || !bytes.Equal(opened.Value.Reveal(), value) || opened.Version != kind {
			t.Fatalf("opened version %d: %v", opened.Version, err)
		}
		if change == 0 {
			return
		}
		refused := func(what string, e domain.Envelope) {
			t.Helper()
			_, err := opener.Open(e)
			if err == nil {
				t.Errorf("opened with another %s", what)
			} else if len(value) >= 8 && strings.Contains(err.Error(), string(value)) {
				t.Errorf("the refusal repeats the value: %v", err)
			}
		}
		changed := e
		changed.Ciphertext = flip(t, text, int(at), change)
		refused("ciphertext", changed)
		if kind == 2 {
			changed = e
			changed.Type += "x"
			refused("secret", changed)
			changed = e
			changed.ExpiresAt += " "
			refused("expiry", changed)
		}
	})
}

// flip changes one byte of what is encrypted.
func flip(t *testing.T, text string, at int, change byte) string {
	t.Helper()
	decoded, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(decoded, &fields); err != nil {
		t.Fatal(err)
	}
	sealed := bytesOf(t, fields, "ciphertext")
	sealed[at%len(sealed)] ^= change
	return encode(object(t, with(fields, "ciphertext", encode(sealed))))
}

// Whatever the text, what opens is what the slow and obvious reading of it finds: one JSON object of strings and a
// version, and nothing beside its fields.
func FuzzOpenedIsReadable(f *testing.F) {
	golden1, golden2 := readGolden(f, "v1.json"), readGolden(f, "v2.json")
	opener := newOpener(f, parsePrivate(f, golden1.PrivateKey), true)
	for _, g := range []golden{golden1, golden2} {
		object, err := base64.StdEncoding.DecodeString(g.Ciphertext)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(object)
		f.Add(append(object, '\n'))
		f.Add(bytes.Replace(object, []byte(`"version"`), []byte(`"VERSION"`), 1))
		f.Add(bytes.Replace(object, []byte(`{`), []byte(`{"ciphertext":"",`), 1))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		opened, err := opener.Open(domain.Envelope{Type: golden2.SecretType, ExpiresAt: golden2.ExpiresAt, Ciphertext: encode(object)})
		if err != nil {
			return
		}
		var fields map[string]any
		if err := json.Unmarshal(object, &fields); err != nil {
			t.Fatalf("opened what is no JSON: %v", err)
		}
		want := []string{"version", "enc", "ciphertext"}
		if opened.Version == 1 {
			want = []string{"version", "nonce", "ephemeralPublicKey", "ciphertext"}
		}
		for _, name := range want {
			if n := strings.Count(string(object), `"`+name+`"`); fields[name] == nil || n != 1 {
				t.Errorf("opened, with %q there %d times", name, n)
			}
		}
		if len(fields) != len(want) || fields["version"] != float64(opened.Version) {
			t.Errorf("opened as version %d, with the fields of %q", opened.Version, object)
		}
	})
}
