-- What the server may do, as a group role without login. Not a migration: run it by hand, as the owner of the
-- tables (who needs CREATEROLE unless the role exists already), in the database and with the search_path of the
-- migrations; and again after a migration that made tables. It does no harm to run it twice.
--
--     psql "$OWNER_URL" -v ON_ERROR_STOP=1 -f roles.sql
--     CREATE ROLE omni_secrets LOGIN PASSWORD '...' IN ROLE omni_app;   -- of the server's DATABASE_URL
--
-- Two roles share the work:
--   the owner  runs `omni-secrets migrate up` and owns every table and function. No server runs as the owner: it
--              could drop the audit trail or switch its triggers off.
--   omni_app   is what the server is. It reads and appends audit events, and can neither change nor delete
--              them; retention and new partitions are two functions that run with the owner's rights and take
--              nothing younger than 90 days.

DO $$
BEGIN
    CREATE ROLE omni_app NOLOGIN;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL; -- there already, or somebody else was faster
END
$$;

DO $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO omni_app', current_schema());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO omni_app', current_database());
END
$$;

GRANT SELECT ON goose_db_version TO omni_app;
GRANT SELECT, INSERT ON omni_secret_access_events TO omni_app;
GRANT SELECT, INSERT, UPDATE ON omni_secret_metadata, omni_break_glass_overrides TO omni_app;
GRANT SELECT ON omni_break_glass_events TO omni_app;
GRANT SELECT, INSERT, UPDATE ON omni_secret_refresh_requests, omni_jobs TO omni_app;
GRANT SELECT, INSERT, UPDATE ON omni_secret_rotations, omni_break_glass_follow_ups TO omni_app;
-- A trigger lets chains go forward alone.
GRANT SELECT, INSERT, UPDATE ON omni_audit_chains TO omni_app;
GRANT SELECT, INSERT ON omni_audit_checkpoints TO omni_app;
GRANT SELECT ON omni_audit_pruned TO omni_app;
GRANT USAGE ON SEQUENCE omni_secret_refresh_requests_seq TO omni_app;
GRANT EXECUTE ON FUNCTION omni_make_event_partitions(), omni_prune_access_events(timestamptz) TO omni_app;
