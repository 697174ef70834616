package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const openFollowUp = `
INSERT INTO omni_break_glass_follow_ups (override_id, secret_type, opened_at)
VALUES ($1, $2, $3)`

const listFollowUps = `
SELECT f.override_id, f.secret_type, f.opened_at, o.applied_by, o.applied_by_type, o.reason
FROM omni_break_glass_follow_ups f
JOIN omni_break_glass_overrides o ON o.id = f.override_id
WHERE f.closed_at IS NULL
ORDER BY f.opened_at, f.override_id`

// OpenFollowUps implements ports.FollowUps.
func (s *Store) OpenFollowUps(ctx context.Context) ([]domain.FollowUp, error) {
	return read(ctx, s, "list open follow-ups", func(row pgx.Row, f *domain.FollowUp) error {
		return row.Scan(&f.OverrideID, &f.Type, (*timestamp)(&f.OpenedAt), &f.AppliedBy.ID, &f.AppliedBy.Type, (*text)(&f.Reason))
	}, listFollowUps)
}

const waiveFollowUp = `
UPDATE omni_break_glass_follow_ups
SET closed_at = $1, outcome = 'waived', closed_by = $2, closed_by_type = $3, closed_reason = $4
WHERE override_id = $5 AND closed_at IS NULL`

// CloseFollowUp implements ports.FollowUps.
func (s *Store) CloseFollowUp(ctx context.Context, overrideID, reason string, event domain.Event) (bool, error) {
	return s.step(ctx, "close the follow-up", func(ctx context.Context, tx pgx.Tx) (bool, error) {
		closed, err := tx.Exec(ctx, waiveFollowUp, timestamp(event.RecordedAt), storable(event.Actor.ID), event.Actor.Type, text(reason), overrideID)
		if err != nil || closed.RowsAffected() == 0 {
			return false, err
		}
		return true, insertNewEvents(ctx, tx, event)
	})
}

const closeFollowUps = `
UPDATE omni_break_glass_follow_ups
SET closed_at = $1, outcome = 'rotated', closed_by = $2, closed_by_type = $3, closed_reason = 'version ' || $4::text
WHERE secret_type = $5 AND closed_at IS NULL AND opened_at <= $6`

// closeRotated closes what a rotation settles.
func closeRotated(ctx context.Context, tx pgx.Tx, t domain.SecretType, rotated domain.Rotated, event domain.Event) error {
	_, err := tx.Exec(ctx, closeFollowUps, timestamp(event.RecordedAt), storable(event.Actor.ID), event.Actor.Type,
		text(event.Version), t, timestamp(rotated.At))
	return err
}
