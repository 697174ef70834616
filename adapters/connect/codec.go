package connect

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// strictJSON is the library's JSON codec, but it refuses unknown fields: a mistyped name of a secret would otherwise
// refresh all of them. And its errors do not repeat what was sent, which may be a secret in the wrong place.
type strictJSON struct{ name string }

var errMalformed = errors.New("the message is not the JSON of this call: a field is not known, or has the wrong type, or the JSON is not valid")

// Name is the codec's name in content types.
func (c strictJSON) Name() string { return c.name }

// IsBinary tells the library that it may put messages into URLs as they are.
func (strictJSON) IsBinary() bool { return false }

// Marshal writes a message.
func (c strictJSON) Marshal(message any) ([]byte, error) { return c.MarshalAppend(nil, message) }

// MarshalAppend writes a message behind what dst holds.
func (strictJSON) MarshalAppend(dst []byte, message any) ([]byte, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no protobuf message", message)
	}
	return protojson.MarshalOptions{}.MarshalAppend(dst, m)
}

// Unmarshal reads a message.
func (strictJSON) Unmarshal(data []byte, message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no protobuf message", message)
	}
	if len(data) == 0 {
		return errors.New("the message is empty; the JSON of one without fields is {}")
	}
	if protojson.Unmarshal(data, m) != nil {
		return errMalformed
	}
	return nil
}
