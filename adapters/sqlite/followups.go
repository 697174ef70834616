package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const openFollowUp = `
INSERT INTO omni_break_glass_follow_ups (override_id, secret_type, opened_at)
VALUES (?, ?, ?)`

const listFollowUps = `
SELECT f.override_id, f.secret_type, f.opened_at, o.applied_by, o.applied_by_type, o.reason
FROM omni_break_glass_follow_ups f
JOIN omni_break_glass_overrides o ON o.id = f.override_id
WHERE f.closed_at IS NULL
ORDER BY f.opened_at, f.override_id`

// OpenFollowUps implements ports.FollowUps.
func (s *Store) OpenFollowUps(ctx context.Context) ([]domain.FollowUp, error) {
	rows, err := s.readers.QueryContext(ctx, listFollowUps)
	if err != nil {
		return nil, fmt.Errorf("sqlite: list open follow-ups: %w", explain(err))
	}
	open, err := collect(rows, func(f *domain.FollowUp) error {
		return rows.Scan(&f.OverrideID, &f.Type, (*timestamp)(&f.OpenedAt), &f.AppliedBy.ID, &f.AppliedBy.Type, (*text)(&f.Reason))
	})
	if err != nil {
		return nil, fmt.Errorf("sqlite: list open follow-ups: %w", explain(err))
	}
	return open, nil
}

const waiveFollowUp = `
UPDATE omni_break_glass_follow_ups
SET closed_at = ?, outcome = 'waived', closed_by = ?, closed_by_type = ?, closed_reason = ?
WHERE override_id = ? AND closed_at IS NULL`

// CloseFollowUp implements ports.FollowUps.
func (s *Store) CloseFollowUp(ctx context.Context, overrideID, reason string, event domain.Event) (bool, error) {
	return s.step(ctx, "close the follow-up", func(tx *sql.Tx) (bool, error) {
		closed, err := changes(tx.ExecContext(ctx, waiveFollowUp, timestamp(event.RecordedAt), event.Actor.ID, event.Actor.Type, text(reason), overrideID))
		if err != nil || !closed {
			return false, err
		}
		return true, insertNewEvent(ctx, tx, event)
	})
}

const closeFollowUps = `
UPDATE omni_break_glass_follow_ups
SET closed_at = ?, outcome = 'rotated', closed_by = ?, closed_by_type = ?, closed_reason = 'version ' || ?
WHERE secret_type = ? AND closed_at IS NULL AND opened_at <= ?`

// closeRotated closes what a rotation settles.
func closeRotated(ctx context.Context, tx *sql.Tx, t domain.SecretType, rotated domain.Rotated, event domain.Event) error {
	_, err := tx.ExecContext(ctx, closeFollowUps, timestamp(event.RecordedAt), event.Actor.ID, event.Actor.Type,
		text(event.Version), t, timestamp(rotated.At))
	return err
}
