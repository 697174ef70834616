-- The role that the replicas of docker-compose.yml log in as. It has what omni_app has, by
-- migrations/postgres/roles.sql, and nothing else. Run it with psql 14 or later, after roles.sql; twice does no harm.
\getenv app_password APP_PASSWORD
SELECT 'CREATE ROLE omni_secrets LOGIN IN ROLE omni_app' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'omni_secrets') \gexec
ALTER ROLE omni_secrets PASSWORD :'app_password';
