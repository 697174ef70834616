package service_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/service"
)

func limited(l service.Limits) func(*service.Config) {
	return func(c *service.Config) { c.Limits, c.Tokens = l, oneToken{} }
}

// oneToken accepts "good" and no other token.
type oneToken struct{}

func (oneToken) Verify(_ context.Context, token string) (domain.Principal, error) {
	if token != "good" {
		return domain.Principal{}, errors.New("the token has expired")
	}
	return domain.Principal{Subject: "svc-trading", Scopes: domain.ScopeRead}, nil
}

// knock sends a token from an address.
func (f *fixture) knock(token, address string) error {
	_, err := f.Authenticate(f.t.Context(), service.Credentials{Authorization: "Bearer " + token, Address: address}, "r-9")
	return err
}

func TestFloodWithoutValidTokensDoesNotFillTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, limited(service.Limits{FailedTokens: 10}))
		stop := f.run()
		for i := range 1000 {
			err := f.knock("bad", "192.0.2.1:4000")
			if i < 10 {
				f.wantCode(err, domain.CodeUnauthenticated)
			} else if e := f.wantCode(err, domain.CodeRateLimited); e.RetryAfter < time.Second || e.RetryAfter > 6*time.Second {
				t.Fatalf("RetryAfter %v", e.RetryAfter)
			}
		}
		f.wantLogged("a caller is over a limit; what else it sends in this minute is counted and not logged", 1)
		if n := f.LimitCounts()[service.LimitFailedToken]; n != 990 {
			t.Errorf("%d calls counted, want 990", n)
		}

		f.at(time.Minute + time.Second) // the window is over, and the journal drained
		events := f.recorded(domain.ActionAccessDenied)
		if len(events) != 11 {
			t.Fatalf("%d events of 1000 requests, want 10 and one that sums up", len(events))
		}
		last := events[10]
		if last.Actor != domain.Anonymous || last.ErrorCode != string(domain.CodeRateLimited) || !strings.HasPrefix(last.Reason, "990 calls over the limit failed_token, of 10 a minute") {
			t.Errorf("the summary: %+v", last)
		}
		f.wantCode(f.knock("bad", "192.0.2.1:4000"), domain.CodeUnauthenticated) // the address may fail again
		stop()
	})
}

func TestValidTokensPassWhateverTheirAddressDid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, limited(service.Limits{FailedTokens: 2}))
		defer f.run()()
		for range 100 {
			_ = f.knock("bad", "192.0.2.1:4000")
		}
		f.wantCode(f.knock("bad", "192.0.2.1:4000"), domain.CodeRateLimited)
		if err := f.knock("good", "192.0.2.1:4000"); err != nil {
			t.Error(err)
		}
	})
}

func TestFailedTokensAreLimitedByAddress(t *testing.T) {
	for _, c := range []struct {
		name, first, second string
		same                bool
	}{
		{"another port", "192.0.2.1:4000", "192.0.2.1:4001", true},
		{"another IPv4 address", "192.0.2.1:4000", "192.0.2.2:4000", false},
		{"an IPv4 address in IPv6", "192.0.2.1:4000", "[::ffff:192.0.2.1]:4000", true},
		{"the same IPv6 network", "[2001:db8::1]:4000", "[2001:db8::ffff:1]:4000", true},
		{"another zone", "[fe80::1%eth0]:4000", "[fe80::1%eth1]:4000", true},
		{"another IPv6 network", "[2001:db8::1]:4000", "[2001:db8:0:1::1]:4000", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, limited(service.Limits{FailedTokens: 1}))
				defer f.run()()
				f.wantCode(f.knock("bad", c.first), domain.CodeUnauthenticated)
				want := domain.CodeUnauthenticated
				if c.same {
					want = domain.CodeRateLimited
				}
				f.wantCode(f.knock("bad", c.second), want)
			})
		})
	}
}

