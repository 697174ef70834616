package postgres

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

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

const (
	ensureBatch   = 1000        // rows that go to the server before its answers are read
	ensureTimeout = time.Minute // more than other calls get: the first start writes the whole catalog
)

// EnsureMetadata implements ports.Metadata. Rows that are as they should be are not touched, and so not locked: of
// replicas that start together with one catalog, none waits for another.
func (s *Store) EnsureMetadata(ctx context.Context, rows []domain.Metadata, event func(domain.SecretType) domain.Event) error {
	// In one order on every replica, whatever its catalog's, so that they cannot block each other for good.
	rows = slices.SortedFunc(slices.Values(rows), func(a, b domain.Metadata) int { return cmp.Compare(a.Type, b.Type) })
	return s.writeWithin(ctx, ensureTimeout, "ensure metadata", func(ctx context.Context, tx pgx.Tx) error {
		stored, err := tx.Query(ctx, listMetadata)
		if err != nil {
			return err
		}
		have := make(map[domain.SecretType]domain.Metadata, len(rows))
		var m domain.Metadata
		for stored.Next() {
			if err := scanMetadata(stored, &m); err != nil {
				return err
			}
			have[m.Type] = m
		}
		if err := stored.Err(); err != nil {
			return err
		}
		rows = slices.DeleteFunc(rows, func(want domain.Metadata) bool { return described(have[want.Type], want) })
		for some := range slices.Chunk(rows, ensureBatch) {
			if err := ensureSome(ctx, tx, some, event); err != nil {
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

// ensureSome sends the rows together, and then what follows of those that changed: a round trip each would make the
// start of a large catalog as slow as the network.
func ensureSome(ctx context.Context, tx pgx.Tx, rows []domain.Metadata, event func(domain.SecretType) domain.Event) error {
	ensuring, following := new(pgx.Batch), new(pgx.Batch)
	var events []domain.Event
	for _, m := range rows {
		ensuring.Queue(ensureMetadata,
			m.Type, m.Environment, m.Backend, m.GCPSecretID, m.GCPVersionAlias, m.Status,
			timestamp(m.RotationDueAt), timestamp(m.LastRotatedAt), timestamp(m.LastValidatedAt), m.Owner,
			timestamp(m.BreakGlassEnabledUntil), m.CacheSource, text(m.CacheVersion),
			text(m.NewestVersion), text(m.PinnedVersion), timestamp(m.CreatedAt), timestamp(m.UpdatedAt),
		).Exec(func(changed pgconn.CommandTag) error {
			if changed.RowsAffected() == 0 {
				return nil // another replica was faster
			}
			following.Queue(abandonRotation, timestamp(m.UpdatedAt), domain.Automation.ID, m.Type)
			events = append(events, event(m.Type))
			return nil
		})
	}
	if err := tx.SendBatch(ctx, ensuring).Close(); err != nil {
		return err
	}
	if err := tx.SendBatch(ctx, following).Close(); err != nil {
		return err
	}
	return insertNewEvents(ctx, tx, events...)
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
SET cache_source = $1, cache_version = $2, last_validated_at = coalesce($3, last_validated_at),
    newest_version = CASE WHEN (backend, gcp_secret_id, gcp_version_alias) = ($4, $5, $6) THEN coalesce(newest_version, $7) ELSE newest_version END,
    updated_at = $8
WHERE secret_type = $9`

// RecordServed implements ports.Metadata.
func (s *Store) RecordServed(ctx context.Context, accounts []domain.Account) error {
	accounts = slices.SortedFunc(slices.Values(accounts), func(a, b domain.Account) int { return cmp.Compare(a.Type, b.Type) }) // as in EnsureMetadata
	return s.write(ctx, "record what is served", func(ctx context.Context, tx pgx.Tx) error {
		now, all := timestamp(time.Now()), new(pgx.Batch)
		for _, a := range accounts {
			all.Queue(recordServed, a.Source, text(a.Version), timestamp(a.ValidatedAt),
				a.Origin.Backend, a.Origin.Reference, a.Origin.Version, text(a.First), now, a.Type)
		}
		return tx.SendBatch(ctx, all).Close()
	})
}
