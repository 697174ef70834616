package connect_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	rpc "connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/apex-tradebill/omni-secrets/adapters/connect"
	"github.com/apex-tradebill/omni-secrets/domain"
	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
	"github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1/secretsv1connect"
)

func TestGetSecret(t *testing.T) {
	each(t, func(t *testing.T, f *fixture, p protocol) {
		for name, want := range map[string]string{apiKey: "key-1", seed: "\xff\x00seed"} {
			before := time.Now()
			r, err := f.secrets(p, tokenRead).GetSecret(t.Context(), &secretsv1.GetSecretRequest{SecretType: name})
			if err != nil {
				t.Fatal(err)
			}
			s := r.GetSecret()
			if s.GetSecretType() != name || string(s.GetValue()) != want || s.GetVersion() != "1" || s.GetSource() != "gsm" || s.GetStale() {
				t.Errorf("got %v", s)
			}
			if ttl := s.GetExpiresAt().AsTime().Sub(s.GetFetchedAt().AsTime()); ttl != 5*time.Minute {
				t.Errorf("the TTL is %v", ttl)
			}
			if served := s.GetServedAt().AsTime(); served.Before(before) || served.After(time.Now()) {
				t.Errorf("served at %v", served)
			}
		}
		if reads := f.recorded(func(e domain.Event) bool {
			return e.Action == domain.ActionRead && e.Result == domain.ResultSuccess && e.Actor.ID == "subject-read"
		}); reads != 2 {
			t.Errorf("%d reads are recorded", reads)
		}
	})
}

func TestRequestIDs(t *testing.T) {
	f := newFixture(t)
	for name, c := range map[string]struct {
		sent string
		kept bool
	}{"the caller's": {"my-id.1", true}, "none": {"", false}, "one that is no plain word": {"a b\tc", false}} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.server.URL+"/omni.secrets.v1.SecretsService/GetSecret",
				strings.NewReader(`{"secretType":"trading_api_key"}`))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Authorization", "Bearer "+tokenRead)
			r.Header.Set("X-Request-Id", c.sent)
			response, err := f.httpClient(false).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			id := response.Header.Get("X-Request-Id")
			if (id == c.sent) != c.kept || id == "" {
				t.Errorf("the id is %q", id)
			}
			if f.recorded(func(e domain.Event) bool { return e.Action == domain.ActionRead && e.RequestID == id }) != 1 {
				t.Errorf("the read is not recorded under %q", id)
			}
			if response.Header.Get("Cache-Control") != "no-store" {
				t.Error("the answer may be stored")
			}
		})
	}
}

func TestRefreshCache(t *testing.T) {
	each(t, func(t *testing.T, f *fixture, p protocol) {
		client := f.secrets(p, tokenCache)
		one, err := client.RefreshCache(t.Context(), &secretsv1.RefreshCacheRequest{SecretType: new(apiKey)})
		if err != nil || len(one.GetRefreshedSecretTypes()) != 1 || one.GetRefreshedSecretTypes()[0] != apiKey || one.GetRequestId() == "" {
			t.Errorf("one: %v, %v", one, err)
		}
		all, err := client.RefreshCache(t.Context(), &secretsv1.RefreshCacheRequest{})
		if err != nil || len(all.GetRefreshedSecretTypes()) != 2 || len(all.GetFailures()) != 1 || all.GetFailures()[0].GetReason() != "not_found" {
			t.Errorf("all: %v, %v", all, err)
		}
		_, err = client.RefreshCache(t.Context(), &secretsv1.RefreshCacheRequest{SecretType: new(missing)})
		info := wantFailure(t, err, rpc.CodeUnavailable, domain.CodeRefreshFailed)
		if len(info.GetFailures()) != 1 || info.GetFailures()[0].GetSecretType() != missing || info.GetRetryAfterSeconds() != 1 {
			t.Errorf("ErrorInfo: %v", info)
		}
	})
}

