package journal

import (
	"os"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// For the tests of the record format.
var (
	AppendEvent      = appendEvent
	DecodeOtherEvent = decodeOtherEvent
)

func DecodeEvent(line []byte) (domain.Event, error) { return decodeEvent(line, new(interned)) }

func ParseEvent(payload []byte) (domain.Event, bool) { return parseEvent(payload, new(interned)) }

// Seal makes a record of any JSON.
func Seal(payload string) []byte {
	record := []byte(unsealed + payload)
	seal(record)
	return append(record, '\n')
}

// HoldWrites stands for a write that takes until release.
func HoldWrites(j *Journal) (release func()) {
	j.writing.Lock()
	return j.writing.Unlock
}

// Joined is how many events are in the batch that is open.
func Joined(j *Journal) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.batch == nil {
		return 0
	}
	return j.batch.events
}

// ReplaceSegment makes Append write to another file, and returns the one before.
func ReplaceSegment(j *Journal, f *os.File) (before *os.File) {
	j.writing.Lock()
	defer j.writing.Unlock()
	before, j.file = j.file, f
	return before
}
