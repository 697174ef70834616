package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// Whoever changes a secret's standing takes its row first, so that steps come one after the other.
const lockStanding = `
SELECT status, coalesce(newest_version, ''), backend, gcp_secret_id, gcp_version_alias
FROM omni_secret_metadata
WHERE secret_type = $1
FOR UPDATE`

// A deadline that counts from a later rotation stays.
const setStanding = `
UPDATE omni_secret_metadata
SET status          = $1,
    newest_version  = $2,
    pinned_version  = $3,
    last_rotated_at = CASE WHEN $4 < last_rotated_at THEN last_rotated_at ELSE coalesce($4, last_rotated_at) END,
    rotation_due_at = CASE WHEN $4 < last_rotated_at THEN rotation_due_at ELSE coalesce($5, rotation_due_at) END,
    updated_at      = $6
WHERE secret_type = $7`

const insertRotation = `
INSERT INTO omni_secret_rotations (id, secret_type, from_version, to_version, begun_by, begun_by_type, begun_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)`

// BeginRotation implements ports.Rotations.
func (s *Store) BeginRotation(ctx context.Context, r domain.Rotation, newest string, next domain.Standing, event domain.Event) (bool, error) {
	return s.step(ctx, "begin the rotation", func(ctx context.Context, tx pgx.Tx) (bool, error) {
		now, err := standing(ctx, tx, r.Type)
		if err != nil || now.Status != domain.RotationActive || now.Newest != newest || now.Origin != next.Origin {
			return false, err
		}
		_, err = tx.Exec(ctx, insertRotation, r.ID, r.Type, text(r.From), r.To, storable(r.BegunBy.ID), r.BegunBy.Type, timestamp(r.BegunAt))
		if err != nil {
			return false, err
		}
		return true, stand(ctx, tx, next, domain.Rotated{}, event)
	})
}

const endRotation = `
UPDATE omni_secret_rotations
SET ended_at = $1, outcome = $2, ended_by = $3
WHERE id = $4 AND ended_at IS NULL`

// EndRotation implements ports.Rotations.
func (s *Store) EndRotation(ctx context.Context, id string, end domain.RotationEnd, next domain.Standing, rotated domain.Rotated, event domain.Event) (bool, error) {
	return s.step(ctx, "end the rotation", func(ctx context.Context, tx pgx.Tx) (bool, error) {
		if _, err := standing(ctx, tx, next.Type); err != nil {
			return false, err
		}
		ended, err := tx.Exec(ctx, endRotation, timestamp(event.RecordedAt), end, storable(event.Actor.ID), id)
		if err != nil || ended.RowsAffected() == 0 {
			return false, err
		}
		return true, stand(ctx, tx, next, rotated, event)
	})
}

// RecordRotation implements ports.Rotations.
func (s *Store) RecordRotation(ctx context.Context, newest string, next domain.Standing, rotated domain.Rotated, event domain.Event) (bool, error) {
	return s.step(ctx, "record the rotation", func(ctx context.Context, tx pgx.Tx) (bool, error) {
		now, err := standing(ctx, tx, next.Type)
		if err != nil || now.Status == domain.RotationRotating || now.Status != next.Status || now.Newest != newest || now.Origin != next.Origin {
			return false, err
		}
		return true, stand(ctx, tx, next, rotated, event)
	})
}

// step is one transaction, and tells every replica if it reports true.
func (s *Store) step(ctx context.Context, doing string, f func(ctx context.Context, tx pgx.Tx) (bool, error)) (bool, error) {
	taken := false
	err := s.write(ctx, doing, func(ctx context.Context, tx pgx.Tx) (err error) {
		if taken, err = f(ctx, tx); err != nil || !taken {
			return err
		}
		return notify(ctx, tx, changedRotations)
	})
	return taken && err == nil, err
}

// standing locks the secret's row; its status is "" when there is none.
func standing(ctx context.Context, tx pgx.Tx, t domain.SecretType) (now domain.Standing, err error) {
	err = tx.QueryRow(ctx, lockStanding, t).Scan(&now.Status, &now.Newest, &now.Origin.Backend, &now.Origin.Reference, &now.Origin.Version)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return now, err
}

// stand makes next the secret's standing and stores the event; a rotation that counts closes follow-ups as well.
func stand(ctx context.Context, tx pgx.Tx, next domain.Standing, rotated domain.Rotated, event domain.Event) error {
	_, err := tx.Exec(ctx, setStanding, next.Status, text(next.Newest), text(next.Pinned),
		timestamp(rotated.At), timestamp(rotated.DueAt), timestamp(event.RecordedAt), next.Type)
	if err != nil {
		return err
	}
	if !rotated.At.IsZero() {
		if err := closeRotated(ctx, tx, next.Type, rotated, event); err != nil {
			return err
		}
	}
	return insertNewEvents(ctx, tx, event)
}

const listStandings = `
SELECT m.secret_type, m.backend, m.gcp_secret_id, m.gcp_version_alias, m.status, m.newest_version, m.pinned_version,
       r.id, r.from_version, r.to_version, r.begun_by, r.begun_by_type, r.begun_at
FROM omni_secret_metadata m
LEFT JOIN omni_secret_rotations r ON r.secret_type = m.secret_type AND r.ended_at IS NULL
ORDER BY m.secret_type`

// Standings implements ports.Rotations. They are ordered by type.
func (s *Store) Standings(ctx context.Context) ([]domain.Standing, error) {
	return read(ctx, s, "list standings", scanStanding, listStandings)
}

func scanStanding(row pgx.Row, st *domain.Standing) error {
	r := &st.Rotation
	err := row.Scan(&st.Type, &st.Origin.Backend, &st.Origin.Reference, &st.Origin.Version, &st.Status, (*text)(&st.Newest), (*text)(&st.Pinned),
		(*text)(&r.ID), (*text)(&r.From), (*text)(&r.To), (*text)(&r.BegunBy.ID), (*text)(&r.BegunBy.Type), (*timestamp)(&r.BegunAt))
	if r.ID != "" {
		r.Type = st.Type
	}
	return err
}