// However many addresses there are, the events stay bounded, and so does what is remembered.
func TestFloodFromManyAddressesDoesNotFillTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, limited(service.Limits{FailedTokens: 10}))
		defer f.run()()
		for i := range 20_000 {
			f.wantCode(f.knock("bad", fmt.Sprintf("10.0.%d.%d:1", i/256, i%256)), domain.CodeUnauthenticated)
		}
		if n := f.Remembered(service.LimitFailedToken); n > 2*4096 {
			t.Errorf("%d addresses are remembered", n)
		}
		f.at(time.Minute + time.Second)
		if n := len(f.recorded(domain.ActionAccessDenied)); n != 101 {
			t.Errorf("%d events, want 100 and one that sums up", n)
		}
	})
}

func TestRefreshesAndOverridesAreLimitedBySubject(t *testing.T) {
	for _, c := range []struct {
		limit string
		call  func(*fixture, string) error
	}{
		{service.LimitRefresh, func(f *fixture, subject string) error {
			_, err := f.Refresh(f.t.Context(), service.Call{Principal: domain.Principal{Subject: subject, Scopes: domain.ScopeCacheRefresh}}, apiKey)
			return err
		}},
		{service.LimitBreakGlass, func(f *fixture, subject string) error {
			_, err := f.ApplyOverride(f.t.Context(), service.Call{Principal: domain.Principal{Subject: subject, Scopes: domain.ScopeOps}},
				seal(apiKey, fmt.Sprint(subject, time.Now().UnixNano()), time.Minute), "")
			return err
		}},
	} {
		t.Run(c.limit, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, limited(service.Limits{Refreshes: 2, Overrides: 2}))
				defer f.run()()
				for range 2 {
					if err := c.call(f, "one"); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Millisecond) //nolint:forbidigo // simulated: in a bubble
				}
				if e := f.wantCode(c.call(f, "one"), domain.CodeRateLimited); e.RetryAfter < 29*time.Second || e.RetryAfter > 30*time.Second {
					t.Errorf("RetryAfter %v, want what the next of two a minute takes", e.RetryAfter)
				}
				if err := c.call(f, "another"); err != nil {
					t.Errorf("another caller: %v", err)
				}
				if err := f.ClearOverride(f.t.Context(), operator, apiKey); c.limit == service.LimitBreakGlass && err != nil {
					t.Errorf("to end an override: %v", err)
				}
				f.at(31 * time.Second)
				if err := c.call(f, "one"); err != nil {
					t.Errorf("half a minute later: %v", err)
				}
				f.at(61 * time.Second)
				denied := f.recorded(domain.ActionAccessDenied)
				if len(denied) != 1 || denied[0].Actor.ID != "one" || denied[0].ErrorCode != string(domain.CodeRateLimited) {
					t.Errorf("the summary: %+v", denied)
				}
			})
		})
	}
}

func TestWhatIsOverALimitIsSummedUpWhenTheProcessStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, limited(service.Limits{FailedTokens: 1}))
		stop := f.run()
		_, _ = f.knock("bad", "192.0.2.1:4000"), f.knock("bad", "192.0.2.1:4000")
		stop()
		if err := f.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := len(f.recorded(domain.ActionAccessDenied)); n != 2 {
			t.Errorf("%d events, want one of each kind", n)
		}
	})
}

// certificates stands in for what the TLS files say.
type certificates struct {
	principal domain.Principal
	err       error
}

func (c *certificates) Verify([]*x509.Certificate) (domain.Principal, error) {
	return c.principal, c.err
}