func TestBreakGlassAndStatus(t *testing.T) {
	each(t, func(t *testing.T, f *fixture, p protocol) {
		client := f.ops(p, tokenOps)
		expiresAt := time.Now().Add(10 * time.Minute).UTC().Format(time.RFC3339)
		applied, err := client.ApplyBreakGlass(t.Context(), &secretsv1.ApplyBreakGlassRequest{
			SecretType: apiKey, Ciphertext: "sealed:emergency", ExpiresAt: expiresAt, Reason: "drill",
		})
		if err != nil || applied.GetSecretType() != apiKey || applied.GetExpiresAt() != expiresAt {
			t.Fatalf("apply: %v, %v", applied, err)
		}
		read, err := f.secrets(p, tokenRead).GetSecret(t.Context(), &secretsv1.GetSecretRequest{SecretType: apiKey})
		if err != nil || string(read.GetSecret().GetValue()) != "emergency" || read.GetSecret().GetSource() != "break_glass" {
			t.Errorf("read: %v, %v", read, err)
		}
		status, err := client.GetStatus(t.Context(), &secretsv1.GetStatusRequest{})
		if err != nil || len(status.GetSecrets()) != 3 {
			t.Fatalf("status: %v, %v", status, err)
		}
		glass, plain, empty := status.GetSecrets()[0], status.GetSecrets()[1], status.GetSecrets()[2]
		if glass.GetCacheSource() != "break_glass" || glass.GetBreakGlassExpiresAt().AsTime().Format(time.RFC3339) != expiresAt {
			t.Errorf("overridden: %v", glass)
		}
		if plain.GetCacheSource() != "gsm" || plain.GetCacheVersion() != "1" || plain.CacheAgeSeconds == nil || plain.BreakGlassExpiresAt != nil {
			t.Errorf("fetched: %v", plain)
		}
		if empty.GetCacheSource() != "empty" || empty.CacheVersion != nil || empty.GetLastFailureReason() != "not_found" || empty.GetConsecutiveFailures() == 0 {
			t.Errorf("empty: %v", empty)
		}
		if _, err := client.ClearBreakGlass(t.Context(), &secretsv1.ClearBreakGlassRequest{SecretType: apiKey}); err != nil {
			t.Error(err)
		}
		_, err = client.ClearBreakGlass(t.Context(), &secretsv1.ClearBreakGlassRequest{SecretType: apiKey})
		wantFailure(t, err, rpc.CodeNotFound, domain.CodeNoBreakGlass)
	})
}

