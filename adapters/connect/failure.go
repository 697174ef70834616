package connect

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"strconv"

	"connectrpc.com/connect"

	"github.com/apex-tradebill/omni-secrets/domain"
	secretsv1 "github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1"
	"github.com/apex-tradebill/omni-secrets/service"
)

// codeOf is the one table from the domain's error codes to those of the protocols.
var codeOf = map[domain.Code]connect.Code{
	domain.CodeUnauthenticated:          connect.CodeUnauthenticated,
	domain.CodeForbidden:                connect.CodePermissionDenied,
	domain.CodeInvalidRequest:           connect.CodeInvalidArgument,
	domain.CodeUnknownSecretType:        connect.CodeNotFound,
	domain.CodeNotFound:                 connect.CodeUnimplemented,
	domain.CodeMethodNotAllowed:         connect.CodeUnimplemented,
	domain.CodeInvalidBreakGlassTTL:     connect.CodeInvalidArgument,
	domain.CodeInvalidBreakGlassPayload: connect.CodeInvalidArgument,
	domain.CodeNoBreakGlass:             connect.CodeNotFound,
	domain.CodeBreakGlassDisabled:       connect.CodeFailedPrecondition, // no use to try again, as clients do when it is Unavailable
	domain.CodeSecretUnavailable:        connect.CodeUnavailable,
	domain.CodeRefreshFailed:            connect.CodeUnavailable,
	domain.CodeRotationInProgress:       connect.CodeFailedPrecondition, // not AlreadyExists: it is promoted or aborted first, and a preview makes nothing
	domain.CodeNoRotation:               connect.CodeFailedPrecondition,
	domain.CodeSecretDeprecated:         connect.CodeFailedPrecondition,
	domain.CodeVersionRejected:          connect.CodeFailedPrecondition,
	domain.CodeVersionUnavailable:       connect.CodeUnavailable,
	domain.CodeNoFollowUp:               connect.CodeNotFound,
	domain.CodeStateUnavailable:         connect.CodeUnavailable,
	domain.CodeAuditUnavailable:         connect.CodeUnavailable,
	domain.CodeShuttingDown:             connect.CodeUnavailable,
	domain.CodeRateLimited:              connect.CodeResourceExhausted,
	domain.CodeInternal:                 connect.CodeInternal,
}

// failure is err for the caller: its code, its public words and an ErrorInfo. Causes stay here.
func (a *api) failure(ctx context.Context, call service.Call, err error) error {
	if e, ok := errors.AsType[*connect.Error](err); ok {
		if e.Code() != connect.CodeInvalidArgument {
			return err // of the protocol itself: a cancelled stream, a message that is too large
		}
		err = &domain.Error{Code: domain.CodeInvalidRequest, Message: e.Message()}
	}
	switch {
	case errors.Is(err, context.Canceled):
		return connect.NewError(connect.CodeCanceled, errCanceled)
	case errors.Is(err, context.DeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, errDeadline)
	}
	e := domain.AsError(err)
	code, ok := codeOf[e.Code]
	if !ok {
		code = connect.CodeInternal
	}
	if code == connect.CodeInternal {
		a.Logger.LogAttrs(ctx, slog.LevelError, "a request failed", slog.Any("err", e.Err), slog.String("requestId", call.RequestID))
	}
	info := &secretsv1.ErrorInfo{Code: string(e.Code), RequestId: call.RequestID, Withdrawn: e.Withdrawn}
	failed := connect.NewError(code, errors.New(e.Message))
	if e.RetryAfter > 0 {
		info.RetryAfterSeconds = uint32(math.Ceil(e.RetryAfter.Seconds()))
		failed.Meta().Set("Retry-After", strconv.FormatUint(uint64(info.GetRetryAfterSeconds()), 10))
	}
	if refresh, ok := errors.AsType[*refreshFailedError](err); ok {
		info.Failures = failuresOf(refresh.failures)
	}
	if detail, err := connect.NewErrorDetail(info); err == nil {
		failed.AddDetail(detail)
	}
	return failed
}

var (
	errCanceled = errors.New("the caller cancelled the call")
	errDeadline = errors.New("the caller's deadline has passed")
)

// refreshFailedError adds to the error of a refresh what could not be refreshed.
type refreshFailedError struct {
	error
	failures []service.RefreshFailure
}

func (e *refreshFailedError) Unwrap() error { return e.error }
