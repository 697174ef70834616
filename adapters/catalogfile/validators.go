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
	MinLength     int    `yaml:"minLength"`
	MaxLength     int    `yaml:"maxLength"`
	Encoding      string `yaml:"encoding"`
	DecodedLength int    `yaml:"decodedLength"`
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
	ExpectStatus []int             `yaml:"expectStatus"`
	Timeout      duration          `yaml:"timeout"`
}

func validators(list []validator) []domain.Validator {
	var all []domain.Validator
	for _, v := range list {
		var one domain.Validator
		if v.Format != nil {
			rule := domain.FormatRule(*v.Format)
			one.Format = &rule
		}
		if v.Webhook != nil {
			one.Webhook = &domain.WebhookRule{URL: v.Webhook.URL, Timeout: time.Duration(v.Webhook.Timeout)}
		}
		if p := v.HTTPProbe; p != nil {
			one.HTTPProbe = &domain.HTTPProbeRule{
				Method: p.Method, URL: p.URL, Header: p.Header, Prefix: p.Prefix, Headers: p.Headers, Encoding: p.Encoding,
				ExpectStatus: p.ExpectStatus, Timeout: time.Duration(p.Timeout),
			}
		}
		all = append(all, one)
	}
	return all
}
