package journal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	segmentPrefix = "events-"
	segmentSuffix = ".log"
	corruptSuffix = ".corrupt" // after segmentSuffix
)

// segment is one file of events.
type segment struct {
	number uint64
	path   string

	// Guarded by Journal.mu.
	size int64 // of the records that were written completely
	left int   // events in it that were not committed

	corrupt bool // it has records that cannot be read; for the reader alone, until it is drained
}

// position is a place between two records.
type position struct {
	Segment uint64 `json:"segment"`
	Offset  int64  `json:"offset"`
}

func (j *Journal) segmentPath(number uint64) string {
	return filepath.Join(j.dir, fmt.Sprintf("%s%012d%s", segmentPrefix, number, segmentSuffix))
}

// findSegments lists the segments in the directory, oldest first, and the highest number there is, segments
// that were set aside included.
func (j *Journal) findSegments() (segments []*segment, last uint64, err error) {
	entries, err := os.ReadDir(j.dir)
	if err != nil {
		return nil, 0, err
	}
	for _, entry := range entries {
		name, corrupt := strings.CutSuffix(entry.Name(), corruptSuffix)
		name, isSegment := strings.CutSuffix(name, segmentSuffix)
		digits, hasPrefix := strings.CutPrefix(name, segmentPrefix)
		number, err := strconv.ParseUint(digits, 10, 64)
		if !isSegment || !hasPrefix || err != nil {
			continue
		}
		last = max(last, number)
		if !corrupt {
			segments = append(segments, &segment{number: number, path: filepath.Join(j.dir, entry.Name())})
		}
	}
	slices.SortFunc(segments, func(a, b *segment) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	return segments, last, nil
}

// dispose removes a segment that is drained. One with records that could not be read is set aside for whoever
// looks into it. Failing is no harm: the cursor is past the segment, and the next start tries again.
func (j *Journal) dispose(s *segment) {
	var err error
	if s.corrupt {
		err = os.Rename(s.path, s.path+corruptSuffix)
	} else {
		err = os.Remove(s.path)
	}
	if err != nil {
		j.log.Warn("a drained journal segment could not be removed", "segment", s.path, "err", err)
	}
}

// lines reads the lines of a segment. The zero value is to be reset first.
type lines struct {
	r    *bufio.Reader
	long []byte // a line that does not fit into r's buffer
}

// reset begins with another segment, in the same buffer.
func (l *lines) reset(r io.Reader) {
	if cap(l.long) > maxIdleBuffer {
		l.long = nil
	}
	if l.r == nil {
		l.r = bufio.NewReaderSize(r, 64<<10)
		return
	}
	l.r.Reset(r)
}

// next returns the next line without its line feed, valid until the following call, and how many bytes it
// takes in the file. After the last line comes io.EOF; what is left of a line without an end comes with io.ErrUnexpectedEOF.
func (l *lines) next() (line []byte, size int64, err error) {
	l.long = l.long[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			l.long = append(l.long, part...)
			continue
		}
		if len(l.long) > 0 {
			l.long = append(l.long, part...)
			part = l.long
		}
		if errors.Is(err, io.EOF) && len(part) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return part, int64(len(part)), err
		}
		return part[:len(part)-1], int64(len(part)), nil
	}
}
