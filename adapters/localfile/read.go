package localfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const (
	// settle is how far in the past the last change must lie before a version is trusted: more than the longest
	// step of the clock with which Linux stamps files (10 ms at 100 Hz).
	settle = 20 * time.Millisecond
	// tries is how often a file that keeps changing is read.
	tries = 10
)

// read returns the content of a file and the version that it is.
func (b *Backend) read(ctx context.Context, path string) (content []byte, version string, err error) {
	for range tries {
		content, seen, err := b.look(ctx, path)
		if err != nil {
			return nil, "", err
		}
		wait, trusted := seen.trusted()
		switch size := seen.after.size; {
		case trusted && (size == 0 || size > domain.MaxValueBytes):
			return nil, "", fail(domain.ReasonInvalidPayload, fmt.Errorf("%s has %d bytes, want 1 to %d", path, size, domain.MaxValueBytes))
		case trusted:
			return content, seen.after.version(), nil
		}
		if err := sleep(ctx, wait); err != nil {
			return nil, "", fmt.Errorf("read %s, which is changing: %w", path, err)
		}
	}
	return nil, "", fail(domain.ReasonUnavailable, fmt.Errorf("read %s: it changed during each of %d attempts", path, tries))
}

// sighting is what was known of the open file around a read.
type sighting struct {
	before, after stamp
	at            time.Time // of before
}

// trusted reports whether the content is that of version after, and will be told from the next one. If not,
// wait is how long to wait before another look.
func (s sighting) trusted() (wait time.Duration, ok bool) {
	if s.before != s.after {
		return settle, false
	}
	// A change in the future comes from another clock, for which waiting may take for ever.
	if age := time.Duration(s.at.UnixNano() - s.before.changed); age >= 0 && age < settle {
		return settle - age, false
	}
	return 0, true
}

// look reads the file once. It reads nothing of a file whose size no value has.
func (b *Backend) look(ctx context.Context, path string) (content []byte, seen sighting, err error) {
	if err := ctx.Err(); err != nil {
		return nil, seen, fmt.Errorf("read %s: %w", path, err)
	}
	f, err := b.open(path)
	if err != nil {
		return nil, seen, err
	}
	defer f.Close() // nothing was written
	seen.at = time.Now()
	if seen.before, err = stat(f); err != nil {
		return nil, seen, err
	}
	if seen.before.size <= domain.MaxValueBytes {
		content = make([]byte, seen.before.size)
		// A file that shrank meanwhile, or grew, has another stamp after.
		if _, err := io.ReadFull(f, content); err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return nil, seen, fmt.Errorf("read %s: %w", path, err)
		}
	}
	if seen.after, err = stat(f); err != nil {
		return nil, seen, err
	}
	return content, seen, nil
}

// open opens a regular file of the folder. It does not wait for the other end of a named pipe.
func (b *Backend) open(path string) (*os.File, error) {
	f, err := b.root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, refusal(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fail(domain.ReasonInvalidPayload, fmt.Errorf("%s is not a regular file but %s", path, info.Mode().Type()))
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// refusal gives those errors of opening their reason that explain cannot tell.
func refusal(err error) error {
	errno, system := errors.AsType[syscall.Errno](err)
	switch {
	case errors.Is(err, os.ErrClosed):
		return err
	case !system: // os.Root itself refused: the path or a link leads out of the folder
		return fail(domain.ReasonNotFound, err)
	case errno == syscall.ELOOP, errno == syscall.ENOTDIR, errno == syscall.ENAMETOOLONG:
		return fail(domain.ReasonNotFound, err)
	case errno == syscall.ENXIO: // a socket, or a device without its driver
		return fail(domain.ReasonInvalidPayload, fmt.Errorf("not a regular file: %w", err))
	default:
		return err
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
