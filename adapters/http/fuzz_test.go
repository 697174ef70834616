package http_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// fuzzedCalls are those that take a body, with the fields that each knows.
var fuzzedCalls = []struct {
	path, token string
	fields      []string
}{
	{refreshPath, tokenCache, []string{"secretType"}},
	{glassPath, tokenOps, []string{"secretType", "ciphertext", "expiresAt", "reason"}},
	{"/ops/apex-omni/secrets/rotation-preview", tokenOps, []string{"secretType", "gcpSecretVersion", "dryRunWebhookUrl"}},
	{"/ops/apex-omni/secrets/rotations", tokenOps, []string{"secretType", "gcpSecretVersion"}},
	{"/ops/apex-omni/secrets/rotations/trading_api_key/promote", tokenOps, nil},
	{"/ops/apex-omni/secrets/rotations/trading_api_key/abort", tokenOps, nil},
}

// answered are the statuses that the API document has for these calls.
var answered = []int{
	http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusBadRequest, http.StatusNotFound, http.StatusConflict,
	http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusServiceUnavailable,
}

// misplaced is what must not come back: somebody has put a secret where it does not belong.
const misplaced = "M1splacedPla1ntext"

// Whatever the body, the answer is one that the API document describes; a body that gets further than 400 is one JSON
// object, or nothing, with fields that are known, each once; and nothing of it is in an answer or in the log.
func FuzzBody(f *testing.F) {
	api := newFixture(f).run()
	f.Fuzz(func(t *testing.T, which byte, body string) {
		call := fuzzedCalls[int(which)%len(fuzzedCalls)]
		a := api.send(t, call.path, call.token, body)
		if !slices.Contains(answered, a.status) {
			t.Errorf("status %d: %s", a.status, a.body)
		}
		if a.status >= 400 {
			wantProblem(t, a)
		}
		if log := api.logs.take(); bytes.Contains(a.body, []byte(misplaced)) || strings.Contains(log, misplaced) {
			t.Errorf("what was sent comes back: %s\n%s", a.body, log)
		}
		if a.status != http.StatusBadRequest {
			wantFields(t, body, call.fields)
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

func (f *fixture) send(t *testing.T, path, token, body string) answer {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	return answer{t, w.Code, w.Header(), w.Body.Bytes()}
}

func wantProblem(t *testing.T, a answer) {
	t.Helper()
	var problem struct {
		Code   domain.Code `json:"code"`
		Status int         `json:"status"`
	}
	if err := json.Unmarshal(a.body, &problem); err != nil || problem.Code == "" || problem.Code == domain.CodeInternal || problem.Status != a.status ||
		a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("no problem: %s, %v", a.body, err)
	}
}

// wantFields reads a flat object the slow way.
func wantFields(t *testing.T, body string, known []string) {
	t.Helper()
	if strings.TrimSpace(body) == "" {
		return
	}
	d := json.NewDecoder(strings.NewReader(body))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		t.Fatalf("taken as a body: %q", body)
	}
	var seen []string
	for d.More() {
		name, err := d.Token()
		if err != nil {
			t.Fatalf("taken as a body: %q, %v", body, err)
		}
		seen = append(seen, name.(string))
		if value, err := d.Token(); err != nil || slices.Contains([]any{json.Delim('{'), json.Delim('[')}, any(value)) {
			t.Fatalf("taken as a body: %q, %v", body, err)
		}
	}
	for i, name := range seen {
		if !slices.Contains(known, name) || slices.Contains(seen[:i], name) {
			t.Errorf("field %q was taken: %q", name, body)
		}
	}
}

// Whatever the query, the trail answers with a page or says what is wrong, and repeats none of it.
func FuzzAuditQuery(f *testing.F) {
	api := newFixture(f).run()
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, auditPath, nil)
		r.URL.RawQuery = query
		r.Header.Set("Authorization", "Bearer "+tokenOps)
		w := httptest.NewRecorder()
		api.handler.ServeHTTP(w, r)
		a := answer{t, w.Code, w.Header(), w.Body.Bytes()}
		if a.status == http.StatusBadRequest {
			wantProblem(t, a)
			if bytes.Contains(a.body, []byte(misplaced)) {
				t.Errorf("what was sent comes back: %s", a.body)
			}
			return
		}
		if a.status != http.StatusOK {
			t.Fatalf("status %d: %s", a.status, a.body)
		}
		wantFilter(t, query, a)
	})
}

// wantFilter checks that a query that was taken means something, and that the answer keeps to it.
func wantFilter(t *testing.T, query string, a answer) {
	t.Helper()
	q, err := url.ParseQuery(query)
	if err != nil {
		t.Fatalf("taken: %q, %v", query, err)
	}
	var page struct {
		Data []struct{ Action, Result, SecretType string } `json:"data"`
	}
	if err := json.Unmarshal(a.body, &page); err != nil {
		t.Fatal(err)
	}
	for name, values := range q {
		if len(values) > 1 {
			t.Errorf("%s was taken %d times: %q", name, len(values), query)
		}
	}
	if text := q.Get("limit"); text != "" {
		if limit, err := strconv.Atoi(text); err != nil || limit < 1 || limit > domain.MaxEventPage || len(page.Data) > limit {
			t.Errorf("limit %q was taken, for %d events", text, len(page.Data))
		}
	}
	for _, e := range page.Data {
		for name, got := range map[string]string{"action": e.Action, "result": e.Result, "secretType": e.SecretType} {
			if want := q.Get(name); want != "" && got != want {
				t.Errorf("%s %q, want %q", name, got, want)
			}
		}
	}
}
