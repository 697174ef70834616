package client_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/client"
	"github.com/apex-tradebill/omni-secrets/client/clienttest"
	"github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1/secretsv1connect"
)

func TestRefusedSecret(t *testing.T) {
	cases := map[string]func(h *harness){
		"one that the catalog does not list leaves the others alone": func(h *harness) {
			h.follow(only("typo", apiKey))
			h.pass(0)
			h.wantNone("typo", client.ErrRefused, "UNKNOWN_SECRET_TYPE")
			h.wantValue(apiKey, "key-1", false)
			h.omni.Set(apiKey, "key-2")
			h.pass(0)
			h.wantValue(apiKey, "key-2", false) // by the stream
			h.wantLogged("the server refuses a secret", 1)
		},
		"one that this subject may not read": func(h *harness) {
			h.omni.Forbid(webhook)
			h.follow(only(webhook, apiKey))
			h.wantNone(webhook, client.ErrRefused, "FORBIDDEN")
			h.wantValue(apiKey, "key-1", false)
		},
		"is asked for now and then, and followed once it is given": func(h *harness) {
			h.follow(only("late", apiKey))
			h.pass(10 * time.Minute)
			if n := h.omni.Requests(); n > 20 {
				h.t.Errorf("%d requests in ten minutes", n)
			}
			h.omni.Set("late", "late-1")
			h.pass(61 * time.Second)
			h.wantValue("late", "late-1", false)
			h.omni.Set("late", "late-2")
			h.pass(0)
			h.wantValue("late", "late-2", false) // by the stream
			h.wantValue(apiKey, "key-1", false)
			h.wantChanges("late=late-1", "late=late-2")
		},
		"is asked for no more often while the server does not answer": func(h *harness) {
			h.follow(only("typo", "other", apiKey))
			var asked atomic.Int64
			h.omni.Wrap(func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					if req.URL.Path == secretsv1connect.SecretsServiceGetSecretProcedure {
						if asked.Add(1) > 1000 {
							<-req.Context().Done() // it has failed already
						}
					}
					w.WriteHeader(http.StatusServiceUnavailable)
				})
			})
			h.pass(10 * time.Minute)
			if n := asked.Load(); n < 10 || n > 30 { // for the two that are refused; the stream lives on
				h.t.Errorf("asked %d times in ten minutes", n)
			}
			h.omni.Wrap(nil)
			h.omni.Set("typo", "typo-1")
			h.pass(61 * time.Second)
			h.wantValue("typo", "typo-1", false)
		},
		"when all are refused, nothing else is followed in their place": func(h *harness) {
			h.follow(only("typo", "other"))
			h.pass(10 * time.Minute)
			h.wantNone("typo", client.ErrRefused, "UNKNOWN_SECRET_TYPE")
			h.wantNone(apiKey, client.ErrNotFollowed, client.CodeNotFollowed)
			if n := h.omni.Watches(); n != 0 {
				h.t.Errorf("%d streams for nothing", n)
			}
			h.omni.Set("typo", "typo-1")
			h.pass(61 * time.Second)
			h.wantValue("typo", "typo-1", false)
			h.omni.Set("typo", "typo-2")
			h.pass(0)
			h.wantValue("typo", "typo-2", false)
		},
		"a value whose grant is taken away is stale, and used for MaxStale": func(h *harness) {
			h.follow(only(webhook, apiKey))
			h.omni.Forbid(webhook)
			h.omni.Kill()
			h.omni.Start()
			h.pass(10 * time.Second)
			h.wantValue(webhook, "hook-1", true)
			h.wantValue(apiKey, "key-1", false)
			h.pass(client.DefaultMaxStale)
			h.wantNone(webhook, client.ErrRefused, "FORBIDDEN")
			h.omni.Allow(webhook)
			h.pass(61 * time.Second)
			h.wantValue(webhook, "hook-1", false)
		},
		"when all are followed, what is no longer given is stale, then unknown": func(h *harness) {
			h.follow()
			h.omni.Forbid(webhook)
			h.omni.Kill()
			h.omni.Start()
			h.pass(confirmed)
			h.wantValue(webhook, "hook-1", true)
			h.wantValue(apiKey, "key-1", false)
			h.pass(client.DefaultMaxStale)
			h.wantNone(webhook, client.ErrStale, client.CodeStale)
			h.omni.Kill()
			h.omni.Start()
			h.pass(10 * time.Second)
			h.wantNone(webhook, client.ErrNotFollowed, client.CodeNotFollowed)
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) { bubble(t, test) })
	}
}

