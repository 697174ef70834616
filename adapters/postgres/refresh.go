package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// One transaction at a time, so that two of them do not wait for each other's secrets, and numbers are committed in their
// order: replicas of earlier versions look for those above the last one that they saw.
const lockRequesting = `SELECT pg_advisory_xact_lock($1, $2)`

const requestRefresh = `
INSERT INTO omni_secret_refresh_requests (secret_type, replica_id, seq, requested_at)
SELECT secret_type, $2, nextval('omni_secret_refresh_requests_seq'), clock_timestamp()
FROM (SELECT DISTINCT unnest($1::text[]) AS secret_type) AS requested
ON CONFLICT (secret_type) DO UPDATE SET
    replica_id   = excluded.replica_id,
    seq          = excluded.seq,
    requested_at = excluded.requested_at`

// RequestRefresh implements ports.Replicas.
func (s *Store) RequestRefresh(ctx context.Context, types []domain.SecretType, replicaID string) error {
	if len(types) == 0 {
		return nil
	}
	return s.write(ctx, "request refresh", func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockRequesting, lockOmni, lockRequests); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, requestRefresh, types, replicaID); err != nil {
			return err
		}
		return notify(ctx, tx, changedRequests)
	})
}

const refreshRequests = `
SELECT secret_type, replica_id, seq
FROM omni_secret_refresh_requests
ORDER BY secret_type`

// RefreshRequests implements ports.Replicas. They are ordered by type.
func (s *Store) RefreshRequests(ctx context.Context) ([]domain.RefreshRequest, error) {
	return read(ctx, s, "list refresh requests", func(row pgx.Row, r *domain.RefreshRequest) error {
		return row.Scan(&r.Type, &r.ReplicaID, &r.Seq)
	}, refreshRequests)
}
