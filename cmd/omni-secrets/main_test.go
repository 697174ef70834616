package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

const (
	testToken = "header.token-that-nobody-may-see.signature"
	plaintext = "plaintext-that-nobody-may-see"
)

// process is what a run of the program finds around it.
type process struct {
	env   map[string]string
	stdin string
}

// outcome is what a run of the program leaves.
type outcome struct {
	code     int
	out, err string
}

// run runs the program and checks what holds for every run: that errors and warnings name no secret.
func (p process) run(t *testing.T, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, func(name string) (string, bool) {
		value, ok := p.env[name]
		return value, ok
	}, strings.NewReader(p.stdin), &stdout, &stderr)
	o := outcome{code, stdout.String(), stderr.String()}
	if strings.Contains(o.err, testToken) || strings.Contains(o.out, testToken) {
		t.Errorf("the token was printed:\n%s%s", o.out, o.err)
	}
	if strings.Contains(o.err, plaintext) {
		t.Errorf("the secret was printed on standard error:\n%s", o.err)
	}
	if code != exitOK && !strings.Contains(o.err, "omni-secrets: ") {
		t.Errorf("exit code %d without a word:\n%s", o.code, o.err)
	}
	return o
}

// want checks the exit code and that each of texts was printed on standard output or standard error.
func (o outcome) want(t *testing.T, code int, texts ...string) {
	t.Helper()
	if o.code != code {
		t.Errorf("exit code %d, want %d", o.code, code)
	}
	for _, text := range texts {
		if !strings.Contains(o.out+o.err, text) {
			t.Errorf("%q was not printed", text)
		}
	}
	if t.Failed() {
		t.Logf("standard output:\n%s\nstandard error:\n%s", o.out, o.err)
	}
}

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (run the test with -update to write it)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update rewrites it):\n%s", path, diff)
	}
}

// request is one that a fakeAPI got.
type request struct {
	Method, Path, Query, ContentType, Body string
}

// fakeAPI answers as it is told and remembers what it was asked.
type fakeAPI struct {
	url    string
	mu     sync.Mutex
	routes map[string]http.HandlerFunc // by "METHOD /path"
	got    []request
	date   func() string // the Date of answers; nil for that of now
}

func newFakeAPI(t *testing.T, routes map[string]http.HandlerFunc) *fakeAPI {
	t.Helper()
	api := &fakeAPI{routes: routes}
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	api.url = server.URL
	return api
}

func (a *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	a.mu.Lock()
	a.got = append(a.got, request{r.Method, r.URL.Path, r.URL.RawQuery, r.Header.Get("Content-Type"), string(body)})
	a.mu.Unlock()
	if a.date != nil {
		w.Header().Set("Date", a.date())
	}
	handler, ok := a.routes[r.Method+" "+r.URL.Path]
	switch {
	case r.Header.Get("Authorization") != "Bearer "+testToken:
		refuse(w, http.StatusUnauthorized, "UNAUTHENTICATED", "the token is missing or not valid")
	case !ok:
		http.NotFound(w, r)
	default:
		handler(w, r)
	}
}

func (a *fakeAPI) requests() []request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.got)
}

// process is one that knows the API by its environment.
func (a *fakeAPI) process() process {
	return process{env: map[string]string{"OMNI_API_URL": a.url, "OMNI_TOKEN": testToken}}
}

// answer is a handler that sends a status and a JSON document.
func answer(status int, document string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, document)
	}
}

// refusing is a handler that sends a problem.
func refusing(status int, code, detail string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { refuse(w, status, code, detail) }
}

func refuse(w http.ResponseWriter, status int, code, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"type": "urn:omni-secrets:problem:" + code, "title": http.StatusText(status), "status": status,
		"detail": detail, "code": code, "requestId": "req-42",
	})
}

// privateFile writes a file with the given permissions and returns its path.
func privateFile(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret.plaintext")
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return path
}