func TestTokensAndCertificates(t *testing.T) {
	known := certificates{principal: domain.Principal{Subject: "spiffe://prod/trader", Scopes: domain.ScopeRead}}
	foreign := certificates{err: errors.New("no entry names this certificate")}
	chain := []*x509.Certificate{new(x509.Certificate)}
	for _, c := range []struct {
		name        string
		configured  *certificates
		credentials service.Credentials
		subject     string // "" when refused
	}{
		{"a certificate alone", &known, service.Credentials{Certificates: chain}, "spiffe://prod/trader"},
		{"a certificate that nothing is said about", &foreign, service.Credentials{Certificates: chain}, ""},
		{"a certificate where none is looked at", nil, service.Credentials{Certificates: chain}, ""},
		{"no certificate", &known, service.Credentials{}, ""},
		{"a token beside it wins", &known, service.Credentials{Certificates: chain, Authorization: "Bearer good"}, "svc-trading"},
		{"a bad token beside it is refused", &known, service.Credentials{Certificates: chain, Authorization: "Bearer bad"}, ""},
		{"a token and a foreign certificate", &foreign, service.Credentials{Certificates: chain, Authorization: "Bearer good"}, "svc-trading"},
		{"a reserved name", &certificates{principal: domain.Principal{Subject: "Anonymous", Scopes: domain.ScopeRead}}, service.Credentials{Certificates: chain}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, func(cfg *service.Config) {
				cfg.Tokens = oneToken{}
				if c.configured != nil {
					cfg.Certificates = c.configured
				}
			})
			call, err := f.Authenticate(t.Context(), c.credentials, "r-1")
			if c.subject == "" {
				f.wantCode(err, domain.CodeUnauthenticated)
			} else if err != nil || call.Principal.Subject != c.subject {
				t.Errorf("%+v, %v; want %s", call.Principal, err, c.subject)
			}
		})
	}
}

func TestWatchEndsWhenItsCertificateAllowsSomethingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known := &certificates{principal: domain.Principal{Subject: "trader", Scopes: domain.ScopeRead}}
		f := newFixture(t, func(c *service.Config) { c.Certificates = known })
		defer f.run()()
		call, err := f.Authenticate(t.Context(), service.Credentials{Certificates: []*x509.Certificate{nil}}, "r-1")
		if err != nil {
			t.Fatal(err)
		}
		watch, err := f.Watch(t.Context(), call, []domain.SecretType{apiKey})
		if err != nil {
			t.Fatal(err)
		}
		(&watcher{watch, f}).wantTold("trading_api_key key-1 gsm")
		known.principal.Scopes = domain.ScopeStatus
		_, _, err = watch.Next(t.Context(), 15*time.Second)
		f.wantCode(err, domain.CodeUnauthenticated)
	})
}

// subjects is a verifier whose tokens are subjects.
type subjects struct{}

func (subjects) Verify(_ context.Context, token string) (domain.Principal, error) {
	return domain.Principal{Subject: token, Scopes: domain.ScopeRead}, nil
}

// Nobody can be called as the audit trail calls those without a valid token, or Omni Secrets itself.
func TestReservedSubjectsAreRefused(t *testing.T) {
	for subject, fine := range map[string]bool{
		"anonymous": false, "Anonymous": false, "ANONYMOUS": false, "omni-secrets": false, "Omni-Secrets": false,
		"anonymous-reader": true, "svc-omni-secrets": true,
	} {
		t.Run(subject, func(t *testing.T) {
			f := newFixture(t, func(c *service.Config) { c.Tokens = subjects{} })
			if err := f.knock(subject, "192.0.2.1:1"); fine != (err == nil) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestReasonsThatWouldPassForOtherTextAreRefused(t *testing.T) {
	for name, reason := range map[string]string{
		"a line feed": "INC-1\nomni.alert.break_glass_cleared", "an escape sequence": "INC-1 \x1b[2J", "its 8-bit form": "INC-1 \u009b2J",
		"a line separator": "INC-1\u2028x", "a paragraph separator": "INC-1\u2029x", "text turned round": "INC-1 \u202etxt", "NUL": "INC\x00",
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			_, err := f.ApplyOverride(t.Context(), operator, seal(apiKey, "v", time.Minute), reason)
			f.wantCode(err, domain.CodeInvalidRequest)
		})
	}
}
