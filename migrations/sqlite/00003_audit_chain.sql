-- Links of audit events, by which an edited, removed or reordered one is found (docs/audit-chain.md).

-- +goose Up

-- NULL in events that were stored before there were links.
ALTER TABLE omni_secret_access_events ADD COLUMN chain_id INTEGER;
ALTER TABLE omni_secret_access_events ADD COLUMN chain_seq INTEGER;
ALTER TABLE omni_secret_access_events ADD COLUMN chain_hash BLOB;

-- Where the chain of each replica ends.
CREATE TABLE omni_audit_chains (
    chain_id   INTEGER NOT NULL PRIMARY KEY CHECK (chain_id > 0), -- random
    replica_id TEXT NOT NULL UNIQUE, -- '' for events that name none
    seq        INTEGER NOT NULL CHECK (seq >= 0),
    hash       BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

-- Signed statements of where a chain ended.
CREATE TABLE omni_audit_checkpoints (
    chain_id   INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    hash       BLOB NOT NULL CHECK (length(hash) = 32),
    replica_id TEXT NOT NULL,
    signed_at  TEXT NOT NULL CHECK (signed_at GLOB '????-??-??T??:??:??.??????Z'),
    key_id     TEXT NOT NULL,
    signature  BLOB NOT NULL,
    PRIMARY KEY (chain_id, seq)
) STRICT, WITHOUT ROWID;

-- For each run of events that was pruned, its last one: what the next event follows.
CREATE TABLE omni_audit_pruned (
    chain_id INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    hash     BLOB NOT NULL,
    PRIMARY KEY (chain_id, seq)
) STRICT, WITHOUT ROWID;

-- +goose StatementBegin
CREATE TRIGGER omni_audit_chains_forward
BEFORE UPDATE ON omni_audit_chains
WHEN NEW.chain_id <> OLD.chain_id OR NEW.replica_id <> OLD.replica_id OR NEW.seq <= OLD.seq
BEGIN
    SELECT RAISE(ABORT, 'omni_audit_chains only goes forward');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER omni_audit_chains_no_delete
BEFORE DELETE ON omni_audit_chains
BEGIN
    SELECT RAISE(ABORT, 'omni_audit_chains keeps its rows');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER omni_audit_checkpoints_no_update
BEFORE UPDATE ON omni_audit_checkpoints
BEGIN
    SELECT RAISE(ABORT, 'omni_audit_checkpoints keeps its rows as they are');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER omni_audit_checkpoints_no_delete
BEFORE DELETE ON omni_audit_checkpoints
WHEN OLD.signed_at > strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', '-90 days', '+0.001 seconds')
BEGIN
    SELECT RAISE(ABORT, 'omni_audit_checkpoints keeps its rows for 90 days');
END;
-- +goose StatementEnd
