package http

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// bodies are buffers of answers with values. They are wiped after each use.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

// maxIdleBody bounds those that are kept.
const maxIdleBody = 4 << 10

// writeSecret writes the JSON of a read. It is made by hand since this is on the path of every read, and made each time
// rather than once for each version: an answer that waited for the next reader would keep a value in memory that may be
// gone by then.
func writeSecret(w io.Writer, s domain.Served, now time.Time) error {
	buffer, _ := bodies.Get().(*[]byte)
	body := appendSecret((*buffer)[:0], s, now)
	_, err := w.Write(body)
	clear(body)
	if cap(body) <= maxIdleBody {
		*buffer = body
		bodies.Put(buffer)
	}
	return err
}

func appendSecret(b []byte, s domain.Served, now time.Time) []byte {
	b = append(b, `{"secretType":`...)
	b = appendString(b, []byte(s.Type))
	if value := s.Value.Reveal(); utf8.Valid(value) {
		b = append(b, `,"value":`...)
		b = appendString(b, value)
	} else {
		b = append(b, `,"valueBase64":"`...)
		b = base64.StdEncoding.AppendEncode(b, value)
		b = append(b, '"')
	}
	b = append(b, `,"version":`...)
	b = appendString(b, []byte(s.Version))
	b = append(b, `,"source":`...)
	b = appendString(b, []byte(s.Source))
	b = append(b, `,"fetchedAt":`...)
	b = timestamp(s.FetchedAt).append(b)
	b = append(b, `,"expiresAt":`...)
	b = timestamp(s.ExpiresAt).append(b)
	b = append(b, `,"ageSeconds":`...)
	b = strconv.AppendFloat(b, seconds(s.Age(now)), 'f', -1, 64)
	b = append(b, `,"stale":`...)
	b = strconv.AppendBool(b, s.Stale)
	return append(b, '}', '\n')
}

// appendString appends text, which is UTF-8, as a JSON string. What needs no escapes is most of what there is;
// encoding/json does the rest.
func appendString(b, text []byte) []byte {
	for _, c := range text {
		if c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return appendEscaped(b, text)
		}
	}
	b = append(b, '"')
	b = append(b, text...)
	return append(b, '"')
}

func appendEscaped(b, text []byte) []byte {
	var escaped bytes.Buffer
	enc := json.NewEncoder(&escaped)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(string(text)) // a string always encodes
	b = append(b, bytes.TrimSuffix(escaped.Bytes(), []byte("\n"))...)
	clear(escaped.Bytes())
	return b
}
