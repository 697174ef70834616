-- For psql, before migration 4 on a trail that takes long to read: builds the index of each partition without keeping
-- anybody from storing events. It may be run again after it was interrupted. No migration itself: none of this works
-- in a transaction.

-- What an interrupted run left is of no use.
SELECT format('DROP INDEX CONCURRENTLY %s', indexrelid::regclass)
FROM pg_index
JOIN pg_inherits ON inhrelid = indrelid
WHERE inhparent = 'omni_secret_access_events'::regclass AND NOT indisvalid
\gexec

SELECT format('CREATE INDEX CONCURRENTLY ON %s (action, id) WHERE action <> ''read''', inhrelid::regclass)
FROM pg_inherits
WHERE inhparent = 'omni_secret_access_events'::regclass
  AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = inhrelid AND indpred IS NOT NULL)
\gexec
