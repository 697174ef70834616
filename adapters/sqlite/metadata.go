package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// It touches the descriptive columns alone, and only rows in which one of them differs.
const ensureMetadata = `
INSERT INTO omni_secret_metadata (
    secret_type, environment, backend, gcp_secret_id, gcp_version_alias, status, rotation_due_at, last_rotated_at,
    last_validated_at, owner, break_glass_enabled_until, cache_source, cache_version, newest_version, pinned_version,
    created_at, updated_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (secret_type) DO UPDATE SET
    environment       = excluded.environment,
    backend           = excluded.backend,
    gcp_secret_id     = excluded.gcp_secret_id,
    gcp_version_alias = excluded.gcp_version_alias,
    owner             = excluded.owner,
    status            = CASE WHEN (backend, gcp_secret_id, gcp_version_alias) = (excluded.backend, excluded.gcp_secret_id, excluded.gcp_version_alias) OR status <> 'rotating' THEN status ELSE 'active' END,
    newest_version    = CASE WHEN (backend, gcp_secret_id, gcp_version_alias) = (excluded.backend, excluded.gcp_secret_id, excluded.gcp_version_alias) THEN newest_version END,
    pinned_version    = CASE WHEN (backend, gcp_secret_id, gcp_version_alias) = (excluded.backend, excluded.gcp_secret_id, excluded.gcp_version_alias) THEN pinned_version END,
    updated_at        = excluded.updated_at
WHERE (environment, backend, gcp_secret_id, gcp_version_alias, owner) IS NOT
      (excluded.environment, excluded.backend, excluded.gcp_secret_id, excluded.gcp_version_alias, excluded.owner)`

// What a rotation that is in progress decides about is not this secret any more.
const abandonRotation = `
UPDATE omni_secret_rotations
SET ended_at = ?, outcome = 'aborted', ended_by = ?
WHERE secret_type = ? AND ended_at IS NULL
  AND secret_type IN (SELECT secret_type FROM omni_secret_metadata WHERE status <> 'rotating')`

// EnsureMetadata implements ports.Metadata.
func (s *Store) EnsureMetadata(ctx context.Context, rows []domain.Metadata, event func(domain.SecretType) domain.Event) error {
	return s.write(ctx, "ensure metadata", func(tx *sql.Tx) error {
		stored, err := scanMetadata(tx.QueryContext(ctx, listMetadata))
		if err != nil {
			return err
		}
		have := make(map[domain.SecretType]domain.Metadata, len(stored))
		for _, m := range stored {
			have[m.Type] = m
		}
		ensure, err := tx.PrepareContext(ctx, ensureMetadata)
		if err != nil {
			return err
		}
		defer ensure.Close()
		for _, m := range rows {
			former, known := have[m.Type]
			if described(former, m) {
				continue
			}
			_, err := ensure.ExecContext(ctx,
				m.Type, m.Environment, m.Backend, m.GCPSecretID, m.GCPVersionAlias, m.Status,
				timestamp(m.RotationDueAt), timestamp(m.LastRotatedAt), timestamp(m.LastValidatedAt), m.Owner,
				timestamp(m.BreakGlassEnabledUntil), m.CacheSource, text(m.CacheVersion),
				text(m.NewestVersion), text(m.PinnedVersion), timestamp(m.CreatedAt), timestamp(m.UpdatedAt))
			if err == nil && known {
				_, err = tx.ExecContext(ctx, abandonRotation, timestamp(m.UpdatedAt), domain.Automation.ID, m.Type)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", m.Type, err)
			}
			if err := insertNewEvent(ctx, tx, event(m.Type)); err != nil {
				return err
			}
		}
		return nil
	})
}

// described reports whether ensureMetadata would change nothing.
func described(have, want domain.Metadata) bool {
	return have.Type == want.Type && have.Environment == want.Environment && have.Backend == want.Backend &&
		have.GCPSecretID == want.GCPSecretID && have.GCPVersionAlias == want.GCPVersionAlias && have.Owner == want.Owner
}

const listMetadata = `
SELECT secret_type, environment, backend, gcp_secret_id, gcp_version_alias, status, rotation_due_at, last_rotated_at,
       last_validated_at, owner, break_glass_enabled_until, cache_source, cache_version, newest_version, pinned_version,
       created_at, updated_at
FROM omni_secret_metadata
ORDER BY secret_type`

// ListMetadata implements ports.Metadata.
func (s *Store) ListMetadata(ctx context.Context) ([]domain.Metadata, error) {
	all, err := scanMetadata(s.readers.QueryContext(ctx, listMetadata))
	if err != nil {
		return nil, fmt.Errorf("sqlite: list metadata: %w", explain(err))
	}
	return all, nil
}

func scanMetadata(rows *sql.Rows, err error) ([]domain.Metadata, error) {
	if err != nil {
		return nil, err
	}
	return collect(rows, func(m *domain.Metadata) error {
		return rows.Scan(&m.Type, &m.Environment, &m.Backend, &m.GCPSecretID, &m.GCPVersionAlias, &m.Status,
			(*timestamp)(&m.RotationDueAt), (*timestamp)(&m.LastRotatedAt), (*timestamp)(&m.LastValidatedAt), &m.Owner,
			(*timestamp)(&m.BreakGlassEnabledUntil), &m.CacheSource, (*text)(&m.CacheVersion),
			(*text)(&m.NewestVersion), (*text)(&m.PinnedVersion), (*timestamp)(&m.CreatedAt), (*timestamp)(&m.UpdatedAt))
	})
}

const recordServed = `
UPDATE omni_secret_metadata
SET cache_source = ?, cache_version = ?, last_validated_at = coalesce(?, last_validated_at),
    newest_version = CASE WHEN (backend, gcp_secret_id, gcp_version_alias) = (?, ?, ?) THEN coalesce(newest_version, ?) ELSE newest_version END,
    updated_at = ?
WHERE secret_type = ?`

// RecordServed implements ports.Metadata.
func (s *Store) RecordServed(ctx context.Context, accounts []domain.Account) error {
	defer s.erase(ctx)
	return s.write(ctx, "record what is served", func(tx *sql.Tx) error {
		record, err := tx.PrepareContext(ctx, recordServed)
		if err != nil {
			return err
		}
		defer record.Close()
		now := timestamp(time.Now())
		for _, a := range accounts {
			_, err := record.ExecContext(ctx, a.Source, text(a.Version), timestamp(a.ValidatedAt),
				a.Origin.Backend, a.Origin.Reference, a.Origin.Version, text(a.First), now, a.Type)
			if err != nil {
				return fmt.Errorf("%s: %w", a.Type, err)
			}
		}
		return nil
	})
}
