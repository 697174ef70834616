package journal

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// restore finds the segments that former processes left, mends them, and forgets those that are drained.
func (j *Journal) restore() error {
	cursor, err := j.loadCursor()
	if err != nil {
		return err
	}
	if err := j.takeBack(cursor); err != nil {
		return err
	}
	if err := j.countAside(); err != nil {
		return err
	}
	segments, last, err := j.findSegments()
	if err != nil {
		return err
	}
	j.last = max(last, cursor.Segment)
	j.drained = cursor
	for _, s := range segments {
		from := int64(0)
		if s.number == cursor.Segment {
			from = cursor.Offset
		}
		if err := j.scan(s, from); err != nil {
			return err
		}
		if s.number < cursor.Segment || from >= s.size {
			j.dispose(s)
			continue
		}
		j.segments = append(j.segments, s)
		j.waiting += s.left
		j.bytes += s.size - from
	}
	if j.waiting > 0 {
		j.lookUpOldest()
	}
	return nil
}

// scan reads a whole segment, counts the events from the offset on, and cuts off a torn record at the end.
// Only checksums are looked at: decoding a full journal would take longer than a start may.
func (j *Journal) scan(s *segment, from int64) error {
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	l := &j.lines
	l.reset(f)
	for {
		line, size, err := l.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			if torn := bytes.TrimRight(line, "\x00"); len(torn) > 0 {
				j.log.Warn("a journal segment ended in a torn record, which was cut off", "segment", s.path, "bytes", len(torn))
			}
			return f.Truncate(s.size)
		}
		if err != nil {
			return err
		}
		start := s.size
		s.size += size
		if _, err := payloadOf(line); err != nil {
			j.markCorrupt(s, err)
			continue
		}
		if start >= from {
			s.left++
		}
	}
}
