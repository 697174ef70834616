package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

const auditRoute = "GET /ops/apex-omni/secrets/audit-events"

const auditDocument = `{"data":[
{"eventId":"00000000000000a1-0000000000000003","secretType":"trading_api_key","action":"break_glass_apply","actorType":"operator","actorId":"ana@example.com","result":"success","errorCode":null,"gcpSecretVersion":null,"source":"break_glass","durationMs":1.5,"requestId":"req-3","replicaId":"r1","reason":"INC-1234: GSM is down","recordedAt":"2026-03-01T12:00:03.000Z"},
{"eventId":"00000000000000a1-0000000000000002","secretType":null,"action":"access_denied","actorType":"service","actorId":"anonymous","result":"denied","errorCode":"UNAUTHENTICATED","gcpSecretVersion":null,"source":null,"durationMs":0.1,"requestId":"req-2","replicaId":"r1","reason":null,"recordedAt":"2026-03-01T12:00:02.000Z"}
],"nextCursor":null}`

func TestAuditTable(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{auditRoute: answer(200, auditDocument)})
	o := api.process().run(t, "audit", "list")
	o.want(t, exitOK)
	golden(t, "audit.golden", o.out)
	if got := api.requests()[0]; got != (request{Method: "GET", Path: auditPath, Query: "limit=100"}) {
		t.Errorf("request: %+v", got)
	}
}

func TestAuditFilters(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name  string
		flags auditFlags
		want  string
	}{
		{"none", auditFlags{}, "limit=100"},
		{"each", auditFlags{secretType: "zk_signing_seed", action: "read", actor: "svc a&b", result: "denied", limit: 5}, "action=read&actorId=svc+a%26b&limit=5&result=denied&secretType=zk_signing_seed"},
		{"hours ago", auditFlags{since: "24h"}, "limit=100&since=2026-03-09T12:00:00Z"},
		{"days ago", auditFlags{since: "7d", until: "90m"}, "limit=100&since=2026-03-03T12:00:00Z&until=2026-03-10T10:30:00Z"},
		{"times", auditFlags{since: "2026-03-01T00:00:00.5Z", until: "2026-03-01T02:00:00+01:00"}, "limit=100&since=2026-03-01T00:00:00.5Z&until=2026-03-01T01:00:00Z"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.flags.limit == 0 {
				tc.flags.limit = 100
			}
			q, err := tc.flags.query(now)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := url.QueryUnescape(q.Encode()); got != strings.NewReplacer("+", " ", "%26", "&").Replace(tc.want) {
				t.Errorf("query %s", got)
			}
		})
	}
}

func TestAuditBadFilters(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"--action rad", "it is one of read, cache_refresh"},
		{"--result ok", "it is one of success, failure, denied"},
		{"--secret-type trading-api-key", "did you mean trading_api_key?"},
		{"--since yesterday", "neither a time nor a duration"},
		{"--since=-24h", "neither a time nor a duration"},
		{"--since 2026-03-01", "give a time such as"},
		{"--since d", "neither a time nor a duration"},
		{"--since 99999999999d", "neither a time nor a duration"},
		{"--since 1h --until 2h", "--since must be before --until"},
		{"--limit 1001", "--limit must be 1 to 1000"},
		{"--limit=-1", "--limit must be 1 to 1000"},
		{"--limit 0", "--limit must be 1 to 1000"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			api := newFakeAPI(t, nil)
			api.process().run(t, append([]string{"audit", "list"}, strings.Fields(tc.args)...)...).want(t, exitUsage, tc.want)
			if sent := api.requests(); len(sent) > 0 {
				t.Errorf("sent: %v", sent)
			}
		})
	}
}

// pages is a handler that answers with a page of one event for each of names.
func pages(names ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n := 0
		if c := r.URL.Query().Get("cursor"); c != "" {
			_, _ = fmt.Sscanf(c, "page-%d", &n)
		}
		next := "null"
		if n+1 < len(names) {
			next = fmt.Sprintf(`"page-%d"`, n+1)
		}
		answer(200, fmt.Sprintf(`{"data":[{"action":%q,"extra":1}],"nextCursor":%s}`, names[n], next))(w, r)
	}
}

func TestAuditPages(t *testing.T) {
	for _, tc := range []struct {
		name     string
		args     []string
		requests int
		query    string // of the last request
		want     string
		warned   bool
	}{
		{"first page", nil, 1, "limit=100", "first", true},
		{"all pages", []string{"--all"}, 3, "cursor=page-2&limit=1000", "first, the second one, third", false},
		{"all pages, smaller ones", []string{"--all", "--limit", "10"}, 3, "cursor=page-2&limit=10", "third", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api := newFakeAPI(t, map[string]http.HandlerFunc{auditRoute: pages("first", "the second one", "third")})
			o := api.process().run(t, append([]string{"audit", "list"}, tc.args...)...)
			o.want(t, exitOK, strings.Split(tc.want, ", ")...)
			if strings.Count(o.out, "ACTION") != 1 {
				t.Errorf("the header is not there once:\n%s", o.out)
			}
			if sent := api.requests(); len(sent) != tc.requests || sent[len(sent)-1].Query != tc.query {
				t.Errorf("sent: %v", sent)
			}
			if strings.Contains(o.err, "There are more") != tc.warned {
				t.Errorf("standard error: %s", o.err)
			}
		})
	}
}

func TestAuditAsJSON(t *testing.T) {
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		args    []string
		want    string
	}{
		{"first page", pages("a", "b"), nil, "{\"data\":[{\"action\":\"a\",\"extra\":1}],\"nextCursor\":\"page-1\"}\n"},
		{"all pages", pages("a", "b"), []string{"--all"}, "{\"data\":[{\"action\":\"a\",\"extra\":1},{\"action\":\"b\",\"extra\":1}],\"nextCursor\":null}\n"},
		{"no events", answer(200, `{"data":[],"nextCursor":null}`), nil, "{\"data\":[],\"nextCursor\":null}\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api := newFakeAPI(t, map[string]http.HandlerFunc{auditRoute: tc.handler})
			o := api.process().run(t, append([]string{"audit", "list", "-o", "json"}, tc.args...)...)
			o.want(t, exitOK)
			if o.out != tc.want || !json.Valid([]byte(o.out)) {
				t.Errorf("standard output:\n%s", o.out)
			}
		})
	}
}

func TestAuditThatFailsHalfWay(t *testing.T) {
	api := newFakeAPI(t, nil)
	first := pages("a", "b")
	api.routes = map[string]http.HandlerFunc{auditRoute: func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("cursor") {
			refuse(w, 503, "STATE_UNAVAILABLE", "no database")
			return
		}
		first(w, r)
	}}
	o := api.process().run(t, "audit", "list", "--all", "-o", "json")
	o.want(t, exitUnavailable, "no database")
	if json.Valid([]byte(o.out)) {
		t.Error("half a listing passes for a whole one")
	}
}

func TestAuditThatGoesRoundInCircles(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{auditRoute: answer(200, `{"data":[],"nextCursor":"again"}`)})
	api.process().run(t, "audit", "list", "--all").want(t, exitFailure, "keeps sending the same page")
}
