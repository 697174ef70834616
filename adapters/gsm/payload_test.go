package gsm

import (
	"bytes"
	"strings"
	"testing"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/protobuf/proto"

	"github.com/apex-tradebill/omni-secrets/domain"
)

func TestOpen(t *testing.T) {
	const name = "projects/omni-dev/secrets/api-key/versions/7"
	const crc = 0xe3069283 // of "123456789", the check value of CRC-32C (iSCSI)
	ref, err := parseReference("projects/omni-dev/secrets/api-key")
	if err != nil {
		t.Fatal(err)
	}
	payload := func(data string, crc *int64) *secretmanagerpb.SecretPayload {
		return &secretmanagerpb.SecretPayload{Data: []byte(data), DataCrc32C: crc}
	}
	for _, c := range []struct {
		name    string
		answer  string // its resource name
		payload *secretmanagerpb.SecretPayload
		version string
		reason  domain.Reason
	}{
		{"a payload with its checksum", name, payload("123456789", proto.Int64(crc)), "7", ""},
		{"a payload without a checksum", name, payload("123456789", nil), "7", ""},
		{"another checksum", name, payload("123456780", proto.Int64(crc)), "", domain.ReasonChecksumMismatch},
		{"a checksum of 0 is one too", name, payload("123456789", proto.Int64(0)), "", domain.ReasonChecksumMismatch},
		{"damage makes it empty", name, payload("", proto.Int64(crc)), "", domain.ReasonChecksumMismatch},
		{"the project's number in place of its id", "projects/4711/secrets/api-key/versions/7", payload("x", nil), "7", ""},
		{"no payload", name, nil, "", domain.ReasonInvalidPayload},
		{"an empty payload", name, payload("", proto.Int64(0)), "", domain.ReasonInvalidPayload},
		{"the largest payload", name, payload(strings.Repeat("x", domain.MaxValueBytes), nil), "7", ""},
		{"a larger payload", name, payload(strings.Repeat("x", domain.MaxValueBytes+1), nil), "", domain.ReasonInvalidPayload},
		{"no name", "", payload("x", nil), "", domain.ReasonInternal},
		{"an alias in the name", "projects/omni-dev/secrets/api-key/versions/latest", payload("x", nil), "", domain.ReasonInternal},
		{"version 0", "projects/omni-dev/secrets/api-key/versions/0", payload("x", nil), "", domain.ReasonInternal},
		{"no version in the name", "projects/omni-dev/secrets/api-key", payload("x", nil), "", domain.ReasonInternal},
		{"another word for versions", "projects/omni-dev/secrets/api-key/copies/7", payload("x", nil), "", domain.ReasonInternal},
		{"another secret", "projects/omni-dev/secrets/passphrase/versions/7", payload("x", nil), "", domain.ReasonInternal},
		{"another location", "projects/omni-dev/locations/europe-west3/secrets/api-key/versions/7", payload("x", nil), "", domain.ReasonInternal},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := open(&secretmanagerpb.AccessSecretVersionResponse{Name: c.answer, Payload: c.payload}, ref)
			if c.reason != "" {
				if err == nil || domain.ReasonOf(err) != c.reason {
					t.Errorf("open failed with %v, want %s", err, c.reason)
				}
				return
			}
			if err != nil || got.Version != c.version || !bytes.Equal(got.Value.Reveal(), c.payload.GetData()) {
				t.Errorf("open gave version %q (%v), want %q with the payload", got.Version, err, c.version)
			}
		})
	}
}
