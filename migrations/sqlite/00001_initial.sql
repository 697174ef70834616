-- The first schema. There is no way down: it would drop the audit trail.
--
-- Times are TEXT in UTC, always YYYY-MM-DDTHH:MM:SS.ffffffZ, because of equal width they sort and compare as
-- what they mean; the CHECKs keep it so. What is absent is NULL, never ''.

-- +goose Up

-- One row for each secret of the catalog. It never holds a value.
CREATE TABLE omni_secret_metadata (
    secret_type               TEXT NOT NULL PRIMARY KEY,
    environment               TEXT NOT NULL,
    backend                   TEXT NOT NULL,
    gcp_secret_id             TEXT NOT NULL,
    gcp_version_alias         TEXT NOT NULL,
    status                    TEXT NOT NULL CHECK (status IN ('active', 'rotating', 'deprecated')),
    rotation_due_at           TEXT NOT NULL CHECK (rotation_due_at GLOB '????-??-??T??:??:??.??????Z'),
    last_rotated_at           TEXT CHECK (last_rotated_at GLOB '????-??-??T??:??:??.??????Z'),
    last_validated_at         TEXT CHECK (last_validated_at GLOB '????-??-??T??:??:??.??????Z'),
    owner                     TEXT NOT NULL,
    break_glass_enabled_until TEXT CHECK (break_glass_enabled_until GLOB '????-??-??T??:??:??.??????Z'),
    cache_source              TEXT NOT NULL,
    cache_version             TEXT,
    created_at                TEXT NOT NULL CHECK (created_at GLOB '????-??-??T??:??:??.??????Z'),
    updated_at                TEXT NOT NULL CHECK (updated_at GLOB '????-??-??T??:??:??.??????Z')
) STRICT;

-- The audit trail. AUTOINCREMENT: a page of events starts before an id, so that no id may come back. The id is
-- above 0 because -1 is what a BEFORE INSERT trigger sees when the id is yet to be chosen.
CREATE TABLE omni_secret_access_events (
    id                 INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT CHECK (id > 0),
    event_id           TEXT NOT NULL UNIQUE,
    secret_type        TEXT,
    action             TEXT NOT NULL CHECK (action IN (
                           'read', 'cache_refresh', 'break_glass_apply', 'break_glass_clear', 'rotation_preview',
                           'rotation_begin', 'rotation_promote', 'rotation_abort', 'rotation_detected',
                           'access_denied', 'write_metadata')),
    actor_type         TEXT NOT NULL CHECK (actor_type IN ('service', 'operator', 'automation')),
    actor_id           TEXT NOT NULL,
    result             TEXT NOT NULL CHECK (result IN ('success', 'failure', 'denied')),
    error_code         TEXT,
    gcp_secret_version TEXT,
    source             TEXT,
    duration_ms        REAL NOT NULL, -- with a fraction: most reads take microseconds
    request_id         TEXT,
    replica_id         TEXT,
    reason             TEXT,
    recorded_at        TEXT NOT NULL CHECK (recorded_at GLOB '????-??-??T??:??:??.??????Z')
) STRICT;

-- For the filters of the audit API. Each of them lists newest first, by id, which every index ends with anyway.
CREATE INDEX omni_secret_access_events_by_type ON omni_secret_access_events (secret_type);
CREATE INDEX omni_secret_access_events_by_action ON omni_secret_access_events (action);
CREATE INDEX omni_secret_access_events_by_actor ON omni_secret_access_events (actor_id);
CREATE INDEX omni_secret_access_events_by_time ON omni_secret_access_events (recorded_at);

-- The trail is append-only, whoever writes to the file with whichever tool.

-- +goose StatementBegin
CREATE TRIGGER omni_secret_access_events_no_update
BEFORE UPDATE ON omni_secret_access_events
BEGIN
    SELECT RAISE(ABORT, 'omni_secret_access_events is append-only: no update');
END;
-- +goose StatementEnd

