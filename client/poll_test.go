package client_test

import (
	"net/http"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/apex-tradebill/omni-secrets/client"
	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
	"github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1/secretsv1connect"
)

func TestProxyThatHoldsStreamsBack(t *testing.T) {
	cases := map[string]struct {
		config []func(*client.Config)
		test   func(h *harness)
	}{
		"the first values come from a poll, soon": {[]func(*client.Config){only(apiKey)}, func(h *harness) {
			h.pass(2 * time.Second)
			h.wantValue(apiKey, "key-1", false)
			if n := h.omni.Reads(apiKey); n != 1 {
				h.t.Errorf("%d reads, want one", n)
			}
		}},
		"polls keep values current": {[]func(*client.Config){only(apiKey)}, func(h *harness) {
			h.pass(2 * time.Second)
			for range 600 {
				h.pass(time.Second)
				h.wantValue(apiKey, "key-1", false)
			}
			if n := h.omni.Reads(apiKey); n < 20 || n > 45 {
				h.t.Errorf("%d reads in ten minutes, with a poll interval of 30 s", n)
			}
		}},
		"polls see changes": {[]func(*client.Config){only(apiKey)}, func(h *harness) {
			h.pass(2 * time.Second)
			h.omni.Set(apiKey, "key-2")
			h.pass(client.DefaultPollInterval)
			h.wantValue(apiKey, "key-2", false)
			h.omni.Override(apiKey, "emergency", 90*time.Second)
			h.pass(client.DefaultPollInterval)
			h.wantValue(apiKey, "emergency", false)
			h.wantChanges(apiKey+"=key-2", apiKey+"=emergency")
		}},
		"what comes after an override is asked for within a second": {[]func(*client.Config){only(apiKey)}, func(h *harness) {
			h.omni.Override(apiKey, "emergency", time.Minute)
			h.pass(time.Minute - time.Millisecond)
			h.wantValue(apiKey, "emergency", false)
			h.pass(time.Second + time.Millisecond) // at once, but a second after the poll before
			h.wantValue(apiKey, "key-1", false)
			h.wantChanges(apiKey + "=key-1")
		}},
		"a value that the server has no more is stale, for MaxStale": {[]func(*client.Config){only(apiKey)}, func(h *harness) {
			h.pass(2 * time.Second)
			h.omni.MakeUnavailable(apiKey, "unavailable")
			h.pass(client.DefaultPollInterval)
			h.wantValue(apiKey, "key-1", true)
			h.pass(client.DefaultMaxStale)
			h.wantNone(apiKey, client.ErrStale, client.CodeStale)
		}},
		"a value that was revoked is gone": {[]func(*client.Config){only(apiKey)}, func(h *harness) {
			h.pass(2 * time.Second)
			h.omni.Withdraw(apiKey)
			h.pass(client.DefaultPollInterval)
			h.wantNone(apiKey, client.ErrUnavailable, client.CodeWithdrawn)
			h.wantChanges(apiKey + "!WITHDRAWN")
			h.omni.MakeUnavailable(apiKey, "unavailable") // the next server knows nothing of it, and gives nothing back
			h.pass(client.DefaultPollInterval)
			h.wantNone(apiKey, client.ErrUnavailable, client.CodeUnavailable)
			h.omni.Set(apiKey, "key-2")
			h.pass(client.DefaultPollInterval)
			h.wantValue(apiKey, "key-2", false)
			h.wantChanges(apiKey + "=key-2")
		}},
		"the poll interval can be chosen": {[]func(*client.Config){only(apiKey), func(cfg *client.Config) { cfg.PollInterval = 5 * time.Minute }}, func(h *harness) {
			h.pass(time.Hour)
			h.wantValue(apiKey, "key-1", false)
			if n := h.omni.Reads(apiKey); n < 12 || n > 25 {
				h.t.Errorf("%d reads in an hour", n)
			}
		}},
		"a poll confirms for one and a half intervals": {[]func(*client.Config){only(apiKey), maxStale(client.NoStale)}, func(h *harness) {
			h.pass(time.Second) // the first poll is due within a second
			h.omni.Kill()
			h.pass(43 * time.Second)
			h.wantValue(apiKey, "key-1", false)
			h.pass(2 * time.Second)
			h.wantNone(apiKey, client.ErrStale, client.CodeStale)
		}},
		"the stream takes over when it gets through": {[]func(*client.Config){only(apiKey)}, func(h *harness) {
			h.pass(time.Minute)
			h.omni.HoldStreams(false)
			h.pass(20 * time.Second)
			reads := h.omni.Reads(apiKey)
			h.pass(time.Hour)
			if n := h.omni.Reads(apiKey) - reads; n != 0 {
				h.t.Errorf("%d polls beside the stream", n)
			}
			h.omni.Set(apiKey, "key-2")
			h.pass(0)
			h.wantValue(apiKey, "key-2", false)
		}},
		"without names there is nothing to poll for, and the error says so": {nil, func(h *harness) {
			h.pass(time.Minute)
			h.wantNone(apiKey, client.ErrUnavailable, client.CodeNoAnswer)
			h.wantLogged("name the secrets in Config.SecretTypes", 1)
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(h *harness) {
				h.omni.HoldStreams(true)
				h.follow(c.config...)
				c.test(h)
			})
		})
	}
}

