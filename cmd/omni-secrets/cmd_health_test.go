package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestHealth(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		body   string
		code   int
		want   []string
	}{
		{"ready", 200, `{"status":"ready","missing":[]}`, exitOK, []string{"ready\n"}},
		{
			"not ready: says what is missing", 503, `{"status":"not ready","missing":["the database","2 of 5 secrets"]}`,
			exitFailure,
			[]string{"not ready: the database; 2 of 5 secrets"},
		},
		{"not ready, without a reason", 503, `{"status":"not ready"}`, exitFailure, []string{"not ready", "answered 503"}},
		{"another server", 200, `<html>`, exitFailure, []string{"answered 200, and not as Omni Secrets does"}},
		{"another server that speaks JSON", 200, `{}`, exitFailure, []string{"not as Omni Secrets does"}},
		{"control characters", 503, `{"status":"not ready","missing":["a\u001b[2Jb"]}`, exitFailure, []string{"not ready: a [2Jb"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got = r.Method + " " + r.URL.Path + r.Header.Get("Authorization")
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			}))
			t.Cleanup(server.Close)
			// A token of the environment is not sent: it is not needed.
			o := process{env: map[string]string{"OMNI_TOKEN": testToken}}.run(t, "health", "--url", server.URL)
			o.want(t, tc.code, tc.want...)
			if got != "GET /readyz" {
				t.Errorf("the request is %q", got)
			}
			if (o.out == "") != (tc.code != exitOK) {
				t.Errorf("standard output: %q", o.out)
			}
		})
	}
}

func TestHealthFollowsNoRedirect(t *testing.T) {
	elsewhere := newFakeAPI(t, nil)
	server := httptest.NewServer(http.RedirectHandler(elsewhere.url, http.StatusFound))
	t.Cleanup(server.Close)
	process{}.run(t, "health", "--url", server.URL).want(t, exitFailure, "answered 302")
	if got := elsewhere.requests(); len(got) > 0 {
		t.Errorf("it asked elsewhere: %v", got)
	}
}

func TestHealthAsJSON(t *testing.T) {
	const document = `{"status":"ready","missing":[]}`
	server := httptest.NewServer(answer(200, document))
	t.Cleanup(server.Close)
	o := process{}.run(t, "health", "--api-url", server.URL, "-o", "json")
	o.want(t, exitOK)
	if o.out != document+"\n" {
		t.Errorf("standard output: %q", o.out)
	}
}

func TestHealthOfAServerThatIsSilentOrGone(t *testing.T) {
	release := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(silent.Close)
	t.Cleanup(func() { close(release) })
	process{}.run(t, "health", "--url", silent.URL, "--timeout", "20ms").want(t, exitFailure, "no answer from 127.0.0.1")

	gone := httptest.NewServer(nil)
	gone.Close()
	process{}.run(t, "health", "--url", gone.URL).want(t, exitFailure, "no answer from 127.0.0.1")
}

func TestHealthUsage(t *testing.T) {
	for _, args := range [][]string{{"--url", "127.0.0.1:8080"}, {"--url", ""}, {"--timeout", "0s"}} {
		process{}.run(t, append([]string{"health"}, args...)...).want(t, exitUsage)
	}
}
