package connect_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1/secretsv1connect"
)

// fuzzedCalls are the procedures that bytes are sent to, as who may call them, and as what.
var (
	fuzzedCalls = []struct{ procedure, token string }{
		{secretsv1connect.SecretsServiceGetSecretProcedure, tokenRead},
		{secretsv1connect.SecretsServiceWatchSecretsProcedure, tokenRead},
		{secretsv1connect.SecretsServiceRefreshCacheProcedure, tokenCache},
		{secretsv1connect.OpsServiceGetStatusProcedure, tokenOps},
		{secretsv1connect.OpsServiceApplyBreakGlassProcedure, tokenOps},
		{secretsv1connect.OpsServiceClearBreakGlassProcedure, tokenOps},
		{secretsv1connect.OpsServicePreviewRotationProcedure, tokenOps},
		{secretsv1connect.OpsServiceBeginRotationProcedure, tokenOps},
		{secretsv1connect.OpsServicePromoteRotationProcedure, tokenOps},
		{secretsv1connect.OpsServiceRecordRotationProcedure, tokenOps},
		{secretsv1connect.OpsServiceCloseFollowUpProcedure, tokenOps},
		{secretsv1connect.OpsServiceListAuditEventsProcedure, tokenOps},
		{"/grpc.health.v1.Health/Check", ""},
		{"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", ""},
		{"/omni.secrets.v1.SecretsService/Nothing", tokenRead},
	}
	fuzzedTypes = []string{
		"application/proto", "application/json", "application/connect+proto", "application/connect+json",
		"application/grpc", "application/grpc+proto", "application/grpc+json", "application/grpc-web", "application/grpc-web+json",
		"text/plain", "application/json; charset=utf-8",
		getJSON, getBase64, getProto,
	}
)

// Messages in the query of a GET have no content type: these are how it says what they are.
const (
	getJSON   = "connect=v1&encoding=json&message="
	getBase64 = "connect=v1&encoding=json&base64=1&message="
	getProto  = "connect=v1&encoding=proto&message="
)

// misplaced is what must not come back: somebody has put a secret where it does not belong.
const misplaced = "M1splacedPla1ntext"

// Whatever bytes come in whichever protocol, the answer has a code that the API document has, never that of a mistake of
// ours; nothing panics; and nothing of what was sent is in a failure or in the log.
func FuzzWire(f *testing.F) {
	api := newFixture(f)
	api.service.EndWatches() // so that none goes on
	handler := api.server.Config.Handler
	f.Fuzz(func(t *testing.T, procedure, contentType byte, encoding string, body []byte) {
		if bytes.Contains(body, []byte(panics)) {
			return // it does, on purpose
		}
		call := fuzzedCalls[int(procedure)%len(fuzzedCalls)]
		kind := fuzzedTypes[int(contentType)%len(fuzzedTypes)]
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, call.procedure, bytes.NewReader(body))
		if strings.HasPrefix(kind, "connect=") {
			r = httptest.NewRequestWithContext(t.Context(), http.MethodGet, call.procedure, nil)
			r.URL.RawQuery = kind + url.QueryEscape(string(body))
			if encoding != "" {
				r.URL.RawQuery += "&compression=" + url.QueryEscape(encoding)
			}
		} else {
			r.Header.Set("Content-Type", kind)
		}
		r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
		for _, name := range []string{"Content-Encoding", "Connect-Content-Encoding", "Grpc-Encoding"} {
			if encoding != "" {
				r.Header.Set(name, encoding)
			}
		}
		if call.token != "" {
			r.Header.Set("Authorization", "Bearer "+call.token)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)

		answer := w.Result()
		text, _ := io.ReadAll(answer.Body)
		code, message := codeOf(t, answer, text)
		// The library has no other code for a frame that is none, or for what is behind the last.
		broken := code == "internal" && (strings.HasPrefix(message, "protocol error: ") || strings.HasPrefix(message, "corrupt response: "))
		if !broken && !slices.Contains(documented, code) {
			t.Errorf("%s as %s: code %q, %q (HTTP %d)", call.procedure, kind, code, message, answer.StatusCode)
		}
		log := api.logs.take()
		if strings.Contains(message, misplaced) || strings.Contains(log, misplaced) {
			t.Errorf("what was sent comes back: %q\n%s", message, log)
		}
		if strings.Contains(log, "panic") || strings.Contains(log, "a request failed") {
			t.Errorf("the log has a mistake of ours: %s", log)
		}
	})
}