-- Pruning compares with its own clock a moment before this trigger looks at SQLite's, which has milliseconds:
-- hence the one millisecond of tolerance.
-- +goose StatementBegin
CREATE TRIGGER omni_secret_access_events_retention
BEFORE DELETE ON omni_secret_access_events
WHEN OLD.recorded_at > strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', '-90 days', '+0.001 seconds')
BEGIN
    SELECT RAISE(ABORT, 'omni_secret_access_events keeps its rows for 90 days');
END;
-- +goose StatementEnd

-- An event that is stored already is left as it is, so that recording it again does no harm. A mere UNIQUE
-- constraint would let INSERT OR REPLACE delete the stored row, which fires no DELETE trigger unless
-- recursive_triggers is on.
-- +goose StatementBegin
CREATE TRIGGER omni_secret_access_events_once
BEFORE INSERT ON omni_secret_access_events
WHEN EXISTS (SELECT 1 FROM omni_secret_access_events WHERE event_id = NEW.event_id)
BEGIN
    SELECT RAISE(IGNORE);
END;
-- +goose StatementEnd

-- The same door, by the id. Another event under a stored id is no repetition but a mistake.
-- +goose StatementBegin
CREATE TRIGGER omni_secret_access_events_no_replace
BEFORE INSERT ON omni_secret_access_events
WHEN EXISTS (SELECT 1 FROM omni_secret_access_events WHERE id = NEW.id AND event_id <> NEW.event_id)
BEGIN
    SELECT RAISE(ABORT, 'omni_secret_access_events is append-only: the id is taken');
END;
-- +goose StatementEnd

-- Every break-glass override that there ever was; an envelope is refused when its digest is here.
CREATE TABLE omni_break_glass_overrides (
    id               TEXT NOT NULL PRIMARY KEY,
    secret_type      TEXT NOT NULL,
    envelope_version INTEGER NOT NULL,
    envelope         TEXT, -- ciphertext, only while the override is open
    envelope_digest  TEXT NOT NULL UNIQUE,
    expires_at       TEXT NOT NULL CHECK (expires_at GLOB '????-??-??T??:??:??.??????Z'),
    expires_at_text  TEXT NOT NULL, -- as it was sent: the envelope authenticates it to the letter
    reason           TEXT,
    applied_by       TEXT NOT NULL,
    applied_by_type  TEXT NOT NULL CHECK (applied_by_type IN ('service', 'operator', 'automation')),
    applied_at       TEXT NOT NULL CHECK (applied_at GLOB '????-??-??T??:??:??.??????Z'),
    request_id       TEXT, -- of the apply, as in its audit event
    replica_id       TEXT, -- that took the apply
    ended_at         TEXT CHECK (ended_at GLOB '????-??-??T??:??:??.??????Z'),
    end_cause        TEXT CHECK (end_cause IN ('expired', 'cleared', 'refreshed', 'replaced')),
    ended_by         TEXT,
    CONSTRAINT open_or_ended CHECK (
        (ended_at IS NULL AND end_cause IS NULL AND ended_by IS NULL AND envelope IS NOT NULL) OR
        (ended_at IS NOT NULL AND end_cause IS NOT NULL AND ended_by IS NOT NULL AND envelope IS NULL))
) STRICT;

-- At most one override of a secret is open.
CREATE UNIQUE INDEX omni_break_glass_overrides_open ON omni_break_glass_overrides (secret_type) WHERE ended_at IS NULL;

-- +goose StatementBegin
CREATE TRIGGER omni_break_glass_overrides_no_delete
BEFORE DELETE ON omni_break_glass_overrides
BEGIN
    SELECT RAISE(ABORT, 'omni_break_glass_overrides keeps the digest of every envelope');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER omni_break_glass_overrides_ended_once
BEFORE UPDATE ON omni_break_glass_overrides
WHEN OLD.ended_at IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'this override has ended and stays as it is');
END;
-- +goose StatementEnd

-- Who put what in place of which secret, when and why, and when it ended: for auditors.
CREATE VIEW omni_break_glass_events AS
SELECT id         AS override_id,
       secret_type,
       applied_by,
       applied_at,
       reason,
       expires_at AS planned_end,
       ended_at   AS actual_end,
       end_cause,
       ended_by
FROM omni_break_glass_overrides;
