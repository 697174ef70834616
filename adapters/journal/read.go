package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// passage is what one Next went past.
type passage struct {
	to     position
	inLast int // events of the segment that it ended in
}

// unread is a segment with how much of it may be read.
type unread struct {
	*segment
	size int64
}

// Next implements ports.JournalReader. It returns no events when it went past nothing but records that cannot be read.
func (j *Journal) Next(ctx context.Context, limit int) ([]domain.Event, error) {
	j.passed = passage{}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		from, segments, waiting, closed := j.snapshot()
		if closed {
			return nil, fmt.Errorf("journal: next: %w", os.ErrClosed)
		}
		events, passed, err := j.read(from, segments, max(limit, 1), waiting)
		if err != nil {
			return nil, fmt.Errorf("journal: next: %w", err)
		}
		if len(events) > 0 {
			j.passed = passed
			return events, nil
		}
		if passed.to != from { // past records that cannot be read, and nothing else
			j.passed = passed
			return nil, j.Commit()
		}
		select {
		case <-ctx.Done():
		case <-j.wake:
		case <-j.done:
		}
	}
}

// snapshot is what there is to be read.
func (j *Journal) snapshot() (from position, segments []unread, waiting int, closed bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.segments {
		segments = append(segments, unread{s, s.size})
	}
	return j.drained, segments, j.waiting, j.closed
}

// read returns up to limit of the events that follow from, and how far it went. waiting is how many those should be.
func (j *Journal) read(from position, segments []unread, limit, waiting int) ([]domain.Event, passage, error) {
	events := make([]domain.Event, 0, min(limit, waiting))
	passed := passage{to: from}
	for _, s := range segments {
		if s.number < from.Segment {
			continue
		}
		start := int64(0)
		if s.number == from.Segment {
			start = from.Offset
		}
		if start >= s.size {
			continue
		}
		before := len(events)
		end, err := j.readSegment(s, start, func(e domain.Event) bool {
			events = append(events, e)
			return len(events) < limit
		})
		if err != nil {
			return nil, passage{}, err
		}
		passed = passage{to: position{s.number, end}, inLast: len(events) - before}
		if len(events) == limit {
			break
		}
	}
	return events, passed, nil
}

// readSegment hands the events from start on to yield until it returns false, and returns where it stopped.
// What cannot be read is skipped.
func (j *Journal) readSegment(s unread, start int64, yield func(domain.Event) bool) (end int64, err error) {
	f, err := os.Open(s.path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	l := &j.lines
	l.reset(io.NewSectionReader(f, start, s.size-start))
	for end = start; ; {
		line, size, err := l.next()
		end += size
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return s.size, nil // which is end, unless the file was cut meanwhile
		}
		if err != nil {
			return 0, err
		}
		e, err := decodeEvent(line, &j.seen)
		if err != nil {
			j.markCorrupt(s.segment, err)
			continue
		}
		if !yield(e) {
			return end, nil
		}
	}
}

// markCorrupt logs the first record of a segment that cannot be read.
func (j *Journal) markCorrupt(s *segment, err error) {
	if !s.corrupt {
		j.log.Error("a journal segment has records that cannot be read; it will be kept aside", "segment", s.path, "err", err)
	}
	s.corrupt = true
}

// Commit implements ports.JournalReader. It does without a cursor that cannot be written: on a full disk only the segments
// that it removes make room, and an older cursor merely repeats events.
func (j *Journal) Commit() error {
	passed := j.passed
	if passed == (passage{}) {
		return nil
	}
	j.passed = passage{}
	err := j.saveCursor(passed.to)
	if err != nil && !j.cursorLags {
		j.log.Warn("the journal's cursor cannot be written; until it can, a restart drains events once more", "err", err)
	}
	j.cursorLags = err != nil

	drained, waiting := j.advance(passed)
	for _, s := range drained {
		j.dispose(s)
	}
	if waiting {
		j.lookUpOldest()
	}
	return nil
}

// advance moves the start of what waits, and returns the segments that are done with.
func (j *Journal) advance(passed passage) (drained []*segment, waiting bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.drained = passed.to
	j.waiting, j.bytes = 0, 0
	kept := make([]*segment, 0, len(j.segments))
	for _, s := range j.segments {
		offset := int64(0)
		switch {
		case s.number < passed.to.Segment:
			s.left, offset = 0, s.size
		case s.number == passed.to.Segment:
			s.left, offset = s.left-passed.inLast, passed.to.Offset
		}
		if offset >= s.size {
			s.left = 0 // events that could not be read any more were counted, too
			if s != j.current {
				drained = append(drained, s)
				continue
			}
		}
		kept = append(kept, s)
		j.waiting += s.left
		j.bytes += s.size - offset
	}
	j.segments = kept
	return drained, j.waiting > 0
}

// lookUpOldest finds out when the first of the waiting events was recorded. When that cannot be read, it is as old as the
// one before it, or as this start.
func (j *Journal) lookUpOldest() {
	from, segments, _, _ := j.snapshot()
	events, _, err := j.read(from, segments, 1, 1)
	if err != nil {
		j.log.Warn("the oldest event of the journal cannot be read", "err", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(events) == 1 {
		j.oldest = events[0].RecordedAt
	} else if j.oldest.IsZero() {
		j.oldest = time.Now().UTC().Truncate(time.Microsecond)
	}
}
