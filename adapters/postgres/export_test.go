package postgres

import (
	"testing"
	"time"
)

// WithPace changes how often Watch polls and Lead tries and checks.
func (s *Store) WithPace(poll, lead time.Duration) *Store {
	s.pace.poll, s.pace.lead = poll, lead
	return s
}

// WithCallTimeout changes how long a call may take.
func (s *Store) WithCallTimeout(d time.Duration) *Store {
	s.pace.call = d
	return s
}

// EventQuery is the query of a page of audit events.
var EventQuery = eventQuery

// Setting is a setting of the sessions in the pool.
func Setting(t *testing.T, s *Store, name string) string {
	t.Helper()
	var value string
	if err := s.pool.QueryRow(t.Context(), "SHOW "+name).Scan(&value); err != nil {
		t.Fatalf("SHOW %s: %v", name, err)
	}
	return value
}
