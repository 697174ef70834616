package client_test

import (
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/client"
)

// A stream confirms its values for three of the fake server's keep-alive intervals.
const confirmed = 3 * 15 * time.Second

func TestServerIsAway(t *testing.T) {
	cases := map[string]struct {
		config []func(*client.Config)
		test   func(h *harness)
	}{
		"the value stays current until three keep-alives are missing, then it is stale": {nil, func(h *harness) {
			h.omni.Kill()
			h.pass(confirmed - time.Second)
			h.wantValue(apiKey, "key-1", false)
			h.pass(time.Second)
			h.wantValue(apiKey, "key-1", true)
			h.wantChanges() // becoming stale is none
		}},
		"the value is used for MaxStale longer, then not at all": {[]func(*client.Config){maxStale(time.Hour)}, func(h *harness) {
			h.omni.Kill()
			h.pass(confirmed + time.Hour - time.Second)
			h.wantValue(apiKey, "key-1", true)
			h.pass(time.Second)
			h.wantNone(apiKey, client.ErrStale, client.CodeStale)
			h.wantNone(apiKey, client.ErrUnavailable, client.CodeStale)
			h.wantChanges(apiKey+"!STALE", webhook+"!STALE")
		}},
		"half an hour when nothing is said": {nil, func(h *harness) {
			h.omni.Kill()
			h.pass(confirmed + client.DefaultMaxStale - time.Second)
			h.wantValue(apiKey, "key-1", true)
			h.pass(time.Second)
			h.wantNone(apiKey, client.ErrStale, client.CodeStale)
		}},
		"NoStale never gives a value that is not current": {[]func(*client.Config){maxStale(client.NoStale)}, func(h *harness) {
			h.omni.Kill()
			h.pass(confirmed - time.Second)
			h.wantValue(apiKey, "key-1", false)
			h.pass(time.Second)
			h.wantNone(apiKey, client.ErrStale, client.CodeStale)
		}},
		"a restart is not noticed": {nil, func(h *harness) {
			h.omni.Stop()
			h.pass(2 * time.Second)
			h.wantValue(apiKey, "key-1", false)
			h.omni.Start()
			h.omni.Set(apiKey, "key-2")
			h.pass(10 * time.Second)
			h.wantValue(apiKey, "key-2", false)
			h.wantChanges(apiKey + "=key-2")
			h.pass(time.Hour)
			h.wantValue(apiKey, "key-2", false)
		}},
		"a server that is back after hours is followed again": {nil, func(h *harness) {
			h.omni.Kill()
			h.pass(5 * time.Hour)
			h.wantNone(apiKey, client.ErrStale, client.CodeStale)
			h.omni.Start()
			h.pass(10 * time.Second)
			h.wantValue(apiKey, "key-1", false)
			h.wantChanges(apiKey+"!STALE", webhook+"!STALE", apiKey+"=key-1", webhook+"=hook-1")
		}},
		"a server that comes back with nothing takes nothing away": {nil, func(h *harness) {
			h.omni.Kill()
			h.omni.MakeUnavailable(apiKey, "unavailable")
			h.omni.Start()
			h.pass(10 * time.Second)
			h.wantValue(apiKey, "key-1", true)
			h.wantValue(webhook, "hook-1", false)
			h.wantChanges()
			h.pass(client.DefaultMaxStale)
			h.wantNone(apiKey, client.ErrStale, client.CodeStale)
		}},
		"nor while it is still fetching": {nil, func(h *harness) {
			h.omni.Kill()
			h.omni.MakeUnavailable(apiKey, "")
			h.omni.Start()
			h.pass(10 * time.Second)
			h.wantValue(apiKey, "key-1", true)
			h.omni.Set(apiKey, "key-2")
			h.pass(0)
			h.wantValue(apiKey, "key-2", false)
		}},
		"a server that has nothing again and again gives no more time": {nil, func(h *harness) {
			h.omni.MakeUnavailable(apiKey, "unavailable")
			for range 4 {
				h.pass(8 * time.Minute)
				h.omni.Kill()
				h.omni.Start()
			}
			h.wantNone(apiKey, client.ErrStale, client.CodeStale)
		}},
		"the log tells once of the loss and once of the return": {nil, func(h *harness) {
			h.omni.Kill()
			h.pass(time.Hour)
			h.omni.Start()
			h.pass(time.Hour)
			h.wantLogged("the secrets cannot be followed", 1)
			h.wantLogged("the secrets are followed", 2)
		}},
		"nothing is asked more often than the back-off allows": {nil, func(h *harness) {
			h.omni.AcceptOnly()
			before := h.omni.Requests()
			h.pass(time.Hour)
			if n := h.omni.Requests() - before; n > 60*60/5+2*60*3 {
				h.t.Errorf("%d requests in an hour of refusals", n)
			}
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(h *harness) {
				h.follow(c.config...)
				c.test(h)
			})
		})
	}
}

