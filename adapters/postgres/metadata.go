package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// It touches the descriptive columns alone, and only rows in which one of them differs.
const ensureMetadata = `
INSERT INTO omni_secret_metadata AS m (
    secret_type, environment, backend, gcp_secret_id, gcp_version_alias, status, rotation_due_at, last_rotated_at,
    last_validated_at, owner, break_glass_enabled_until, cache_source, cache_version, newest_version, pinned_version,
    created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
ON CONFLICT (secret_type) DO UPDATE SET
    environment       = excluded.environment,
    backend           = excluded.backend,
    gcp_secret_id     = excluded.gcp_secret_id,
    gcp_version_alias = excluded.gcp_version_alias,
    owner             = excluded.owner,
    status            = CASE WHEN (m.backend, m.gcp_secret_id, m.gcp_version_alias) = (excluded.backend, excluded.gcp_secret_id, excluded.gcp_version_alias) OR m.status <> 'rotating' THEN m.status ELSE 'active' END,
    newest_version    = CASE WHEN (m.backend, m.gcp_secret_id, m.gcp_version_alias) = (excluded.backend, excluded.gcp_secret_id, excluded.gcp_version_alias) THEN m.newest_version END,
    pinned_version    = CASE WHEN (m.backend, m.gcp_secret_id, m.gcp_version_alias) = (excluded.backend, excluded.gcp_secret_id, excluded.gcp_version_alias) THEN m.pinned_version END,
    updated_at        = excluded.updated_at
WHERE (m.environment, m.backend, m.gcp_secret_id, m.gcp_version_alias, m.owner) IS DISTINCT FROM
      (excluded.environment, excluded.backend, excluded.gcp_secret_id, excluded.gcp_version_alias, excluded.owner)`

// What a rotation that is in progress decides about is not this secret any more.
const abandonRotation = `
UPDATE omni_secret_rotations
SET ended_at = $1, outcome = 'aborted', ended_by = $2
WHERE secret_type = $3 AND ended_at IS NULL
  AND EXISTS (SELECT FROM omni_secret_metadata WHERE secret_type = $3 AND status <> 'rotating')`

// EnsureMetadata implements ports.Metadata.
func (s *Store) EnsureMetadata(ctx context.Context, rows []domain.Metadata, event func(domain.SecretType) domain.Event) error {
	// In one order on every replica, whatever its catalog's, so that they cannot block each other for good.
	rows = slices.SortedFunc(slices.Values(rows), func(a, b domain.Metadata) int { return cmp.Compare(a.Type, b.Type) })
	return s.write(ctx, "ensure metadata", func(ctx context.Context, tx pgx.Tx) error {
		for _, m := range rows {
			changed, err := tx.Exec(ctx, ensureMetadata,
				m.Type, m.Environment, m.Backend, m.GCPSecretID, m.GCPVersionAlias, m.Status,
				timestamp(m.RotationDueAt), timestamp(m.LastRotatedAt), timestamp(m.LastValidatedAt), m.Owner,
				timestamp(m.BreakGlassEnabledUntil), m.CacheSource, text(m.CacheVersion),
				text(m.NewestVersion), text(m.PinnedVersion), timestamp(m.CreatedAt), timestamp(m.UpdatedAt))
			if err != nil {
				return fmt.Errorf("%s: %w", m.Type, err)
			}
			if changed.RowsAffected() == 0 {
				continue
			}
			if _, err := tx.Exec(ctx, abandonRotation, timestamp(m.UpdatedAt), domain.Automation.ID, m.Type); err != nil {
				return fmt.Errorf("%s: %w", m.Type, err)
			}
			if err := insertNewEvent(ctx, tx, event(m.Type)); err != nil {
				return err
			}
		}
		return nil
	})
}

const listMetadata = `
SELECT secret_type, environment, backend, gcp_secret_id, gcp_version_alias, status, rotation_due_at, last_rotated_at,
       last_validated_at, owner, break_glass_enabled_until, cache_source, cache_version, newest_version, pinned_version,
       created_at, updated_at
FROM omni_secret_metadata
ORDER BY secret_type`

// ListMetadata implements ports.Metadata.
func (s *Store) ListMetadata(ctx context.Context) ([]domain.Metadata, error) {
	return read(ctx, s, "list metadata", scanMetadata, listMetadata)
}

func scanMetadata(row pgx.Row, m *domain.Metadata) error {
	return row.Scan(&m.Type, &m.Environment, &m.Backend, &m.GCPSecretID, &m.GCPVersionAlias, &m.Status,
		(*timestamp)(&m.RotationDueAt), (*timestamp)(&m.LastRotatedAt), (*timestamp)(&m.LastValidatedAt), &m.Owner,
		(*timestamp)(&m.BreakGlassEnabledUntil), &m.CacheSource, (*text)(&m.CacheVersion),
		(*text)(&m.NewestVersion), (*text)(&m.PinnedVersion), (*timestamp)(&m.CreatedAt), (*timestamp)(&m.UpdatedAt))
}

const recordServed = `
UPDATE omni_secret_metadata
SET cache_source = $1, cache_version = $2, last_validated_at = coalesce($3, last_validated_at), updated_at = $4
WHERE secret_type = $5`

// RecordServed implements ports.Metadata.
func (s *Store) RecordServed(ctx context.Context, t domain.SecretType, source, version string, validated time.Time) error {
	return s.write(ctx, "record what is served", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, recordServed, source, text(version), timestamp(validated), timestamp(time.Now()), t)
		return err
	})
}