func TestTokens(t *testing.T) {
	cases := map[string]func(h *harness){
		"a file that is replaced before the old token ends": func(h *harness) {
			path := filepath.Join(h.t.TempDir(), "token")
			writeToken(h.t, path, clienttest.Token+"\n")
			h.follow(tokenSource(client.TokenFile(path)))
			h.pass(time.Minute)
			writeToken(h.t, path, "second\n")
			h.omni.AcceptOnly("second")
			h.omni.Set(apiKey, "key-2")
			h.pass(0)
			h.wantValue(apiKey, "key-2", false)
			h.wantLogged("the secrets cannot be followed", 0)
		},
		"a file that is replaced after the old token ended": func(h *harness) {
			path := filepath.Join(h.t.TempDir(), "token")
			writeToken(h.t, path, clienttest.Token)
			h.follow(tokenSource(client.TokenFile(path)))
			h.omni.AcceptOnly("second")
			h.pass(time.Minute)
			h.wantValue(apiKey, "key-1", true)
			writeToken(h.t, path, "second")
			h.omni.Set(apiKey, "key-2")
			h.pass(10 * time.Second)
			h.wantValue(apiKey, "key-2", false)
			h.wantLogged("UNAUTHENTICATED", 1)
		},
		"a file that comes late": func(h *harness) {
			path := filepath.Join(h.t.TempDir(), "token")
			h.follow(tokenSource(client.TokenFile(path)))
			h.wantNone(apiKey, client.ErrUnavailable, client.CodeNoToken)
			if err := h.Ready(h.t.Context()); !errors.Is(err, os.ErrNotExist) {
				h.t.Errorf("Ready = %v", err)
			}
			writeToken(h.t, path, clienttest.Token)
			h.pass(time.Second)
			h.wantValue(apiKey, "key-1", false)
		},
		"a source whose every token is refused is asked at the pace of the back-off": func(h *harness) {
			var asked atomic.Int64
			h.omni.AcceptOnly("none of these")
			h.follow(tokenSource(func(context.Context) (string, error) {
				return strings.Repeat("t", int(asked.Add(1))%100+1), nil
			}))
			h.pass(time.Hour)
			if n := asked.Load(); n > 5*60*60/5 {
				h.t.Errorf("asked for %d tokens in an hour", n)
			}
		},
		"what cannot be a token is not sent and not shown": func(h *harness) {
			h.follow(tokenSource(client.StaticToken("Bearer s3cr3t\r\nX-Evil: 1")))
			h.wantNone(apiKey, client.ErrUnavailable, client.CodeNoToken)
			h.pass(time.Hour)
			h.wantLogged("s3cr3t", 0)
			if n := h.omni.Requests(); n != 0 {
				h.t.Errorf("%d requests without a token", n)
			}
		},
		"an empty token": func(h *harness) {
			h.follow(tokenSource(client.StaticToken(" \n")))
			h.wantNone(apiKey, client.ErrUnavailable, client.CodeNoToken)
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) { bubble(t, test) })
	}
}

func tokenSource(source client.TokenSource) func(*client.Config) {
	return func(cfg *client.Config) { cfg.Token = source }
}

func writeToken(t *testing.T, path, token string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
}
