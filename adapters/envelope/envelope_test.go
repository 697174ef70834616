package envelope_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/apex-tradebill/omni-secrets/adapters/envelope"
	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

const (
	secretType = domain.SecretType("trading_api_key")
	expiresAt  = "2026-03-01T12:25:00Z"
	plaintext  = "correct horse battery staple"
)

var _ ports.EnvelopeOpener = (*envelope.Opener)(nil)

func TestSealedEnvelopesOpen(t *testing.T) {
	key, opener := keyAndOpener(t)
	largest := strings.Repeat("x", domain.MaxValueBytes)
	for _, version := range []int{1, 2} {
		for name, value := range map[string]string{"text": plaintext, "one byte": "\x00", "largest": largest} {
			t.Run(fmt.Sprintf("version %d, %s", version, name), func(t *testing.T) {
				opened, err := opener.Open(addressed(seal(t, key, version, value)))
				if err != nil {
					t.Fatal(err)
				}
				if got := string(opened.Value.Reveal()); got != value {
					t.Errorf("value is %.40q, want %.40q", got, value)
				}
				if opened.Version != version {
					t.Errorf("version is %d, want %d", opened.Version, version)
				}
				if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(opened.Digest) {
					t.Errorf("digest %q is not a SHA-256 in hex", opened.Digest)
				}
			})
		}
	}
}

// The files were sealed by other implementations: see testdata/README.md.
func TestEnvelopesOfOtherImplementationsOpen(t *testing.T) {
	for version, file := range map[int]string{1: "v1.json", 2: "v2.json"} {
		t.Run(file, func(t *testing.T) {
			g := readGolden(t, file)
			key := parsePrivate(t, g.PrivateKey)
			if got := key.Public().String(); got != g.PublicKey {
				t.Errorf("public key is %s, want %s", got, g.PublicKey)
			}
			opened, err := newOpener(t, key, true).Open(domain.Envelope{Type: g.SecretType, Ciphertext: g.Ciphertext, ExpiresAt: g.ExpiresAt})
			if err != nil {
				t.Fatal(err)
			}
			if got := string(opened.Value.Reveal()); got != g.Value || opened.Version != version {
				t.Errorf("opened %q of version %d, want %q of version %d", got, opened.Version, g.Value, version)
			}
		})
	}
}

func TestVersion2IsBoundToItsSecretAndExpiry(t *testing.T) {
	key, opener := keyAndOpener(t)
	ciphertext := seal(t, key, 2, plaintext)
	for name, e := range map[string]domain.Envelope{
		"another secret":                {Type: "webhook_shared_secret", ExpiresAt: expiresAt, Ciphertext: ciphertext},
		"a later expiry":                {Type: secretType, ExpiresAt: "2026-03-01T12:26:00Z", Ciphertext: ciphertext},
		"the same expiry, other letter": {Type: secretType, ExpiresAt: "2026-03-01T12:25:00+00:00", Ciphertext: ciphertext},
	} {
		t.Run(name, func(t *testing.T) { wantRefusal(t, opener, e, "secretType and expiresAt exactly") })
	}
}

func TestVersion1CanBeSwitchedOff(t *testing.T) {
	key, _ := keyAndOpener(t)
	opener := newOpener(t, key, false)
	wantRefusal(t, opener, addressed(seal(t, key, 1, plaintext)), "send version 2")
	if _, err := opener.Open(addressed(seal(t, key, 2, plaintext))); err != nil {
		t.Errorf("version 2: %v", err)
	}
}

func TestEnvelopeForAnotherKeyIsRefused(t *testing.T) {
	_, opener := keyAndOpener(t)
	other, _ := keyAndOpener(t)
	for _, version := range []int{1, 2} {
		wantRefusal(t, opener, addressed(seal(t, other, version, plaintext)), "sealed for another key")
	}
}

func TestOpenerNeedsAKey(t *testing.T) {
	if _, err := envelope.NewOpener(envelope.PrivateKey{}, true); err == nil {
		t.Error("want an error for the zero key")
	}
}

// A refusal must not carry what was in the envelope: errors are logged and answered.
func wantRefusal(t *testing.T, opener *envelope.Opener, e domain.Envelope, text string) {
	t.Helper()
	_, err := opener.Open(e)
	if err == nil {
		t.Fatalf("opened, want an error with %q", text)
	}
	if !strings.Contains(err.Error(), text) {
		t.Errorf("error is %q, want one with %q", err, text)
	}
	for _, private := range []string{e.Ciphertext, plaintext} {
		if private != "" && strings.Contains(err.Error(), private) {
			t.Errorf("error repeats the envelope's content: %q", err)
		}
	}
}

type golden struct {
	PrivateKey string            `json:"privateKey"`
	PublicKey  string            `json:"publicKey"`
	SecretType domain.SecretType `json:"secretType"`
	ExpiresAt  string            `json:"expiresAt"`
	Value      string            `json:"value"`
	Ciphertext string            `json:"ciphertext"`
}

