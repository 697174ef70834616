package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/client/clienttest"
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

// watching is a running `get --watch`.
type watching struct {
	t        *testing.T
	out, err logBuffer
	cancel   context.CancelFunc
	ended    sync.WaitGroup
	code     int
}

func startWatch(t *testing.T, omni *clienttest.Server, args ...string) *watching {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &watching{t: t, cancel: cancel}
	env := map[string]string{"OMNI_API_URL": omni.URL(), "OMNI_TOKEN": clienttest.Token}
	w.ended.Go(func() {
		w.code = run(ctx, append([]string{"get", "--watch", "--secret-type", "trading_api_key"}, args...),
			func(name string) (string, bool) { value, ok := env[name]; return value, ok }, strings.NewReader(""), &w.out, &w.err)
	})
	t.Cleanup(func() {
		cancel()
		w.ended.Wait()
	})
	return w
}

// wantEnd interrupts the watch and checks what it printed in all.
func (w *watching) wantEnd(out string, warnings ...string) {
	w.t.Helper()
	w.cancel()
	w.ended.Wait()
	if w.code != exitOK || w.out.String() != out {
		w.t.Errorf("exit code %d, standard output:\n%s\nwant:\n%s", w.code, w.out.String(), out)
	}
	if n := strings.Count(w.err.String(), "\n"); n != len(warnings) {
		w.t.Errorf("%d warnings, want %d:\n%s", n, len(warnings), w.err.String())
	}
	for _, warning := range warnings {
		if !strings.Contains(w.err.String(), warning) {
			w.t.Errorf("no warning has %q:\n%s", warning, w.err.String())
		}
	}
}

func TestWatchPrintsEveryValue(t *testing.T) {
	omni := serving(t, "trading_api_key", "first")
	w := startWatch(t, omni)
	w.out.wait(t, "first\n")
	omni.Set("trading_api_key", "two\nlines")
	w.out.wait(t, "two\nlines\n")
	omni.Withdraw("trading_api_key")
	w.err.wait(t, "has no value now")
	omni.Override("trading_api_key", "injected", time.Hour)
	w.out.wait(t, "injected\n")
	w.wantEnd("first\ntwo\nlines\ninjected\n", "warning: trading_api_key has no value now: the value was revoked")
}

func TestWatchAsJSON(t *testing.T) {
	omni := serving(t, "trading_api_key", "<first>")
	w := startWatch(t, omni, "-o", "json")
	w.out.wait(t, "first")
	omni.MarkStale("trading_api_key")
	w.out.wait(t, `"stale":true`)
	omni.Set("trading_api_key", "\xff\x00")
	w.out.wait(t, "valueBase64")
	omni.Withdraw("trading_api_key")
	w.out.wait(t, "WITHDRAWN")
	omni.Override("trading_api_key", "injected", time.Hour)
	w.out.wait(t, "injected")
	w.wantEnd(`{"secretType":"trading_api_key","value":"<first>","version":"1","source":"gsm","stale":false}
{"secretType":"trading_api_key","value":"<first>","version":"1","source":"gsm","stale":true}
{"secretType":"trading_api_key","valueBase64":"/wA=","version":"2","source":"gsm","stale":false}
{"secretType":"trading_api_key","code":"WITHDRAWN","detail":"the value was revoked and must not be used any more (version_disabled); a new version, or an override, takes its place"}
{"secretType":"trading_api_key","value":"injected","version":"bg-1","source":"break_glass","stale":false}
`, "warning: the value is stale", "warning: trading_api_key has no value now")
}

func TestWatchReplacesAFile(t *testing.T) {
	for _, tc := range []struct {
		name, format, first, second string
	}{
		{"text", "text", "first", "second"},
		{
			"JSON", "json", `{"secretType":"trading_api_key","value":"first","version":"1","source":"gsm","stale":false}` + "\n",
			`{"secretType":"trading_api_key","value":"second","version":"2","source":"gsm","stale":false}` + "\n",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			omni := serving(t, "trading_api_key", "first")
			omni.MarkStale("trading_api_key") // the warning tells of each write
			path := filepath.Join(t.TempDir(), "out")
			w := startWatch(t, omni, "-o", tc.format, "--out", path)
			waitForFile(t, path, strings.ReplaceAll(tc.first, `"stale":false`, `"stale":true`))
			omni.Set("trading_api_key", "second")
			waitForFile(t, path, tc.second)
			omni.Withdraw("trading_api_key")
			w.err.wait(t, "has no value now")
			waitForFile(t, path, tc.second)
			if about, err := os.Stat(path); err != nil || about.Mode().Perm() != 0o600 {
				t.Errorf("%v: mode %v", err, about.Mode())
			}
			w.wantEnd("", "is stale", "has no value now")
		})
	}
}

