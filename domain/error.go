package domain

import (
	"errors"
	"time"
)

// Code is the stable name of an error, the same on every edge.
type Code string

const (
	CodeUnauthenticated          Code = "UNAUTHENTICATED"
	CodeForbidden                Code = "FORBIDDEN"
	CodeInvalidRequest           Code = "INVALID_REQUEST"
	CodeUnknownSecretType        Code = "UNKNOWN_SECRET_TYPE"
	CodeNotFound                 Code = "NOT_FOUND"
	CodeMethodNotAllowed         Code = "METHOD_NOT_ALLOWED"
	CodeInvalidBreakGlassTTL     Code = "INVALID_BREAK_GLASS_TTL"
	CodeInvalidBreakGlassPayload Code = "INVALID_BREAK_GLASS_PAYLOAD"
	CodeNoBreakGlass             Code = "NO_BREAK_GLASS"
	CodeBreakGlassDisabled       Code = "BREAK_GLASS_DISABLED"
	CodeSecretUnavailable        Code = "SECRET_UNAVAILABLE"
	CodeRefreshFailed            Code = "REFRESH_FAILED"
	CodeRotationInProgress       Code = "ROTATION_IN_PROGRESS"
	CodeNoRotation               Code = "NO_ROTATION"
	CodeSecretDeprecated         Code = "SECRET_DEPRECATED"   //nolint:gosec // a name
	CodeVersionRejected          Code = "VERSION_REJECTED"    // it did not pass the checks that a new version must pass
	CodeVersionUnavailable       Code = "VERSION_UNAVAILABLE" // its backend does not answer, so it could not be checked
	CodeNoFollowUp               Code = "NO_FOLLOW_UP"
	CodeStateUnavailable         Code = "STATE_UNAVAILABLE"
	CodeAuditUnavailable         Code = "AUDIT_UNAVAILABLE"
	CodeShuttingDown             Code = "SHUTTING_DOWN"
	CodeRateLimited              Code = "RATE_LIMITED"
	CodeInternal                 Code = "INTERNAL"
)

// Error is a failure with a stable code. Message is written for the caller and holds nothing secret; Err is
// the cause, for the log alone.
type Error struct {
	Code       Code
	Message    string
	RetryAfter time.Duration // when trying again may help; 0 says nothing
	Withdrawn  bool          // of CodeSecretUnavailable: who still has the value must not use it either
	Err        error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Message
	}
	return e.Message + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// AsError finds the *Error in err's chain. Any other error becomes CodeInternal, with a message that gives
// nothing away.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: CodeInternal, Message: "internal error; the log has the cause under this request id", Err: err}
}

// FetchError is a backend's failure to give a value.
type FetchError struct {
	Reason Reason
	Err    error // may be nil; never holds a payload
}

func (e *FetchError) Error() string {
	if e.Err == nil {
		return string(e.Reason)
	}
	return string(e.Reason) + ": " + e.Err.Error()
}

func (e *FetchError) Unwrap() error { return e.Err }

// ReasonOf is the reason of a failed fetch, ReasonInternal when err is not a *FetchError.
func ReasonOf(err error) Reason {
	if e, ok := errors.AsType[*FetchError](err); ok {
		return e.Reason
	}
	return ReasonInternal
}
