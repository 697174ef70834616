package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

// One apply at a time for each secret, so that each sees the override that it replaces.
const lockType = `SELECT pg_advisory_xact_lock($1::int, hashtext($2))`

const selectDigest = `SELECT EXISTS (SELECT FROM omni_break_glass_overrides WHERE envelope_digest = $1)`

// digestOnce is the constraint that holds when two replicas apply one envelope together.
const digestOnce = "omni_break_glass_overrides_digest"

const insertOverride = `
INSERT INTO omni_break_glass_overrides (
    id, secret_type, envelope_version, envelope, envelope_digest, expires_at, expires_at_text, reason,
    applied_by, applied_by_type, applied_at, request_id, replica_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`

const markApplied = `
UPDATE omni_secret_metadata
SET break_glass_enabled_until = $1, cache_source = 'break_glass', updated_at = $2
WHERE secret_type = $3`

// ApplyOverride implements ports.Overrides.
func (s *Store) ApplyOverride(ctx context.Context, o domain.Override, event domain.Event, ended func(domain.Override) domain.Event) error {
	return s.write(ctx, "apply override", func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockType, lockOverrides, o.Envelope.Type); err != nil {
			return err
		}
		var seen bool
		if err := tx.QueryRow(ctx, selectDigest, o.Digest).Scan(&seen); err != nil {
			return err
		}
		if seen {
			return ports.ErrReplay
		}
		events, err := replaceOpen(ctx, tx, o.Envelope.Type, ended)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, insertOverride,
			o.ID, o.Envelope.Type, o.EnvelopeKind, o.Envelope.Ciphertext, o.Digest, timestamp(o.ExpiresAt),
			o.Envelope.ExpiresAt, text(o.Reason), storable(o.AppliedBy.ID), o.AppliedBy.Type, timestamp(o.AppliedAt),
			text(event.RequestID), text(event.ReplicaID))
		if violates(err, digestOnce) {
			return ports.ErrReplay
		}
		if err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, openFollowUp, o.ID, o.Envelope.Type, timestamp(o.AppliedAt)); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, markApplied, timestamp(o.ExpiresAt), timestamp(event.RecordedAt), o.Envelope.Type)
		if err != nil {
			return err
		}
		if err := insertNewEvents(ctx, tx, append(events, event)...); err != nil {
			return err
		}
		return notify(ctx, tx, changedOverrides)
	})
}

const selectOpenOfType = selectOpen + ` AND secret_type = $1`

// replaceOpen ends the open override of t, if there is one, and returns the event that is to be stored for that.
func replaceOpen(ctx context.Context, tx pgx.Tx, t domain.SecretType, ended func(domain.Override) domain.Event) ([]domain.Event, error) {
	var former domain.Override
	err := scanOverride(tx.QueryRow(ctx, selectOpenOfType+` FOR UPDATE`, t), &former)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	former.Envelope.Ciphertext = ""
	event := ended(former)
	if done, err := endOpen(ctx, tx, former.ID, domain.EndReplaced, event); err != nil || !done {
		return nil, err
	}
	return []domain.Event{event}, nil
}

// EndOverride implements ports.Overrides.
func (s *Store) EndOverride(ctx context.Context, id string, end domain.OverrideEnd, event domain.Event) (bool, error) {
	ended := false
	err := s.write(ctx, "end override", func(ctx context.Context, tx pgx.Tx) (err error) {
		if ended, err = endOpen(ctx, tx, id, end, event); err != nil || !ended {
			return err
		}
		if err := insertNewEvents(ctx, tx, event); err != nil {
			return err
		}
		return notify(ctx, tx, changedOverrides)
	})
	return ended && err == nil, err
}

const endOverride = `
UPDATE omni_break_glass_overrides
SET envelope = NULL, ended_at = $1, end_cause = $2, ended_by = $3
WHERE id = $4 AND ended_at IS NULL
RETURNING secret_type`

const markEnded = `
UPDATE omni_secret_metadata
SET break_glass_enabled_until = NULL, updated_at = $1
WHERE secret_type = $2`

// endOpen ends an override unless it has ended already. The event is yet to be stored.
func endOpen(ctx context.Context, tx pgx.Tx, id string, end domain.OverrideEnd, event domain.Event) (bool, error) {
	var t domain.SecretType
	err := tx.QueryRow(ctx, endOverride, timestamp(event.RecordedAt), end, storable(event.Actor.ID), id).Scan(&t)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if _, err := tx.Exec(ctx, markEnded, timestamp(event.RecordedAt), t); err != nil {
		return false, err
	}
	return true, nil
}

const selectOpen = `
SELECT id, secret_type, envelope_version, envelope, envelope_digest, expires_at, expires_at_text, reason,
       applied_by, applied_by_type, applied_at
FROM omni_break_glass_overrides
WHERE ended_at IS NULL`

// OpenOverrides implements ports.Overrides. They are ordered by type.
func (s *Store) OpenOverrides(ctx context.Context) ([]domain.Override, error) {
	return read(ctx, s, "list open overrides", scanOverride, selectOpen+` ORDER BY secret_type`)
}

const findOverride = `SELECT ended_at IS NULL FROM omni_break_glass_overrides WHERE id = $1`

// FindOverride implements ports.Overrides.
func (s *Store) FindOverride(ctx context.Context, id string) (known, open bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.pace.call)
	defer cancel()
	err = s.pool.QueryRow(ctx, findOverride, id).Scan(&open)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("postgres: find an override: %w", explain(err))
	}
	return true, open, nil
}

func scanOverride(row pgx.Row, o *domain.Override) error {
	return row.Scan(&o.ID, &o.Envelope.Type, &o.EnvelopeKind, &o.Envelope.Ciphertext, &o.Digest,
		(*timestamp)(&o.ExpiresAt), &o.Envelope.ExpiresAt, (*text)(&o.Reason),
		&o.AppliedBy.ID, &o.AppliedBy.Type, (*timestamp)(&o.AppliedAt))
}
