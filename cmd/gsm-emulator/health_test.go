package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealth(t *testing.T) {
	serving := begin(t, noEnvironment, "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0")
	stopped := begin(t, noEnvironment, "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0")
	stopped.stop()
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	for _, c := range []struct {
		name, url string
		code      int
		want      string
	}{
		{"an emulator that serves", serving.control, 0, ""},
		{"one that ended", stopped.control, 1, "not healthy: "},
		{"another server", other.URL, 1, "answered 404 Not Found"},
		{"no address", "127.0.0.1:9086", 1, "is no address such as http://127.0.0.1:9086"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stderr bytes.Buffer
			code := run(t.Context(), []string{"--health", c.url}, noEnvironment, io.Discard, &stderr)
			if code != c.code || !strings.Contains(stderr.String(), c.want) || (code == 0) != (stderr.Len() == 0) {
				t.Errorf("the exit code is %d and stderr %q, want %d and %q", code, &stderr, c.code, c.want)
			}
		})
	}
}
