// Package journal is the audit journal in a local directory: events are appended before the actions that they
// record are answered, and are read from there into the database.
//
// The directory holds
//
//	LOCK                      held by flock(2) while a process has the journal open
//	events-000000000007.log   a segment: one record a line, CRC32C of the JSON in hex, a space, the JSON
//	cursor                    how far the segments were drained, a record as well
//	*.log.corrupt             a drained segment that had records which cannot be read
//	rejected.log              events that the database refuses for what is in them, as in a segment
//	rejected.retry            the same, given back by an operator: the next start makes it a segment
//
// Every start begins a new segment, and a full segment is followed by the next, so that only one is written
// and a crash can leave a torn record at the end of a segment only, and with Sync the zeros that were to be overwritten.
// A segment is deleted once it is drained: the one that is written when the next one begins, or for its room on a full disk.
//
// Appending is a group commit without a goroutine of its own:
//
//	Append --> no batch is open:  open one, wait for the batch before it, close this one, write it, wake the rest
//	       \-> a batch is open:   join it, sleep until it is written
//
// so that a single appender pays one write(2), and many share it.
package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/apex-tradebill/omni-secrets/ports"
)

// Defaults of Config.
const (
	DefaultMaxBytes     = 1 << 30
	DefaultSegmentBytes = 16 << 20
)

// Config says where and how a journal is kept.
type Config struct {
	Dir string // made with mode 0700 when it is missing

	// Sync makes Append return only after fsync(2), so that events outlive a power cut. Without it they outlive
	// the death of the process.
	Sync bool

	// MaxBytes is how much may wait to be committed, or be set aside, before Append refuses with ports.ErrJournalFull;
	// 0 means DefaultMaxBytes. The directory may hold up to SegmentBytes more, of events that were committed.
	MaxBytes int64

	// SegmentBytes is the size of a segment, exceeded only by a single batch; 0 means DefaultSegmentBytes.
	SegmentBytes int64

	Logger *slog.Logger // for damage that was found; required
}

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("journal: Dir is missing"))
	}
	if c.MaxBytes < 0 || c.SegmentBytes < 0 {
		errs = append(errs, errors.New("journal: MaxBytes and SegmentBytes must not be negative"))
	}
	if c.Logger == nil {
		errs = append(errs, errors.New("journal: Logger is missing"))
	}
	return errors.Join(errs...)
}

// Journal implements ports.AuditJournal and ports.JournalReader.
type Journal struct {
	dir          string
	sync         bool
	maxBytes     int64
	segmentBytes int64
	log          *slog.Logger
	lock         *os.File
	wake         chan struct{} // holds one token after events were written
	done         chan struct{} // closed by Close

	writing sync.Mutex // held while a batch is written
	file    *os.File   // of current; nil until this start has one
	torn    bool       // a failed batch may have left bytes behind the good ones in file
	filled  int64      // how long file is, with Sync: zeros follow its records
	last    uint64     // number of the newest segment there ever was

	// For the reader alone.
	passed     passage  // what the last Next returned
	cursorLags bool     // the last Commit could not write it
	lines      lines    // of the segment that is read
	seen       interned // strings of events

	mu       sync.Mutex // never held during I/O
	closed   bool
	batch    *batch     // open to be joined, or nil
	free     []*batch   // to be used again
	reserved int64      // bytes of batches that are not written yet
	segments []*segment // oldest first
	current  *segment   // the last one, once this start has begun it: the one that is written
	drained  position
	waiting  int       // events behind drained
	bytes    int64     // of the segments behind drained
	oldest   time.Time // of the waiting events, by their order
	aside    aside
}

var (
	_ ports.AuditJournal  = (*Journal)(nil)
	_ ports.JournalReader = (*Journal)(nil)
)

// Open opens the journal in c.Dir and repairs what a crash left: a torn record and zeros at the end of a segment are cut
// off. Records that are damaged otherwise are skipped, logged, and kept aside with their segment. Open fails
// with ErrInUse while another process has the journal open.
func Open(c Config) (*Journal, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	if c.SegmentBytes == 0 {
		c.SegmentBytes = DefaultSegmentBytes
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("journal: open: %w", err)
	}
	lock, err := acquire(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("journal: open %s: %w", c.Dir, err)
	}
	j := &Journal{
		dir: c.Dir, sync: c.Sync, maxBytes: c.MaxBytes, segmentBytes: c.SegmentBytes, log: c.Logger, lock: lock,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	if err := j.restore(); err != nil {
		return nil, errors.Join(fmt.Errorf("journal: open %s: %w", c.Dir, err), lock.Close())
	}
	return j, nil
}

// Close ends the journal after flushing it to disk. Appends that are not written yet, and all later calls,
// fail with os.ErrClosed.
func (j *Journal) Close() error {
	j.writing.Lock()
	defer j.writing.Unlock()
	j.mu.Lock()
	again := j.closed
	j.closed = true
	j.mu.Unlock()
	if again {
		return nil
	}

	close(j.done)
	var errs []error
	if j.file != nil {
		errs = append(errs, j.trim(), j.file.Sync(), j.file.Close())
	}
	errs = append(errs, j.lock.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("journal: close: %w", err)
	}
	return nil
}

// Backlog implements ports.JournalReader.
func (j *Journal) Backlog() (events int, oldest time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.waiting == 0 {
		return 0, time.Time{}
	}
	return j.waiting, j.oldest
}