func TestListAuditEvents(t *testing.T) {
	each(t, func(t *testing.T, f *fixture, p protocol) {
		for range 3 {
			f.apply("emergency-"+time.Now().String(), time.Minute)
		}
		client := f.ops(p, tokenOps)
		var ids []string
		cursor := ""
		for {
			page, err := client.ListAuditEvents(t.Context(), &secretsv1.ListAuditEventsRequest{
				SecretType: apiKey, Action: "break_glass_apply", Result: "success", ActorId: "sre", Limit: 2, Cursor: cursor,
				Since: timestamppb.New(time.Now().Add(-time.Hour)), Until: timestamppb.New(time.Now().Add(time.Hour)),
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.GetEvents() {
				ids = append(ids, e.GetEventId())
				if e.GetActorType() != "operator" || e.GetReason() != "drill" || e.GetReplicaId() != "replica-1" || e.ErrorCode != nil {
					t.Errorf("event: %v", e)
				}
			}
			if cursor = page.GetNextCursor(); cursor == "" {
				break
			}
		}
		if len(ids) != 3 {
			t.Errorf("%d events, want 3: %v", len(ids), ids)
		}
	})
}

func TestRefusals(t *testing.T) {
	each(t, func(t *testing.T, f *fixture, p protocol) {
		ctx := t.Context()
		get := func(token, name string) error {
			_, err := f.secrets(p, token).GetSecret(ctx, &secretsv1.GetSecretRequest{SecretType: name})
			return err
		}
		apply := func(token, ciphertext string, ttl time.Duration) error {
			_, err := f.ops(p, token).ApplyBreakGlass(ctx, &secretsv1.ApplyBreakGlassRequest{
				SecretType: apiKey, Ciphertext: ciphertext, ExpiresAt: time.Now().Add(ttl).Format(time.RFC3339),
			})
			return err
		}
		list := func(r *secretsv1.ListAuditEventsRequest) error {
			_, err := f.ops(p, tokenOps).ListAuditEvents(ctx, r)
			return err
		}
		for _, c := range []struct {
			name string
			err  error
			code rpc.Code
			info domain.Code
		}{
			{"no token", get("", apiKey), rpc.CodeUnauthenticated, domain.CodeUnauthenticated},
			{"an expired token", get("expired", apiKey), rpc.CodeUnauthenticated, domain.CodeUnauthenticated},
			{"no scope", get(tokenNothing, apiKey), rpc.CodePermissionDenied, domain.CodeForbidden},
			{"an operator reads", get(tokenOps, apiKey), rpc.CodePermissionDenied, domain.CodeForbidden},
			{"no scope and an invalid field", get(tokenNothing, ""), rpc.CodePermissionDenied, domain.CodeForbidden},
			{"no type", get(tokenRead, ""), rpc.CodeInvalidArgument, domain.CodeInvalidRequest},
			{"an unknown type", get(tokenRead, "nothing"), rpc.CodeNotFound, domain.CodeUnknownSecretType},
			{"a very long type", get(tokenRead, strings.Repeat("x", 1000)), rpc.CodeNotFound, domain.CodeUnknownSecretType},
			{"no value", get(tokenRead, missing), rpc.CodeUnavailable, domain.CodeSecretUnavailable},
			{"a message that is too large", get(tokenRead, strings.Repeat("x", connect.MaxMessageBytes)), rpc.CodeResourceExhausted, ""},
			{"an override that is too long", apply(tokenOps, "sealed:x", time.Hour), rpc.CodeInvalidArgument, domain.CodeInvalidBreakGlassTTL},
			{"an override that does not open", apply(tokenOps, "x", time.Minute), rpc.CodeInvalidArgument, domain.CodeInvalidBreakGlassPayload},
			{"an override by a service", apply(tokenRead, "sealed:x", time.Minute), rpc.CodePermissionDenied, domain.CodeForbidden},
			{"an override without a ciphertext", apply(tokenOps, "", time.Minute), rpc.CodeInvalidArgument, domain.CodeInvalidRequest},
			{"an unknown action", list(&secretsv1.ListAuditEventsRequest{Action: "x"}), rpc.CodeInvalidArgument, domain.CodeInvalidRequest},
			{"a limit that is too high", list(&secretsv1.ListAuditEventsRequest{Limit: 1001}), rpc.CodeInvalidArgument, domain.CodeInvalidRequest},
			{"a foreign cursor", list(&secretsv1.ListAuditEventsRequest{Cursor: "x"}), rpc.CodeInvalidArgument, domain.CodeInvalidRequest},
		} {
			t.Run(c.name, func(t *testing.T) { wantFailure(t, c.err, c.code, c.info) })
		}
		if denied := f.recorded(func(e domain.Event) bool { return e.Action == domain.ActionAccessDenied }); denied != 6 {
			t.Errorf("%d denials are recorded, want 6", denied)
		}
	})
}

func TestUnavailableSecretSaysWhatToDo(t *testing.T) {
	each(t, func(t *testing.T, f *fixture, p protocol) {
		_, err := f.secrets(p, tokenRead).GetSecret(t.Context(), &secretsv1.GetSecretRequest{SecretType: missing})
		info := wantFailure(t, err, rpc.CodeUnavailable, domain.CodeSecretUnavailable)
		if info.GetRetryAfterSeconds() == 0 || !info.GetWithdrawn() {
			t.Errorf("ErrorInfo: %v", info)
		}
		_, err = f.secrets(p, tokenRead).GetSecret(t.Context(), &secretsv1.GetSecretRequest{SecretType: "typo"})
		if info := wantFailure(t, err, rpc.CodeNotFound, domain.CodeUnknownSecretType); info.GetWithdrawn() {
			t.Errorf("ErrorInfo: %v", info)
		}
	})
}

// Protobuf can say what no JSON can: a time that does not exist.
func TestTimeOutOfRange(t *testing.T) {
	f := newFixture(t)
	never := &timestamppb.Timestamp{Seconds: 1 << 60}
	for name, r := range map[string]*secretsv1.ListAuditEventsRequest{"since": {Since: never}, "until": {Until: never}} {
		_, err := f.ops(protocols[0], tokenOps).ListAuditEvents(t.Context(), r)
		if wantFailure(t, err, rpc.CodeInvalidArgument, domain.CodeInvalidRequest); !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is not an RPC of the contract, or not one at all, as curl sends it.
func TestRawRequests(t *testing.T) {
	f := newFixture(t)
	const path = "/omni.secrets.v1.SecretsService/RefreshCache"
	for name, c := range map[string]struct {
		method, path, contentType, body string
		status                          int
		says                            string
	}{
		"an unknown field":          {"POST", path, "application/json", `{"secret":"trading_api_key"}`, 400, "a field is not known"},
		"a field of the wrong type": {"POST", path, "application/json", `{"secretType":["hunter2"]}`, 400, "wrong type"},
		"no JSON":                   {"POST", path, "application/json", `hunter2`, 400, "not valid"},
		"nothing":                   {"POST", path, "application/json", ``, 400, "empty"},
		"JSON behind the message":   {"POST", path, "application/json", `{} hunter2`, 400, "not valid"},
		"no protobuf":               {"POST", path, "application/proto", "\xff\xff\xff", 400, ""},
		"a form":                    {"POST", path, "application/x-www-form-urlencoded", `secretType=x`, 415, ""},
		"a GET of a change":         {"GET", path, "", ``, 405, ""},
		"an unknown call":           {"POST", "/omni.secrets.v1.SecretsService/DumpEverything", "application/json", `{}`, 404, ""},
		"an unknown service":        {"POST", "/omni.secrets.v1.Nothing/GetSecret", "application/json", `{}`, 404, ""},
		"a good one":                {"POST", path, "application/json", `{"secretType":"trading_api_key"}`, 200, "trading_api_key"},
		"a good one in snake case":  {"POST", path, "application/json; charset=utf-8", `{"secret_type":"trading_api_key"}`, 200, "trading_api_key"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), c.method, f.server.URL+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", c.contentType)
			r.Header.Set("Authorization", "Bearer "+tokenCache)
			response, err := f.httpClient(false).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != c.status || !strings.Contains(string(body), c.says) {
				t.Errorf("%d %s", response.StatusCode, body)
			}
			if bytes.Contains(body, []byte("hunter2")) {
				t.Errorf("the answer repeats what was sent: %s", body)
			}
		})
	}
}

// An unauthenticated caller is refused before its message is read.
func TestTokenIsCheckedFirst(t *testing.T) {
	f := newFixture(t)
	for name, body := range map[string]io.Reader{
		"an oversized message": bytes.NewReader(make([]byte, 2*connect.MaxMessageBytes)),
		"a malformed message":  strings.NewReader("{"),
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.server.URL+"/omni.secrets.v1.OpsService/GetStatus", body)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			response, err := f.httpClient(false).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusUnauthorized || response.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("status %d, %v", response.StatusCode, response.Header)
			}
		})
	}
}

