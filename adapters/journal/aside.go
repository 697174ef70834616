package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

const (
	asideFile = "rejected.log"
	retryFile = "rejected.retry"
)

// aside is what was set aside. It counts towards the journal's limit, so that the disk it takes is bounded.
type aside struct {
	events int
	bytes  int64
}

// SetAside implements ports.JournalReader. The events are in rejected.log, which nothing here reads again until an
// operator renames it to rejected.retry.
func (j *Journal) SetAside(events []domain.Event) error {
	var records []byte
	for i := range events {
		records = appendEvent(records, &events[i])
	}
	if err := appendDurably(filepath.Join(j.dir, asideFile), records); err != nil {
		return fmt.Errorf("journal: set aside: %w", err)
	}
	if err := syncDir(j.dir); err != nil {
		return fmt.Errorf("journal: set aside: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.aside.events += len(events)
	j.aside.bytes += int64(len(records))
	return nil
}

// appendDurably adds records to a file and flushes it. When it fails, the file is as it was before.
func appendDurably(path string, records []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	_, err = f.Write(records)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return errors.Join(err, f.Truncate(info.Size()), f.Close())
	}
	return f.Close()
}

// Usage implements ports.JournalReader.
func (j *Journal) Usage() ports.JournalUsage {
	j.mu.Lock()
	defer j.mu.Unlock()
	return ports.JournalUsage{Bytes: j.bytes + j.reserved + j.aside.bytes, Limit: j.maxBytes, SetAside: j.aside.events}
}

// takeBack makes a segment of what an operator gave back, behind all others.
func (j *Journal) takeBack(cursor position) error {
	given := filepath.Join(j.dir, retryFile)
	if _, err := os.Stat(given); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	_, last, err := j.findSegments()
	if err != nil {
		return err
	}
	path := j.segmentPath(max(last, cursor.Segment) + 1)
	if err := os.Rename(given, path); err != nil {
		return err
	}
	j.log.Info("events that were set aside are drained once more", "segment", path)
	return nil
}

// countAside counts what former processes set aside, and cuts off a torn record at the end, of events that were not
// committed then.
func (j *Journal) countAside() error {
	f, err := os.OpenFile(filepath.Join(j.dir, asideFile), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	found, err := count(f, &j.lines)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = f.Truncate(found.bytes)
	}
	j.aside = found
	return err
}

// count counts the complete lines; io.ErrUnexpectedEOF when something follows them.
func count(r io.Reader, l *lines) (aside, error) {
	var found aside
	l.reset(r)
	for {
		_, size, err := l.next()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return found, err
		}
		found.events++
		found.bytes += size
	}
}
