package http_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	api "github.com/apex-tradebill/omni-secrets/adapters/http"
	"github.com/apex-tradebill/omni-secrets/domain"
)

func TestSpecIsValidOpenAPI(t *testing.T) {
	if ok, problems := openSpec(t).ValidateDocument(); !ok {
		for _, p := range problems {
			t.Errorf("%s: %s %v", p.Message, p.Reason, p.SchemaValidationErrors)
		}
	}
}

func TestRead(t *testing.T) {
	f := newFixture(t).run()
	a := f.do("GET", "/internal/apex-omni/secrets/trading_api_key", tokenRead, "").want(200, "")
	m := a.json()
	if m["value"] != "key-1" || m["version"] != "1" || m["source"] != "gsm" || m["stale"] != false || m["secretType"] != "trading_api_key" {
		t.Errorf("answer: %s", a.body)
	}
	fetched, err := time.Parse("2006-01-02T15:04:05.000Z", m["fetchedAt"].(string))
	expires, err2 := time.Parse("2006-01-02T15:04:05.000Z", m["expiresAt"].(string))
	if err := errors.Join(err, err2); err != nil || expires.Sub(fetched) != 5*time.Minute {
		t.Errorf("fetchedAt %v, expiresAt %v: %v", fetched, expires, err)
	}
	if a.header.Get("Cache-Control") != "no-store" || a.header.Get("ETag") != `W/"gsm-1"` || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("headers: %v", a.header)
	}
}

func TestReadOfBytesThatAreNoText(t *testing.T) {
	f := newFixture(t).run()
	m := f.do("GET", "/internal/apex-omni/secrets/zk_signing_seed", tokenRead, "").want(200, "").json()
	if _, has := m["value"]; has || m["valueBase64"] != "/wBzZWVk" {
		t.Errorf("answer: %v", m)
	}
}

func TestReadRaw(t *testing.T) {
	f := newFixture(t).run()
	a := f.do("GET", "/internal/apex-omni/secrets/zk_signing_seed", tokenRead, "", "Accept", "application/json;q=0.5, application/octet-stream").want(200, "")
	if string(a.body) != "\xff\x00seed" || a.header.Get("Content-Type") != "application/octet-stream" ||
		a.header.Get("Omni-Secret-Version") != "1" || a.header.Get("ETag") != `"gsm-1"` {
		t.Errorf("answer: %q %v", a.body, a.header)
	}
}

func TestReadRawOnlyWhenAskedFor(t *testing.T) {
	f := newFixture(t).run()
	for accept, want := range map[string]string{
		"*/*":                             "application/json",
		"application/octet-stream":        "application/octet-stream",
		"application/octet-stream; q=0.1": "application/octet-stream",
		"application/json, application/octet-stream;q=0":      "application/json",
		"application/json, Application/Octet-Stream ; Q=0.00": "application/json",
	} {
		a := f.do("GET", "/internal/apex-omni/secrets/zk_signing_seed", tokenRead, "", "Accept", accept).want(200, "")
		if got := a.header.Get("Content-Type"); got != want {
			t.Errorf("%s gets %s, want %s", accept, got, want)
		}
	}
}

func TestReadOfTheVersionThatTheClientHas(t *testing.T) {
	f := newFixture(t).run()
	for tag, status := range map[string]int{
		`W/"gsm-1"`: 304, `"gsm-1"`: 304, `"x", "gsm-1"`: 304, `*`: 304, `W/"gsm-2"`: 200, `gsm-1`: 200,
	} {
		f.do("GET", "/internal/apex-omni/secrets/trading_api_key", tokenRead, "", "If-None-Match", tag).want(status, "")
	}
	reads := 0
	for _, e := range f.journal.Events() {
		if e.Action == domain.ActionRead {
			reads++
		}
	}
	if reads != 6 {
		t.Errorf("%d reads audited, want 6: a 304 confirms a value too", reads)
	}
}

func TestReadWithoutAValue(t *testing.T) {
	f := newFixture(t).run()
	a := f.do("GET", "/internal/apex-omni/secrets/webhook_shared_secret", tokenRead, "").want(503, domain.CodeSecretUnavailable)
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if a.json()["withdrawn"] != true {
		t.Errorf("readers who still have the value are not told to let go of it: %s", a.body)
	}
}

