-- Rotations from preview to promotion, and what every override leaves to be done.

-- +goose Up

-- newest_version is the newest version that was counted as a rotation, or decided about by one. pinned_version is what
-- is served whatever the alias stands for, until that is newer than newest_version.
ALTER TABLE omni_secret_metadata ADD COLUMN newest_version TEXT;
ALTER TABLE omni_secret_metadata ADD COLUMN pinned_version TEXT;

-- Every rotation that was begun.
CREATE TABLE omni_secret_rotations (
    id            TEXT NOT NULL PRIMARY KEY,
    secret_type   TEXT NOT NULL,
    from_version  TEXT, -- what was served then
    to_version    TEXT NOT NULL,
    begun_by      TEXT NOT NULL,
    begun_by_type TEXT NOT NULL CHECK (begun_by_type IN ('service', 'operator', 'automation')),
    begun_at      TEXT NOT NULL CHECK (begun_at GLOB '????-??-??T??:??:??.??????Z'),
    ended_at      TEXT CHECK (ended_at GLOB '????-??-??T??:??:??.??????Z'),
    outcome       TEXT CHECK (outcome IN ('promoted', 'aborted')),
    ended_by      TEXT,
    CONSTRAINT open_or_ended CHECK (
        (ended_at IS NULL AND outcome IS NULL AND ended_by IS NULL) OR
        (ended_at IS NOT NULL AND outcome IS NOT NULL AND ended_by IS NOT NULL))
) STRICT;

-- At most one rotation of a secret is in progress.
CREATE UNIQUE INDEX omni_secret_rotations_open ON omni_secret_rotations (secret_type) WHERE ended_at IS NULL;

-- One follow-up for each override: the secret is rotated, or somebody says why it need not be.
CREATE TABLE omni_break_glass_follow_ups (
    override_id    TEXT NOT NULL PRIMARY KEY, -- of omni_break_glass_overrides, which keeps its rows
    secret_type    TEXT NOT NULL,
    opened_at      TEXT NOT NULL CHECK (opened_at GLOB '????-??-??T??:??:??.??????Z'),
    closed_at      TEXT CHECK (closed_at GLOB '????-??-??T??:??:??.??????Z'),
    outcome        TEXT CHECK (outcome IN ('rotated', 'waived')),
    closed_by      TEXT,
    closed_by_type TEXT CHECK (closed_by_type IN ('service', 'operator', 'automation')),
    closed_reason  TEXT,
    CONSTRAINT open_or_closed CHECK (
        (closed_at IS NULL AND outcome IS NULL AND closed_by IS NULL AND closed_by_type IS NULL AND closed_reason IS NULL) OR
        (closed_at IS NOT NULL AND outcome IS NOT NULL AND closed_by IS NOT NULL AND closed_by_type IS NOT NULL))
) STRICT;
CREATE INDEX omni_break_glass_follow_ups_open ON omni_break_glass_follow_ups (secret_type) WHERE closed_at IS NULL;

-- Nothing is owed for the overrides that had ended before this was kept.
INSERT INTO omni_break_glass_follow_ups (
    override_id, secret_type, opened_at, closed_at, outcome, closed_by, closed_by_type, closed_reason)
SELECT id, secret_type, applied_at,
       CASE WHEN ended_at IS NOT NULL THEN strftime('%Y-%m-%dT%H:%M:%f000Z', 'now') END,
       CASE WHEN ended_at IS NOT NULL THEN 'waived' END,
       CASE WHEN ended_at IS NOT NULL THEN 'omni-secrets' END,
       CASE WHEN ended_at IS NOT NULL THEN 'automation' END,
       CASE WHEN ended_at IS NOT NULL THEN 'it had ended before follow-ups were kept' END
FROM omni_break_glass_overrides;

-- +goose StatementBegin
CREATE TRIGGER omni_break_glass_follow_ups_no_delete
BEFORE DELETE ON omni_break_glass_follow_ups
BEGIN
    SELECT RAISE(ABORT, 'omni_break_glass_follow_ups keeps its rows');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER omni_break_glass_follow_ups_closed_once
BEFORE UPDATE ON omni_break_glass_follow_ups
WHEN OLD.closed_at IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'this follow-up was closed and stays as it is');
END;
-- +goose StatementEnd

-- The life of an override is one row, from its apply to the end of what it left to be done.
DROP VIEW omni_break_glass_events;
CREATE VIEW omni_break_glass_events AS
SELECT o.id         AS override_id,
       o.secret_type,
       o.applied_by,
       o.applied_at,
       o.reason,
       o.expires_at AS planned_end,
       o.ended_at   AS actual_end,
       o.end_cause,
       o.ended_by,
       f.closed_at     AS follow_up_closed_at,
       f.outcome       AS follow_up_outcome,
       f.closed_by     AS follow_up_closed_by,
       f.closed_reason AS follow_up_reason
FROM omni_break_glass_overrides o
LEFT JOIN omni_break_glass_follow_ups f ON f.override_id = o.id;