func readGolden(t testing.TB, file string) golden {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func keyAndOpener(t testing.TB) (envelope.PrivateKey, *envelope.Opener) {
	t.Helper()
	key, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key, newOpener(t, key, true)
}

func newOpener(t testing.TB, key envelope.PrivateKey, allowV1 bool) *envelope.Opener {
	t.Helper()
	opener, err := envelope.NewOpener(key, allowV1)
	if err != nil {
		t.Fatal(err)
	}
	return opener
}

func parsePrivate(t testing.TB, text string) envelope.PrivateKey {
	t.Helper()
	key, err := envelope.ParsePrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func seal(t testing.TB, key envelope.PrivateKey, version int, value string) string {
	t.Helper()
	ciphertext, err := envelope.Seal(key.Public(), secretType, expiresAt, domain.NewValue([]byte(value)), version)
	if err != nil {
		t.Fatal(err)
	}
	return ciphertext
}

func addressed(ciphertext string) domain.Envelope {
	return domain.Envelope{Type: secretType, ExpiresAt: expiresAt, Ciphertext: ciphertext}
}

func TestKeys(t *testing.T) {
	key, _ := keyAndOpener(t)
	raw := key.Base64()

	t.Run("read back what they write", func(t *testing.T) {
		again := parsePrivate(t, raw)
		if again.Base64() != raw || again.Public().String() != key.Public().String() {
			t.Error("the private key changed")
		}
		public, err := envelope.ParsePublicKey(key.Public().String())
		if err != nil || public.String() != key.Public().String() {
			t.Errorf("public key %v, %v", public, err)
		}
	})
	t.Run("may be base64 of any kind", func(t *testing.T) {
		b, err := base64.StdEncoding.DecodeString(raw)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{
			base64.RawStdEncoding.EncodeToString(b), base64.URLEncoding.EncodeToString(b),
			base64.RawURLEncoding.EncodeToString(b), " " + raw + "\n",
		} {
			if parsePrivate(t, text).Base64() != raw {
				t.Error("another encoding gave another key")
			}
		}
	})

	bad := map[string]struct{ text, want string }{
		"empty":      {"", "is empty"},
		"not base64": {"$$$ secret $$$", "is not base64"},
		"too short":  {base64.StdEncoding.EncodeToString(make([]byte, 31)), "has 31 bytes; it must be base64 of 32"},
		"too long":   {base64.StdEncoding.EncodeToString(make([]byte, 33)), "has 33 bytes; it must be base64 of 32"},
	}
	for name, c := range bad {
		t.Run(name+" is refused", func(t *testing.T) {
			_, privateErr := envelope.ParsePrivateKey(c.text)
			_, publicErr := envelope.ParsePublicKey(c.text)
			for _, err := range []error{privateErr, publicErr} {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error is %v, want one with %q", err, c.want)
				}
				if err != nil && c.text != "" && strings.Contains(err.Error(), c.text) {
					t.Errorf("error repeats the key: %v", err)
				}
			}
		})
	}
	t.Run("a low-order public key is refused", func(t *testing.T) {
		_, err := envelope.ParsePublicKey(base64.StdEncoding.EncodeToString(make([]byte, 32)))
		if err == nil || !strings.Contains(err.Error(), "low-order") {
			t.Errorf("error is %v", err)
		}
	})
}

func TestPrivateKeyCannotBePrinted(t *testing.T) {
	key, opener := keyAndOpener(t)
	scalar, err := base64.StdEncoding.DecodeString(key.Base64())
	if err != nil {
		t.Fatal(err)
	}
	type nested struct {
		key    envelope.PrivateKey
		opener *envelope.Opener
	}
	var out bytes.Buffer
	for _, v := range []any{key, &key, *opener, nested{key, opener}, &nested{key, opener}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		slog.New(slog.NewJSONHandler(&out, nil)).Info("key", "key", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("key", "key", v)
	}
	for _, form := range []string{key.Base64(), string(scalar), fmt.Sprintf("%x", scalar), fmt.Sprintf("%X", scalar), fmt.Sprint(scalar), strings.Trim(fmt.Sprintf("%#v", scalar), "[]byte{}")} {
		if bytes.Contains(out.Bytes(), []byte(form)) {
			t.Error("the private key was printed")
		}
	}
	if fmt.Sprint(key) != string(domain.Redacted) {
		t.Errorf("prints as %v, want %v", key, domain.Redacted)
	}
}

func TestSealRefuses(t *testing.T) {
	key, _ := keyAndOpener(t)
	value := domain.NewValue([]byte(plaintext))
	for name, c := range map[string]struct {
		to      envelope.PublicKey
		value   domain.Value
		version int
		want    string
	}{
		"no key":             {envelope.PublicKey{}, value, 2, "public key"},
		"an empty value":     {key.Public(), domain.NewValue(nil), 2, "empty"},
		"a value too large":  {key.Public(), domain.NewValue(make([]byte, domain.MaxValueBytes+1)), 2, "65536 are allowed"},
		"an unknown version": {key.Public(), value, 3, "version 3"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := envelope.Seal(c.to, secretType, expiresAt, c.value, c.version); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
		})
	}
}
