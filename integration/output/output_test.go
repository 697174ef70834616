package output_test

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apex-tradebill/omni-secrets/integration/output"
)

func TestAwait(t *testing.T) {
	is := func(want string) func(string) bool { return func(line string) bool { return line == want } }
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		l := output.New()
		go l.Follow(r)
		go func() {
			for _, line := range []string{"one\n", "two\n", "three\n"} {
				<-time.After(time.Second)
				_, _ = io.WriteString(w, line)
			}
			<-time.After(time.Hour)
			_ = w.Close()
		}()
		began := time.Now()
		for _, c := range []struct {
			name     string
			from     int
			patience time.Duration
			line     string
			want     bool
			at       time.Duration // since the beginning
		}{
			{"a line that is to come", 0, time.Minute, "two", true, 2 * time.Second},
			{"a line that was there", 0, time.Minute, "one", true, 2 * time.Second},
			{"a line that was there before", 1, 10 * time.Second, "one", false, 12 * time.Second},
			{"a line that came meanwhile", 1, time.Minute, "three", true, 12 * time.Second},
			{"a line that never comes", 0, 24 * time.Hour, "four", false, time.Hour + 3*time.Second},
		} {
			if got := l.Await(c.from, c.patience, is(c.line)); got != c.want {
				t.Errorf("%s: %v, want %v", c.name, got, c.want)
			}
			if at := time.Since(began); at != c.at {
				t.Errorf("%s: known after %v, want %v", c.name, at, c.at)
			}
		}
		if l.Count() != 3 || l.Tail(2) != "two\nthree" || l.Text() != strings.Join([]string{"one", "two", "three"}, "\n") {
			t.Errorf("%d lines, the last of them %q, of %q", l.Count(), l.Tail(2), l.Text())
		}
	})
}
