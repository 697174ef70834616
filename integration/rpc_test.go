package integration_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/apex-tradebill/omni-secrets/domain"
	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
	"github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1/secretsv1connect"
)

// bearerClient sends a token with each call.
type bearerClient struct {
	inner *http.Client
	token string
}

func (b bearerClient) Do(r *http.Request) (*http.Response, error) {
	if b.token != "" {
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	return b.inner.Do(r)
}

// streaming is an HTTP client without a limit for the whole answer.
var streaming = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

func (s *server) secrets(token string, options ...connect.ClientOption) secretsv1connect.SecretsServiceClient {
	return secretsv1connect.NewSecretsServiceClient(bearerClient{streaming, token}, s.api, options...)
}

func (s *server) opsService(token string, options ...connect.ClientOption) secretsv1connect.OpsServiceClient {
	return secretsv1connect.NewOpsServiceClient(bearerClient{streaming, token}, s.api, options...)
}

// statusToCode is how the tables of the two edges belong together.
var statusToCode = map[int]connect.Code{
	400: connect.CodeInvalidArgument, 401: connect.CodeUnauthenticated, 403: connect.CodePermissionDenied,
	404: connect.CodeNotFound, 409: connect.CodeFailedPrecondition, 422: connect.CodeInvalidArgument, 503: connect.CodeUnavailable,
}

// TestRESTAndConnectAgree asks both APIs for the same thing. Errors have the same code and the same words; what is
// answered is the same, by the names of REST.
func TestRESTAndConnectAgree(t *testing.T) {
	gsm := startEmulator(t)
	prepared := prepareServe(t, gsm.endpoint)
	s := prepared.start(t)
	gsm.steer("POST", "/secrets/omni-test/"+secretID(webhook)+"/versions/1/disable", "")
	s.do("POST", refreshPath, s.service, `{"secretType":"webhook_shared_secret"}`).want(503, "REFRESH_FAILED")
	s.do("POST", glassPath, s.ops, sealedBody(t, s, "injected")).want(201, "") // its follow-up stays
	s.do("DELETE", glassPath+"/trading_api_key", s.ops, "").want(204, "")
	gsm.rotate("trading_client_secret", "client-secret-v2")
	s.do("POST", rotationsPath, s.ops, `{"secretType":"trading_client_secret","gcpSecretVersion":"2"}`).want(201, "")
	gsm.steer("POST", "/faults", `{"mode":"unavailable","secret":"`+secretID("zk_signing_seed")+`"}`)
	readOnly := sign(t, s.secret, "svc-trading", domain.ScopeRead.String())
	nothing := sign(t, s.secret, "svc-trading")
	const foreign = "eyJhbGciOiJub25lIn0.e30."
	ctx := t.Context()
	soon := func() string { return time.Now().Add(10 * time.Minute).UTC().Format(time.RFC3339) }

	get := func(token, name string) func() (proto.Message, error) {
		return func() (proto.Message, error) {
			return s.secrets(token).GetSecret(ctx, &secretsv1.GetSecretRequest{SecretType: name})
		}
	}
	refresh := func(token string, name *string) func() (proto.Message, error) {
		return func() (proto.Message, error) {
			return s.secrets(token).RefreshCache(ctx, &secretsv1.RefreshCacheRequest{SecretType: name})
		}
	}
	apply := func(token string, r *secretsv1.ApplyBreakGlassRequest) func() (proto.Message, error) {
		return func() (proto.Message, error) { return s.opsService(token).ApplyBreakGlass(ctx, r) }
	}
	list := func(r *secretsv1.ListAuditEventsRequest) func() (proto.Message, error) {
		return func() (proto.Message, error) { return s.opsService(s.ops).ListAuditEvents(ctx, r) }
	}
	preview := func(r *secretsv1.PreviewRotationRequest) func() (proto.Message, error) {
		return func() (proto.Message, error) { return s.opsService(s.ops).PreviewRotation(ctx, r) }
	}
	begin := func(token, name, version string) func() (proto.Message, error) {
		return func() (proto.Message, error) {
			return s.opsService(token).BeginRotation(ctx, &secretsv1.BeginRotationRequest{SecretType: name, GcpSecretVersion: version})
		}
	}
	promote := func(name string) func() (proto.Message, error) {
		return func() (proto.Message, error) {
			return s.opsService(s.ops).PromoteRotation(ctx, &secretsv1.PromoteRotationRequest{SecretType: name})
		}
	}
	abort := func(name string) func() (proto.Message, error) {
		return func() (proto.Message, error) {
			return s.opsService(s.ops).AbortRotation(ctx, &secretsv1.AbortRotationRequest{SecretType: name})
		}
	}
	record := func(name string, at time.Time) func() (proto.Message, error) {
		return func() (proto.Message, error) {
			return s.opsService(s.ops).RecordRotation(ctx, &secretsv1.RecordRotationRequest{SecretType: name, RotatedAt: timestamppb.New(at)})
		}
	}
	followUps := func(token string) func() (proto.Message, error) {
		return func() (proto.Message, error) {
			return s.opsService(token).ListFollowUps(ctx, &secretsv1.ListFollowUpsRequest{})
		}
	}
	closeOne := func(id, reason string) func() (proto.Message, error) {
		return func() (proto.Message, error) {
			return s.opsService(s.ops).CloseFollowUp(ctx, &secretsv1.CloseFollowUpRequest{OverrideId: id, Reason: reason})
		}
	}
	then := func(calls ...func() (proto.Message, error)) func() (proto.Message, error) {
		return func() (m proto.Message, err error) {
			for _, one := range calls {
				if m, err = one(); err != nil {
					return m, err
				}
			}
			return m, nil
		}
	}
	version := func(name, version string) string {
		return fmt.Sprintf(`{"secretType":%q,"gcpSecretVersion":%q}`, name, version)
	}
	const clientSecret, seed, passphrase = "trading_client_secret", "zk_signing_seed", "trading_api_passphrase"
	rotated := time.Now().Add(-time.Minute).UTC().Truncate(time.Second)
	const read, status, audit = readPath, statusPath, "/ops/apex-omni/secrets/audit-events"
	for _, c := range []struct {
		name                      string
		method, path, token, body string
		rpc                       func() (proto.Message, error)
		status                    int
		code                      domain.Code // "" when it is answered
	}{
		{"a value", "GET", read + "trading_api_key", readOnly, "", get(readOnly, "trading_api_key"), 200, ""},
		{"the status", "GET", status, s.ops, "", func() (proto.Message, error) {
			return s.opsService(s.ops).GetStatus(ctx, &secretsv1.GetStatusRequest{})
		}, 200, ""},
		{"a refresh of one", "POST", refreshPath, s.service, `{"secretType":"trading_api_key"}`, refresh(s.service, new("trading_api_key")), 202, ""},
		{"a refresh of all, of which some fail", "POST", refreshPath, s.service, "", refresh(s.service, nil), 202, ""},
		{"events of a time long past", "GET", audit + "?until=2001-01-01T00:00:00Z", s.ops, "", list(&secretsv1.ListAuditEventsRequest{Until: timestamppb.New(time.Unix(1e9, 0))}), 200, ""},
		{"a preview that passes", "POST", previewPath, s.ops, version(clientSecret, "2"), preview(&secretsv1.PreviewRotationRequest{SecretType: clientSecret, GcpSecretVersion: "2"}), 200, ""},
		{"a preview that does not", "POST", previewPath, s.ops, version(passphrase, "9"), preview(&secretsv1.PreviewRotationRequest{SecretType: passphrase, GcpSecretVersion: "9"}), 200, ""},
		{"an aborted rotation", "POST", rotationsPath + "/" + clientSecret + "/abort", s.ops, "", then(begin(s.ops, clientSecret, "2"), abort(clientSecret)), 200, ""},
		{"a rotation that begins", "POST", rotationsPath, s.ops, version(clientSecret, "2"), then(abort(clientSecret), begin(s.ops, clientSecret, "2")), 201, ""},
		{"a rotation made elsewhere", "POST", rotationsPath + "/" + passphrase + "/record", s.ops, `{"rotatedAt":"` + rotated.Format(time.RFC3339) + `"}`, record(passphrase, rotated), 200, ""},
		{"open follow-ups", "GET", followUpsPath, s.ops, "", followUps(s.ops), 200, ""},

		{"no token", "GET", read + "trading_api_key", "", "", get("", "trading_api_key"), 401, domain.CodeUnauthenticated},
		{"a token without a signature", "GET", read + "trading_api_key", foreign, "", get(foreign, "trading_api_key"), 401, domain.CodeUnauthenticated},
		{"no scope to read", "GET", read + "trading_api_key", nothing, "", get(nothing, "trading_api_key"), 403, domain.CodeForbidden},
		{"an operator reads", "GET", read + "trading_api_key", s.ops, "", get(s.ops, "trading_api_key"), 403, domain.CodeForbidden},
		{"no scope to refresh", "POST", refreshPath, readOnly, "", refresh(readOnly, nil), 403, domain.CodeForbidden},
		{"no scope for the status", "GET", status, s.service, "", func() (proto.Message, error) {
			return s.opsService(s.service).GetStatus(ctx, &secretsv1.GetStatusRequest{})
		}, 403, domain.CodeForbidden},
		{"an unknown type", "GET", read + "nothing", readOnly, "", get(readOnly, "nothing"), 404, domain.CodeUnknownSecretType},
		{"a type that is no name", "GET", read + strings.Repeat("X", 300), readOnly, "", get(readOnly, strings.Repeat("X", 300)), 404, domain.CodeUnknownSecretType},
		{"a secret without a value", "GET", read + "webhook_shared_secret", readOnly, "", get(readOnly, "webhook_shared_secret"), 503, domain.CodeSecretUnavailable},
		{"a refresh of an unknown type", "POST", refreshPath, s.service, `{"secretType":"nothing"}`, refresh(s.service, new("nothing")), 404, domain.CodeUnknownSecretType},
		{"a refresh that fails", "POST", refreshPath, s.service, `{"secretType":"webhook_shared_secret"}`, refresh(s.service, new("webhook_shared_secret")), 503, domain.CodeRefreshFailed},
		{
			"an override that is too long", "POST", glassPath, s.ops, `{"secretType":"trading_api_key","ciphertext":"x","expiresAt":"2099-01-01T00:00:00Z"}`,
			apply(s.ops, &secretsv1.ApplyBreakGlassRequest{SecretType: "trading_api_key", Ciphertext: "x", ExpiresAt: "2099-01-01T00:00:00Z"}), 422, domain.CodeInvalidBreakGlassTTL,
		},
		{
			"an expiry that is no time", "POST", glassPath, s.ops, `{"secretType":"trading_api_key","ciphertext":"x","expiresAt":"soon"}`,
			apply(s.ops, &secretsv1.ApplyBreakGlassRequest{SecretType: "trading_api_key", Ciphertext: "x", ExpiresAt: "soon"}), 422, domain.CodeInvalidBreakGlassTTL,
		},
		{
			"an envelope that does not open", "POST", glassPath, s.ops, `{"secretType":"trading_api_key","ciphertext":"x","expiresAt":"` + soon() + `"}`,
			apply(s.ops, &secretsv1.ApplyBreakGlassRequest{SecretType: "trading_api_key", Ciphertext: "x", ExpiresAt: soon()}), 422, domain.CodeInvalidBreakGlassPayload,
		},
		{
			"a reason that is too long", "POST", glassPath, s.ops, `{"secretType":"trading_api_key","ciphertext":"x","expiresAt":"` + soon() + `","reason":"` + strings.Repeat("x", 501) + `"}`,
			apply(s.ops, &secretsv1.ApplyBreakGlassRequest{SecretType: "trading_api_key", Ciphertext: "x", ExpiresAt: soon(), Reason: strings.Repeat("x", 501)}), 400, domain.CodeInvalidRequest,
		},
		{
			"an override of an unknown type", "POST", glassPath, s.ops, `{"secretType":"nothing","ciphertext":"x","expiresAt":"` + soon() + `"}`,
			apply(s.ops, &secretsv1.ApplyBreakGlassRequest{SecretType: "nothing", Ciphertext: "x", ExpiresAt: soon()}), 404, domain.CodeUnknownSecretType,
		},
		{"the end of no override", "DELETE", glassPath + "/trading_api_key", s.ops, "", func() (proto.Message, error) {
			return s.opsService(s.ops).ClearBreakGlass(ctx, &secretsv1.ClearBreakGlassRequest{SecretType: "trading_api_key"})
		}, 404, domain.CodeNoBreakGlass},
		{"no scope to rotate", "POST", rotationsPath, s.service, version(clientSecret, "2"), begin(s.service, clientSecret, "2"), 403, domain.CodeForbidden},
		{"no scope for follow-ups", "GET", followUpsPath, s.service, "", followUps(s.service), 403, domain.CodeForbidden},
		{"a rotation of an unknown type", "POST", rotationsPath, s.ops, version("nothing", "2"), begin(s.ops, "nothing", "2"), 404, domain.CodeUnknownSecretType},
		{"a second rotation", "POST", rotationsPath, s.ops, version(clientSecret, "2"), begin(s.ops, clientSecret, "2"), 409, domain.CodeRotationInProgress},
		{"a preview of another version meanwhile", "POST", previewPath, s.ops, version(clientSecret, "3"), preview(&secretsv1.PreviewRotationRequest{SecretType: clientSecret, GcpSecretVersion: "3"}), 409, domain.CodeRotationInProgress},
		{"a record meanwhile", "POST", rotationsPath + "/" + clientSecret + "/record", s.ops, `{"rotatedAt":"2026-01-01T00:00:00Z"}`, record(clientSecret, rotated), 409, domain.CodeRotationInProgress},
		{"a record of the future", "POST", rotationsPath + "/" + passphrase + "/record", s.ops, `{"rotatedAt":"2999-01-01T00:00:00Z"}`, record(passphrase, time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)), 400, domain.CodeInvalidRequest},
		{"a rotation to what is served", "POST", rotationsPath, s.ops, version(passphrase, "1"), begin(s.ops, passphrase, "1"), 409, domain.CodeVersionRejected},
		{"a rotation while the backend is away", "POST", rotationsPath, s.ops, version(seed, "2"), begin(s.ops, seed, "2"), 503, domain.CodeVersionUnavailable},
		{"a promotion of nothing", "POST", rotationsPath + "/" + passphrase + "/promote", s.ops, "", promote(passphrase), 409, domain.CodeNoRotation},
		{"an abort of nothing", "POST", rotationsPath + "/" + passphrase + "/abort", s.ops, "", abort(passphrase), 409, domain.CodeNoRotation},
		{"a follow-up that is not open", "POST", followUpsPath + "/bg-1/close", s.ops, `{"reason":"x"}`, closeOne("bg-1", "x"), 404, domain.CodeNoFollowUp},
		{"a follow-up without a reason", "POST", followUpsPath + "/bg-1/close", s.ops, `{}`, closeOne("bg-1", ""), 400, domain.CodeInvalidRequest},
		{"an unknown action", "GET", audit + "?action=x", s.ops, "", list(&secretsv1.ListAuditEventsRequest{Action: "x"}), 400, domain.CodeInvalidRequest},
		{"an unknown result", "GET", audit + "?result=x", s.ops, "", list(&secretsv1.ListAuditEventsRequest{Result: "x"}), 400, domain.CodeInvalidRequest},
		{"a foreign cursor", "GET", audit + "?cursor=x", s.ops, "", list(&secretsv1.ListAuditEventsRequest{Cursor: "x"}), 400, domain.CodeInvalidRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			rest := s.do(c.method, c.path, c.token, c.body)
			rest.want(c.status, c.code)
			message, err := c.rpc()
			if c.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(plain(rest.json()), plain(fromRPC(t, message))); diff != "" {
					t.Errorf("REST (-) and Connect (+) differ:\n%s", diff)
				}
				return
			}
			problem := rest.json()
			e, info := errorInfo(t, err)
			if e.Code() != statusToCode[c.status] || info.GetCode() != string(c.code) || e.Message() != problem["detail"] {
				t.Errorf("REST answers %d %s %q, Connect %v %s %q", c.status, c.code, problem["detail"], e.Code(), info.GetCode(), e.Message())
			}
			if after := rest.header.Get("Retry-After"); after != "" && info.GetRetryAfterSeconds() == 0 || e.Meta().Get("Retry-After") == "" != (after == "") {
				t.Errorf("REST says to wait %q s, Connect %v", after, info)
			}
			if failures, _ := problem["failures"].([]any); len(failures) != len(info.GetFailures()) {
				t.Errorf("REST lists %v, Connect %v", failures, info.GetFailures())
			}
		})
	}
}

