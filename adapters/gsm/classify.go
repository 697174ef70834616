package gsm

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// reasons gives each status of a call its reason (https://cloud.google.com/apis/design/errors). Codes that are
// not listed are ReasonInternal: an outage, through which the last good value is served.
var reasons = map[codes.Code]domain.Reason{
	codes.Unavailable:       domain.ReasonUnavailable,
	codes.Aborted:           domain.ReasonUnavailable, // a conflict within the service that passes
	codes.Canceled:          domain.ReasonUnavailable, // the caller left, or Close cut the call off
	codes.DeadlineExceeded:  domain.ReasonDeadlineExceeded,
	codes.ResourceExhausted: domain.ReasonResourceExhausted,
	codes.PermissionDenied:  domain.ReasonPermissionDenied,
	codes.Unauthenticated:   domain.ReasonUnauthenticated,
	codes.NotFound:          domain.ReasonNotFound,
	// The version is disabled or destroyed.
	codes.FailedPrecondition: domain.ReasonVersionDisabled,
}

// classify gives a failed call its reason. The code alone does not do: an error of the context that did not
// come through gRPC has the code Unknown.
func classify(err error) *domain.FetchError {
	reason, known := reasons[status.Code(err)]
	switch {
	case known:
	case errors.Is(err, context.DeadlineExceeded):
		reason = domain.ReasonDeadlineExceeded
	case errors.Is(err, context.Canceled):
		reason = domain.ReasonUnavailable
	default:
		reason = domain.ReasonInternal
	}
	return &domain.FetchError{Reason: reason, Err: err}
}

// retryable reports whether another attempt may succeed.
func retryable(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Internal, codes.Aborted:
		return true
	default:
		return errors.Is(err, context.DeadlineExceeded)
	}
}

// explain says what was being read when the error happened.
func explain(err error, name string) *domain.FetchError {
	fetch, ok := errors.AsType[*domain.FetchError](err)
	if !ok {
		fetch = classify(err)
	}
	return &domain.FetchError{Reason: fetch.Reason, Err: fmt.Errorf("access %s: %w", name, fetch.Err)}
}
