package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// ErrInUse says that another process, or another Journal of this one, has the same directory open.
var ErrInUse = errors.New("another process uses this journal; stop it, or give each its own directory")

const lockName = "LOCK"

// acquire takes the lock of dir. It is released by closing the file, and by the death of the process.
func acquire(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = ErrInUse
	default:
		err = fmt.Errorf("flock %s: %w", f.Name(), err)
	}
	return nil, errors.Join(err, f.Close())
}