func errorInfo(t testing.TB, err error) (*connect.Error, *secretsv1.ErrorInfo) {
	t.Helper()
	e, ok := errors.AsType[*connect.Error](err)
	if !ok {
		t.Fatalf("%v is no error of Connect", err)
	}
	for _, d := range e.Details() {
		if value, err := d.Value(); err == nil {
			if info, ok := value.(*secretsv1.ErrorInfo); ok {
				return e, info
			}
		}
	}
	t.Fatalf("%v has no ErrorInfo", err)
	return nil, nil
}

// fromRPC is an answer of Connect by the names of REST.
func fromRPC(t testing.TB, message proto.Message) map[string]any {
	t.Helper()
	text, err := protojson.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	if secret, ok := m["secret"].(map[string]any); ok && secret["value"] == nil { // its status
		return secret
	} else if ok {
		value, err := base64.StdEncoding.DecodeString(fmt.Sprint(secret["value"]))
		if err != nil {
			t.Fatal(err)
		}
		secret["value"] = string(value)
		return secret
	}
	for _, list := range []string{"secrets", "events", "followUps"} {
		if rows, ok := m[list]; ok {
			m["data"] = rows
			delete(m, list)
		}
	}
	return m
}

// plain leaves out what is absent, null or zero, which protobuf does not tell apart, and what is true of one moment
// only. Times are taken to the millisecond.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any)
		for name, field := range v {
			switch name {
			case "requestId", "servedAt", "updatedAt", "ageSeconds", "cacheAgeSeconds", "rotatingSince", "latency", "latencyMs":
				continue
			case "survivalSeconds": // shrinks from one call to the next
				left, _ := field.(float64)
				field = left > 0
			}
			if field = plain(field); field != nil {
				out[name] = field
			}
		}
		return out
	case []any:
		if len(v) == 0 {
			return nil
		}
		out := make([]any, len(v))
		for i := range v {
			out[i] = plain(v[i])
		}
		return out
	case string:
		if at, err := time.Parse(time.RFC3339Nano, v); err == nil {
			return at.Truncate(time.Millisecond)
		}
		if v == "" {
			return nil
		}
	case float64:
		if v == 0 {
			return nil
		}
	case bool:
		if !v {
			return nil
		}
	}
	return v
}
