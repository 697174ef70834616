-- The first schema. There is no way down: it would drop the audit trail.
--
-- Whoever runs the migrations owns what they make. The server should be somebody else, with the rights of
-- roles.sql and no more: the owner can switch every rule below off, the server cannot.
--
-- Times are timestamptz, to the microsecond. What is absent is NULL, never ''. Texts that are compared or sorted
-- have the collation "C", so that they sort by bytes as in the program, on every server.

-- +goose Up

-- Functions pin this search_path, so that nobody's objects slip in front of ours: not those in a schema of the
-- caller's choice, and not temporary ones, which come first unless they are named.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- One row for each secret of the catalog. It never holds a value.
CREATE TABLE omni_secret_metadata (
    secret_type               text COLLATE "C" NOT NULL PRIMARY KEY,
    environment               text NOT NULL,
    backend                   text NOT NULL,
    gcp_secret_id             text NOT NULL,
    gcp_version_alias         text NOT NULL,
    status                    text NOT NULL CHECK (status IN ('active', 'rotating', 'deprecated')),
    rotation_due_at           timestamptz NOT NULL,
    last_rotated_at           timestamptz,
    last_validated_at         timestamptz,
    owner                     text NOT NULL,
    break_glass_enabled_until timestamptz,
    cache_source              text NOT NULL,
    cache_version             text,
    created_at                timestamptz NOT NULL,
    updated_at                timestamptz NOT NULL
);

-- The audit trail, in partitions of a week (Monday to Monday, UTC), so that retention drops whole tables
-- instead of deleting rows one by one. A unique key of a partitioned table holds its partition key; the same
-- event always has the same recorded_at, so that event_id is as good as unique.
CREATE TABLE omni_secret_access_events (
    id                 bigint GENERATED ALWAYS AS IDENTITY,
    event_id           text COLLATE "C" NOT NULL,
    secret_type        text COLLATE "C",
    action             text COLLATE "C" NOT NULL CHECK (action IN (
                           'read', 'cache_refresh', 'break_glass_apply', 'break_glass_clear', 'rotation_preview',
                           'rotation_begin', 'rotation_promote', 'rotation_abort', 'rotation_detected',
                           'access_denied', 'write_metadata')),
    actor_type         text NOT NULL CHECK (actor_type IN ('service', 'operator', 'automation')),
    actor_id           text COLLATE "C" NOT NULL,
    result             text NOT NULL CHECK (result IN ('success', 'failure', 'denied')),
    error_code         text,
    gcp_secret_version text,
    source             text,
    duration_ms        double precision NOT NULL, -- with a fraction: most reads take microseconds
    request_id         text,
    replica_id         text,
    reason             text,
    recorded_at        timestamptz NOT NULL,
    PRIMARY KEY (id, recorded_at),
    UNIQUE (event_id, recorded_at)
) PARTITION BY RANGE (recorded_at);

-- For the filters of the audit API. Each of them lists newest first, by id.
CREATE INDEX omni_secret_access_events_by_type ON omni_secret_access_events (secret_type, id);
CREATE INDEX omni_secret_access_events_by_action ON omni_secret_access_events (action, id);
CREATE INDEX omni_secret_access_events_by_actor ON omni_secret_access_events (actor_id, id);
CREATE INDEX omni_secret_access_events_by_time ON omni_secret_access_events USING brin (recorded_at);

-- The trail is append-only, whoever connects with whichever tool. Rows past their 90 days may go: retention
-- takes those of the default partition, which is never dropped.
-- +goose StatementBegin
CREATE FUNCTION omni_secret_access_events_append_only() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.recorded_at < now() - interval '2160 hours' THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION 'omni_secret_access_events keeps its rows for 90 days'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RAISE EXCEPTION 'omni_secret_access_events is append-only: no %', lower(TG_OP)
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;
-- +goose StatementEnd

-- Row triggers come with every partition by themselves; those for TRUNCATE must be put on each. ALWAYS: also
-- where session_replication_role silences ordinary triggers.
CREATE TRIGGER omni_secret_access_events_no_change
BEFORE UPDATE OR DELETE ON omni_secret_access_events
FOR EACH ROW EXECUTE FUNCTION omni_secret_access_events_append_only();
ALTER TABLE omni_secret_access_events ENABLE ALWAYS TRIGGER omni_secret_access_events_no_change;

