package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Inspection is what a look at the directory of a journal finds.
type Inspection struct {
	InUse    bool  // a process has the journal open
	Bytes    int64 // of the segments, drained ones that are not removed yet included, and of what was set aside
	Corrupt  int   // segments that were set aside, for somebody to look into
	SetAside int   // events that the database refused
}

// Inspect looks at the journal in dir and writes nothing. A directory that is missing is fs.ErrNotExist. It takes
// the lock for a moment when nobody has it; a process that opens the journal in that moment gets ErrInUse.
func Inspect(dir string) (Inspection, error) {
	var found Inspection
	entries, err := os.ReadDir(dir)
	if err != nil {
		return found, fmt.Errorf("journal: inspect: %w", err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if name == asideFile {
			aside, err := inspectAside(filepath.Join(dir, name))
			if err != nil {
				return found, fmt.Errorf("journal: inspect: %w", err)
			}
			found.SetAside = aside.events
			found.Bytes += aside.bytes
		}
		if !strings.HasPrefix(name, segmentPrefix) {
			continue
		}
		if strings.HasSuffix(name, segmentSuffix+corruptSuffix) {
			found.Corrupt++
		}
		if info, err := entry.Info(); err == nil && strings.HasSuffix(name, segmentSuffix) {
			found.Bytes += info.Size()
		}
	}
	if found.InUse, err = inUse(filepath.Join(dir, lockName)); err != nil {
		return found, fmt.Errorf("journal: inspect: %w", err)
	}
	return found, nil
}

func inspectAside(path string) (aside, error) {
	f, err := os.Open(path)
	if err != nil {
		return aside{}, err
	}
	defer f.Close()
	found, err := count(f, new(lines))
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil // one is being written
	}
	return found, err
}

func inUse(lock string) (bool, error) {
	f, err := os.Open(lock)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close() // which gives the lock back
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}