// waitForFile waits until a file has the content, which it gets as a whole.
func waitForFile(t *testing.T, path, content string) {
	t.Helper()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for range poll.C {
		got, err := os.ReadFile(path)
		if err == nil && string(got) == content {
			return
		}
		if t.Context().Err() != nil {
			t.Fatalf("%v: the file has %q, want %q", err, got, content)
		}
	}
}

func TestWatchGoesOnWithoutAServer(t *testing.T) {
	omni := serving(t, "trading_api_key", "first")
	w := startWatch(t, omni)
	w.out.wait(t, "first\n")
	omni.Stop()
	w.err.wait(t, "the secrets cannot be followed")
	omni.Set("trading_api_key", "second")
	omni.Start()
	w.out.wait(t, "second\n")
	w.err.wait(t, "the server is back: the secrets are followed again\n")
	w.cancel()
	w.ended.Wait()
	if w.code != exitOK || w.out.String() != "first\nsecond\n" {
		t.Errorf("exit code %d: %s", w.code, w.out.String())
	}
}

// Half a minute without a word looks like a program that hangs.
func TestWatchSaysThatItWaitsForAServer(t *testing.T) {
	omni := serving(t, "trading_api_key", "first")
	omni.Stop()
	w := startWatch(t, omni, "--timeout", "1h")
	w.err.wait(t, "; trying for another ")
	omni.Start()
	w.out.wait(t, "first\n")
	w.err.wait(t, "the server is back") // which is said once the last first state has come
	w.wantEnd("first\n", "warning: no answer from the server: ", "omni-secrets: the server is back: the secrets are followed again")
}

func TestWatchThatIsInterruptedSaysWhatItWaitedFor(t *testing.T) {
	omni := serving(t, "trading_api_key", "first")
	omni.Stop()
	w := startWatch(t, omni, "--timeout", "1h")
	w.err.wait(t, "; trying for another ")
	w.cancel()
	w.ended.Wait()
	if log := w.err.String(); w.code != exitFailure || !strings.Contains(log, "read trading_api_key: interrupted; the last attempt: no answer from the server: ") {
		t.Errorf("exit code %d:\n%s", w.code, log)
	}
}

func TestWatchWaitsForAValue(t *testing.T) {
	omni := clienttest.NewServer(t)
	omni.MakeUnavailable("trading_api_key", "unavailable")
	w := startWatch(t, omni)
	w.err.wait(t, "has no value now")
	omni.Set("trading_api_key", "first")
	w.out.wait(t, "first\n")
	w.wantEnd("first\n", "trading_api_key has no value now: the server has no value (unavailable)")
}

func TestWatchThatCannotBegin(t *testing.T) {
	for _, tc := range []struct {
		name    string
		prepare func(*clienttest.Server)
		timeout string
		code    int
		want    string
	}{
		{"no valid token", func(o *clienttest.Server) { o.AcceptOnly() }, "1m", exitNotAllowed, "check that the token has not expired"},
		{"not a reader", func(o *clienttest.Server) { o.Forbid("trading_api_key") }, "1m", exitNotAllowed, "lacks scope svc.omni.secrets.read"},
		{"no server", (*clienttest.Server).Stop, "100ms", exitUnavailable, "is the server running"},
		{"value that is still being fetched", func(o *clienttest.Server) { o.MakeUnavailable("trading_api_key", "") }, "100ms", exitUnavailable, "--timeout"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			omni := serving(t, "trading_api_key", plaintext)
			tc.prepare(omni)
			o := execProcess(omni).run(t, "get", "--watch", "--secret-type", "trading_api_key", "--timeout", tc.timeout)
			o.want(t, tc.code, tc.want)
			if o.out != "" || strings.Count(o.err, "\n") != 2 {
				t.Errorf("standard output: %q, standard error:\n%s", o.out, o.err)
			}
		})
	}
	process{}.run(t, "get", "--watch", "--secret-type", "trading-api-key").want(t, exitUsage, "did you mean trading_api_key?")
	process{}.run(t, "get", "--watch", "--secret-type", "trading_api_key").want(t, exitConfig, "set OMNI_API_URL")
}

func TestWatchEndsWellAtCtrlC(t *testing.T) {
	omni := serving(t, "trading_api_key", "first")
	p := newProgram(t, omni, "get", "--watch", "--secret-type", "trading_api_key")
	p.start()
	p.wantLine("first")
	p.signal(syscall.SIGINT)
	p.wantEnd(exitOK)
}
