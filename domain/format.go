package domain

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

const maxPatternBytes = 1000

// The encodings of a FormatRule and, EncodingBase64 alone, of an HTTPProbeRule.
const (
	EncodingBase64    = "base64"    // the standard alphabet of RFC 4648, padded or not
	EncodingBase64URL = "base64url" // its alphabet for URLs, padded or not
	EncodingHex       = "hex"       // digits of either case
)

// FormatRule says what a value looks like. Zero fields demand nothing.
type FormatRule struct {
	Pattern              string // a regular expression of Go that matches the whole value
	MinLength, MaxLength int    // in bytes
	Encoding             string
	DecodedLength        int // exactly so many bytes once decoded; goes with Encoding
}

// Check returns nil when v satisfies the rule, else a *CheckError that names every part of the rule that v fails.
// Of the value it tells that alone, and whether white space surrounds it. The actual length stays out, since it
// makes guessing a short value easier, and the rule's own numbers tell the caller what to mend.
func (r FormatRule) Check(v Value) error {
	value := v.Reveal()
	var failed []string
	fails := func(format string, args ...any) { failed = append(failed, fmt.Sprintf(format, args...)) }

	if len(value) < r.MinLength {
		fails("is shorter than %d bytes", r.MinLength)
	}
	if r.MaxLength > 0 && len(value) > r.MaxLength {
		fails("is longer than %d bytes", r.MaxLength)
	}
	if r.Pattern != "" && !matchesWhole(r.Pattern, value) {
		fails("does not match the pattern")
	}
	if r.Encoding != "" {
		switch n, ok := decodedLen(r.Encoding, value); {
		case !ok:
			fails("is not %s", r.Encoding)
		case r.DecodedLength > 0 && n != r.DecodedLength:
			fails("does not decode to %d bytes", r.DecodedLength)
		}
	}
	if failed == nil {
		return nil
	}
	// What an editor or echo adds is the most frequent mistake, and the hardest one to see.
	if len(bytes.TrimSpace(value)) < len(value) {
		fails("begins or ends with white space, perhaps a line feed")
	}
	return &CheckError{Check: CheckFormat, Code: CheckFormatMismatch, Message: "the value " + strings.Join(failed, ", ")}
}

// matchesWhole looks for the longest match instead of wrapping the pattern in \A(?:…)\z, out of which a pattern
// can break.
func matchesWhole(pattern string, value []byte) bool {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return false // Catalog.Validate refuses it
	}
	re.Longest()
	return slices.Equal(re.FindIndex(value), []int{0, len(value)})
}

func decodedLen(encoding string, value []byte) (n int, ok bool) {
	if bytes.ContainsAny(value, "\r\n") { // which encoding/base64 skips
		return 0, false
	}
	var decoded []byte
	var err error
	switch encoding {
	case EncodingBase64:
		decoded, err = base64.RawStdEncoding.Strict().DecodeString(unpadded(value))
	case EncodingBase64URL:
		decoded, err = base64.RawURLEncoding.Strict().DecodeString(unpadded(value))
	case EncodingHex:
		decoded, err = hex.DecodeString(string(value))
	default:
		return 0, false // Catalog.Validate refuses it
	}
	return len(decoded), err == nil
}

// unpadded is value without its padding if that is right. A wrong one stays, for the decoder to refuse.
func unpadded(value []byte) string {
	text := strings.TrimRight(string(value), "=")
	if padding := len(value) - len(text); padding > 2 || padding > 0 && len(value)%4 != 0 {
		return string(value)
	}
	return text
}

func (r FormatRule) mistakes() (errs []error) {
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if r == (FormatRule{}) {
		wrong("it demands nothing; give it a pattern, minLength, maxLength or encoding")
	}
	if len(r.Pattern) > maxPatternBytes {
		wrong("pattern has %d bytes, at most %d are allowed", len(r.Pattern), maxPatternBytes)
	} else if _, err := regexp.Compile(r.Pattern); err != nil {
		reason := "not a regular expression"
		if e, ok := errors.AsType[*syntax.Error](err); ok { // whose own text may have several lines
			reason = fmt.Sprintf("%s: %q", e.Code, e.Expr)
		}
		wrong("pattern: %s", reason)
	}
	for _, bound := range []struct {
		name   string
		length int
	}{{"minLength", r.MinLength}, {"maxLength", r.MaxLength}, {"decodedLength", r.DecodedLength}} {
		if bound.length < 0 || bound.length > MaxValueBytes {
			wrong("%s is %d, must be 1 to %d", bound.name, bound.length, MaxValueBytes)
		}
	}
	if r.MaxLength > 0 && r.MinLength > r.MaxLength {
		wrong("minLength %d is more than maxLength %d", r.MinLength, r.MaxLength)
	}
	if !slices.Contains([]string{"", EncodingBase64, EncodingBase64URL, EncodingHex}, r.Encoding) {
		wrong("encoding %q must be %s, %s or %s", r.Encoding, EncodingBase64, EncodingBase64URL, EncodingHex)
	}
	if r.DecodedLength != 0 && r.Encoding == "" {
		wrong("decodedLength needs an encoding")
	}
	return errs
}
