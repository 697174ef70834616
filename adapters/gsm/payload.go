package gsm

import (
	"errors"
	"fmt"
	"hash/crc32"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"

	"github.com/apex-tradebill/omni-secrets/domain"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// open checks an answer and takes the value out of it. Its error is a *domain.FetchError.
func open(resp *secretmanagerpb.AccessSecretVersionResponse, ref reference) (domain.Fetched, error) {
	payload := resp.GetPayload()
	data := payload.GetData()
	// The checksum comes first: an answer that was damaged on its way says nothing for sure.
	if payload != nil && payload.DataCrc32C != nil && payload.GetDataCrc32C() != int64(crc32.Checksum(data, castagnoli)) {
		return domain.Fetched{}, &domain.FetchError{
			Reason: domain.ReasonChecksumMismatch,
			Err:    errors.New("the payload does not have the CRC32C that came with it"),
		}
	}
	version, err := ref.versionIn(resp.GetName())
	if err != nil {
		return domain.Fetched{}, &domain.FetchError{Reason: domain.ReasonInternal, Err: err}
	}
	if len(data) == 0 || len(data) > domain.MaxValueBytes {
		return domain.Fetched{}, &domain.FetchError{
			Reason: domain.ReasonInvalidPayload,
			Err:    fmt.Errorf("version %s has %d bytes, want 1 to %d", version, len(data), domain.MaxValueBytes),
		}
	}
	return domain.Fetched{Value: domain.NewValue(data), Version: version}, nil
}