func TestBeforeTheFirstState(t *testing.T) {
	cases := map[string]func(h *harness){
		"Get waits for a server that comes": func(h *harness) {
			h.omni.Kill()
			h.follow(only(apiKey))
			got := h.getLater(apiKey)
			h.pass(time.Minute)
			h.omni.Start()
			h.pass(10 * time.Second)
			if s := <-got; s.err != nil || string(s.Value.Reveal()) != "key-1" {
				h.t.Errorf("Get = %v", s.err)
			}
		},
		"Get waits no longer than its context, and says what is wrong": func(h *harness) {
			h.omni.Kill()
			h.follow(only(apiKey))
			h.wantNone(apiKey, client.ErrUnavailable, client.CodeNoAnswer)
		},
		"Get waits when all are followed, and does not know yet whether the secret exists": func(h *harness) {
			h.omni.Kill()
			h.follow()
			got := h.getLater("typo")
			h.omni.Start()
			h.pass(10 * time.Second)
			wantError(h.t, (<-got).err, client.ErrNotFollowed, client.CodeNotFollowed)
		},
		"Get waits while the server is fetching": func(h *harness) {
			h.omni.MakeUnavailable(apiKey, "")
			h.follow()
			got := h.getLater(apiKey)
			h.omni.Set(apiKey, "key-2")
			h.pass(0)
			if s := <-got; s.err != nil || string(s.Value.Reveal()) != "key-2" {
				h.t.Errorf("Get = %v", s.err)
			}
			h.wantChanges() // it was the first state
		},
		"a server without a value is an answer": func(h *harness) {
			h.omni.MakeUnavailable(apiKey, "unavailable")
			h.follow()
			h.wantNone(apiKey, client.ErrUnavailable, client.CodeUnavailable)
			h.omni.Set(apiKey, "key-2")
			h.pass(0)
			h.wantValue(apiKey, "key-2", false)
			h.wantChanges(apiKey + "=key-2")
		},
		"Ready waits for every secret": func(h *harness) {
			h.omni.MakeUnavailable(apiKey, "")
			h.follow()
			if err := h.Ready(done(h.t)); err == nil {
				h.t.Error("ready while a secret is still being fetched")
			}
			h.omni.MakeUnavailable(apiKey, "unavailable")
			h.pass(0)
			if err := h.Ready(done(h.t)); err != nil {
				h.t.Errorf("not ready: %v", err)
			}
		},
		"Ready without a server ends with its context": func(h *harness) {
			h.omni.Kill()
			h.follow()
			wantError(h.t, h.Ready(done(h.t)), client.ErrUnavailable, client.CodeNoAnswer)
		},
		"Ready and Get do not wait for a token that is not accepted": func(h *harness) {
			h.omni.AcceptOnly("another")
			h.follow(only(apiKey))
			wantError(h.t, h.Ready(h.t.Context()), client.ErrRefused, "UNAUTHENTICATED")
			h.wantNone(apiKey, client.ErrRefused, "UNAUTHENTICATED")
		},
		"Close ends those who wait": func(h *harness) {
			h.omni.Kill()
			h.follow(only(apiKey))
			got := h.getLater(apiKey)
			h.Close()
			wantError(h.t, (<-got).err, client.ErrClosed, client.CodeClosed)
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) { bubble(t, test) })
	}
}