func TestGETThatCannotBeRead(t *testing.T) {
	f := newFixture(t)
	good := url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(`{"secretType":"trading_api_key"}`)))
	for name, c := range map[string]struct {
		query  string
		status int
	}{
		"base64":            {"connect=v1&encoding=json&base64=1&message=" + good, 200},
		"no base64":         {"connect=v1&encoding=json&base64=1&message=%25", 400},
		"half a letter":     {"connect=v1&encoding=json&base64=1&message=eyJzZ", 400},
		"no JSON":           {"connect=v1&encoding=json&message=%25", 400},
		"no message":        {"connect=v1&encoding=json", 400},
		"no gzip":           {"connect=v1&encoding=json&compression=gzip&message=%7B%7D", 400},
		"without any token": {"connect=v1&encoding=json&base64=1&message=%25", 401},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.server.URL+"/omni.secrets.v1.SecretsService/GetSecret?"+c.query, nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.status != http.StatusUnauthorized {
				r.Header.Set("Authorization", "Bearer "+tokenRead)
			}
			response, err := f.httpClient(false).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != c.status {
				t.Errorf("%d %s, %v", response.StatusCode, body, err)
			}
		})
	}
}

// A message that cannot be read is refused before anybody asks for the scope of the call: who lacks it is in the trail all
// the same.
func TestWhoLacksTheScopeIsInTheTrailWhateverWasSent(t *testing.T) {
	f := newFixture(t)
	for name, c := range map[string]struct {
		body, token   string
		status, wants int
	}{
		"a message":                             {`{}`, tokenNothing, http.StatusForbidden, 1},
		"malformed":                             {`{`, tokenNothing, http.StatusBadRequest, 1},
		"too large":                             {strings.Repeat("x", 2*connect.MaxMessageBytes), tokenNothing, http.StatusTooManyRequests, 1},
		"malformed, by who has the scope of it": {`{`, tokenOps, http.StatusBadRequest, 0},
	} {
		t.Run(name, func(t *testing.T) {
			denied := func() int {
				return f.recorded(func(e domain.Event) bool { return e.Action == domain.ActionAccessDenied })
			}
			before := denied()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.server.URL+secretsv1connect.OpsServiceGetStatusProcedure, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Authorization", "Bearer "+c.token)
			response, err := f.httpClient(false).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != c.status || denied() != before+c.wants {
				t.Errorf("status %d, %d denials are recorded; want %d and %d", response.StatusCode, denied()-before, c.status, c.wants)
			}
		})
	}
}

func TestIdempotentCallsTakeGET(t *testing.T) {
	f := newFixture(t)
	p := protocol{"GET", false, []rpc.ClientOption{rpc.WithHTTPGet()}}
	r, err := f.secrets(p, tokenRead).GetSecret(t.Context(), &secretsv1.GetSecretRequest{SecretType: apiKey})
	if err != nil || string(r.GetSecret().GetValue()) != "key-1" {
		t.Errorf("%v, %v", r, err)
	}
}
