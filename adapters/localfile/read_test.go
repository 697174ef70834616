package localfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

func TestReasons(t *testing.T) {
	pathError := func(err error) error { return &fs.PathError{Op: "openat", Path: "key", Err: err} }
	for name, c := range map[string]struct {
		err  error
		want domain.Reason
	}{
		"no such file":          {pathError(syscall.ENOENT), domain.ReasonNotFound},
		"no permission":         {pathError(syscall.EACCES), domain.ReasonPermissionDenied},
		"not our file":          {pathError(syscall.EPERM), domain.ReasonPermissionDenied},
		"a file as a folder":    {pathError(syscall.ENOTDIR), domain.ReasonNotFound},
		"a loop of links":       {pathError(syscall.ELOOP), domain.ReasonNotFound},
		"a name too long":       {pathError(syscall.ENAMETOOLONG), domain.ReasonNotFound},
		"refused by os.Root":    {pathError(errors.New("path escapes")), domain.ReasonNotFound},
		"a socket":              {pathError(syscall.ENXIO), domain.ReasonInvalidPayload},
		"too many open files":   {pathError(syscall.EMFILE), domain.ReasonUnavailable},
		"a stale file handle":   {pathError(syscall.ESTALE), domain.ReasonUnavailable},
		"a closed folder":       {pathError(fs.ErrClosed), domain.ReasonUnavailable},
		"the caller's deadline": {fmt.Errorf("read: %w", context.DeadlineExceeded), domain.ReasonDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.err
			if name != "the caller's deadline" { // which does not come from opening
				err = refusal(err)
			}
			if got := domain.ReasonOf(explain(err)); got != c.want {
				t.Errorf("the reason is %s, want %s", got, c.want)
			}
		})
	}
}

func TestTrusted(t *testing.T) {
	now := time.Now()
	file := func(ago time.Duration, inode uint64, size int64) stamp {
		return stamp{changed: now.Add(-ago).UnixNano(), inode: inode, size: size}
	}
	for name, c := range map[string]struct {
		before, after stamp
		want          bool
		wait          time.Duration
	}{
		"unchanged for long":        {file(time.Hour, 1, 2), file(time.Hour, 1, 2), true, 0},
		"unchanged for just enough": {file(settle, 1, 2), file(settle, 1, 2), true, 0},
		"changed just now":          {file(settle/4, 1, 2), file(settle/4, 1, 2), false, settle - settle/4},
		"written to meanwhile":      {file(time.Hour, 1, 2), file(0, 1, 2), false, settle},
		"grown within one step":     {file(time.Hour, 1, 2), file(time.Hour, 1, 3), false, settle},
		"changed in the future":     {file(-time.Hour, 1, 2), file(-time.Hour, 1, 2), true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			wait, ok := sighting{before: c.before, after: c.after, at: now}.trusted()
			if ok != c.want || wait != c.wait {
				t.Errorf("trusted() = %s, %t; want %s, %t", wait, ok, c.wait, c.want)
			}
		})
	}
}
