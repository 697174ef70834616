package http

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// MaxBodyBytes is the largest request body. It holds the largest secret as a version 1 envelope, which base64
// makes grow twice.
const MaxBodyBytes = 128 << 10

// decode reads the JSON object in the request's body into dst, whatever the content type: curl -d names a
// form. fields lists what dst knows, for messages: the body itself is never repeated, it may hold a secret
// that was sent by mistake. An empty body leaves dst as it is.
func decode(w http.ResponseWriter, r *http.Request, dst any, fields string) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBodyBytes))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return invalid("the body is larger than %d KiB", MaxBodyBytes>>10)
		}
		return invalid("the body could not be read to its end")
	}
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return nil
	}
	if body[0] != '{' {
		return invalid("the body must be a JSON object; it may have %s", fields)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	err = dec.Decode(dst)
	if wrongType, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return invalid("field %s must be a %s", wrongType.Field, wrongType.Type)
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return invalid("the body is not valid JSON, at byte %d", syntax.Offset)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return invalid("the body is not valid JSON: it ends too early")
	}
	if err != nil {
		return invalid("the body has an unknown field; it may have %s", fields)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return invalid("the body goes on after its JSON object")
	}
	if !exact(body, dst) {
		return invalid("each field of the body must stand there once, in its exact case; it may have %s", fields)
	}
	return nil
}

// exact reports whether each field of the body, which was read into the struct that dst points to, stands there once and
// in the case of its tag. encoding/json lets SECRETTYPE pass for secretType, and the last of two fields win, so that what
// somebody else has looked at is not what is done.
func exact(body []byte, dst any) bool {
	known := make(map[string]bool) // and whether it has not been there yet
	for _, f := range reflect.VisibleFields(reflect.TypeOf(dst).Elem()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		known[name] = true
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	_, err := dec.Token() // the brace
	for err == nil && dec.More() {
		var name json.Token
		if name, err = dec.Token(); err != nil {
			break
		}
		text, ok := name.(string)
		if !ok || !known[text] {
			return false
		}
		known[text] = false
		_, err = dec.Token() // its value, which is no object or array: no request has such a field
	}
	return err == nil
}

// field is one that a body must have.
type field struct{ name, value string }

// required refuses a body in which one of the fields is missing or empty.
func required(fields ...field) error {
	for _, f := range fields {
		if f.value == "" {
			return invalid("field %s is missing", f.name)
		}
	}
	return nil
}

func invalid(format string, args ...any) *domain.Error {
	return &domain.Error{Code: domain.CodeInvalidRequest, Message: fmt.Sprintf(format, args...)}
}
