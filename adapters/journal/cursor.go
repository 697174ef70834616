package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	cursorFile = "cursor"
	maxSegment = 999_999_999_999 // the last one whose name sorts behind those before it
)

var errNoPosition = errors.New("it is no position in a journal")

// loadCursor returns how far the journal was drained. Without a cursor that can be read it is the beginning:
// events may come twice, which their ids tell, but none is left out.
func (j *Journal) loadCursor() (position, error) {
	var p position
	content, err := os.ReadFile(filepath.Join(j.dir, cursorFile))
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	line, _ := bytes.CutSuffix(content, []byte("\n"))
	err = decodeRecord(line, &p)
	if err == nil && (p.Segment > maxSegment || p.Offset < 0) { // no segment would come after it
		err = errNoPosition
	}
	if err != nil {
		j.log.Warn("the journal's cursor cannot be read; its events are drained once more", "err", err)
		return position{}, nil
	}
	return p, nil
}

// saveCursor replaces the cursor. It is not flushed to disk, because an older one does no harm.
func (j *Journal) saveCursor(p position) error {
	payload, err := json.Marshal(p)
	if err != nil {
		return err
	}
	record := append([]byte(unsealed), payload...)
	seal(record)
	record = append(record, '\n')
	path := filepath.Join(j.dir, cursorFile)
	if err := os.WriteFile(path+".tmp", record, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}