CREATE TRIGGER omni_secret_access_events_no_truncate
BEFORE TRUNCATE ON omni_secret_access_events
FOR EACH STATEMENT EXECUTE FUNCTION omni_secret_access_events_append_only();
ALTER TABLE omni_secret_access_events ENABLE ALWAYS TRIGGER omni_secret_access_events_no_truncate;

-- No event is refused for its date: what has no week of its own goes here.
CREATE TABLE omni_secret_access_events_default PARTITION OF omni_secret_access_events DEFAULT;
CREATE TRIGGER omni_secret_access_events_no_truncate
BEFORE TRUNCATE ON omni_secret_access_events_default
FOR EACH STATEMENT EXECUTE FUNCTION omni_secret_access_events_append_only();
ALTER TABLE omni_secret_access_events_default ENABLE ALWAYS TRIGGER omni_secret_access_events_no_truncate;

-- Makes the partition of the week that holds the given time and reports whether it did: not when there is one,
-- and not when events of that week are in the default partition already, from where they would have to be moved.
-- +goose StatementBegin
CREATE FUNCTION omni_make_event_partition(at timestamptz) RETURNS boolean
LANGUAGE plpgsql SET search_path FROM CURRENT SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
DECLARE
    first CONSTANT timestamptz := date_trunc('week', at);
    next  CONSTANT timestamptz := first + interval '7 days';
    name  CONSTANT text := 'omni_secret_access_events_' || to_char(first, 'YYYYMMDD');
BEGIN
    IF EXISTS (
        SELECT FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'omni_secret_access_events'::regclass AND relname = name
    ) THEN
        RETURN false;
    END IF;
    -- No event may reach the default partition between the look and the making.
    LOCK TABLE omni_secret_access_events IN ACCESS EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM omni_secret_access_events_default WHERE recorded_at >= first AND recorded_at < next) THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I PARTITION OF omni_secret_access_events FOR VALUES FROM (%L) TO (%L)', name, first, next);
    EXECUTE format('CREATE TRIGGER omni_secret_access_events_no_truncate BEFORE TRUNCATE ON %I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION omni_secret_access_events_append_only()', name);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER omni_secret_access_events_no_truncate', name);
    RETURN true;
END
$$;
-- +goose StatementEnd

-- Makes the partitions of this week and the next four, and returns how many were missing.
-- +goose StatementBegin
CREATE FUNCTION omni_make_event_partitions() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    made integer := 0;
BEGIN
    -- One at a time, of all replicas. 1869442665 is 'omni' in ASCII, 2 this very lock.
    PERFORM pg_advisory_xact_lock(1869442665, 2);
    FOR week IN 0..4 LOOP
        IF omni_make_event_partition(now() + week * interval '168 hours') THEN
            made := made + 1;
        END IF;
    END LOOP;
    RETURN made;
END
$$;
-- +goose StatementEnd

