package domain_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

func TestFormatRule(t *testing.T) {
	sixteen := strings.Repeat("k", 16)
	for name, c := range map[string]struct {
		rule  domain.FormatRule
		value string
		want  []string // parts of the message; none: it passes
	}{
		"long enough":              {domain.FormatRule{MinLength: 16, MaxLength: 16}, sixteen, nil},
		"too short":                {domain.FormatRule{MinLength: 17}, sixteen, []string{"the value is shorter than 17 bytes"}},
		"too long":                 {domain.FormatRule{MaxLength: 15}, sixteen, []string{"is longer than 15 bytes"}},
		"bytes, not characters":    {domain.FormatRule{MaxLength: 3}, "éé", []string{"is longer than 3 bytes"}},
		"empty":                    {domain.FormatRule{MinLength: 1}, "", []string{"is shorter than 1 bytes"}},
		"pattern":                  {domain.FormatRule{Pattern: "^k+$"}, sixteen, nil},
		"pattern without anchors":  {domain.FormatRule{Pattern: "k{16}"}, sixteen, nil},
		"part of the value":        {domain.FormatRule{Pattern: "k{15}"}, sixteen, []string{"does not match the pattern"}},
		"end of the value":         {domain.FormatRule{Pattern: "k{15}"}, "x" + sixteen[:15], []string{"does not match the pattern"}},
		"one line of several":      {domain.FormatRule{Pattern: "(?m)^k+$"}, "k\nx", []string{"does not match the pattern"}},
		"a shorter alternative":    {domain.FormatRule{Pattern: "k|kk"}, "kk", nil},
		"a lazy pattern":           {domain.FormatRule{Pattern: "k+?"}, "kk", nil},
		"a pattern that breaks":    {domain.FormatRule{Pattern: "k)|(x"}, "k", []string{"does not match the pattern"}},
		"a quote left open":        {domain.FormatRule{Pattern: `\Qk.`}, "k.", nil},
		"base64":                   {domain.FormatRule{Encoding: "base64"}, "+/8=", nil},
		"base64 without padding":   {domain.FormatRule{Encoding: "base64"}, "+/8", nil},
		"base64, wrong padding":    {domain.FormatRule{Encoding: "base64"}, "+/8==", []string{"is not base64"}},
		"base64, too much padding": {domain.FormatRule{Encoding: "base64"}, "+/8A====", []string{"is not base64"}},
		"base64, bits left over":   {domain.FormatRule{Encoding: "base64"}, "+/9=", []string{"is not base64"}},
		"base64 on two lines":      {domain.FormatRule{Encoding: "base64"}, "+/8A\n+/8A", []string{"is not base64"}},
		"base64 of URLs":           {domain.FormatRule{Encoding: "base64url"}, "-_8=", nil},
		"the other base64":         {domain.FormatRule{Encoding: "base64url"}, "+/8=", []string{"is not base64url"}},
		"hex":                      {domain.FormatRule{Encoding: "hex", DecodedLength: 2}, "aBcD", nil},
		"hex, odd":                 {domain.FormatRule{Encoding: "hex"}, "abc", []string{"is not hex"}},
		"decoded length":           {domain.FormatRule{Encoding: "base64", DecodedLength: 32}, base64.StdEncoding.EncodeToString(make([]byte, 32)), nil},
		"another decoded length":   {domain.FormatRule{Encoding: "hex", DecodedLength: 3}, "abcd", []string{"does not decode to 3 bytes"}},
		"a line feed at the end":   {domain.FormatRule{Pattern: "k+"}, sixteen + "\n", []string{"ends with white space, perhaps a line feed"}},
		"everything at once": {
			domain.FormatRule{Pattern: "[0-9]+", MinLength: 32, Encoding: "hex"},
			sixteen,
			[]string{"is shorter than 32 bytes, does not match the pattern, is not hex"},
		},
		"a malformed rule fails": {domain.FormatRule{Encoding: "base32"}, sixteen, []string{"is not base32"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.rule.Check(domain.NewValue([]byte(c.value)))
			if len(c.want) == 0 {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			failed, ok := errors.AsType[*domain.CheckError](err)
			if !ok || failed.Check != "format" || failed.Code != domain.CheckFormatMismatch {
				t.Fatalf("error is %#v, want a CheckError", err)
			}
			for _, part := range c.want {
				if !strings.Contains(failed.Error(), part) {
					t.Errorf("%q does not say %q", failed, part)
				}
			}
		})
	}
}

// What a caller learns about two values that fail the same part of a rule is the same.
func TestFormatRuleTellsNothingElse(t *testing.T) {
	rule := domain.FormatRule{Pattern: "[0-9]+", MinLength: 40, Encoding: "base64", DecodedLength: 3}
	messages := make(map[string]bool)
	for _, value := range []string{"hunter2!", "correct horse battery", "\xff\xfe\x00!", strings.Repeat("!", 39)} {
		messages[rule.Check(domain.NewValue([]byte(value))).Error()] = true
	}
	if len(messages) != 1 {
		t.Errorf("the messages differ: %q", slices.Collect(maps.Keys(messages)))
	}
}

func TestCheckError(t *testing.T) {
	cause := errors.New("cause")
	e := &domain.CheckError{Check: "webhook", Code: domain.CheckWebhookUnreachable, Message: "it is away", Err: cause}
	if got := fmt.Sprint(e); got != "webhook: it is away: cause" || !errors.Is(e, cause) {
		t.Errorf("%q", got)
	}
	e = &domain.CheckError{Code: domain.CheckVersionUnchanged, Message: "nothing new"}
	if got := e.Error(); got != "nothing new" {
		t.Errorf("%q", got)
	}
}

func TestValidatorName(t *testing.T) {
	for want, v := range map[string]domain.Validator{
		"format": {Format: &domain.FormatRule{}}, "webhook": {Webhook: &domain.WebhookRule{}}, "http-probe": {HTTPProbe: &domain.HTTPProbeRule{}}, "": {},
	} {
		if got := v.Name(); got != want {
			t.Errorf("%+v has the name %q, want %q", v, got, want)
		}
	}
}

func TestCatalogValidatesValidators(t *testing.T) {
	format := func(r domain.FormatRule) domain.Validator { return domain.Validator{Format: &r} }
	webhook := func(r domain.WebhookRule) domain.Validator { return domain.Validator{Webhook: &r} }
	probe := func(change func(*domain.HTTPProbeRule)) domain.Validator {
		r := domain.HTTPProbeRule{URL: "https://api.example.com/v1/account", Header: "X-API-Key"}
		change(&r)
		return domain.Validator{HTTPProbe: &r}
	}
	const url = "https://hooks.example.com/omni"
	for name, c := range map[string]struct {
		validators []domain.Validator
		want       []string // parts of the message; none: valid
	}{
		"none": {nil, nil},
		"one of each": {[]domain.Validator{
			format(domain.FormatRule{Pattern: "^[A-Za-z0-9]+$", MinLength: 32, MaxLength: 64, Encoding: "base64", DecodedLength: 32}),
			webhook(domain.WebhookRule{URL: url, Timeout: 10 * time.Second}),
			probe(func(r *domain.HTTPProbeRule) {
				r.Method, r.Header, r.Prefix, r.Encoding = "HEAD", "Authorization", "Bearer ", "base64"
				r.Headers, r.ExpectStatus, r.Timeout = map[string]string{"Accept": "application/json"}, []int{200, 204, 404}, time.Second
			}),
		}, nil},
		"too many":             {slices.Repeat([]domain.Validator{format(domain.FormatRule{MinLength: 1})}, 5), []string{"it has 5 validators, at most 4"}},
		"empty":                {[]domain.Validator{{}}, []string{"validator 1: it must be exactly one of"}},
		"two in one":           {[]domain.Validator{{Format: &domain.FormatRule{MinLength: 1}, Webhook: &domain.WebhookRule{URL: url}}}, []string{"exactly one of"}},
		"no demand":            {[]domain.Validator{format(domain.FormatRule{})}, []string{"it demands nothing"}},
		"pattern":              {[]domain.Validator{format(domain.FormatRule{Pattern: "a\n("})}, []string{`pattern: missing closing ): "a\n("`}},
		"pattern that breaks":  {[]domain.Validator{format(domain.FormatRule{Pattern: "a)|(b"})}, []string{"pattern: unexpected )"}},
		"long pattern":         {[]domain.Validator{format(domain.FormatRule{Pattern: strings.Repeat("a", 1001)})}, []string{"pattern has 1001 bytes"}},
		"lengths":              {[]domain.Validator{format(domain.FormatRule{MinLength: -1, MaxLength: 65537})}, []string{"minLength is -1", "maxLength is 65537"}},
		"lengths crossed":      {[]domain.Validator{format(domain.FormatRule{MinLength: 3, MaxLength: 2})}, []string{"minLength 3 is more than maxLength 2"}},
		"encoding":             {[]domain.Validator{format(domain.FormatRule{Encoding: "rot13"})}, []string{`encoding "rot13" must be`}},
		"decoded without it":   {[]domain.Validator{format(domain.FormatRule{DecodedLength: 3})}, []string{"decodedLength needs an encoding"}},
		"no url":               {[]domain.Validator{webhook(domain.WebhookRule{})}, []string{"url is missing"}},
		"another scheme":       {[]domain.Validator{webhook(domain.WebhookRule{URL: "ftp://h/"})}, []string{"url must begin with https://"}},
		"long url":             {[]domain.Validator{webhook(domain.WebhookRule{URL: url + strings.Repeat("a", 2048)})}, []string{"at most 2048"}},
		"long timeout":         {[]domain.Validator{webhook(domain.WebhookRule{URL: url, Timeout: 11 * time.Second})}, []string{"timeout is 11s, must be at most 10s"}},
		"negative timeout":     {[]domain.Validator{webhook(domain.WebhookRule{URL: url, Timeout: -1})}, []string{"timeout is -1ns"}},
		"method":               {[]domain.Validator{probe(func(r *domain.HTTPProbeRule) { r.Method = "DELETE" })}, []string{`method "DELETE" must be`}},
		"no header":            {[]domain.Validator{probe(func(r *domain.HTTPProbeRule) { r.Header = "" })}, []string{`header "" is no header`}},
		"no name of a header":  {[]domain.Validator{probe(func(r *domain.HTTPProbeRule) { r.Header = "X Key" })}, []string{`header "X Key" is no header`}},
		"where it goes":        {[]domain.Validator{probe(func(r *domain.HTTPProbeRule) { r.Header = "Host" })}, []string{`header "Host" is no header`}},
		"where it ends":        {[]domain.Validator{probe(func(r *domain.HTTPProbeRule) { r.Headers = map[string]string{"transfer-Encoding": "x"} })}, []string{`"transfer-Encoding" cannot be set`}},
		"header twice":         {[]domain.Validator{probe(func(r *domain.HTTPProbeRule) { r.Headers = map[string]string{"x-api-key": "x"} })}, []string{"x-api-key is there twice"}},
		"header of two lines":  {[]domain.Validator{probe(func(r *domain.HTTPProbeRule) { r.Headers = map[string]string{"A": "x\r\nB: y"} })}, []string{"the value of A must be printable"}},
		"prefix of two lines":  {[]domain.Validator{probe(func(r *domain.HTTPProbeRule) { r.Prefix = "a\n" })}, []string{"prefix must be printable"}},
		"encoding of a probe":  {[]domain.Validator{probe(func(r *domain.HTTPProbeRule) { r.Encoding = "hex" })}, []string{`encoding "hex" must be base64`}},
		"redirect as expected": {[]domain.Validator{probe(func(r *domain.HTTPProbeRule) { r.ExpectStatus = []int{200, 302} })}, []string{"expectStatus 302"}},
		"no status":            {[]domain.Validator{probe(func(r *domain.HTTPProbeRule) { r.ExpectStatus = []int{0} })}, []string{"expectStatus 0"}},
		"everything at once": {[]domain.Validator{
			webhook(domain.WebhookRule{Timeout: time.Minute}), probe(func(r *domain.HTTPProbeRule) { r.Method, r.Header = "PUT", "" }),
		}, []string{"validator 1: url is missing", "validator 1: timeout", "validator 2: method", "validator 2: header"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := domain.Catalog{entry(func(e *domain.Entry) { e.Validators = c.validators })}.Validate()
			if (err == nil) != (len(c.want) == 0) {
				t.Fatalf("Validate: %v", err)
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), "entry 1 (trading_api_key): ") || !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}
