package connect

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"connectrpc.com/connect"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// interceptor stands around every call of the two services, streams too.
type interceptor struct{ api *api }

var _ connect.Interceptor = (*interceptor)(nil)

// WrapUnary checks the scope before the fields' rules, so that who may not call learns nothing else.
func (i *interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (response connect.AnyResponse, err error) {
		defer i.conclude(ctx, &err)
		if err := i.api.authorize(ctx, request.Spec().Procedure, request.Any()); err != nil {
			return nil, err
		}
		return next(ctx, request)
	}
}

// WrapStreamingHandler checks the scope before any message is read.
func (i *interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) (err error) {
		defer i.conclude(ctx, &err)
		if err := i.api.authorize(ctx, conn.Spec().Procedure, nil); err != nil {
			return err
		}
		return next(ctx, conn)
	}
}

// WrapStreamingClient has nothing to do: this is a server.
func (*interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// conclude makes what a call ended with, a panic too, fit for the caller.
func (i *interceptor) conclude(ctx context.Context, err *error) {
	call := callOf(ctx)
	if p := recover(); p != nil {
		if p == http.ErrAbortHandler { //nolint:errorlint // net/http itself compares what was recovered like this
			panic(p)
		}
		i.api.Logger.LogAttrs(ctx, slog.LevelError, "a request made the program panic",
			slog.Any("panic", p), slog.String("stack", string(debug.Stack())), slog.String("requestId", call.RequestID))
		*err = &domain.Error{Code: domain.CodeInternal, Message: domain.AsError(nil).Message, Err: fmt.Errorf("panic: %v", p)}
	}
	if *err != nil {
		*err = i.api.failure(ctx, call, *err)
	}
}
