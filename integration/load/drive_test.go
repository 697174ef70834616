package main

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const goodAnswer = "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\nvalue"

// connected returns a connection to a server that answers each request as answer says, by its number from 0, until it
// is closed.
func connected(t *testing.T, answer func(n int) string) *connection {
	t.Helper()
	ours, theirs := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer theirs.Close()
		r := bufio.NewReader(theirs)
		for n := 0; ; n++ {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			text := answer(n)
			if _, err := theirs.Write([]byte(text)); err != nil || text == "" {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = ours.Close(); <-ended })
	return &connection{Conn: ours, r: bufio.NewReader(ours), request: []byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), want: []byte("value")}
}

func TestAnswersThatEndAMeasurement(t *testing.T) {
	for name, c := range map[string]struct{ answer, want string }{
		"a refusal":       {"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nfull", "503 Service Unavailable: full"},
		"another body":    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother", "lacks the secret's value"},
		"no length":       {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "no Content-Length"},
		"a false length":  {"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nvalue", "Content-Length: five"},
		"none":            {"", "closed the connection"},
		"half of a field": {"HTTP/1.1 200 OK\r\nConte", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := pool{connected(t, func(int) string { return c.answer })}
				_, err := p.closedLoop(t.Context(), time.Second)
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v, want one with %q", err, c.want)
				}
			})
		})
	}
}

func TestBodiesAreComparedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answered := 0
		p := pool{connected(t, func(n int) string {
			pass(time.Millisecond)
			answered = n + 1
			if n < 10 {
				return goodAnswer
			}
			return strings.ReplaceAll(goodAnswer, "value", "other")
		})}
		if _, err := p.closedLoop(t.Context(), time.Second); err == nil || answered != checkEvery+1 {
			t.Errorf("%v after %d answers, want an error after %d", err, answered, checkEvery+1)
		}
	})
}

func TestClosedLoopSendsWhenItHasTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool{connected(t, tenMilliseconds), connected(t, tenMilliseconds)}
		got, err := p.closedLoop(t.Context(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if got.took.n != 200 || got.elapsed != time.Second || got.took.max != 10*time.Millisecond {
			t.Errorf("%d requests in %v, the slowest in %v; want 200 in 1s, in 10ms", got.took.n, got.elapsed, got.took.max)
		}
	})
}

func tenMilliseconds(int) string {
	pass(10 * time.Millisecond)
	return goodAnswer
}

// A server that stands still for a second is not one slow answer: whoever came meanwhile waited too.
func TestOpenLoopCountsFromWhenARequestWasDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool{connected(t, func(n int) string {
			if n == 0 {
				pass(time.Second)
			}
			return goodAnswer
		})}
		got, err := p.openLoop(t.Context(), 2*time.Second, 100, fakeSleeper)
		if err != nil {
			t.Fatal(err)
		}
		if got.took.n != 200 || got.unsent != 0 {
			t.Errorf("%d requests and %d given up, want 200 and 0", got.took.n, got.unsent)
		}
		if quarter := got.took.quantile(0.75); quarter < 495*time.Millisecond || quarter > 505*time.Millisecond {
			t.Errorf("a quarter took %v and more, want 500ms", quarter)
		}
	})
}

func TestOpenLoopGivesUpWhatItCannotSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool{connected(t, tenMilliseconds)}
		got, err := p.openLoop(t.Context(), time.Second, 1000, fakeSleeper)
		if err != nil {
			t.Fatal(err)
		}
		if got.took.n != 1000 || got.unsent < 790 || got.unsent > 810 {
			t.Errorf("%d requests, %d of them given up; want 1000, some 800", got.took.n, got.unsent)
		}
	})
}

func TestOpenLoopEndsWithAConnectionThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool{connected(t, func(int) string { return "" }), connected(t, tenMilliseconds)}
		began := time.Now()
		if _, err := p.openLoop(t.Context(), time.Hour, 100, fakeSleeper); err == nil || time.Since(began) > time.Minute {
			t.Errorf("%v after %v, want an error at once", err, time.Since(began))
		}
	})
}

func fakeSleeper() (func(time.Duration), func()) { return pass, func() {} }

func pass(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // simulated: in a bubble
