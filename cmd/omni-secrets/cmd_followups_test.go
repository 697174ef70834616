package main

import (
	"net/http"
	"testing"
)

const (
	followUpsRoute = "GET /ops/apex-omni/secrets/break-glass/follow-ups"
	closeRoute     = "POST /ops/apex-omni/secrets/break-glass/follow-ups/bg-OLD/close"
)

const followUpsDocument = `{"data":[
{"overrideId":"bg-OLD","secretType":"trading_api_key","openedAt":"2026-02-27T09:00:00.000Z","appliedBy":"ana@example.com","reason":"INC-1234","overdue":true},
{"overrideId":"bg-NEW","secretType":"zk_signing_seed","openedAt":"2026-03-01T11:00:00.000Z","appliedBy":"ops-bot","reason":null,"overdue":false}]}`

func TestFollowUpsTable(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{followUpsRoute: answer(200, followUpsDocument)})
	o := api.process().run(t, "breakglass", "follow-ups")
	o.want(t, exitOK)
	golden(t, "followups.golden", o.out)
}

func TestFollowUpsAsJSONAreTheServersDocument(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{followUpsRoute: answer(200, followUpsDocument)})
	o := api.process().run(t, "breakglass", "follow-ups", "-o", "json")
	o.want(t, exitOK)
	if o.out != followUpsDocument+"\n" {
		t.Errorf("standard output:\n%s", o.out)
	}
}

func TestNoFollowUps(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{followUpsRoute: answer(200, `{"data":[]}`)})
	api.process().run(t, "breakglass", "follow-ups").want(t, exitOK, "No follow-up is open.")
}

func TestFollowUpsOfSomethingElse(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{followUpsRoute: answer(200, `{"hello":"`+plaintext+`"}`)})
	api.process().run(t, "breakglass", "follow-ups").want(t, exitFailure, "the answer is not one of Omni Secrets")
}

func TestCloseFollowUp(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{closeRoute: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }})
	api.process().run(t, "breakglass", "follow-ups", "close", "bg-OLD", "--reason", " a drill ").want(t, exitOK, "The follow-up of bg-OLD is closed.")
	if got := api.requests()[0].Body; got != `{"reason":"a drill"}` {
		t.Errorf("sent %s", got)
	}
	api.process().run(t, "breakglass", "follow-ups", "close", "bg-OLD", "--reason", "a drill", "-o", "json").want(t, exitOK, `"closed":true`)
}

func TestCloseFollowUpThatIsNotOpen(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{closeRoute: refusing(404, "NO_FOLLOW_UP", "no open follow-up has this id")})
	api.process().run(t, "breakglass", "follow-ups", "close", "bg-OLD", "--reason", "x").
		want(t, exitNotFound, "NO_FOLLOW_UP", "'omni-secrets breakglass follow-ups' lists those that are open")
}

func TestStatusTellsOfFollowUps(t *testing.T) {
	api := newFakeAPI(t, map[string]http.HandlerFunc{statusRoute: answer(200, `{"data":[{"secretType":"a","openFollowUps":2},{"secretType":"b","openFollowUps":1}]}`)})
	o := api.process().run(t, "status")
	o.want(t, exitOK)
	if want := "Open follow-ups of overrides: 3. 'omni-secrets breakglass follow-ups' lists them.\n"; o.err != want {
		t.Errorf("standard error: %q, want %q", o.err, want)
	}
}
