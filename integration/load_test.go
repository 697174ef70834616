package integration_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// load is a number of clients that read one secret over and over, as services do that know both replicas: each
// has one that it prefers, and tries the other at once when a read fails.
type load struct {
	st      *stack
	name    string // request ids begin with it
	ended   chan struct{}
	reading sync.WaitGroup
	reads   atomic.Int64 // that were answered
	diverts atomic.Int64 // of them, by the second choice

	mu       sync.Mutex
	answered []string // request ids
	failed   []string // reads that neither replica answered
}

const loadClients = 8

// startLoad begins to read. The test must call finish.
func (st *stack) startLoad(name string) *load {
	st.t.Helper()
	l := &load{st: st, name: name, ended: make(chan struct{})}
	// A connection a read: the transport would repeat a request on its own, under the same id, when a kept
	// connection breaks.
	each := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for c := range loadClients {
		choices := []*server{st.a, st.b}
		if c%2 == 1 {
			slices.Reverse(choices)
		}
		l.reading.Go(func() {
			pace := time.NewTicker(10 * time.Millisecond)
			defer pace.Stop()
			for i := 0; ; i++ {
				select {
				case <-l.ended:
					return
				case <-pace.C:
					l.read(each, choices, fmt.Sprintf("%s-%d-%d", name, c, i))
				}
			}
		})
	}
	st.t.Cleanup(l.stop)
	l.await("the load begins", 200)
	return l
}

func (l *load) read(each *http.Client, choices []*server, id string) {
	var refusals []string
	for choice, replica := range choices {
		attempt := fmt.Sprintf("%s-%d", id, choice)
		a, err := replica.tryWith(each, "GET", readPath+string(apiKey), replica.service, "", "X-Request-Id", attempt)
		if err == nil && a.status == http.StatusOK && strings.Contains(a.body, `"value":"sample-value-of-`) {
			l.reads.Add(1)
			if choice > 0 {
				l.diverts.Add(1)
			}
			l.mu.Lock()
			l.answered = append(l.answered, attempt)
			l.mu.Unlock()
			return
		}
		refusals = append(refusals, fmt.Sprintf("%s: %d %s %v", replica.api, a.status, a.body, err))
	}
	l.mu.Lock()
	l.failed = append(l.failed, fmt.Sprint(time.Now().UTC().Format(time.RFC3339Nano), " ", id, " ", refusals))
	l.mu.Unlock()
}

// await waits until so many more reads were answered.
func (l *load) await(what string, more int64) {
	l.st.t.Helper()
	target := l.reads.Load() + more
	eventually(l.st.t, fmt.Sprintf("%s: %d more reads are answered", what, more), func() bool { return l.reads.Load() >= target })
}

func (l *load) stop() {
	select {
	case <-l.ended:
	default:
		close(l.ended)
	}
	l.reading.Wait()
}

// finish ends the load and checks that no read failed, and that each that was answered has one event in SQL.
func (l *load) finish() {
	t := l.st.t
	t.Helper()
	l.stop()
	if len(l.failed) > 0 {
		t.Errorf("%d reads were answered by neither replica; the first: %s", len(l.failed), l.failed[0])
	}
	l.st.wantDrained()
	stored := make(map[string]int)
	for _, id := range l.st.sql("SELECT request_id FROM omni_secret_access_events" +
		" WHERE action = 'read' AND result = 'success' AND request_id LIKE '" + l.name + "-%'") {
		stored[id]++
	}
	wrong := 0
	for _, id := range l.answered {
		if stored[id] != 1 {
			if wrong++; wrong <= 3 {
				t.Errorf("the answered read %s has %d events in SQL, want 1", id, stored[id])
			}
		}
	}
	if wrong > 0 {
		t.Errorf("of %d answered reads, %d do not have exactly one event", len(l.answered), wrong)
	}
	t.Logf("%d reads were answered, %d of them by the second choice", len(l.answered), l.diverts.Load())
}

// wantDrained waits until no audit event is left in a journal.
func (st *stack) wantDrained() {
	st.t.Helper()
	for _, replica := range []*server{st.a, st.b} {
		eventually(st.t, "the journal of "+replica.api+" is drained", func() bool {
			return replica.metric("omni_audit_journal_events") == "0"
		})
	}
}

// wantEach checks that both replicas answer reads, each by itself.
func (st *stack) wantEach() {
	st.t.Helper()
	for _, replica := range []*server{st.a, st.b} {
		replica.do("GET", readPath+string(apiKey), replica.service, "").want(http.StatusOK, "")
	}
}
