package client_test

import (
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/client"
)

func TestSecretsAreFollowed(t *testing.T) {
	cases := map[string]struct {
		config []func(*client.Config)
		test   func(h *harness)
	}{
		"the first states are there at once, and are no changes": {nil, func(h *harness) {
			h.wantValue(apiKey, "key-1", false)
			h.wantValue(webhook, "hook-1", false)
			h.wantChanges()
		}},
		"a new version": {nil, func(h *harness) {
			h.omni.Set(apiKey, "key-2")
			h.pass(0)
			h.wantValue(apiKey, "key-2", false)
			h.wantChanges(apiKey + "=key-2")
		}},
		"only what was asked for": {[]func(*client.Config){only(apiKey)}, func(h *harness) {
			h.wantValue(apiKey, "key-1", false)
			h.wantNone(webhook, client.ErrNotFollowed, client.CodeNotFollowed)
		}},
		"a secret that does not exist, when all are followed": {nil, func(h *harness) {
			h.wantNone("typo", client.ErrNotFollowed, client.CodeNotFollowed)
		}},
		"a secret that is new in the catalog, when all are followed": {nil, func(h *harness) {
			h.omni.Set("new", "new-1")
			h.pass(0)
			h.wantValue("new", "new-1", false)
		}},
		"a quiet hour": {nil, func(h *harness) {
			h.pass(time.Hour)
			h.wantValue(apiKey, "key-1", false)
			if n := h.omni.Requests(); n != 1 {
				h.t.Errorf("%d requests, want the one stream", n)
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
