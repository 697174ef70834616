package gsm

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// retried runs retry with the defaults and returns how many attempts it made, and when the last of them began.
func retried(ctx context.Context, attempt func(ctx context.Context, n int) error) (attempts int, last, took time.Duration, err error) {
	began := time.Now()
	err = Config{}.withDefaults().retry(ctx, func(ctx context.Context) error {
		attempts++
		last = time.Since(began)
		return attempt(ctx, attempts)
	})
	return attempts, last, time.Since(began), err
}

func fails(code codes.Code) func(context.Context, int) error {
	return func(context.Context, int) error { return classify(status.Error(code, "told to")) }
}

// hangs answers as gRPC does when the deadline of the call is over.
func hangs(ctx context.Context, _ int) error {
	<-ctx.Done()
	return classify(status.FromContextError(ctx.Err()).Err())
}

func TestRetryWhatMayPass(t *testing.T) {
	for _, code := range []codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Internal, codes.Aborted} {
		t.Run(code.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				attempts, _, took, err := retried(t.Context(), fails(code))
				// Waits of 50, 100, 200, 400, 400, ... ms, or down to half of that, within 3 s.
				if attempts < 9 || attempts > 18 {
					t.Errorf("%d attempts were made", attempts)
				}
				if took > 3*time.Second || took < 2600*time.Millisecond {
					t.Errorf("they took %s, want up to 3 s, less the last wait", took)
				}
				if status.Code(err) != code {
					t.Errorf("retry failed with %v, want the last failure", err)
				}
			})
		})
	}
}

func TestDoNotRetryWhatWillNotPass(t *testing.T) {
	for _, code := range []codes.Code{
		codes.NotFound, codes.FailedPrecondition, codes.PermissionDenied, codes.Unauthenticated,
		codes.InvalidArgument, codes.Canceled, codes.Unimplemented, codes.DataLoss, codes.Unknown,
	} {
		t.Run(code.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if attempts, _, took, err := retried(t.Context(), fails(code)); attempts != 1 || took != 0 || err == nil {
					t.Errorf("%d attempts in %s (%v), want one", attempts, took, err)
				}
			})
		})
	}
}

func TestRetryEndsWithTheFirstSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts, _, _, err := retried(t.Context(), func(ctx context.Context, n int) error {
			if n < 3 {
				return fails(codes.Unavailable)(ctx, n)
			}
			return nil
		})
		if attempts != 3 || err != nil {
			t.Errorf("%d attempts and %v, want 3 and success", attempts, err)
		}
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts, last, took, err := retried(t.Context(), hangs)
		if attempts != 2 || last < 1525*time.Millisecond || last > 1550*time.Millisecond {
			t.Errorf("%d attempts, the last after %s; want 2, the last after 1.5 s and a back-off", attempts, last)
		}
		if took != 3*time.Second {
			t.Errorf("they took %s, want 3 s", took)
		}
		if got := domain.ReasonOf(explain(err, "x")); got != domain.ReasonDeadlineExceeded {
			t.Errorf("the reason is %s (%v)", got, err)
		}
	})
}

func TestAnAttemptThatIsCutOffDoesNotHideTheFailureBeforeIt(t *testing.T) {
	for name, cutOff := range map[string]func(context.Context, int) error{
		"here": hangs, // when the 3 s are over
		"by the service, a moment before": func(ctx context.Context, n int) error {
			deadline, _ := ctx.Deadline()
			time.Sleep(time.Until(deadline) - time.Millisecond) //nolint:forbidigo // simulated: in a bubble
			return fails(codes.DeadlineExceeded)(ctx, n)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, _, took, err := retried(t.Context(), func(ctx context.Context, n int) error {
					if n == 1 {
						<-ctx.Done() // 1.5 s of the 3 s
						return fails(codes.ResourceExhausted)(ctx, n)
					}
					return cutOff(ctx, n)
				})
				if took.Round(10*time.Millisecond) != 3*time.Second || status.Code(err) != codes.ResourceExhausted {
					t.Errorf("it took %s and failed with %v, want 3 s and the first failure", took, err)
				}
			})
		})
	}
}

func TestTheCallersDeadlineIsKept(t *testing.T) {
	for name, attempt := range map[string]func(context.Context, int) error{
		"in an attempt":     hangs,
		"between attempts":  fails(codes.Unavailable),
		"before an attempt": func(context.Context, int) error { panic("an attempt was made") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limit := 700 * time.Millisecond
				if name == "before an attempt" {
					limit = 0
				}
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				if _, _, took, err := retried(ctx, attempt); took > limit || err == nil {
					t.Errorf("it took %s (%v), want at most %s and a failure", took, err, limit)
				}
			})
		})
	}
}

func TestCancellingEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(1010*time.Millisecond, cancel)
		_, _, took, err := retried(ctx, fails(codes.Unavailable))
		if took != 1010*time.Millisecond || !errors.Is(err, context.Canceled) {
			t.Errorf("it took %s (%v), want 1.01 s and a cancellation", took, err)
		}
	})
}

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want domain.Reason
	}{
		{"Unavailable", status.Error(codes.Unavailable, ""), domain.ReasonUnavailable},
		{"Aborted", status.Error(codes.Aborted, ""), domain.ReasonUnavailable},
		{"Canceled", status.Error(codes.Canceled, ""), domain.ReasonUnavailable},
		{"DeadlineExceeded", status.Error(codes.DeadlineExceeded, ""), domain.ReasonDeadlineExceeded},
		{"ResourceExhausted", status.Error(codes.ResourceExhausted, ""), domain.ReasonResourceExhausted},
		{"PermissionDenied", status.Error(codes.PermissionDenied, ""), domain.ReasonPermissionDenied},
		{"Unauthenticated", status.Error(codes.Unauthenticated, ""), domain.ReasonUnauthenticated},
		{"NotFound", status.Error(codes.NotFound, ""), domain.ReasonNotFound},
		{"FailedPrecondition", status.Error(codes.FailedPrecondition, ""), domain.ReasonVersionDisabled},
		{"Internal", status.Error(codes.Internal, ""), domain.ReasonInternal},
		{"InvalidArgument", status.Error(codes.InvalidArgument, ""), domain.ReasonInternal},
		{"Unimplemented", status.Error(codes.Unimplemented, ""), domain.ReasonInternal},
		{"DataLoss", status.Error(codes.DataLoss, ""), domain.ReasonInternal},
		{"Unknown", status.Error(codes.Unknown, ""), domain.ReasonInternal},
		{"a deadline without a status", fmt.Errorf("wait: %w", context.DeadlineExceeded), domain.ReasonDeadlineExceeded},
		{"a cancellation without a status", fmt.Errorf("wait: %w", context.Canceled), domain.ReasonUnavailable},
		{"any other error", errors.New("no idea"), domain.ReasonInternal},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := classify(c.err).Reason; got != c.want {
				t.Errorf("the reason is %s, want %s", got, c.want)
			}
		})
	}
}
