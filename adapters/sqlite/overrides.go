package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
)

const selectDigest = `SELECT EXISTS (SELECT 1 FROM omni_break_glass_overrides WHERE envelope_digest = ?)`

const insertOverride = `
INSERT INTO omni_break_glass_overrides (
    id, secret_type, envelope_version, envelope, envelope_digest, expires_at, expires_at_text, reason,
    applied_by, applied_by_type, applied_at, request_id, replica_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

const markApplied = `
UPDATE omni_secret_metadata
SET break_glass_enabled_until = ?, cache_source = 'break_glass', updated_at = ?
WHERE secret_type = ?`

// ApplyOverride implements ports.Overrides.
func (s *Store) ApplyOverride(ctx context.Context, o domain.Override, event domain.Event, ended func(domain.Override) domain.Event) error {
	replaced := false
	err := s.write(ctx, "apply override", func(tx *sql.Tx) error {
		var seen bool
		if err := tx.QueryRowContext(ctx, selectDigest, o.Digest).Scan(&seen); err != nil {
			return err
		}
		if seen {
			return ports.ErrReplay
		}
		var err error
		if replaced, err = replaceOpen(ctx, tx, o.Envelope.Type, ended); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, insertOverride,
			o.ID, o.Envelope.Type, o.EnvelopeKind, o.Envelope.Ciphertext, o.Digest, timestamp(o.ExpiresAt),
			o.Envelope.ExpiresAt, text(o.Reason), o.AppliedBy.ID, o.AppliedBy.Type, timestamp(o.AppliedAt),
			text(event.RequestID), text(event.ReplicaID))
		if err != nil {
			return err
		}
		if _, err = tx.ExecContext(ctx, openFollowUp, o.ID, o.Envelope.Type, timestamp(o.AppliedAt)); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, markApplied, timestamp(o.ExpiresAt), timestamp(event.RecordedAt), o.Envelope.Type)
		if err != nil {
			return err
		}
		return insertNewEvent(ctx, tx, event)
	})
	if err == nil && replaced {
		s.remnant.Store(true)
	}
	s.erase(ctx)
	return err
}

const selectOpenOfType = selectOpen + ` AND secret_type = ?`

// replaceOpen ends the open override of t, if there is one, and reports whether there was.
func replaceOpen(ctx context.Context, tx *sql.Tx, t domain.SecretType, ended func(domain.Override) domain.Event) (bool, error) {
	var former domain.Override
	err := scanOverride(tx.QueryRowContext(ctx, selectOpenOfType, t), &former)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	former.Envelope.Ciphertext = ""
	_, err = endOpen(ctx, tx, former.ID, domain.EndReplaced, ended(former))
	return err == nil, err
}

// EndOverride implements ports.Overrides.
func (s *Store) EndOverride(ctx context.Context, id string, end domain.OverrideEnd, event domain.Event) (bool, error) {
	ended := false
	err := s.write(ctx, "end override", func(tx *sql.Tx) (err error) {
		ended, err = endOpen(ctx, tx, id, end, event)
		return err
	})
	if err != nil {
		return false, err
	}
	if ended {
		s.remnant.Store(true)
	}
	s.erase(ctx)
	return ended, nil
}

const endOverride = `
UPDATE omni_break_glass_overrides
SET envelope = NULL, ended_at = ?, end_cause = ?, ended_by = ?
WHERE id = ? AND ended_at IS NULL
RETURNING secret_type`

const markEnded = `
UPDATE omni_secret_metadata
SET break_glass_enabled_until = NULL, updated_at = ?
WHERE secret_type = ?`

// endOpen ends an override and stores the event, unless it has ended already.
func endOpen(ctx context.Context, tx *sql.Tx, id string, end domain.OverrideEnd, event domain.Event) (bool, error) {
	var t domain.SecretType
	err := tx.QueryRowContext(ctx, endOverride, timestamp(event.RecordedAt), end, event.Actor.ID, id).Scan(&t)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if _, err := tx.ExecContext(ctx, markEnded, timestamp(event.RecordedAt), t); err != nil {
		return false, err
	}
	if err := insertNewEvent(ctx, tx, event); err != nil {
		return false, err
	}
	return true, nil
}

const selectOpen = `
SELECT id, secret_type, envelope_version, envelope, envelope_digest, expires_at, expires_at_text, reason,
       applied_by, applied_by_type, applied_at
FROM omni_break_glass_overrides
WHERE ended_at IS NULL`

// OpenOverrides implements ports.Overrides.
func (s *Store) OpenOverrides(ctx context.Context) ([]domain.Override, error) {
	rows, err := s.readers.QueryContext(ctx, selectOpen+` ORDER BY secret_type`)
	if err != nil {
		return nil, fmt.Errorf("sqlite: list open overrides: %w", explain(err))
	}
	open, err := collect(rows, func(o *domain.Override) error { return scanOverride(rows, o) })
	if err != nil {
		return nil, fmt.Errorf("sqlite: list open overrides: %w", explain(err))
	}
	return open, nil
}

const findOverride = `SELECT ended_at IS NULL FROM omni_break_glass_overrides WHERE id = ?`

// FindOverride implements ports.Overrides.
func (s *Store) FindOverride(ctx context.Context, id string) (known, open bool, err error) {
	err = s.readers.QueryRowContext(ctx, findOverride, id).Scan(&open)
	if errors.Is(err, sql.ErrNoRows) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("sqlite: find an override: %w", explain(err))
	}
	return true, open, nil
}

func scanOverride(row interface{ Scan(...any) error }, o *domain.Override) error {
	return row.Scan(&o.ID, &o.Envelope.Type, &o.EnvelopeKind, &o.Envelope.Ciphertext, &o.Digest,
		(*timestamp)(&o.ExpiresAt), &o.Envelope.ExpiresAt, (*text)(&o.Reason),
		&o.AppliedBy.ID, &o.AppliedBy.Type, (*timestamp)(&o.AppliedAt))
}
