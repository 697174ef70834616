package client_test

import (
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apex-tradebill/omni-secrets/client"
	"github.com/apex-tradebill/omni-secrets/client/clienttest"
)

// byHost sends a request to the server that has the address.
type byHost map[string]http.RoundTripper

func (b byHost) RoundTrip(req *http.Request) (*http.Response, error) {
	return b[req.URL.Host].RoundTrip(req)
}

// withSecond lets the client have a second server, which serves other values so that they can be told apart.
func (h *harness) withSecond() (second *clienttest.Server, config func(*client.Config)) {
	second = clienttest.NewInMemory(h.t)
	second.Set(apiKey, "key-of-b")
	second.Set(webhook, "hook-of-b")
	return second, func(cfg *client.Config) {
		a, b := h.omni.Config(), second.Config()
		cfg.BaseURLs = slices.Concat(a.BaseURLs, b.BaseURLs)
		cfg.HTTPClient = &http.Client{Transport: byHost{
			a.BaseURLs[0][len("http://"):]: a.HTTPClient.Transport,
			b.BaseURLs[0][len("http://"):]: b.HTTPClient.Transport,
		}}
	}
}

func TestFailover(t *testing.T) {
	cases := map[string]func(h *harness, a, b *clienttest.Server){
		"the first server is used while it works": func(h *harness, _, b *clienttest.Server) {
			h.pass(time.Hour)
			h.wantValue(apiKey, "key-1", false)
			if n := b.Requests(); n != 0 {
				h.t.Errorf("%d requests to the second server", n)
			}
		},
		"a server that stops sends its clients to the next one at once": func(h *harness, a, _ *clienttest.Server) {
			a.Stop()
			h.pass(0)
			h.wantValue(apiKey, "key-of-b", false)
		},
		"a server that breaks off": func(h *harness, a, _ *clienttest.Server) {
			a.Kill()
			h.pass(100 * time.Millisecond)
			h.wantValue(apiKey, "key-of-b", false)
		},
		"a server that hangs": func(h *harness, a, _ *clienttest.Server) {
			a.Wrap(func(http.Handler) http.Handler {
				return http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() })
			})
			a.HoldStreams(true)
			h.pass(confirmed + 20*time.Second)
			h.wantValue(apiKey, "key-of-b", false)
		},
		"and back": func(h *harness, a, b *clienttest.Server) {
			a.Stop()
			h.pass(time.Minute)
			a.Start()
			b.Stop()
			h.pass(0)
			h.wantValue(apiKey, "key-1", false)
		},
		"two that both stop are not asked in a tight loop": func(h *harness, a, b *clienttest.Server) {
			refuse := func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.WriteHeader(http.StatusServiceUnavailable)
				})
			}
			a.Wrap(refuse)
			b.Wrap(refuse)
			a.Stop()
			b.Stop()
			a.Start()
			b.Start()
			h.pass(time.Minute)
			a.Wrap(nil)
			h.pass(20 * time.Second)
			h.wantValue(apiKey, "key-1", false)
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(h *harness) {
				second, config := h.withSecond()
				h.follow(config)
				test(h, h.omni, second)
			})
		})
	}
}

func TestPollsFailOver(t *testing.T) {
	bubble(t, func(h *harness) {
		second, config := h.withSecond()
		h.omni.Kill()
		second.HoldStreams(true)
		h.follow(config, only(apiKey, webhook))
		h.pass(2 * time.Second)
		h.wantValue(apiKey, "key-of-b", false)
		h.wantValue(webhook, "hook-of-b", false)
	})
}

func TestOnChangeThatDoesNotReturn(t *testing.T) {
	bubble(t, func(h *harness) {
		release := make(chan struct{})
		tell := make(chan client.Change, 10)
		h.follow(func(cfg *client.Config) {
			cfg.OnChange = func(change client.Change) {
				<-release
				tell <- change
			}
		})
		for _, value := range []string{"key-2", "key-3", "key-4"} {
			h.omni.Set(apiKey, value)
			h.pass(time.Hour)
			h.wantValue(apiKey, value, false) // Get goes on
		}
		close(release)
		synctest.Wait()
		close(tell)
		got := ""
		for change := range tell {
			got += string(change.Secret.Value.Reveal()) + " "
		}
		if got != "key-2 key-4 " { // the one that waited, and the newest
			t.Errorf("told of %s", got)
		}
	})
}

// A secret that changes right after its first state was there to get is told of, however busy OnChange is meanwhile.
func TestOnChangeComparesWithWhatGetReturned(t *testing.T) {
	bubble(t, func(h *harness) {
		release := make(chan struct{})
		var told []string
		h.follow(func(cfg *client.Config) {
			cfg.OnChange = func(change client.Change) {
				<-release
				told = append(told, string(change.Secret.Value.Reveal()))
			}
		})
		h.omni.Set(apiKey, "key-2") // OnChange waits from here on
		h.pass(0)
		h.omni.Set("new", "new-1")
		h.pass(0)
		h.wantValue("new", "new-1", false)
		h.omni.Set("new", "new-2")
		h.pass(0)
		close(release)
		synctest.Wait()
		if !slices.Equal(told, []string{"key-2", "new-2"}) {
			t.Errorf("told of %q", told)
		}
	})
}

func TestCloseWaitsForOnChange(t *testing.T) {
	bubble(t, func(h *harness) {
		returned := false
		h.follow(func(cfg *client.Config) {
			cfg.OnChange = func(client.Change) {
				time.Sleep(time.Minute) //nolint:forbidigo // simulated: in a bubble
				returned = true
			}
		})
		h.omni.Set(apiKey, "key-2")
		h.pass(0)
		h.Close()
		h.Close() // a second time does no harm
		if !returned {
			t.Error("Close returned while OnChange ran")
		}
		h.wantNone(apiKey, client.ErrClosed, client.CodeClosed)
	})
}
