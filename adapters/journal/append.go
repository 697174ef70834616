package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// batch is what is written by one write(2).
type batch struct {
	records []byte
	events  int
	oldest  time.Time // of its first event
	members atomic.Int32
	written sync.WaitGroup // for one: the write
	err     error          // of the write; to be read after it
}

// maxIdleBuffer bounds the buffers that are kept for later.
const maxIdleBuffer = 1 << 20

// Append implements ports.AuditJournal. ctx is heeded only before the event is part of a batch: from there on
// it may reach the disk.
func (j *Journal) Append(ctx context.Context, e domain.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b, first, err := j.join(&e)
	if err != nil {
		return fmt.Errorf("journal: append: %w", err)
	}
	if first {
		j.writeBatch(b)
	} else {
		b.written.Wait()
	}
	err = b.err
	j.leave(b)
	if err != nil {
		return fmt.Errorf("journal: append: %w", err)
	}
	return nil
}

// join puts e into the open batch and reports whether it is the first there, which has to write it.
func (j *Journal) join(e *domain.Event) (b *batch, first bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, false, os.ErrClosed
	}
	if j.bytes+j.aside.bytes+j.reserved >= j.maxBytes {
		return nil, false, ports.ErrJournalFull
	}

	if b, first = j.batch, j.batch == nil; first {
		b = j.newBatch()
		b.oldest = e.RecordedAt
		j.batch = b
	}
	before := len(b.records)
	b.records = appendEvent(b.records, e)
	b.events++
	b.members.Add(1)
	j.reserved += int64(len(b.records) - before)
	return b, first, nil
}

func (j *Journal) newBatch() *batch {
	var b *batch
	if n := len(j.free); n > 0 {
		b, j.free = j.free[n-1], j.free[:n-1]
	} else {
		b = new(batch)
	}
	b.written.Add(1)
	return b
}

// leave gives the batch back once everybody in it has seen how it ended.
func (j *Journal) leave(b *batch) {
	if b.members.Add(-1) > 0 || cap(b.records) > maxIdleBuffer {
		return
	}
	b.records, b.events, b.err = b.records[:0], 0, nil
	j.mu.Lock()
	defer j.mu.Unlock()
	j.free = append(j.free, b)
}

// writeBatch waits for the batch before, closes b for others, writes it and wakes its members. Before, it lets run who is
// ready to: on busy processors those are mostly others with an event, who then join rather than write for themselves.
func (j *Journal) writeBatch(b *batch) {
	runtime.Gosched()
	j.writing.Lock()
	j.mu.Lock()
	j.batch = nil
	closed := j.closed
	j.mu.Unlock()

	if closed {
		b.err = os.ErrClosed
	} else {
		b.err = j.write(b.records)
		if b.err != nil && j.dropDrained() {
			b.err = j.write(b.records)
		}
	}
	j.account(b)
	j.writing.Unlock()
	b.written.Done()
}

// write puts records at the end of the current segment, or of a new one when that is full. When it fails, the
// segment is as it was before, or is made so before anything else is written to it.
func (j *Journal) write(records []byte) error {
	if j.torn {
		if err := j.cutTorn(); err != nil {
			return err
		}
	}
	if size := j.currentSize(); j.file == nil || size > 0 && size+int64(len(records)) > j.segmentBytes {
		if err := j.nextSegment(); err != nil {
			return err
		}
	}
	if err := j.put(records); err != nil {
		j.torn = true
		return errors.Join(err, j.cutTorn())
	}
	return nil
}

func (j *Journal) put(records []byte) error {
	size := j.currentSize()
	if !j.sync {
		_, err := j.file.WriteAt(records, size)
		return err
	}
	if err := j.fill(size + int64(len(records))); err != nil {
		return err
	}
	if _, err := j.file.WriteAt(records, size); err != nil {
		return err
	}
	return syncData(j.file)
}

// fillAhead is how far a segment is filled with zeros before its records are written.
const fillAhead = 1 << 20

// fill makes the current segment at least size bytes long, with zeros that records overwrite. A flush then writes
// records and nothing else, while one after a write that makes the file longer writes the file system's own journal, too,
// and takes twice as long.
func (j *Journal) fill(size int64) error {
	if size <= j.filled {
		return nil
	}
	size = max(size, min(j.filled+fillAhead, j.segmentBytes))
	if _, err := j.file.WriteAt(make([]byte, size-j.filled), j.filled); err != nil {
		return err
	}
	if err := j.file.Sync(); err != nil {
		return err
	}
	j.filled = size
	return nil
}

// account makes a written batch visible to the reader.
func (j *Journal) account(b *batch) {
	size := int64(len(b.records))
	j.mu.Lock()
	defer j.mu.Unlock()
	j.reserved -= size
	if b.err != nil {
		return
	}
	j.current.size += size
	j.current.left += b.events
	if j.waiting == 0 {
		j.oldest = b.oldest.UTC().Truncate(time.Microsecond)
	}
	j.waiting += b.events
	j.bytes += size
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

func (j *Journal) currentSize() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.current == nil {
		return 0
	}
	return j.current.size
}

// cutTorn cuts off what a failed batch may have left at the end of the current segment.
func (j *Journal) cutTorn() error {
	if err := j.trim(); err != nil {
		return err
	}
	j.torn = false
	return nil
}

// trim cuts off what is behind the records of the current segment.
func (j *Journal) trim() error {
	size := j.currentSize()
	if err := j.file.Truncate(size); err != nil {
		return err
	}
	j.filled = size
	return nil
}

// dropDrained removes the current segment if all of it was committed, and reports whether it did: on a full disk that
// may be the only room there is, and the drain leaves this segment alone.
func (j *Journal) dropDrained() bool {
	j.mu.Lock()
	s := j.current
	if s == nil || j.drained != (position{s.number, s.size}) {
		j.mu.Unlock()
		return false
	}
	j.segments, j.current = nil, nil // those before it are gone: they were drained first
	j.mu.Unlock()
	if err := j.file.Close(); err != nil {
		j.log.Warn("a drained journal segment could not be closed", "segment", s.path, "err", err)
	}
	j.file, j.filled, j.torn = nil, 0, false
	j.dispose(s)
	return true
}

// nextSegment begins a new segment. While it fails, the old one stays.
func (j *Journal) nextSegment() error {
	j.last++
	path := j.segmentPath(j.last)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if j.sync {
		if err := syncDir(j.dir); err != nil {
			return errors.Join(err, f.Close(), os.Remove(path))
		}
	}
	if j.file != nil {
		if err := errors.Join(j.trim(), j.file.Close()); err != nil {
			j.log.Warn("a full journal segment could not be closed", "err", err)
		}
	}
	j.file, j.filled = f, 0
	j.mu.Lock()
	defer j.mu.Unlock()
	j.current = &segment{number: j.last, path: path}
	j.segments = append(j.segments, j.current)
	return nil
}

// syncDir makes the names in dir outlive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