func TestReadThatCannotBeAudited(t *testing.T) {
	f := newFixture(t).run()
	f.journal.FailWith(errors.New("no space left on device"))
	a := f.do("GET", "/internal/apex-omni/secrets/trading_api_key", tokenRead, "").want(503, domain.CodeAuditUnavailable)
	if strings.Contains(string(a.body), "key-1") || strings.Contains(string(a.body), "no space") {
		t.Errorf("answer: %s", a.body)
	}
}

func TestRefresh(t *testing.T) {
	for _, c := range []struct {
		name, body  string
		contentType string
		status      int
		want        string // of refreshedSecretTypes and failures
	}{
		{"no body", "", "", 202, "[trading_api_key zk_signing_seed] [map[reason:not_found secretType:webhook_shared_secret]]"},
		{"empty object", "{}", "application/json", 202, "[trading_api_key zk_signing_seed] [map[reason:not_found secretType:webhook_shared_secret]]"},
		{"one, as curl -d sends it", `{"secretType":"trading_api_key"}`, "application/x-www-form-urlencoded", 202, "[trading_api_key] []"},
		{"one, without a content type", `{"secretType":"trading_api_key"}`, "", 202, "[trading_api_key] []"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t).run()
			m := f.do("POST", refreshPath, tokenCache, c.body, "Content-Type", c.contentType).want(c.status, "").json()
			if got := fmt.Sprint(m["refreshedSecretTypes"], m["failures"]); got != fmt.Sprint(c.want) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestRefreshOfNothing(t *testing.T) {
	f := newFixture(t).run()
	a := f.do("POST", refreshPath, tokenCache, `{"secretType":"webhook_shared_secret"}`).want(503, domain.CodeRefreshFailed)
	if got := fmt.Sprint(a.json()["failures"]); got != "[map[reason:not_found secretType:webhook_shared_secret]]" {
		t.Errorf("failures: %s", got)
	}
}

func envelopeBody(t *testing.T, change func(map[string]any)) string {
	t.Helper()
	m := map[string]any{
		"secretType": "trading_api_key", "ciphertext": "sealed:injected",
		"expiresAt": time.Now().Add(25 * time.Minute).UTC().Format(time.RFC3339), "reason": "drill",
	}
	if change != nil {
		change(m)
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestBreakGlass(t *testing.T) {
	f := newFixture(t).run()
	var expiresAt string
	body := envelopeBody(t, func(m map[string]any) { expiresAt = m["expiresAt"].(string) })
	m := f.do("POST", glassPath, tokenOps, body).want(201, "").json()
	if m["secretType"] != "trading_api_key" || m["expiresAt"] != expiresAt {
		t.Errorf("answer: %v", m)
	}
	m = f.do("GET", "/internal/apex-omni/secrets/trading_api_key", tokenRead, "").want(200, "").json()
	if m["value"] != "injected" || m["source"] != "break_glass" {
		t.Errorf("read: %v", m)
	}
	row := f.statusOf("trading_api_key")
	if row["cacheSource"] != "break_glass" || row["breakGlassExpiresAt"] == nil {
		t.Errorf("status: %v", row)
	}
	f.do("POST", glassPath, tokenOps, body).want(422, domain.CodeInvalidBreakGlassPayload) // replayed
	f.do("DELETE", glassPath+"/trading_api_key", tokenOps, "").want(204, "")
	f.do("DELETE", glassPath+"/trading_api_key", tokenOps, "").want(404, domain.CodeNoBreakGlass)
	if row := f.statusOf("trading_api_key"); row["cacheSource"] != "gsm" || row["breakGlassExpiresAt"] != nil {
		t.Errorf("status: %v", row)
	}
}

func TestBreakGlassTTL(t *testing.T) {
	for name, expiresAt := range map[string]any{
		"zero":       time.Now().UTC().Format(time.RFC3339Nano),
		"negative":   time.Now().Add(-time.Minute).UTC().Format(time.RFC3339),
		"31m":        time.Now().Add(31 * time.Minute).UTC().Format(time.RFC3339Nano),
		"no time":    "in a while",
		"a duration": "25m",
	} {
		body := envelopeBody(t, func(m map[string]any) { m["expiresAt"] = expiresAt })
		t.Run(name, func(t *testing.T) {
			f := newFixture(t).run()
			f.do("POST", glassPath, tokenOps, body).want(422, domain.CodeInvalidBreakGlassTTL)
		})
	}
}

func (f *fixture) statusOf(secretType string) map[string]any {
	f.t.Helper()
	m := f.do("GET", statusPath, tokenOps, "").want(200, "").json()
	for _, row := range m["data"].([]any) {
		if row := row.(map[string]any); row["secretType"] == secretType {
			return row
		}
	}
	f.t.Fatalf("no row of %s: %v", secretType, m)
	return nil
}

func TestStatus(t *testing.T) {
	f := newFixture(t).run()
	row := f.statusOf("trading_api_key")
	if row["cacheSource"] != "gsm" || row["cacheVersion"] != "1" || row["owner"] != "Security Engineering" || row["gcpSecretId"] != "key" ||
		row["gcpVersionAlias"] != "latest" || row["status"] != "active" || row["rotationState"] != "current" || row["breakGlassExpiresAt"] != nil {
		t.Errorf("status: %v", row)
	}
	if left, _ := row["survivalSeconds"].(float64); left <= 0 || left > 2100 {
		t.Errorf("survivalSeconds is %v, want up to 35 min", row["survivalSeconds"])
	}
	row = f.statusOf("webhook_shared_secret")
	if row["cacheSource"] != "empty" || row["cacheVersion"] != nil || row["cacheAgeSeconds"] != nil || row["lastFailureReason"] != "not_found" || row["consecutiveFailures"] != 1.0 || row["survivalSeconds"] != 0.0 {
		t.Errorf("status: %v", row)
	}
}

func TestAuditEvents(t *testing.T) {
	f := newFixture(t)
	var events []domain.Event
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for i := range 5 {
		events = append(events, domain.Event{
			ID: domain.EventID{Start: 1, Seq: uint64(i + 1)}, Type: "trading_api_key", Action: domain.ActionRead, Result: domain.ResultSuccess,
			Actor: domain.Actor{Type: domain.ActorService, ID: fmt.Sprintf("svc-%d", i)}, Version: "7", Source: "gsm",
			Duration: 1500 * time.Microsecond, RequestID: "r", ReplicaID: "replica-1", RecordedAt: start.Add(time.Duration(i) * time.Minute),
		})
	}
	if err := f.store.InsertEvents(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	actors := func(query string) (list string, cursor string) {
		t.Helper()
		m := f.do("GET", auditPath+"?"+query, tokenOps, "").want(200, "").json()
		for _, e := range m["data"].([]any) {
			list += " " + e.(map[string]any)["actorId"].(string)
		}
		cursor, _ = m["nextCursor"].(string)
		return strings.TrimSpace(list), cursor
	}
	for query, want := range map[string]string{
		"":              "svc-4 svc-3 svc-2 svc-1 svc-0",
		"actorId=svc-2": "svc-2",
		"secretType=trading_api_key&action=read&result=success&limit=1000": "svc-4 svc-3 svc-2 svc-1 svc-0",
		"action=cache_refresh":       "",
		"since=2026-03-01T12:03:00Z": "svc-4 svc-3",
		"until=2026-03-01T12:01:00Z": "svc-0",
	} {
		if got, _ := actors(query); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	first, cursor := actors("limit=3")
	second, end := actors("limit=3&cursor=" + cursor)
	if first != "svc-4 svc-3 svc-2" || second != "svc-1 svc-0" || end != "" {
		t.Errorf("pages: %s | %s | %q", first, second, end)
	}
	for _, query := range []string{
		"limit=0", "limit=1001", "limit=x", "since=yesterday", "until=1", "cursor=!", "cursor=eA", "action=reads", "result=ok", "acton=read", "limit=1&limit=2",
		"limit=1;action=read", "action=read&limit=%zz",
	} {
		f.do("GET", auditPath+"?"+query, tokenOps, "").want(400, domain.CodeInvalidRequest)
	}
}

func TestDatabaseAway(t *testing.T) {
	f := newFixture(t).run()
	f.store.FailWith(errors.New("dial tcp 10.0.0.7:5432: connection refused"))
	for _, a := range []answer{
		f.do("POST", glassPath, tokenOps, envelopeBody(t, nil)),
		f.do("GET", auditPath, tokenOps, ""),
	} {
		a.want(503, domain.CodeStateUnavailable)
		if strings.Contains(string(a.body), "10.0.0.7") || a.header.Get("Retry-After") != "1" {
			t.Errorf("answer: %s, Retry-After %s", a.body, a.header.Get("Retry-After"))
		}
	}
	f.do("GET", statusPath, tokenOps, "").want(200, "")
	f.do("GET", "/internal/apex-omni/secrets/trading_api_key", tokenRead, "").want(200, "")
}

func TestHealth(t *testing.T) {
	f := newFixture(t)
	f.do("GET", "/livez", "", "").want(200, "")
	m := f.do("GET", "/readyz", "", "").want(503, "").json()
	if fmt.Sprint(m["missing"]) == "[]" {
		t.Errorf("not ready, but nothing is missing: %v", m)
	}
	f.run()
	f.do("GET", "/readyz", "", "").want(200, "")
	if m := f.do("GET", "/version", "", "").want(200, "").json(); m["version"] != "v1.2.3" {
		t.Errorf("version: %v", m)
	}
	if a := f.do("GET", "/openapi.yaml", "", "").want(200, ""); !bytes.Equal(a.body, api.Spec) {
		t.Error("another document is served")
	}
	if a := f.do("GET", "/metrics", "", "").want(200, ""); !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
		t.Errorf("metrics are %s", a.header.Get("Content-Type"))
	}
}

func TestObservedRoutesAreAFixedSet(t *testing.T) {
	f := newFixture(t).run()
	f.do("GET", "/internal/apex-omni/secrets/trading_api_key", tokenRead, "")
	f.do("GET", "/internal/apex-omni/secrets/no_such_secret", tokenRead, "")
	f.do("GET", "/nowhere/at-all", "", "")
	f.do("PUT", statusPath, "", "")
	want := []string{
		"GET /internal/apex-omni/secrets/{secretType} OK", "GET /internal/apex-omni/secrets/{secretType} Not Found",
		"GET  Not Found", "PUT  Method Not Allowed",
	}
	if fmt.Sprint(f.observed) != fmt.Sprint(want) {
		t.Errorf("observed %q, want %q", f.observed, want)
	}
}

func TestUnrouted(t *testing.T) {
	f := newFixture(t)
	f.do("GET", "/nowhere", "", "").want(404, domain.CodeNotFound)
	if a := f.do("POST", statusPath, tokenOps, "").want(405, domain.CodeMethodNotAllowed); a.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("Allow: %s", a.header.Get("Allow"))
	}
}

// The mux itself sends who writes a path with two slashes elsewhere, with a page for a browser.
func TestRedirectsHaveNoPage(t *testing.T) {
	f := newFixture(t).run()
	for _, path := range []string{"//internal/apex-omni/secrets/trading_api_key", "/nowhere/../livez", "//nowhere"} {
		r := httptest.NewRequest(http.MethodGet, "http://omni"+path, nil)
		w := httptest.NewRecorder()
		f.handler.ServeHTTP(w, r)
		if kind := w.Header().Get("Content-Type"); w.Body.Len() > 0 || kind != "" && kind != "application/problem+json" {
			t.Errorf("%s: %d %s %s", path, w.Code, kind, w.Body)
		}
	}
}

func TestRequestID(t *testing.T) {
	f := newFixture(t)
	for sent, kept := range map[string]bool{
		"deploy-42.eu_1": true, strings.Repeat("x", 64): true, strings.Repeat("x", 65): false, "two words": false, "line\tbreak": false, "": false,
	} {
		a := f.do("GET", "/livez", "", "", "X-Request-Id", sent)
		if got := a.header.Get("X-Request-Id"); (got == sent) != kept {
			t.Errorf("%q was answered with %q", sent, got)
		}
	}
}

func TestBadBodies(t *testing.T) {
	const typo = "hunter2"
	f := newFixture(t).run()
	for _, c := range []struct{ name, path, token, body string }{
		{"no JSON", refreshPath, tokenCache, "secretType=" + typo},
		{"cut off", refreshPath, tokenCache, `{"secretType":"trading_api_key"`},
		{"an array", refreshPath, tokenCache, `["` + typo + `"]`},
		{"a string", refreshPath, tokenCache, `"` + typo + `"`},
		{"unknown field", refreshPath, tokenCache, `{"` + typo + `":"trading_api_key"}`},
		{"a field in another case", refreshPath, tokenCache, `{"SecretType":"trading_api_key"}`},
		{"a field twice", refreshPath, tokenCache, `{"secretType":"zk_signing_seed","secretType":"trading_api_key"}`},
		{"wrong type", refreshPath, tokenCache, `{"secretType":7}`},
		{"null for a type", refreshPath, tokenCache, `{"secretType":null}`},
		{"empty type", refreshPath, tokenCache, `{"secretType":""}`},
		{"two objects", refreshPath, tokenCache, `{}{}`},
		{"a brace too many", refreshPath, tokenCache, `{}}`},
		{"oversized", refreshPath, tokenCache, `{"secretType":"` + strings.Repeat("x", api.MaxBodyBytes) + `"}`},
		{"no body", glassPath, tokenOps, ""},
		{"plaintext field", glassPath, tokenOps, `{"secretType":"trading_api_key","value":"` + typo + `"}`},
		{"no ciphertext", glassPath, tokenOps, `{"secretType":"trading_api_key","expiresAt":"2026-01-01T00:00:00Z"}`},
		{"number for a time", glassPath, tokenOps, `{"secretType":"trading_api_key","ciphertext":"x","expiresAt":1767225600}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := f.do("POST", c.path, c.token, c.body).want(http.StatusBadRequest, domain.CodeInvalidRequest)
			if strings.Contains(string(a.body), typo) {
				t.Errorf("the answer repeats the body: %s", a.body)
			}
		})
	}
	f.do("POST", refreshPath, tokenCache, `{"secretType":"nope"}`).want(404, domain.CodeUnknownSecretType)
	f.do("POST", glassPath, tokenOps, envelopeBody(t, func(m map[string]any) { m["secretType"] = "nope" })).want(404, domain.CodeUnknownSecretType)
	f.do("POST", glassPath, tokenOps, envelopeBody(t, func(m map[string]any) { m["ciphertext"] = "garbage" })).want(422, domain.CodeInvalidBreakGlassPayload)
	if strings.Contains(f.logs.String(), typo) {
		t.Error("the log repeats a body")
	}
}

func TestScopeComesBeforeTheBody(t *testing.T) {
	f := newFixture(t).run()
	f.do("POST", refreshPath, tokenRead, "no JSON").want(403, domain.CodeForbidden)
	f.do("POST", glassPath, tokenRead, "no JSON").want(403, domain.CodeForbidden)
	f.do("GET", auditPath+"?limit=0", tokenRead, "").want(403, domain.CodeForbidden)
	for _, path := range []string{previewPath, rotationsPath, promotePath, abortPath, recordPath, followUpsPath + "/bg-1/close"} {
		f.do("POST", path, tokenRead, "no JSON").want(403, domain.CodeForbidden)
	}
}

func TestTokens(t *testing.T) {
	endpoints := []struct{ method, path, body, allowed string }{
		{"POST", refreshPath, "", tokenCache},
		{"GET", "/internal/apex-omni/secrets/trading_api_key", "", tokenRead},
		{"GET", statusPath, "", tokenOps},
		{"POST", glassPath, envelopeBody(t, nil), tokenOps},
		{"DELETE", glassPath + "/trading_api_key", "", tokenOps},
		{"GET", auditPath, "", tokenOps},
		{"POST", previewPath, rotation("1"), tokenOps},
		{"POST", rotationsPath, rotation("1"), tokenOps},
		{"POST", promotePath, "", tokenOps},
		{"POST", abortPath, "", tokenOps},
		{"POST", recordPath, `{"rotatedAt":"2026-01-01T00:00:00Z"}`, tokenOps},
		{"GET", followUpsPath, "", tokenOps},
		{"POST", followUpsPath + "/bg-1/close", `{"reason":"a drill"}`, tokenOps},
	}
	for _, e := range endpoints {
		t.Run(e.method+" "+e.path, func(t *testing.T) {
			f := newFixture(t).run()
			if a := f.do(e.method, e.path, "", e.body).want(401, domain.CodeUnauthenticated); !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("WWW-Authenticate: %q", a.header.Get("WWW-Authenticate"))
			}
			f.do(e.method, e.path, "expired", e.body).want(401, domain.CodeUnauthenticated)
			f.do(e.method, e.path, "", e.body, "Authorization", "Basic dTpw").want(401, domain.CodeUnauthenticated)
			for _, token := range []string{tokenRead, tokenCache, tokenOps, tokenNothing} {
				if token != e.allowed {
					f.do(e.method, e.path, token, e.body).want(403, domain.CodeForbidden)
				}
			}
			if a := f.do(e.method, e.path, e.allowed, e.body); a.status >= 400 && a.status != 404 && a.status != 409 {
				t.Errorf("with its scope: %d %s", a.status, a.body)
			}
			denied := 0
			for _, ev := range f.journal.Events() {
				if ev.Action == domain.ActionAccessDenied {
					denied++
				}
			}
			if denied != 6 {
				t.Errorf("%d refusals audited, want 6", denied)
			}
		})
	}
}
