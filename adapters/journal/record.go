package journal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/apex-tradebill/omni-secrets/domain"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const (
	checksumLen = 8               // hex digits
	headerLen   = checksumLen + 1 // and the space
	unsealed    = "00000000 "
)

// seal fills in the checksum of a record, given without its line feed, that has zeros in its place.
func seal(record []byte) {
	sum := crc32.Checksum(record[headerLen:], castagnoli)
	for i := checksumLen - 1; i >= 0; i-- {
		record[i] = hexDigits[sum&0xf]
		sum >>= 4
	}
}

var errChecksum = errors.New("the checksum is wrong")

// payloadOf checks a line, given without its line feed, and returns what is in it.
func payloadOf(line []byte) ([]byte, error) {
	if len(line) < headerLen || line[checksumLen] != ' ' {
		return nil, errChecksum
	}
	var sum [checksumLen / 2]byte
	if _, err := hex.Decode(sum[:], line[:checksumLen]); err != nil {
		return nil, errChecksum
	}
	payload := line[headerLen:]
	want := uint32(sum[0])<<24 | uint32(sum[1])<<16 | uint32(sum[2])<<8 | uint32(sum[3])
	if crc32.Checksum(payload, castagnoli) != want {
		return nil, errChecksum
	}
	return payload, nil
}

// appendEvent appends the record of e, line feed included, without allocating beyond the growth of b. The JSON
// is written by hand because this is on the path of every read. Invalid UTF-8 becomes U+FFFD, as in
// encoding/json; the time is kept to the microsecond.
func appendEvent(b []byte, e *domain.Event) []byte {
	start := len(b)
	b = append(b, unsealed+`{"id":"`...)
	b = appendHex(b, e.ID.Start)
	b = append(b, '-')
	b = appendHex(b, e.ID.Seq)
	b = append(b, `","recordedAtMicros":`...)
	b = strconv.AppendInt(b, e.RecordedAt.UnixMicro(), 10)
	b = append(b, `,"durationNanos":`...)
	b = strconv.AppendInt(b, int64(e.Duration), 10)
	b = appendField(b, `,"type":"`, string(e.Type))
	b = appendField(b, `,"action":"`, string(e.Action))
	b = appendField(b, `,"actorType":"`, string(e.Actor.Type))
	b = appendField(b, `,"actorId":"`, e.Actor.ID)
	b = appendField(b, `,"result":"`, string(e.Result))
	b = appendField(b, `,"errorCode":"`, e.ErrorCode)
	b = appendField(b, `,"version":"`, e.Version)
	b = appendField(b, `,"source":"`, e.Source)
	b = appendField(b, `,"requestId":"`, e.RequestID)
	b = appendField(b, `,"replicaId":"`, e.ReplicaID)
	b = appendField(b, `,"reason":"`, e.Reason)
	b = append(b, '}')
	seal(b[start:])
	return append(b, '\n')
}

// appendField appends a member of the object unless it is empty. key ends with the opening quote of the value.
func appendField(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, key...)
	b = appendEscaped(b, value)
	return append(b, '"')
}

const hexDigits = "0123456789abcdef"

func appendHex(b []byte, n uint64) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, hexDigits[n>>shift&0xf])
	}
	return b
}

func appendEscaped(b []byte, s string) []byte {
	clean := 0 // from here on, s can be taken as it is
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			b = append(b, s[clean:i]...)
			if c < ' ' {
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
			} else {
				b = append(b, '\\', c)
			}
			i++
			clean = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			b = append(b, s[clean:i]...)
			b = utf8.AppendRune(b, utf8.RuneError)
			i++
			clean = i
			continue
		}
		i += size
	}
	return append(b, s[clean:]...)
}

// wireEvent is the JSON that appendEvent writes.
type wireEvent struct {
	ID               string            `json:"id"`
	RecordedAtMicros int64             `json:"recordedAtMicros"` // since 1970 in UTC
	DurationNanos    int64             `json:"durationNanos"`
	Type             domain.SecretType `json:"type"`
	Action           domain.Action     `json:"action"`
	ActorType        domain.ActorType  `json:"actorType"`
	ActorID          string            `json:"actorId"`
	Result           domain.Result     `json:"result"`
	ErrorCode        string            `json:"errorCode"`
	Version          string            `json:"version"`
	Source           string            `json:"source"`
	RequestID        string            `json:"requestId"`
	ReplicaID        string            `json:"replicaId"`
	Reason           string            `json:"reason"`
}

// decodeEvent reads a line, given without its line feed, that appendEvent wrote. What it does not know, it
// refuses: an event must not reach the database with a part left out.
func decodeEvent(line []byte, seen *interned) (domain.Event, error) {
	payload, err := payloadOf(line)
	if err != nil {
		return domain.Event{}, err
	}
	if e, ok := parseEvent(payload, seen); ok {
		return e, nil
	}
	return decodeOtherEvent(payload)
}

// decodeOtherEvent reads the JSON of an event however it was written, and says what is wrong with it.
func decodeOtherEvent(payload []byte) (domain.Event, error) {
	var w wireEvent
	if err := decodePayload(payload, &w); err != nil {
		return domain.Event{}, err
	}
	id, err := domain.ParseEventID(w.ID)
	if err != nil {
		return domain.Event{}, err
	}
	return domain.Event{
		ID: id, Type: w.Type, Action: w.Action, Actor: domain.Actor{Type: w.ActorType, ID: w.ActorID},
		Result: w.Result, ErrorCode: w.ErrorCode, Version: w.Version, Source: w.Source,
		Duration: time.Duration(w.DurationNanos), RequestID: w.RequestID, ReplicaID: w.ReplicaID,
		Reason: w.Reason, RecordedAt: time.UnixMicro(w.RecordedAtMicros).UTC(),
	}, nil
}

func decodeRecord(line []byte, into any) error {
	payload, err := payloadOf(line)
	if err != nil {
		return err
	}
	return decodePayload(payload, into)
}

func decodePayload(payload []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("decode: something follows the object")
	}
	return nil
}