// take empties the buffer.
func (b *lockedBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.buf.Reset()
	return b.buf.String()
}

// documented are the codes that callers must reckon with; "" is success.
var documented = []string{
	"", "canceled", "invalid_argument", "not_found", "permission_denied", "resource_exhausted", "failed_precondition",
	"unimplemented", "unavailable", "unauthenticated", "415", "404", "405",
}

// codeOf is the code of an answer in any of the protocols, and its message.
func codeOf(t *testing.T, answer *http.Response, body []byte) (code, message string) {
	t.Helper()
	kind := answer.Header.Get("Content-Type")
	switch {
	case answer.StatusCode == http.StatusUnsupportedMediaType:
		return "415", ""
	case answer.StatusCode == http.StatusMethodNotAllowed && answer.Header.Get("Allow") != "":
		return "405", ""
	case answer.StatusCode == http.StatusNotFound && !strings.HasPrefix(kind, "application/"):
		return "404", ""
	case strings.HasPrefix(kind, "application/grpc-web"):
		for line := range strings.SplitSeq(string(lastFrame(body)), "\r\n") {
			name, value, _ := strings.Cut(line, ":")
			switch strings.ToLower(name) {
			case "grpc-status":
				code = grpcCode(strings.TrimSpace(value))
			case "grpc-message":
				message, _ = url.PathUnescape(value)
			}
		}
		if status := answer.Header.Get("Grpc-Status"); status != "" {
			return grpcCode(status), answer.Header.Get("Grpc-Message")
		}
		return code, message
	case strings.HasPrefix(kind, "application/grpc"):
		status, text := answer.Trailer.Get("Grpc-Status"), answer.Trailer.Get("Grpc-Message")
		if status == "" {
			status, text = answer.Header.Get("Grpc-Status"), answer.Header.Get("Grpc-Message")
		}
		message, _ = url.PathUnescape(text)
		return grpcCode(status), message
	case strings.HasPrefix(kind, "application/connect+"):
		var last struct {
			Error struct{ Code, Message string }
		}
		if json.Unmarshal(lastFrame(body), &last) != nil {
			t.Fatalf("the stream has no end: %q", body)
		}
		return last.Error.Code, last.Error.Message
	case answer.StatusCode == http.StatusOK:
		return "", ""
	default:
		var failure struct{ Code, Message string }
		if err := json.Unmarshal(body, &failure); err != nil || failure.Code == "" {
			t.Fatalf("HTTP %d without a code: %q", answer.StatusCode, body)
		}
		return failure.Code, failure.Message
	}
}

// lastFrame is the content of the last frame of a stream, which tells how it ended.
func lastFrame(body []byte) []byte {
	var last []byte
	for len(body) >= 5 {
		end := 5 + int(binary.BigEndian.Uint32(body[1:5]))
		if end > len(body) {
			return nil
		}
		last, body = body[5:end], body[end:]
	}
	return last
}

func grpcCode(status string) string {
	name, ok := map[string]string{
		"0": "", "1": "canceled", "2": "unknown", "3": "invalid_argument", "4": "deadline_exceeded", "5": "not_found", "6": "already_exists",
		"7": "permission_denied", "8": "resource_exhausted", "9": "failed_precondition", "10": "aborted", "11": "out_of_range",
		"12": "unimplemented", "13": "internal", "14": "unavailable", "15": "data_loss", "16": "unauthenticated",
	}[status]
	if !ok {
		return "status " + status
	}
	return name
}
