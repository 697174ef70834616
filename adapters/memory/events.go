package memory

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

type storedEvent struct {
	row int64
	domain.Event
	link domain.ChainHead
}

// Events returns every stored event, the first stored first.
func (s *Store) Events() []domain.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	events := make([]domain.Event, len(s.events))
	for i, e := range s.events {
		events[i] = e.Event
	}
	return events
}

// InsertEvents implements ports.AuditStore.
func (s *Store) InsertEvents(ctx context.Context, events []domain.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.outage.check(ctx); err != nil {
		return err
	}
	for _, e := range events {
		if !slices.Contains(domain.Actions, e.Action) { // as the CHECK of a real table
			return fmt.Errorf("memory: action %q: %w", e.Action, ports.ErrEventRejected)
		}
	}
	for _, e := range events {
		if !s.eventIDs[e.ID] {
			s.insert(e)
		}
	}
	return nil
}

// ListEvents implements ports.AuditStore.
func (s *Store) ListEvents(ctx context.Context, f domain.EventFilter) (domain.EventPage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.outage.check(ctx); err != nil {
		return domain.EventPage{}, err
	}
	limit := min(f.Limit, domain.MaxEventPage)
	if limit <= 0 {
		limit = domain.DefaultEventPage
	}

	var page domain.EventPage
	var last int64
	for _, e := range slices.Backward(s.events) {
		if !selects(f, e) {
			continue
		}
		if len(page.Events) == limit {
			page.Next = last
			break
		}
		page.Events = append(page.Events, e.Event)
		last = e.row
	}
	return page, nil
}

func selects(f domain.EventFilter, e storedEvent) bool {
	return (f.Type == "" || f.Type == e.Type) &&
		(f.Action == "" || f.Action == e.Action) &&
		(f.ActorID == "" || f.ActorID == e.Actor.ID) &&
		(f.Result == "" || f.Result == e.Result) &&
		(f.Since.IsZero() || !e.RecordedAt.Before(f.Since)) &&
		(f.Until.IsZero() || e.RecordedAt.Before(f.Until)) &&
		(f.Before == 0 || e.row < f.Before)
}

// PruneEvents implements ports.AuditStore.
func (s *Store) PruneEvents(ctx context.Context, before time.Time) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.outage.check(ctx); err != nil {
		return 0, err
	}
	if limit := time.Now().Add(-domain.AuditRetention); before.After(limit) {
		return 0, fmt.Errorf("memory: prune audit events before %v: events since %v must be kept", before, limit)
	}

	kept := len(s.events)
	s.events = slices.DeleteFunc(s.events, func(e storedEvent) bool {
		prune := e.RecordedAt.Before(before)
		if prune {
			delete(s.eventIDs, e.ID)
			s.mark(e.link)
		}
		return prune
	})
	return int64(kept - len(s.events)), nil
}

// checkNew fails when one of the events is stored already, or twice among them.
func (s *Store) checkNew(events ...domain.Event) error {
	seen := make(map[domain.EventID]bool, len(events))
	for _, e := range events {
		if s.eventIDs[e.ID] || seen[e.ID] {
			return fmt.Errorf("memory: audit event %v is stored already", e.ID)
		}
		seen[e.ID] = true
	}
	return nil
}

func (s *Store) insert(events ...domain.Event) {
	for _, e := range events {
		e.RecordedAt = stored(e.RecordedAt)
		s.lastRow++
		s.events = append(s.events, storedEvent{row: s.lastRow, Event: e, link: s.link(&e)})
		s.eventIDs[e.ID] = true
	}
}
