package envelope

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// maxText bounds the text of an envelope: room for the largest value, encoded as base64 twice, with its
// surroundings.
const maxText = 2*domain.MaxValueBytes + 1024

// wire is an envelope that was taken apart. Its nonce, key and ciphertext have legal sizes.
type wire struct {
	version    int
	keyID      string // of version 2; "" when it names none
	nonce      []byte // version 1
	key        []byte // ephemeralPublicKey of version 1, enc of version 2
	ciphertext []byte
}

var (
	errNotBase64 = errors.New("the envelope is not base64; send the base64 of its JSON")
	errTooLong   = fmt.Errorf("the envelope is longer than %d characters", maxText)
	errNotJSON   = errors.New("the envelope is not one JSON object of strings and a number, each field once")
	errVersion   = errors.New("the envelope's version must be the number 1 or 2")
	errKeyID     = errors.New("the envelope's kid must be the 16 hexadecimal digits, in lower case, that name a public key")
	errFieldsV1  = errors.New("an envelope of version 1 must have the fields version, nonce, ephemeralPublicKey and ciphertext, and no other")
	errFieldsV2  = errors.New("an envelope of version 2 must have the fields version, enc and ciphertext, perhaps kid, and no other")
)

func parse(text string) (wire, error) {
	if len(text) > maxText {
		return wire{}, errTooLong
	}
	object, err := decode(text)
	if err != nil {
		return wire{}, errNotBase64
	}
	fields, err := flatObject(object)
	if err != nil {
		return wire{}, err
	}
	switch fields["version"] {
	case json.Number("1"):
		if len(fields) != 4 {
			return wire{}, errFieldsV1
		}
		nonce, err1 := binary(fields, "nonce", nonceBytes, nonceBytes)
		key, err2 := binary(fields, "ephemeralPublicKey", keyBytes, keyBytes)
		ciphertext, err3 := binary(fields, "ciphertext", tagBytes, maxText)
		return wire{1, "", nonce, key, ciphertext}, errors.Join(err1, err2, err3)
	case json.Number("2"):
		id, named, err0 := keyID(fields)
		if len(fields) != 3 && !(named && len(fields) == 4) {
			return wire{}, errFieldsV2
		}
		key, err1 := binary(fields, "enc", keyBytes, keyBytes)
		ciphertext, err2 := binary(fields, "ciphertext", tagBytes, maxText)
		return wire{2, id, nil, key, ciphertext}, errors.Join(err0, err1, err2)
	default:
		return wire{}, errVersion
	}
}

// flatObject reads one JSON object whose values are strings and numbers. It is stricter than encoding/json's
// Unmarshal: a field may stand there once, in its exact case, and nothing may follow the object. The errors of
// the decoder quote their input and are left out.
func flatObject(text []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil, errNotJSON
	}
	fields := make(map[string]any, 4)
	for d.More() {
		token, err := d.Token()
		name, ok := token.(string)
		if _, twice := fields[name]; err != nil || !ok || twice {
			return nil, errNotJSON
		}
		value, err := d.Token()
		if err != nil {
			return nil, errNotJSON
		}
		switch value.(type) {
		case string, json.Number:
			fields[name] = value
		default:
			return nil, errNotJSON
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, errNotJSON
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errNotJSON
	}
	return fields, nil
}

// keyID is the kid field, if there is one: as PublicKey.ID writes it, so that one key has one name.
func keyID(fields map[string]any) (id string, present bool, err error) {
	field, present := fields["kid"]
	if !present {
		return "", false, nil
	}
	id, _ = field.(string)
	if b, err := hex.DecodeString(id); err != nil || len(b) != keyIDBytes || strings.ToLower(id) != id {
		return "", true, errKeyID
	}
	return id, true, nil
}

// binary is a field's bytes, of which there must be at least minimum and at most maximum.
func binary(fields map[string]any, name string, minimum, maximum int) ([]byte, error) {
	text, ok := fields[name].(string)
	if !ok {
		return nil, fmt.Errorf("the envelope's %s must be a string", name)
	}
	b, err := decode(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the envelope's %s is not base64", name)
	case len(b) < minimum || len(b) > maximum:
		return nil, fmt.Errorf("the envelope's %s has %d bytes, which is not a legal size", name, len(b))
	}
	return b, nil
}

// decode reads base64 (RFC 4648) of the standard or the URL alphabet, with padding or without: clients' tools
// differ, and no meaning is lost. As in encoding/base64, line breaks are ignored.
func decode(text string) ([]byte, error) {
	encoding := base64.StdEncoding
	if strings.ContainsAny(text, "-_") {
		encoding = base64.URLEncoding
	}
	text = strings.TrimRight(text, "\r\n")
	if !strings.HasSuffix(text, "=") {
		encoding = encoding.WithPadding(base64.NoPadding)
	}
	return encoding.DecodeString(text)
}
