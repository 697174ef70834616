package memory

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// Journal implements ports.AuditJournal and ports.JournalReader. It does not outlive the process.
type Journal struct {
	mu       sync.Mutex
	outage   outage
	events   []domain.Event // appended, oldest first
	drained  int            // how many of them were committed
	returned int            // how many of the rest the last Next returned
	aside    []domain.Event // set aside
	grown    chan struct{}  // closed at the next Append
}

var (
	_ ports.AuditJournal  = (*Journal)(nil)
	_ ports.JournalReader = (*Journal)(nil)
)

// NewJournal returns an empty Journal.
func NewJournal() *Journal { return &Journal{grown: make(chan struct{})} }

// FailWith makes every Append return err and store nothing, until FailWith(nil).
func (j *Journal) FailWith(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.outage.err = err
}

// Events returns every event that was appended, committed or not, the oldest first.
func (j *Journal) Events() []domain.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.events)
}

// Append implements ports.AuditJournal.
func (j *Journal) Append(ctx context.Context, e domain.Event) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.outage.check(ctx); err != nil {
		return err
	}
	e.RecordedAt = stored(e.RecordedAt)
	j.events = append(j.events, e)
	close(j.grown)
	j.grown = make(chan struct{})
	return nil
}

// Next implements ports.JournalReader.
func (j *Journal) Next(ctx context.Context, limit int) ([]domain.Event, error) {
	for {
		events, grown := j.waiting(limit)
		if len(events) > 0 {
			return events, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-grown:
		}
	}
}

func (j *Journal) waiting(limit int) ([]domain.Event, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	rest := j.events[j.drained:]
	rest = rest[:min(len(rest), limit)]
	j.returned = len(rest)
	return slices.Clone(rest), j.grown
}

// Commit implements ports.JournalReader.
func (j *Journal) Commit() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.drained += j.returned
	j.returned = 0
	return nil
}

// Backlog implements ports.JournalReader.
func (j *Journal) Backlog() (events int, oldest time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	rest := j.events[j.drained:]
	if len(rest) == 0 {
		return 0, time.Time{}
	}
	return len(rest), rest[0].RecordedAt
}

// SetAside implements ports.JournalReader.
func (j *Journal) SetAside(events []domain.Event) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.aside = append(j.aside, events...)
	return nil
}

// Aside returns the events that were set aside.
func (j *Journal) Aside() []domain.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.aside)
}

// Usage implements ports.JournalReader. There is no limit, and an event has no size.
func (j *Journal) Usage() ports.JournalUsage {
	j.mu.Lock()
	defer j.mu.Unlock()
	return ports.JournalUsage{SetAside: len(j.aside)}
}
