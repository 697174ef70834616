package client

import (
	"errors"
	"net/url"
	"strings"
	"time"
	"unicode"

	"connectrpc.com/connect"

	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
)

// codeShuttingDown ends the streams of a server that stops.
const codeShuttingDown = "SHUTTING_DOWN"

const (
	maxRetryAfter   = 5 * time.Minute // what a server may ask for
	maxMessageBytes = 300             // of a foreign text in an error
)

var (
	errSilent    = errors.New("nothing was heard in time: the connection is lost, or a proxy on the way holds streams back; name the secrets in Config.SecretTypes, and they are polled for")
	errRefollow  = errors.New("the secrets to follow are others now")
	errStreamEnd = errors.New("the server ended the stream without saying why")
)

// failure is a call that did not succeed, and what to do about it.
type failure struct {
	*Error
	unauthenticated bool
	refused         bool // the secret or all of them: not in the catalog, or not for this token
	noValue         bool // the server works, the secret has no value
	withdrawn       bool // with noValue: the one from before must not be used either
	retryAfter      time.Duration
}

// failureOf explains err, the outcome of a call with token. Nothing that answered is trusted not to repeat the token.
func failureOf(err error, token string) failure {
	if e, ok := errors.AsType[*Error](err); ok { // from this package, such as no token
		return failure{Error: e}
	}
	f := failure{Error: &Error{Code: CodeNoAnswer, is: ErrUnavailable}}
	var wire *connect.Error
	if !errors.As(err, &wire) || !connect.IsWireError(err) {
		if connect.CodeOf(err) == connect.CodeUnauthenticated { // says a proxy on the way
			f.unauthenticated, f.is = true, ErrRefused
		}
		f.Message = "no answer from the server: " + presentable(transportText(err), token)
		return f
	}
	f.Code = presentable(strings.ToUpper(wire.Code().String()), token)
	for _, detail := range wire.Details() {
		value, err := detail.Value()
		if err != nil {
			continue // of another kind, or garbage
		}
		if info, ok := value.(*secretsv1.ErrorInfo); ok && info.GetCode() != "" {
			f.Code = presentable(info.GetCode(), token)
			f.RequestID = presentable(info.GetRequestId(), token)
			f.withdrawn = info.GetWithdrawn()
			f.retryAfter = min(time.Duration(info.GetRetryAfterSeconds())*time.Second, maxRetryAfter)
		}
	}
	f.Message = presentable(wire.Message(), token)
	switch wire.Code() {
	case connect.CodeUnauthenticated:
		f.unauthenticated, f.is = true, ErrRefused
	case connect.CodePermissionDenied, connect.CodeNotFound:
		f.refused, f.is = true, ErrRefused
	case connect.CodeUnavailable:
		f.noValue = f.Code == CodeUnavailable
	default: // not about this secret or this token
	}
	return f
}

// transportText is err without the method and the URL round it.
func transportText(err error) string {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err.Error()
	}
	if wrapped, ok := errors.AsType[*connect.Error](err); ok {
		return wrapped.Message()
	}
	return err.Error()
}

// presentable is text as it may stand in an error or a log: one bounded line, without the token.
func presentable(text, token string) string {
	if token != "" {
		text = strings.ReplaceAll(text, token, "[redacted]")
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxMessageBytes {
		text = strings.ToValidUTF8(text[:maxMessageBytes], "") + "…"
	}
	return text
}
