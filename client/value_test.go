package client_test

import (
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/client"
)

func TestEndOfAValue(t *testing.T) {
	cases := map[string]struct {
		config []func(*client.Config)
		test   func(h *harness)
	}{
		"a revoked value is gone at once": {nil, func(h *harness) {
			h.omni.Withdraw(apiKey)
			h.pass(0)
			h.wantNone(apiKey, client.ErrUnavailable, client.CodeWithdrawn)
			h.wantChanges(apiKey + "!WITHDRAWN")
			h.omni.Set(apiKey, "key-2")
			h.pass(0)
			h.wantValue(apiKey, "key-2", false)
			h.wantChanges(apiKey + "=key-2")
		}},
		"a value that the server calls stale is stale": {nil, func(h *harness) {
			h.omni.MarkStale(apiKey)
			h.pass(0)
			h.wantValue(apiKey, "key-1", true)
			h.wantValue(webhook, "hook-1", false)
			h.wantChanges()
		}},
		"the server's stale counts against MaxStale, with the stream alive": {[]func(*client.Config){maxStale(10 * time.Minute)}, func(h *harness) {
			h.omni.MarkStale(apiKey)
			h.pass(10*time.Minute - time.Second)
			h.wantValue(apiKey, "key-1", true)
			h.pass(time.Second)
			h.wantNone(apiKey, client.ErrStale, client.CodeStale)
			h.wantValue(webhook, "hook-1", false)
		}},
		"with NoStale the server's stale ends a value": {[]func(*client.Config){maxStale(client.NoStale)}, func(h *harness) {
			h.omni.MarkStale(apiKey)
			h.pass(0)
			h.wantNone(apiKey, client.ErrStale, client.CodeStale)
		}},
		"a stale value that the server sends again gets no more time": {[]func(*client.Config){maxStale(10 * time.Minute)}, func(h *harness) {
			h.omni.MarkStale(apiKey)
			h.pass(9 * time.Minute)
			h.omni.Kill()
			h.omni.Start()
			h.pass(time.Minute)
			h.wantNone(apiKey, client.ErrStale, client.CodeStale)
		}},
		"an override is served and ends": {nil, func(h *harness) {
			h.omni.Override(apiKey, "emergency", 20*time.Minute)
			h.pass(0)
			h.wantValue(apiKey, "emergency", false)
			h.pass(20*time.Minute - time.Second)
			h.wantValue(apiKey, "emergency", false)
			h.pass(time.Second)
			h.wantValue(apiKey, "key-1", false)
			h.wantChanges(apiKey+"=emergency", apiKey+"=key-1")
		}},
		"an override that an operator clears": {nil, func(h *harness) {
			h.omni.Override(apiKey, "emergency", 20*time.Minute)
			h.pass(time.Minute)
			h.omni.ClearOverride(apiKey)
			h.pass(0)
			h.wantValue(apiKey, "key-1", false)
		}},
		"an override ends on time without a connection": {nil, func(h *harness) {
			h.omni.Override(apiKey, "emergency", 20*time.Minute)
			h.pass(0)
			h.omni.Kill()
			h.pass(20*time.Minute - time.Second)
			h.wantValue(apiKey, "emergency", true)
			h.pass(time.Second)
			h.wantNone(apiKey, client.ErrUnavailable, client.CodeOverrideEnded)
			h.wantValue(webhook, "hook-1", true)
			h.wantChanges(apiKey+"=emergency", apiKey+"!OVERRIDE_ENDED")
		}},
		"an override ends on time when the clocks differ by hours": {nil, func(h *harness) {
			h.omni.SkewClock(-5 * time.Hour)
			h.omni.Override(apiKey, "emergency", 20*time.Minute)
			h.omni.SkewClock(7 * time.Hour)
			h.omni.Override(webhook, "emergency", 20*time.Minute)
			h.pass(0)
			h.omni.Kill()
			h.pass(20*time.Minute - time.Second)
			h.wantValue(apiKey, "emergency", true)
			h.wantValue(webhook, "emergency", true)
			h.pass(time.Second)
			h.wantNone(apiKey, client.ErrUnavailable, client.CodeOverrideEnded)
			h.wantNone(webhook, client.ErrUnavailable, client.CodeOverrideEnded)
		}},
		"while a server is heard, Get waits for what comes after an override": {nil, func(h *harness) {
			h.omni.Override(apiKey, "emergency", 20*time.Minute)
			h.pass(0)
			h.omni.HoldStreams(true)
			h.pass(20*time.Minute - time.Second)
			// The silence has ended the stream by now, so let there be a new one, and hold it just before the end.
			h.omni.HoldStreams(false)
			h.pass(500 * time.Millisecond)
			h.omni.HoldStreams(true)
			h.pass(600 * time.Millisecond)
			got := h.getLater(apiKey)
			h.omni.HoldStreams(false)
			h.pass(0)
			if s := <-got; s.err != nil || string(s.Value.Reveal()) != "key-1" {
				h.t.Errorf("Get = %v", s.err)
			}
			h.pass(0)
			h.wantChanges(apiKey+"=emergency", apiKey+"=key-1")
		}},
		"but no longer than a second": {nil, func(h *harness) {
			h.omni.Override(apiKey, "emergency", time.Minute)
			h.pass(time.Minute - time.Second)
			h.omni.HoldStreams(true)
			h.pass(1100 * time.Millisecond)
			got := h.getLater(apiKey)
			h.pass(time.Second)
			wantError(h.t, (<-got).err, client.ErrUnavailable, client.CodeOverrideEnded)
			h.wantChanges(apiKey+"=emergency", apiKey+"!OVERRIDE_ENDED")
		}},
		"the same version sent again is no change": {nil, func(h *harness) {
			h.omni.Kill()
			h.omni.Start()
			h.pass(10 * time.Second)
			h.wantChanges()
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
