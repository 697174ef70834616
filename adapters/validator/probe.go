package validator

import (
	"cmp"
	"context"
	"encoding/base64"
	"net/http"
	"slices"

	"github.com/apex-tradebill/omni-secrets/domain"
)

func (v *Validator) probe(ctx context.Context, rule domain.HTTPProbeRule, c domain.Candidate) error {
	p := check{domain.CheckHTTPProbe, domain.CheckProbeRejected, domain.CheckProbeUnreachable, domain.CheckProbeForbidden}
	credential := string(c.Value.Reveal())
	if rule.Encoding == domain.EncodingBase64 {
		credential = base64.StdEncoding.EncodeToString(c.Value.Reveal())
	} else if !fitsHeader(credential) {
		return p.fail(p.rejected, nil, "the value cannot stand in a header, where only printable ASCII without spaces around it can; "+
			"take the line feed off its end, or give the rule encoding: base64 if the value is binary")
	}
	header := make(http.Header, len(rule.Headers)+1)
	for name, value := range rule.Headers {
		header.Set(name, value)
	}
	header.Set(rule.Header, rule.Prefix+credential)
	return v.send(ctx, p, request{
		method: cmp.Or(rule.Method, http.MethodGet), url: rule.URL, timeout: rule.Timeout, header: header,
	}, func(status int) bool {
		if len(rule.ExpectStatus) == 0 {
			return status == http.StatusOK
		}
		return slices.Contains(rule.ExpectStatus, status)
	})
}

// fitsHeader reports whether s arrives as it is in a header's value: receivers strip white space from its ends.
func fitsHeader(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s[0] != ' ' && s[len(s)-1] != ' '
}
