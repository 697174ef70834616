package catalogfile

import (
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// validator is a mapping with one of these keys.
type validator struct {
	Format    *format    `yaml:"format"`
	Webhook   *webhook   `yaml:"webhook"`
	HTTPProbe *httpProbe `yaml:"httpProbe"`
}

type format struct {
	Pattern       string `yaml:"pattern"`
	MinLength     whole  `yaml:"minLength"`
	MaxLength     whole  `yaml:"maxLength"`
	Encoding      string `yaml:"encoding"`
	DecodedLength whole  `yaml:"decodedLength"`
}

type webhook struct {
	URL     string   `yaml:"url"`
	Timeout duration `yaml:"timeout"`
}

type httpProbe struct {
	Method       string            `yaml:"method"`
	URL          string            `yaml:"url"`
	Header       string            `yaml:"header"`
	Prefix       string            `yaml:"prefix"`
	Headers      map[string]string `yaml:"headers"`
	Encoding     string            `yaml:"encoding"`
	ExpectStatus []whole           `yaml:"expectStatus"`
	Timeout      duration          `yaml:"timeout"`
}

func validators(list []validator) []domain.Validator {
	var all []domain.Validator
	for _, v := range list {
		var one domain.Validator
		if f := v.Format; f != nil {
			one.Format = &domain.FormatRule{
				Pattern: f.Pattern, MinLength: int(f.MinLength), MaxLength: int(f.MaxLength), Encoding: f.Encoding, DecodedLength: int(f.DecodedLength),
			}
		}
		if v.Webhook != nil {
			one.Webhook = &domain.WebhookRule{URL: v.Webhook.URL, Timeout: time.Duration(v.Webhook.Timeout)}
		}
		if p := v.HTTPProbe; p != nil {
			one.HTTPProbe = &domain.HTTPProbeRule{
				Method: p.Method, URL: p.URL, Header: p.Header, Prefix: p.Prefix, Headers: p.Headers, Encoding: p.Encoding,
				Timeout: time.Duration(p.Timeout),
			}
			for _, status := range p.ExpectStatus {
				one.HTTPProbe.ExpectStatus = append(one.HTTPProbe.ExpectStatus, int(status))
			}
		}
		all = append(all, one)
	}
	return all
}
