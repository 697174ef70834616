package sqlite

import "testing"

// WriterPragma is a setting of the connection that writes.
func WriterPragma(t *testing.T, s *Store, name string) string {
	t.Helper()
	var value string
	if err := s.writer.QueryRowContext(t.Context(), "PRAGMA "+name).Scan(&value); err != nil {
		t.Fatalf("PRAGMA %s: %v", name, err)
	}
	return value
}

// EventQuery is the query of a page of audit events.
var EventQuery = eventQuery
