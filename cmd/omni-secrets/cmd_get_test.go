package main

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const readRoute = "GET /internal/apex-omni/secrets/trading_api_key"

const readDocument = `{"secretType":"trading_api_key","value":"` + plaintext + `","version":"7","source":"gsm","fetchedAt":"2026-03-01T12:00:00.000Z","expiresAt":"2026-03-01T12:05:00.000Z","ageSeconds":1,"stale":false}`

func TestGet(t *testing.T) {
	for _, tc := range []struct {
		name     string
		document string
		args     []string
		out      string
	}{
		{"text", readDocument, nil, plaintext},
		{"text that ends in a newline", `{"value":"a\n","stale":false}`, nil, "a\n"},
		{"text of other scripts", `{"value":"\u00fc\u2028<>&"}`, nil, "ü\u2028<>&"},
		{"bytes", `{"valueBase64":"/wAK"}`, nil, "\xff\x00\n"},
		{"as JSON", readDocument, []string{"-o", "json"}, readDocument + "\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api := newFakeAPI(t, map[string]http.HandlerFunc{readRoute: answer(200, tc.document)})
			o := api.process().run(t, append([]string{"get", "--secret-type", "trading_api_key"}, tc.args...)...)
			o.want(t, exitOK)
			if o.out != tc.out {
				t.Errorf("standard output %q, want %q", o.out, tc.out)
			}
		})
	}
}

func TestGetThatFails(t *testing.T) {
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		code    int
		want    string
	}{
		{"unavailable", refusing(503, "SECRET_UNAVAILABLE", "there is nothing to serve"), exitUnavailable, "omni-secrets breakglass --help"},
		{"not allowed", refusing(403, "FORBIDDEN", "no"), exitNotAllowed, "lacks scope svc.omni.secrets.read, or its subject is not among the readers"},
		{"unknown", refusing(404, "UNKNOWN_SECRET_TYPE", "no"), exitNotFound, "lists the secret types"},
		{"no value", answer(200, `{"secretType":"trading_api_key"}`), exitFailure, "not one of Omni Secrets"},
		{"value that is not base64", answer(200, `{"valueBase64":"`+plaintext+`!"}`), exitFailure, "not one of Omni Secrets"},
		{"page of something else", answer(200, "<html>"+plaintext), exitFailure, "not one of Omni Secrets"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api := newFakeAPI(t, map[string]http.HandlerFunc{readRoute: tc.handler})
			o := api.process().run(t, "get", "--secretType", "trading_api_key")
			o.want(t, tc.code, tc.want)
			if o.out != "" {
				t.Errorf("standard output: %q", o.out)
			}
		})
	}
}

func TestGetWarnsOfStaleValues(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{readRoute: answer(200, `{"value":"a","stale":true}`)})
	api.process().run(t, "get", "--secret-type", "trading_api_key").want(t, exitOK, "warning: the value is stale")
}

func TestGetOut(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{readRoute: answer(200, readDocument)})
	dir := t.TempDir()
	for _, tc := range []struct {
		name, path, there string
		args              []string
		want              string
	}{
		{"new file", "new", "", nil, plaintext},
		{"file that others could read", "old", "longer than the plaintext that nobody may see, by far", nil, plaintext},
		{"as JSON", "json", "", []string{"-o", "json"}, readDocument + "\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(dir, tc.path)
			if tc.there != "" {
				if err := os.WriteFile(path, []byte(tc.there), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			o := api.process().run(t, append([]string{"get", "--secret-type", "trading_api_key", "--out", path}, tc.args...)...)
			o.want(t, exitOK)
			content, err := os.ReadFile(path)
			if err != nil || string(content) != tc.want || o.out != "" {
				t.Errorf("%v: file %q, standard output %q", err, content, o.out)
			}
			if about, err := os.Stat(path); err != nil || about.Mode().Perm() != 0o600 {
				t.Errorf("%v: mode %v", err, about.Mode())
			}
		})
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestGetOutRefusesWhatIsNoFile(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{readRoute: answer(200, readDocument)})
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "target"), link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, link, filepath.Join(dir, "missing", "file")} {
		api.process().run(t, "get", "--secret-type", "trading_api_key", "--out", path).want(t, exitUsage, "--out: ")
	}
}

func TestValueOnATerminal(t *testing.T) {
	for _, tc := range []struct {
		name, content string
		terminal      bool
		want          string
	}{
		{"file", "a", false, "a"},
		{"terminal", "a", true, "a\n"},
		{"terminal, with its newline", "a\n", true, "a\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := writeContent(&b, []byte(tc.content), tc.terminal); err != nil || b.String() != tc.want {
				t.Errorf("%v: %q", err, b.String())
			}
		})
	}
}

func TestOutputThatCannotBeWritten(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{readRoute: answer(200, readDocument), statusRoute: answer(200, statusDocument)})
	full, err := os.OpenFile(privateFile(t, "", 0o600), os.O_RDONLY, 0) // no writing
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, args := range []string{"get --secret-type trading_api_key", "status", "status -o json", "version", "keygen"} {
		var stderr bytes.Buffer
		code := run(t.Context(), strings.Fields(args), func(name string) (string, bool) {
			return api.process().env[name], true
		}, strings.NewReader(""), full, &stderr)
		if code != exitFailure || !strings.Contains(stderr.String(), "write the result") {
			t.Errorf("%s: exit code %d\n%s", args, code, &stderr)
		}
	}
}