func TestStreamThatFallsSilent(t *testing.T) {
	bubble(t, func(h *harness) {
		h.follow()
		h.pass(time.Minute)
		h.omni.HoldStreams(true)
		h.omni.Set(apiKey, "key-2")
		h.pass(confirmed + 2*time.Second)
		h.wantValue(apiKey, "key-2", false) // by a poll
		h.omni.HoldStreams(false)
		h.omni.Set(apiKey, "key-3")
		h.pass(20 * time.Second)
		h.wantValue(apiKey, "key-3", false)
		h.wantChanges(apiKey+"=key-2", apiKey+"=key-3")
	})
}

// What a stream told is confirmed by that stream alone, which does not tell it again: a round of polls that is still going
// on must not put what it hears in its place.
func TestStreamTakesOverDuringARoundOfPolls(t *testing.T) {
	t.Run("a secret whose turn comes after the stream's", func(t *testing.T) {
		bubble(t, func(h *harness) {
			h.omni.HoldStreams(true)
			h.omni.Wrap(func(server http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					if req.URL.Path == secretsv1connect.SecretsServiceGetSecretProcedure {
						time.Sleep(3 * time.Second) //nolint:forbidigo // simulated: in a bubble
					}
					server.ServeHTTP(w, req)
				})
			})
			h.follow(only(apiKey, webhook))
			h.pass(2 * time.Second) // the first secret is being asked for
			h.omni.HoldStreams(false)
			h.pass(time.Minute)
			h.wantValue(webhook, "hook-1", false)
			h.pass(client.DefaultMaxStale + time.Minute)
			h.wantValue(webhook, "hook-1", false)
			h.wantValue(apiKey, "key-1", false)
			if n := h.omni.Reads(webhook); n != 0 {
				t.Errorf("%d reads of what the stream had told", n)
			}
		})
	})
	t.Run("a secret without a value, when all are followed", func(t *testing.T) {
		bubble(t, func(h *harness) {
			h.omni.MakeUnavailable(webhook, "unavailable")
			gone := &secretsv1.SecretUnavailable{SecretType: webhook, Reason: "unavailable"}
			h.omni.Wrap(func(server http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					if req.URL.Path != secretsv1connect.SecretsServiceWatchSecretsProcedure {
						server.ServeHTTP(w, req)
						return
					}
					w.Header().Set("Content-Type", streamType)
					_, _ = w.Write(frame(encode(&secretsv1.WatchSecretsResponse{Event: &secretsv1.WatchSecretsResponse_Unavailable{Unavailable: gone}})))
					time.Sleep(5 * time.Second) //nolint:forbidigo // simulated: in a bubble
					_, _ = w.Write(frame(encode(&secretsv1.WatchSecretsResponse{Event: &secretsv1.WatchSecretsResponse_KeepAlive{KeepAlive: &secretsv1.KeepAlive{}}})))
					<-req.Context().Done()
				})
			})
			h.follow()
			h.pass(4 * time.Second) // the polls have begun
			h.wantNone(webhook, client.ErrUnavailable, client.CodeUnavailable)
			h.pass(2 * time.Second) // the stream takes over
			h.wantNone(webhook, client.ErrUnavailable, client.CodeUnavailable)
		})
	})
}

// What a value that ends during a round of polls leaves open is asked for after that round, not after the whole interval.
func TestEndOfAnOverrideDuringARoundOfPolls(t *testing.T) {
	bubble(t, func(h *harness) {
		h.omni.HoldStreams(true)
		slow := func(server http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path == secretsv1connect.SecretsServiceGetSecretProcedure {
					time.Sleep(2 * time.Second) //nolint:forbidigo // simulated: in a bubble
				}
				server.ServeHTTP(w, req)
			})
		}
		h.omni.Override(apiKey, "emergency", 4*time.Second)
		h.omni.Wrap(slow)
		h.follow(only(apiKey, webhook))
		h.pass(10 * time.Second)
		h.wantValue(apiKey, "key-1", false)
	})
}

// A stream that told something and fell silent before it was in sync leaves its secrets to the polls, at once.
func TestStreamThatEndsBeforeItIsInSync(t *testing.T) {
	bubble(t, func(h *harness) {
		streams := 0
		h.omni.Wrap(func(server http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path != secretsv1connect.SecretsServiceWatchSecretsProcedure {
					server.ServeHTTP(w, req)
					return
				}
				if streams++; streams > 1 {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				secret := &secretsv1.Secret{SecretType: apiKey, Value: []byte("key-1"), Version: "1", Source: "gsm", FetchedAt: timestamppb.Now(), ServedAt: timestamppb.Now()}
				w.Header().Set("Content-Type", streamType)
				_, _ = w.Write(frame(encode(&secretsv1.WatchSecretsResponse{Event: &secretsv1.WatchSecretsResponse_Secret{Secret: secret}})))
				_ = http.NewResponseController(w).Flush()
				<-req.Context().Done()
			})
		})
		h.follow(only(apiKey))
		h.omni.Set(apiKey, "key-2")
		h.pass(12 * time.Second) // 2 s after the stream was given up
		h.wantValue(apiKey, "key-2", false)
	})
}
