package ports

import (
	"context"
	"errors"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// ErrJournalFull refuses an event because the journal has reached its size limit.
var ErrJournalFull = errors.New("the audit journal is full")

// ErrEventRejected says that a store will never take an event as it is: it refused what is in it.
var ErrEventRejected = errors.New("the database refuses the content of an audit event")

// AuditJournal takes audit events before the action that they record is answered.
type AuditJournal interface {
	// Append returns once e outlives the death of this process, or fails and leaves no trace of e. Concurrent
	// calls share the cost. It never waits for a database. Safe for concurrent use.
	Append(ctx context.Context, e domain.Event) error
}

// JournalReader is the other end of the journal. It has one user.
type JournalReader interface {
	// Next waits until there is at least one event that was not committed, and returns up to limit of them in
	// the order of their Append. Calling it again without Commit returns the same events again. It may return none,
	// where it went past some that cannot be read.
	Next(ctx context.Context, limit int) ([]domain.Event, error)

	// Commit forgets the events that the last Next returned. After a crash, events that were already committed
	// may be returned once more; none is ever left out.
	Commit() error

	// Backlog is how many events wait to be committed, and when the oldest of them was recorded (zero when
	// none waits). Safe for concurrent use.
	Backlog() (events int, oldest time.Time)

	// SetAside keeps events of the last Next where Next does not return them again, for somebody to look into. They
	// outlive a power cut when it returns. They are to be committed after it, and may be set aside twice when a
	// crash comes between.
	SetAside(events []domain.Event) error

	// Usage is how full the journal is. Safe for concurrent use.
	Usage() JournalUsage
}

// JournalUsage is how full a journal is.
type JournalUsage struct {
	Bytes    int64 // of events that wait or were set aside
	Limit    int64 // Append refuses from here on; 0 for never
	SetAside int   // events
}

// AuditStore keeps audit events for auditors. Safe for concurrent use.
type AuditStore interface {
	// InsertEvents stores the events that are not stored yet, told by their ids, in one transaction. ErrEventRejected
	// when the content of one of them is refused, and would be again; never because the store is away, full, read-only
	// or not migrated.
	InsertEvents(ctx context.Context, events []domain.Event) error

	// ListEvents returns a page of events, the last stored first.
	ListEvents(ctx context.Context, f domain.EventFilter) (domain.EventPage, error)

	// PruneEvents deletes events recorded before the given time, which must be domain.AuditRetention ago or
	// more, and returns how many there were. An implementation that deletes in larger pieces may keep some of
	// them up to a week longer.
	PruneEvents(ctx context.Context, before time.Time) (int64, error)
}

// AuditChains is the tamper evidence of an AuditStore. Every event that is stored, alone or with a change of state, is
// linked in the same transaction to the event that was stored before it of the same ReplicaID; an event that is stored
// already takes no second link. Safe for concurrent use.
type AuditChains interface {
	// ChainHeads returns where each chain ends, ordered by replica.
	ChainHeads(ctx context.Context) ([]domain.ChainHead, error)

	// AddCheckpoints stores those of places that have none yet.
	AddCheckpoints(ctx context.Context, checkpoints []domain.Checkpoint) error

	// Checkpoints returns all that are stored, by chain and place.
	Checkpoints(ctx context.Context) ([]domain.Checkpoint, error)

	// LastCheckpoints returns the last one of each chain.
	LastCheckpoints(ctx context.Context) ([]domain.Checkpoint, error)

	// ChainMarks returns where the runs of pruned events end.
	ChainMarks(ctx context.Context) ([]domain.ChainMark, error)

	// LinkedEvents returns up to limit rows of the trail with numbers above after, in the order of the numbers. A row
	// that this program would not have written is told as such; it is no error.
	LinkedEvents(ctx context.Context, after int64, limit int) ([]domain.LinkedEvent, error)

	// EventRows is the lowest and the highest number of a row; 0 and 0 when there is none.
	EventRows(ctx context.Context) (first, last int64, err error)
}
