package emulator_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/apex-tradebill/omni-secrets/adapters/gsm/emulator"
)

// control makes one request of the control API.
func control(s *emulator.Server, method, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.Control().ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w
}

func wantStatus(t *testing.T, w *httptest.ResponseRecorder, want int) {
	t.Helper()
	if w.Code != want {
		t.Fatalf("the status is %d, want %d: %s", w.Code, want, w.Body)
	}
}

func TestControlDrill(t *testing.T) {
	c := start(t)
	w := control(c.server, "PUT", "/secrets/omni-dev/api-key", "first-plaintext")
	wantStatus(t, w, http.StatusOK)
	if got, want := strings.Join(strings.Fields(w.Body.String()), ""), `{"name":"projects/omni-dev/secrets/api-key/versions/1","version":1}`; got != want {
		t.Errorf("the answer is %s, want %s", got, want)
	}
	wantStatus(t, control(c.server, "PUT", "/secrets/omni-dev/api-key", "second-plaintext"), http.StatusOK)
	wantStatus(t, control(c.server, "PUT", "/secrets/omni-dev/api-key?location=europe-west3", "regional-plaintext"), http.StatusOK)

	access := func(version string) (string, codes.Code) {
		t.Helper()
		got, err := c.access(t.Context(), version)
		return string(got.GetPayload().GetData()), status.Code(err)
	}
	expect := func(version, value string, code codes.Code) {
		t.Helper()
		if got, gotCode := access(version); got != value || gotCode != code {
			t.Errorf("%s gives %q, %s; want %q, %s", version, got, gotCode, value, code)
		}
	}
	expect(secret+"/versions/latest", "second-plaintext", codes.OK)
	expect(regional+"/secrets/api-key/versions/latest", "regional-plaintext", codes.OK)

	wantStatus(t, control(c.server, "POST", "/secrets/omni-dev/api-key/versions/2/disable", ""), http.StatusNoContent)
	expect(secret+"/versions/latest", "", codes.FailedPrecondition)
	wantStatus(t, control(c.server, "POST", "/secrets/omni-dev/api-key/versions/2/enable", ""), http.StatusNoContent)
	expect(secret+"/versions/latest", "second-plaintext", codes.OK)
	wantStatus(t, control(c.server, "PUT", "/secrets/omni-dev/api-key/aliases/stable", `{"version":1}`), http.StatusNoContent)
	expect(secret+"/versions/stable", "first-plaintext", codes.OK)
	wantStatus(t, control(c.server, "DELETE", "/secrets/omni-dev/api-key/aliases/stable", ""), http.StatusNoContent)
	expect(secret+"/versions/stable", "", codes.NotFound)
	wantStatus(t, control(c.server, "POST", "/secrets/omni-dev/api-key/versions/1/destroy", ""), http.StatusNoContent)
	expect(secret+"/versions/1", "", codes.FailedPrecondition)

	wantStatus(t, control(c.server, "POST", "/faults", `{"mode":"unavailable","secret":"api-key"}`), http.StatusOK)
	expect(secret+"/versions/2", "", codes.Unavailable)
	w = control(c.server, "GET", "/state", "")
	wantStatus(t, w, http.StatusOK)
	if strings.Contains(w.Body.String(), "plaintext") {
		t.Errorf("the state shows a payload: %s", w.Body)
	}
	var state emulator.State
	if err := json.Unmarshal(w.Body.Bytes(), &state); err != nil {
		t.Fatal(err)
	}
	if len(state.Secrets) != 2 || len(state.Faults) != 1 || state.Calls["AccessSecretVersion"] != 8 {
		t.Errorf("the state is %+v", state)
	}
	if v := state.Secrets[1].Versions; len(v) != 2 || v[0].State != "DESTROYED" || v[1].State != "ENABLED" || v[1].PayloadBytes != len("second-plaintext") {
		t.Errorf("the versions are %+v", v)
	}
	wantStatus(t, control(c.server, "DELETE", "/faults", ""), http.StatusNoContent)
	expect(secret+"/versions/2", "second-plaintext", codes.OK)
	wantStatus(t, control(c.server, "DELETE", "/secrets/omni-dev/api-key", ""), http.StatusNoContent)
	expect(secret+"/versions/2", "", codes.NotFound)
	wantStatus(t, control(c.server, "GET", "/healthz", ""), http.StatusOK)
}

