-- Links of audit events, by which an edited, removed or reordered one is found (docs/audit-chain.md).
--
-- After it, run roles.sql again: the server needs rights on the new tables.

-- +goose Up

SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true); -- which functions pin

-- NULL in events that were stored before there were links.
ALTER TABLE omni_secret_access_events
    ADD COLUMN chain_id   bigint,
    ADD COLUMN chain_seq  bigint,
    ADD COLUMN chain_hash bytea;

-- Where the chain of each replica ends. Whoever stores events locks the row, so that links are made one after the other.
CREATE TABLE omni_audit_chains (
    chain_id   bigint NOT NULL PRIMARY KEY CHECK (chain_id > 0), -- random
    replica_id text COLLATE "C" NOT NULL CONSTRAINT omni_audit_chains_replica UNIQUE, -- '' for events that name none
    seq        bigint NOT NULL CHECK (seq >= 0),
    hash       bytea NOT NULL CHECK (octet_length(hash) = 32)
) WITH (fillfactor = 50); -- it is updated with every batch

-- Signed statements of where a chain ended.
CREATE TABLE omni_audit_checkpoints (
    chain_id   bigint NOT NULL,
    seq        bigint NOT NULL,
    hash       bytea NOT NULL CHECK (octet_length(hash) = 32),
    replica_id text NOT NULL,
    signed_at  timestamptz NOT NULL,
    key_id     text NOT NULL,
    signature  bytea NOT NULL,
    PRIMARY KEY (chain_id, seq)
);

-- For each run of events that was pruned, its last one: what the next event follows.
CREATE TABLE omni_audit_pruned (
    chain_id bigint NOT NULL,
    seq      bigint NOT NULL,
    hash     bytea NOT NULL,
    PRIMARY KEY (chain_id, seq)
);

-- +goose StatementBegin
CREATE FUNCTION omni_audit_chains_forward() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.chain_id = OLD.chain_id AND NEW.replica_id = OLD.replica_id AND NEW.seq > OLD.seq THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'omni_audit_chains and omni_audit_checkpoints only go forward: no %', lower(TG_OP)
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;
-- +goose StatementEnd

CREATE TRIGGER omni_audit_chains_forward
BEFORE UPDATE OR DELETE ON omni_audit_chains
FOR EACH ROW EXECUTE FUNCTION omni_audit_chains_forward();
ALTER TABLE omni_audit_chains ENABLE ALWAYS TRIGGER omni_audit_chains_forward;
CREATE TRIGGER omni_audit_chains_no_truncate
BEFORE TRUNCATE ON omni_audit_chains
FOR EACH STATEMENT EXECUTE FUNCTION omni_audit_chains_forward();
ALTER TABLE omni_audit_chains ENABLE ALWAYS TRIGGER omni_audit_chains_no_truncate;

-- +goose StatementBegin
CREATE FUNCTION omni_audit_checkpoints_kept() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.signed_at < now() - interval '2160 hours' THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'omni_audit_checkpoints keeps its rows: no %', lower(TG_OP)
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;
-- +goose StatementEnd

CREATE TRIGGER omni_audit_checkpoints_kept
BEFORE UPDATE OR DELETE ON omni_audit_checkpoints
FOR EACH ROW EXECUTE FUNCTION omni_audit_checkpoints_kept();
ALTER TABLE omni_audit_checkpoints ENABLE ALWAYS TRIGGER omni_audit_checkpoints_kept;
CREATE TRIGGER omni_audit_checkpoints_no_truncate
BEFORE TRUNCATE ON omni_audit_checkpoints
FOR EACH STATEMENT EXECUTE FUNCTION omni_audit_checkpoints_kept();
ALTER TABLE omni_audit_checkpoints ENABLE ALWAYS TRIGGER omni_audit_checkpoints_no_truncate;

-- Notes what the events of a table that are older than the given time end with, before they go, and returns how many
-- they are. A run of places that goes on from an earlier one takes its mark's place.
-- +goose StatementBegin
CREATE FUNCTION omni_mark_pruned(part regclass, before timestamptz) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    counted bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM %s WHERE recorded_at < $1', part) INTO counted USING before;
    EXECUTE format($runs$
        WITH placed AS (
            SELECT chain_id, chain_seq, chain_hash,
                   lag(chain_seq) OVER of_chain IS DISTINCT FROM chain_seq - 1 AS first,
                   lead(chain_seq) OVER of_chain IS DISTINCT FROM chain_seq + 1 AS last
            FROM %s
            WHERE recorded_at < $1 AND chain_id IS NOT NULL
            WINDOW of_chain AS (PARTITION BY chain_id ORDER BY chain_seq)
        ), ends AS MATERIALIZED (
            SELECT * FROM placed WHERE first OR last
        ), replaced AS (
            DELETE FROM omni_audit_pruned p USING ends
            WHERE ends.first AND p.chain_id = ends.chain_id AND p.seq = ends.chain_seq - 1
        )
        INSERT INTO omni_audit_pruned (chain_id, seq, hash)
        SELECT chain_id, chain_seq, chain_hash FROM ends WHERE last
        ON CONFLICT (chain_id, seq) DO NOTHING
    $runs$, part) USING before;
    RETURN counted;
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION omni_mark_pruned(regclass, timestamptz) FROM PUBLIC;

-- As before, and what goes is marked. Partitions are read before the first lock that others would wait for.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION omni_prune_access_events(before timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
DECLARE
    youngest CONSTANT timestamptz := now() - interval '2160 hours';
    parts    text[];
    part     text;
    gone     bigint := 0;
BEGIN
    IF before IS NULL OR before > youngest + interval '5 minutes' THEN
        RAISE EXCEPTION 'omni_secret_access_events keeps its rows for 90 days'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    before := least(before, youngest);
    PERFORM pg_advisory_xact_lock(1869442665, 2); -- that of omni_make_event_partitions

    -- The default partition has no upper bound.
    SELECT array_agg(pg_class.oid::regclass::text ORDER BY relname) INTO parts
    FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = 'omni_secret_access_events'::regclass
      AND substring(pg_get_expr(relpartbound, pg_class.oid) FROM 'TO \(''([^'']+)''\)')::timestamptz <= before;
    FOREACH part IN ARRAY coalesce(parts, '{}') || 'omni_secret_access_events_default'::text LOOP
        gone := gone + omni_mark_pruned(part::regclass, before);
    END LOOP;
    FOREACH part IN ARRAY coalesce(parts, '{}') LOOP
        EXECUTE 'DROP TABLE ' || part;
    END LOOP;
    DELETE FROM omni_secret_access_events_default WHERE recorded_at < before;

    -- Of the checkpoints of events that are gone the last one is enough.
    DELETE FROM omni_audit_checkpoints old
    WHERE old.signed_at < before - interval '168 hours'
      AND EXISTS (SELECT FROM omni_audit_checkpoints newer WHERE newer.chain_id = old.chain_id AND newer.seq > old.seq);

    PERFORM omni_make_event_partitions();
    RETURN gone;
END
$$;
-- +goose StatementEnd
