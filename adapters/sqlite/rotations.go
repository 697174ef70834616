package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const selectStanding = `
SELECT status, coalesce(newest_version, ''), backend, gcp_secret_id, gcp_version_alias
FROM omni_secret_metadata
WHERE secret_type = ?`

// A deadline that counts from a later rotation stays.
const setStanding = `
UPDATE omni_secret_metadata
SET status          = ?1,
    newest_version  = ?2,
    pinned_version  = ?3,
    last_rotated_at = CASE WHEN ?4 < last_rotated_at THEN last_rotated_at ELSE coalesce(?4, last_rotated_at) END,
    rotation_due_at = CASE WHEN ?4 < last_rotated_at THEN rotation_due_at ELSE coalesce(?5, rotation_due_at) END,
    updated_at      = ?6
WHERE secret_type = ?7`

const insertRotation = `
INSERT INTO omni_secret_rotations (id, secret_type, from_version, to_version, begun_by, begun_by_type, begun_at)
VALUES (?, ?, ?, ?, ?, ?, ?)`

// BeginRotation implements ports.Rotations.
func (s *Store) BeginRotation(ctx context.Context, r domain.Rotation, newest string, next domain.Standing, event domain.Event) (bool, error) {
	return s.step(ctx, "begin the rotation", func(tx *sql.Tx) (bool, error) {
		now, err := standing(ctx, tx, r.Type)
		if err != nil || now.Status != domain.RotationActive || now.Newest != newest || now.Origin != next.Origin {
			return false, err
		}
		_, err = tx.ExecContext(ctx, insertRotation, r.ID, r.Type, text(r.From), r.To, r.BegunBy.ID, r.BegunBy.Type, timestamp(r.BegunAt))
		if err != nil {
			return false, err
		}
		return true, stand(ctx, tx, next, domain.Rotated{}, event)
	})
}

const endRotation = `
UPDATE omni_secret_rotations
SET ended_at = ?, outcome = ?, ended_by = ?
WHERE id = ? AND ended_at IS NULL`

// EndRotation implements ports.Rotations.
func (s *Store) EndRotation(ctx context.Context, id string, end domain.RotationEnd, next domain.Standing, rotated domain.Rotated, event domain.Event) (bool, error) {
	return s.step(ctx, "end the rotation", func(tx *sql.Tx) (bool, error) {
		ended, err := changes(tx.ExecContext(ctx, endRotation, timestamp(event.RecordedAt), end, event.Actor.ID, id))
		if err != nil || !ended {
			return false, err
		}
		return true, stand(ctx, tx, next, rotated, event)
	})
}

// RecordRotation implements ports.Rotations.
func (s *Store) RecordRotation(ctx context.Context, newest string, next domain.Standing, rotated domain.Rotated, event domain.Event) (bool, error) {
	return s.step(ctx, "record the rotation", func(tx *sql.Tx) (bool, error) {
		now, err := standing(ctx, tx, next.Type)
		if err != nil || now.Status == domain.RotationRotating || now.Status != next.Status || now.Newest != newest || now.Origin != next.Origin {
			return false, err
		}
		return true, stand(ctx, tx, next, rotated, event)
	})
}

// step is one transaction that reports whether it did anything.
func (s *Store) step(ctx context.Context, doing string, f func(tx *sql.Tx) (bool, error)) (bool, error) {
	taken := false
	err := s.write(ctx, doing, func(tx *sql.Tx) (err error) {
		taken, err = f(tx)
		return err
	})
	return taken && err == nil, err
}

// changes reports whether a statement changed a row.
func changes(result sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// standing is how the secret stands; its status is "" when it has no row.
func standing(ctx context.Context, tx *sql.Tx, t domain.SecretType) (now domain.Standing, err error) {
	err = tx.QueryRowContext(ctx, selectStanding, t).Scan(&now.Status, &now.Newest, &now.Origin.Backend, &now.Origin.Reference, &now.Origin.Version)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return now, err
}

// stand makes next the secret's standing and stores the event; a rotation that counts closes follow-ups as well.
func stand(ctx context.Context, tx *sql.Tx, next domain.Standing, rotated domain.Rotated, event domain.Event) error {
	_, err := tx.ExecContext(ctx, setStanding, next.Status, text(next.Newest), text(next.Pinned),
		timestamp(rotated.At), timestamp(rotated.DueAt), timestamp(event.RecordedAt), next.Type)
	if err != nil {
		return err
	}
	if !rotated.At.IsZero() {
		if err := closeRotated(ctx, tx, next.Type, rotated, event); err != nil {
			return err
		}
	}
	return insertNewEvent(ctx, tx, event)
}

const listStandings = `
SELECT m.secret_type, m.backend, m.gcp_secret_id, m.gcp_version_alias, m.status, m.newest_version, m.pinned_version,
       r.id, r.from_version, r.to_version, r.begun_by, r.begun_by_type, r.begun_at
FROM omni_secret_metadata m
LEFT JOIN omni_secret_rotations r ON r.secret_type = m.secret_type AND r.ended_at IS NULL
ORDER BY m.secret_type`

// Standings implements ports.Rotations. They are ordered by type.
func (s *Store) Standings(ctx context.Context) ([]domain.Standing, error) {
	rows, err := s.readers.QueryContext(ctx, listStandings)
	if err != nil {
		return nil, fmt.Errorf("sqlite: list standings: %w", explain(err))
	}
	all, err := collect(rows, func(st *domain.Standing) error {
		r := &st.Rotation
		err := rows.Scan(&st.Type, &st.Origin.Backend, &st.Origin.Reference, &st.Origin.Version, &st.Status, (*text)(&st.Newest), (*text)(&st.Pinned),
			(*text)(&r.ID), (*text)(&r.From), (*text)(&r.To), (*text)(&r.BegunBy.ID), (*text)(&r.BegunBy.Type), (*timestamp)(&r.BegunAt))
		if r.ID != "" {
			r.Type = st.Type
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sqlite: list standings: %w", explain(err))
	}
	return all, nil
}