func TestControlRefusesWithANextStep(t *testing.T) {
	for _, r := range []struct {
		name               string
		method, path, body string
		want               int
	}{
		{"an unknown path", "GET", "/nothing", "", http.StatusNotFound},
		{"a method that is not there", "POST", "/state", "", http.StatusNotFound},
		{"an empty payload", "PUT", "/secrets/omni-dev/api-key", "", http.StatusBadRequest},
		{"a payload over 64 KiB", "PUT", "/secrets/omni-dev/api-key", strings.Repeat("x", emulator.MaxPayloadBytes+1), http.StatusRequestEntityTooLarge},
		{"a malformed project", "PUT", "/secrets/X/api-key", "x", http.StatusBadRequest},
		{"a malformed location", "PUT", "/secrets/omni-dev/api-key?location=a.b", "x", http.StatusBadRequest},
		{"an unknown action", "POST", "/secrets/omni-dev/api-key/versions/1/burn", "", http.StatusNotFound},
		{"a version that is not there", "POST", "/secrets/omni-dev/api-key/versions/9/disable", "", http.StatusNotFound},
		{"an alias as the version to change", "POST", "/secrets/omni-dev/api-key/versions/latest/disable", "", http.StatusBadRequest},
		{"enabling a destroyed version", "POST", "/secrets/omni-dev/api-key/versions/1/enable", "", http.StatusConflict},
		{"an alias of no version", "PUT", "/secrets/omni-dev/api-key/aliases/stable", `{"version":9}`, http.StatusBadRequest},
		{"an alias without a version", "PUT", "/secrets/omni-dev/api-key/aliases/stable", `{}`, http.StatusBadRequest},
		{"a forbidden alias", "PUT", "/secrets/omni-dev/api-key/aliases/latest", `{"version":1}`, http.StatusBadRequest},
		{"taking an unknown alias away", "DELETE", "/secrets/omni-dev/api-key/aliases/stable", "", http.StatusNotFound},
		{"deleting an unknown secret", "DELETE", "/secrets/omni-dev/nothing", "", http.StatusNotFound},
		{"no fault at all", "POST", "/faults", "", http.StatusBadRequest},
		{"an unknown mode", "POST", "/faults", `{"mode":"explode"}`, http.StatusBadRequest},
		{"an unknown field", "POST", "/faults", `{"mode":"deny","rates":1}`, http.StatusBadRequest},
		{"two values", "POST", "/faults", `{"mode":"deny"}{"mode":"deny"}`, http.StatusBadRequest},
		{"a wrong type", "POST", "/faults", `{"mode":1}`, http.StatusBadRequest},
		{"no JSON", "POST", "/faults", `mode=deny`, http.StatusBadRequest},
		{"a rate of 0", "POST", "/faults", `{"mode":"deny","rate":0}`, http.StatusBadRequest},
		{"a rate above 1", "POST", "/faults", `{"mode":"deny","rate":1.5}`, http.StatusBadRequest},
		{"a delay without its length", "POST", "/faults", `{"mode":"delay"}`, http.StatusBadRequest},
		{"a delay in the past", "POST", "/faults", `{"mode":"delay","delayMs":-1}`, http.StatusBadRequest},
		{"a delay beyond reason", "POST", "/faults", `{"mode":"delay","delayMs":9223372036854775807}`, http.StatusBadRequest},
		{"a length without the delay", "POST", "/faults", `{"mode":"deny","delayMs":5}`, http.StatusBadRequest},
		{"a body too large", "POST", "/faults", `{"mode":"` + strings.Repeat("x", 5000) + `"}`, http.StatusRequestEntityTooLarge},
	} {
		t.Run(r.name, func(t *testing.T) {
			s := emulator.New()
			defer s.Stop()
			if _, err := s.Put(secret, []byte("value")); err != nil {
				t.Fatal(err)
			}
			if err := s.Destroy(secret + "/versions/1"); err != nil {
				t.Fatal(err)
			}
			w := control(s, r.method, r.path, r.body)
			wantStatus(t, w, r.want)
			var body struct{ Error, Next string }
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Error == "" || body.Next == "" {
				t.Errorf("the answer is %s (%v), want an error and what to do next", w.Body, err)
			}
			if got := w.Header().Get("Content-Type"); got != "application/json" {
				t.Errorf("the content type is %q", got)
			}
		})
	}
}

func FuzzControl(f *testing.F) {
	f.Add("POST", "/faults", `{"mode":"delay","delayMs":1,"rate":0.5,"secret":"x"}`)
	f.Add("PUT", "/secrets/omni-dev/api-key", "value")
	f.Add("PUT", "/secrets/omni-dev/api-key/aliases/a", `{"version":1}`)
	f.Add("POST", "/secrets/omni-dev/api-key/versions/1/destroy", "")
	f.Fuzz(func(t *testing.T, method, path, body string) {
		req, err := http.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		if err != nil {
			return // no server would see it
		}
		s := emulator.New()
		defer s.Stop()
		if _, err := s.Put(secret, []byte("plaintext-in-memory")); err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		s.Control().ServeHTTP(w, req)
		if w.Code >= 500 {
			t.Errorf("%s %s answered %d: %s", method, path, w.Code, w.Body)
		}
		if !strings.Contains(path+body, "plaintext-in-memory") && strings.Contains(w.Body.String(), "plaintext-in-memory") {
			t.Error("the answer shows the payload")
		}
	})
}