-- Retention: makes the partitions ahead, drops those that end before the given time, deletes what is older in
-- the default partition, and returns how many events are gone. An event is kept up to a week longer, until all
-- of its partition is old enough. A limit younger than 90 days is refused, except for what two clocks may
-- differ; nothing is ever deleted that is younger by the clock of the database.
-- +goose StatementBegin
CREATE FUNCTION omni_prune_access_events(before timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
DECLARE
    youngest CONSTANT timestamptz := now() - interval '2160 hours';
    part     text;
    counted  bigint;
    gone     bigint := 0;
BEGIN
    IF before IS NULL OR before > youngest + interval '5 minutes' THEN
        RAISE EXCEPTION 'omni_secret_access_events keeps its rows for 90 days'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    before := least(before, youngest);
    PERFORM omni_make_event_partitions(); -- and its lock

    -- The default partition has no upper bound.
    FOR part IN
        SELECT pg_class.oid::regclass::text
        FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'omni_secret_access_events'::regclass
          AND substring(pg_get_expr(relpartbound, pg_class.oid) FROM 'TO \(''([^'']+)''\)')::timestamptz <= before
        ORDER BY relname
    LOOP
        EXECUTE 'SELECT count(*) FROM ' || part INTO counted;
        EXECUTE 'DROP TABLE ' || part;
        gone := gone + counted;
    END LOOP;

    DELETE FROM omni_secret_access_events_default WHERE recorded_at < before;
    GET DIAGNOSTICS counted = ROW_COUNT;
    RETURN gone + counted;
END
$$;
-- +goose StatementEnd

REVOKE ALL ON FUNCTION omni_make_event_partition(timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION omni_make_event_partitions() FROM PUBLIC;
REVOKE ALL ON FUNCTION omni_prune_access_events(timestamptz) FROM PUBLIC;

SELECT omni_make_event_partitions();

-- Every break-glass override that there ever was; an envelope is refused when its digest is here. An UPDATE
-- leaves the erased ciphertext behind in a dead row until VACUUM: hence the eager autovacuum.
CREATE TABLE omni_break_glass_overrides (
    id               text COLLATE "C" NOT NULL PRIMARY KEY,
    secret_type      text COLLATE "C" NOT NULL,
    envelope_version integer NOT NULL,
    envelope         text, -- ciphertext, only while the override is open
    envelope_digest  text COLLATE "C" NOT NULL CONSTRAINT omni_break_glass_overrides_digest UNIQUE,
    expires_at       timestamptz NOT NULL,
    expires_at_text  text NOT NULL, -- as it was sent: the envelope authenticates it to the letter
    reason           text,
    applied_by       text NOT NULL,
    applied_by_type  text NOT NULL CHECK (applied_by_type IN ('service', 'operator', 'automation')),
    applied_at       timestamptz NOT NULL,
    request_id       text, -- of the apply, as in its audit event
    replica_id       text, -- that took the apply
    ended_at         timestamptz,
    end_cause        text CHECK (end_cause IN ('expired', 'cleared', 'refreshed', 'replaced')),
    ended_by         text,
    CONSTRAINT open_or_ended CHECK (
        (ended_at IS NULL AND end_cause IS NULL AND ended_by IS NULL AND envelope IS NOT NULL) OR
        (ended_at IS NOT NULL AND end_cause IS NOT NULL AND ended_by IS NOT NULL AND envelope IS NULL))
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 1
);

-- At most one override of a secret is open.
CREATE UNIQUE INDEX omni_break_glass_overrides_open ON omni_break_glass_overrides (secret_type) WHERE ended_at IS NULL;

-- +goose StatementBegin
CREATE FUNCTION omni_break_glass_overrides_kept() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        RAISE EXCEPTION 'this override has ended and stays as it is' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RAISE EXCEPTION 'omni_break_glass_overrides keeps the digest of every envelope'
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;
-- +goose StatementEnd

CREATE TRIGGER omni_break_glass_overrides_no_delete
BEFORE DELETE ON omni_break_glass_overrides
FOR EACH ROW EXECUTE FUNCTION omni_break_glass_overrides_kept();
CREATE TRIGGER omni_break_glass_overrides_no_truncate
BEFORE TRUNCATE ON omni_break_glass_overrides
FOR EACH STATEMENT EXECUTE FUNCTION omni_break_glass_overrides_kept();
CREATE TRIGGER omni_break_glass_overrides_ended_once
BEFORE UPDATE ON omni_break_glass_overrides
FOR EACH ROW WHEN (OLD.ended_at IS NOT NULL) EXECUTE FUNCTION omni_break_glass_overrides_kept();

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

-- The last request for each secret that all replicas fetch it anew.
CREATE TABLE omni_secret_refresh_requests (
    secret_type  text COLLATE "C" NOT NULL PRIMARY KEY,
    replica_id   text NOT NULL, -- where it was refreshed
    seq          bigint NOT NULL,
    requested_at timestamptz NOT NULL
);
CREATE SEQUENCE omni_secret_refresh_requests_seq OWNED BY omni_secret_refresh_requests.seq;

-- When a replica last took each periodic job upon itself.
CREATE TABLE omni_jobs (
    job        text COLLATE "C" NOT NULL PRIMARY KEY,
    claimed_at timestamptz NOT NULL
);
