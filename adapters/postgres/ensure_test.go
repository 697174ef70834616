package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/apex-tradebill/omni-secrets/adapters/postgres/postgrestest"
	"github.com/apex-tradebill/omni-secrets/domain"
)

func rowsOf(n int) []domain.Metadata {
	rows := make([]domain.Metadata, n)
	for i := range rows {
		rows[i] = domain.NewMetadata(domain.Entry{
			Type: domain.SecretType(fmt.Sprintf("secret_%d", i)), Backend: "gsm", Reference: fmt.Sprintf("projects/p/secrets/secret-%d", i),
			Version: domain.LatestVersion, Owner: "Security Engineering", RotationMonths: 12,
		}, "staging", time.Now())
	}
	return rows
}

// writeEvents numbers an event for each row.
func writeEvents(first uint64) func(domain.SecretType) domain.Event {
	return func(t domain.SecretType) domain.Event {
		first++
		e := event(first, time.Now())
		e.Type, e.Action = t, domain.ActionWriteMetadata
		return e
	}
}

// Replicas with one catalog start together, and while secrets are in use: a start that changes nothing waits for nobody.
func TestEnsureMetadataWaitsForNobodyWhenNothingChanged(t *testing.T) {
	url := postgrestest.Database(t)
	s := open(t, url)
	rows := rowsOf(ensureBatchAndMore)
	if err := s.EnsureMetadata(t.Context(), rows, writeEvents(0)); err != nil {
		t.Fatal(err)
	}
	other, err := raw(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec(t.Context(), `SELECT FROM omni_secret_metadata FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	if err := s.EnsureMetadata(t.Context(), rows, func(t domain.SecretType) domain.Event { panic("an event of " + t) }); err != nil {
		t.Errorf("EnsureMetadata while another transaction has the rows: %v", err)
	}
	if err := other.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	db := raw(t, url)
	if n := one[int](t, db, `SELECT count(*) FROM omni_secret_metadata`); n != len(rows) {
		t.Errorf("%d rows, want %d", n, len(rows))
	}
	if n := one[int](t, db, `SELECT count(DISTINCT secret_type) FROM omni_secret_access_events`); n != len(rows) {
		t.Errorf("events of %d rows, want %d", n, len(rows))
	}
}

const ensureBatchAndMore = 1001
