package client

import (
	"errors"
)

// What errors.Is finds in an error of this package.
var (
	// ErrUnavailable: there is no value that may be used now. It may come later without the caller's help.
	ErrUnavailable = errors.New("client: no value that may be used now")

	// ErrStale: there was a value, but for longer than Config.MaxStale nobody could confirm it. It is an ErrUnavailable.
	ErrStale = errors.New("client: the value is too old")

	// ErrRefused: the server does not give this secret to this token, does not know it, or does not accept the token.
	// Somebody has to change the catalog, the grants or the token; the client asks again now and then.
	ErrRefused = errors.New("client: the server refuses")

	// ErrNotFollowed: the client does not follow this secret, so that waiting for it is in vain.
	ErrNotFollowed = errors.New("client: not a secret that this client follows")

	// ErrClosed: the client was closed.
	ErrClosed = errors.New("client: closed")
)

// Codes of errors that do not come from the server. The server's are in docs/api.md.
const (
	CodeNoAnswer      = "NO_ANSWER"          // no server could be reached, or what answered is no Omni Secrets
	CodeNoToken       = "NO_TOKEN"           // the TokenSource gave none
	CodePending       = "PENDING"            // the server has not said anything about the secret yet
	CodeUnavailable   = "SECRET_UNAVAILABLE" // the server has no value, and the client has none left; the server's name for it
	CodeWithdrawn     = "WITHDRAWN"          // the value was revoked
	CodeOverrideEnded = "OVERRIDE_ENDED"     // the override is over, and the server has not said what comes after it
	CodeStale         = "STALE"              // ErrStale
	CodeNotFollowed   = "NOT_FOLLOWED"       // ErrNotFollowed
	CodeClosed        = "CLOSED"             // ErrClosed
)

// Error is why there is no value. It never holds a secret or a token.
type Error struct {
	SecretType string // empty when it is not about one secret
	Code       string // stable: one of the constants above, or a code of the server
	Message    string // for people; says what to do where there is something
	RequestID  string // under which the server's logs and audit events know the call; empty when there was none

	is    error // the sentinel
	cause error // may be nil
}

func (e *Error) Error() string {
	text := e.Message + " (" + e.Code
	if e.RequestID != "" {
		text += ", request " + e.RequestID
	}
	text += ")"
	if e.SecretType != "" {
		text = e.SecretType + ": " + text
	}
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

// Unwrap returns the sentinels of this package that e is, and what caused it.
func (e *Error) Unwrap() []error {
	var chain []error
	if e.is != nil {
		chain = append(chain, e.is)
	}
	if e.is == ErrStale { //nolint:errorlint // a field of ours, never wrapped
		chain = append(chain, ErrUnavailable)
	}
	if e.cause != nil {
		chain = append(chain, e.cause)
	}
	return chain
}

// about is e for one secret.
func (e *Error) about(secretType string) *Error {
	named := *e
	named.SecretType = secretType
	return &named
}
