package validator_test

import (
	"strings"
	"testing"

	"github.com/apex-tradebill/omni-secrets/adapters/validator"
	"github.com/apex-tradebill/omni-secrets/domain"
)

func TestProbe(t *testing.T) {
	const url = "/v1/account?full=1"
	for name, c := range map[string]struct {
		rule         domain.HTTPProbeRule
		value        string
		method       string
		header, want string
	}{
		"by default":      {domain.HTTPProbeRule{Header: "X-API-Key"}, secret, "GET", "X-Api-Key", secret},
		"with a prefix":   {domain.HTTPProbeRule{Header: "Authorization", Prefix: "Bearer ", Method: "HEAD"}, secret, "HEAD", "Authorization", "Bearer " + secret},
		"in base64":       {domain.HTTPProbeRule{Header: "X-Key", Prefix: "v1 ", Encoding: "base64", Method: "POST"}, "\x00\xff\n", "POST", "X-Key", "v1 AP8K"},
		"further headers": {domain.HTTPProbeRule{Header: "X-Key", Headers: map[string]string{"accept": "text/plain"}}, secret, "GET", "Accept", "text/plain"},
		"spaces within":   {domain.HTTPProbeRule{Header: "X-Key"}, "correct horse", "GET", "X-Key", "correct horse"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, answering(200)).secure()
			v := newValidator(t, validator.Config{AllowedHosts: []string{"127.0.0.1"}, RootCAs: p.trust()})
			c.rule.URL = p.URL + url
			err := v.Validate(t.Context(), domain.Validator{HTTPProbe: &c.rule}, domain.Candidate{Type: "a", Version: "1", Value: domain.NewValue([]byte(c.value))})
			if err != nil {
				t.Fatal(err)
			}
			got := p.got[0]
			if got.Method != c.method || got.RequestURI != url || got.Header.Get(c.header) != c.want || p.body[0] != "" {
				t.Errorf("got %s", p.raw[0])
			}
			if got.Header.Get("Accept-Encoding") != "" || got.Header.Get("User-Agent") != "omni-secrets" {
				t.Errorf("headers %v", got.Header)
			}
		})
	}
}

func TestProbeExpectsStatuses(t *testing.T) {
	for status, passes := range map[int]bool{200: false, 204: true, 403: true, 404: false} {
		p := newPeer(t, answering(status)).plain()
		v := newValidator(t, validator.Config{AllowedHosts: []string{"127.0.0.1"}})
		rule := domain.Validator{HTTPProbe: &domain.HTTPProbeRule{URL: p.URL, Header: "X-Key", ExpectStatus: []int{204, 403}}}
		if err := v.Validate(t.Context(), rule, candidate); (err == nil) != passes {
			t.Errorf("status %d: %v", status, err)
		}
	}
}

func TestProbeOfValuesThatFitNoHeader(t *testing.T) {
	p := newPeer(t, answering(200)).plain()
	v := newValidator(t, validator.Config{AllowedHosts: []string{"127.0.0.1"}})
	for _, value := range []string{secret + "\n", secret + "\r\nX-Admin: yes", " " + secret, secret + " ", secret + "\t", secret + "\x00", secret + "\x7f", secret + "é", secret + "\xff"} {
		rule := both(p.URL)["http-probe"]
		err := v.Validate(t.Context(), rule, domain.Candidate{Type: "a", Version: "1", Value: domain.NewValue([]byte(value))})
		failed(t, err, rule, "REJECTED", "cannot stand in a header")
		if !strings.Contains(err.Error(), "encoding: base64") {
			t.Errorf("%v does not say what to do", err)
		}
	}
	if n := p.requests(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}
