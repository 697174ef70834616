package domain

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	// MaxValidators is how many rules an entry may have. With MaxCheckTimeout it keeps a call that runs them all,
	// and the webhook of a preview, below a minute.
	MaxValidators = 4
	// DefaultCheckTimeout is how long a check may take when its rule does not say.
	DefaultCheckTimeout = 5 * time.Second
	// MaxCheckTimeout is the longest time that a rule may give its check.
	MaxCheckTimeout = 10 * time.Second
)

const maxURLBytes = 2048

// Candidate is a version of a secret that nobody uses yet.
type Candidate struct {
	Type    SecretType
	Version string
	Value   Value
}

// Validator is a rule of the catalog that a candidate must pass. Exactly one field is set.
type Validator struct {
	Format    *FormatRule
	Webhook   *WebhookRule
	HTTPProbe *HTTPProbeRule
}

// The names of the checks, as Validator.Name and CheckError.Check have them.
const (
	CheckFormat    = "format"
	CheckWebhook   = "webhook"
	CheckHTTPProbe = "http-probe"
)

// Name is the name of the check, "" when no field of v is set.
func (v Validator) Name() string {
	switch {
	case v.Format != nil:
		return CheckFormat
	case v.Webhook != nil:
		return CheckWebhook
	case v.HTTPProbe != nil:
		return CheckHTTPProbe
	default:
		return ""
	}
}

// URL is where the check sends a request, "" when it sends none.
func (v Validator) URL() string {
	switch {
	case v.Webhook != nil:
		return v.Webhook.URL
	case v.HTTPProbe != nil:
		return v.HTTPProbe.URL
	default:
		return ""
	}
}

// CheckCode says, in a stable word, how a candidate failed a check.
type CheckCode string

const (
	CheckFormatMismatch     CheckCode = "FORMAT_MISMATCH"
	CheckWebhookRejected    CheckCode = "WEBHOOK_REJECTED"
	CheckWebhookUnreachable CheckCode = "WEBHOOK_UNREACHABLE"
	CheckWebhookForbidden   CheckCode = "WEBHOOK_FORBIDDEN" // the list of allowed hosts does not let it be called
	CheckProbeRejected      CheckCode = "PROBE_REJECTED"
	CheckProbeUnreachable   CheckCode = "PROBE_UNREACHABLE"
	CheckProbeForbidden     CheckCode = "PROBE_FORBIDDEN"
	CheckVersionUnreadable  CheckCode = "VERSION_UNREADABLE" // the backend gave no value to check
	CheckVersionUnchanged   CheckCode = "VERSION_UNCHANGED"  // it is the version, or has the value, that is served already
)

// CheckError says which check a candidate failed. Message is written for the caller. Neither it nor Err ever
// holds the value, any part of it, or what the other side answered.
type CheckError struct {
	Check   string // the validator's name; "" when the failure came before any of them
	Code    CheckCode
	Message string
	Err     error // the cause, for the log alone; may be nil
}

func (e *CheckError) Error() string {
	text := e.Message
	if e.Check != "" {
		text = e.Check + ": " + text
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *CheckError) Unwrap() error { return e.Err }

// WebhookRule lets a receiver that has the new value say whether it is ready for it. The receiver gets a request
// that is signed with the value and does not hold it.
type WebhookRule struct {
	URL     string
	Timeout time.Duration // 0 is DefaultCheckTimeout
}

// HTTPProbeRule tries the new value as a credential.
type HTTPProbeRule struct {
	Method       string // GET, HEAD or POST, without a body; "" is GET
	URL          string
	Header       string            // the header that carries the value
	Prefix       string            // stands before the value, such as "Bearer "
	Headers      map[string]string // others, none of them secret
	Encoding     string            // EncodingBase64 sends the value in base64; "" as it is
	ExpectStatus []int             // the answers that let the value pass; none is 200 alone
	Timeout      time.Duration     // 0 is DefaultCheckTimeout
}

// mistakes is everything that is wrong with v.
func (v Validator) mistakes() []error {
	set := 0
	for _, is := range []bool{v.Format != nil, v.Webhook != nil, v.HTTPProbe != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		return []error{errors.New("it must be exactly one of format, webhook and httpProbe")}
	}
	switch {
	case v.Format != nil:
		return v.Format.mistakes()
	case v.Webhook != nil:
		return slices.Concat(urlMistakes(v.Webhook.URL), timeoutMistakes(v.Webhook.Timeout))
	default:
		return v.HTTPProbe.mistakes()
	}
}

func (r HTTPProbeRule) mistakes() []error {
	errs := slices.Concat(urlMistakes(r.URL), timeoutMistakes(r.Timeout))
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !slices.Contains([]string{"", "GET", "HEAD", "POST"}, r.Method) {
		wrong("method %q must be GET, HEAD or POST", r.Method)
	}
	if !settableHeader(r.Header) {
		wrong("header %q is no header that a value can go in, such as Authorization or X-API-Key", r.Header)
	}
	if !printable(r.Prefix) || strings.HasPrefix(r.Prefix, " ") {
		wrong("prefix must be printable ASCII that begins with no space")
	}
	seen := map[string]bool{strings.ToLower(r.Header): true}
	for name, value := range r.Headers {
		if !settableHeader(name) {
			wrong("headers: %q cannot be set", name)
		}
		if !printable(value) || strings.TrimSpace(value) != value {
			wrong("headers: the value of %s must be printable ASCII with no space around it", name)
		}
		if lower := strings.ToLower(name); seen[lower] {
			wrong("headers: %s is there twice, or carries the value", name)
		} else {
			seen[lower] = true
		}
	}
	if r.Encoding != "" && r.Encoding != EncodingBase64 {
		wrong("encoding %q must be %s, or left out for a value that is text", r.Encoding, EncodingBase64)
	}
	for _, status := range r.ExpectStatus {
		if status < 200 || status > 599 || status/100 == 3 {
			wrong("expectStatus %d must be 200 to 299 or 400 to 599; redirects are not followed", status)
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) }) // Headers have no order
	return errs
}

// urlMistakes knows the beginning of a URL; the rest is for the adapter, which also knows the allowed hosts. The
// URL is not repeated: its path or query may hold a token.
func urlMistakes(url string) []error {
	switch {
	case url == "":
		return []error{errors.New("url is missing")}
	case len(url) > maxURLBytes:
		return []error{fmt.Errorf("url has %d bytes, at most %d are allowed", len(url), maxURLBytes)}
	case !strings.HasPrefix(url, "https://") && !strings.HasPrefix(url, "http://"):
		return []error{errors.New("url must begin with https:// (http:// only for private addresses)")}
	default:
		return nil
	}
}

func timeoutMistakes(d time.Duration) []error {
	if d < 0 || d > MaxCheckTimeout {
		return []error{fmt.Errorf("timeout is %s, must be at most %s", d, MaxCheckTimeout)}
	}
	return nil
}

var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")

// settableHeader reports whether a rule may set the header: not those that say where a request ends or to whom it
// goes.
func settableHeader(name string) bool {
	lower := strings.ToLower(name)
	return headerName.MatchString(name) && !strings.HasPrefix(lower, "proxy-") && !slices.Contains([]string{
		"connection", "content-length", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
	}, lower)
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
