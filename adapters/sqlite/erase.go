package sqlite

import (
	"context"
	"time"
)

// eraseWithin bounds how long erase waits for readers. They read for milliseconds; only somebody else's long
// transaction takes longer, and must not stop our writes.
const eraseWithin = 250 * time.Millisecond

const emptyWAL = `PRAGMA wal_checkpoint(TRUNCATE)`

// erase empties the WAL when it may still hold ciphertext that was erased. secure_delete overwrites it in the
// database file as soon as the WAL is folded in, but the WAL itself keeps the older pages until then. While
// a reader stands in the way, it is left for the next write.
func (s *Store) erase(ctx context.Context) {
	if !s.remnant.Load() {
		return
	}
	// What is to be erased was committed, whatever became of the caller since.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), eraseWithin)
	defer cancel()
	s.remnant.Store(false) // before the checkpoint: one that ends meanwhile sets it again
	var busy, pages, folded int
	if err := s.writer.QueryRowContext(ctx, emptyWAL).Scan(&busy, &pages, &folded); err != nil || busy != 0 {
		s.remnant.Store(true)
	}
}
