package http

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// isoString is what JavaScript's toISOString writes.
const isoString = "2006-01-02T15:04:05.000Z"

// secretResponse is the answer as encoding/json would write it.
type secretResponse struct {
	SecretType  domain.SecretType `json:"secretType"`
	Value       *string           `json:"value,omitempty"`
	ValueBase64 *string           `json:"valueBase64,omitempty"`
	Version     string            `json:"version"`
	Source      string            `json:"source"`
	FetchedAt   string            `json:"fetchedAt"`
	ExpiresAt   string            `json:"expiresAt"`
	AgeSeconds  float64           `json:"ageSeconds"`
	Stale       bool              `json:"stale"`
}

func byReflection(t *testing.T, s domain.Served, now time.Time) []byte {
	t.Helper()
	response := secretResponse{
		SecretType: s.Type, Version: s.Version, Source: s.Source, FetchedAt: s.FetchedAt.UTC().Format(isoString),
		ExpiresAt: s.ExpiresAt.UTC().Format(isoString), AgeSeconds: seconds(s.Age(now)), Stale: s.Stale,
	}
	if text := string(s.Value.Reveal()); utf8.ValidString(text) {
		response.Value = &text
	} else {
		text = base64.StdEncoding.EncodeToString(s.Value.Reveal())
		response.ValueBase64 = &text
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(response); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// FuzzSecretBody holds the body that is written by hand to what encoding/json writes.
func FuzzSecretBody(f *testing.F) {
	f.Add([]byte("plain"), "7", int64(1234567890), int64(51_000_000), false)
	f.Add([]byte("quotes \" \\ <tags> & ünïcode \u2028 \x00\n"), "bg-X", int64(0), int64(0), true)
	f.Add([]byte("\xff\xfe"), "20261123T203136.469370181Z-1", int64(-5_000_000_000), int64(1), false)
	f.Fuzz(func(t *testing.T, value []byte, version string, fetched, age int64, stale bool) {
		value, version = append(value, '.'), strings.ToValidUTF8(version, "?") // no value is empty, no version is not text
		at := time.Unix(0, fetched%(1<<61)).In(time.FixedZone("local", 3600))
		s := domain.Served{
			Type: "trading_api_key", Value: domain.NewValue(value), Version: version, Source: "gsm",
			FetchedAt: at, ExpiresAt: at.Add(5 * time.Minute), Stale: stale,
		}
		now := at.Add(time.Duration(age % (1 << 60)))
		if got, want := appendSecret(nil, s, now), byReflection(t, s, now); !bytes.Equal(got, want) {
			t.Errorf("by hand:\n%s\nby reflection:\n%s", got, want)
		}
	})
}

// A buffer that waits for its next use holds nothing of the last one.
func TestBodiesAreWiped(t *testing.T) {
	s := domain.Served{Type: "trading_api_key", Value: domain.NewValue([]byte("a value that must not stay")), Version: "1", Source: "gsm"}
	var answer bytes.Buffer
	if err := writeSecret(&answer, s, time.Now()); err != nil || !bytes.Contains(answer.Bytes(), []byte("must not stay")) {
		t.Fatalf("%v: %s", err, answer.Bytes())
	}
	buffer, _ := bodies.Get().(*[]byte)
	if left := (*buffer)[:cap(*buffer)]; bytes.Contains(left, []byte("must not stay")) {
		t.Errorf("the buffer holds %q", left)
	}
}
