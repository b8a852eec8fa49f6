-- keyrot touches keyrot's own tables only.  A schema "keyrot" that somebody prepared makes CREATE EXTENSION
-- fail; look-alike tables are never read or written, and no trigger of theirs runs; the extension can be
-- dropped and made again within one session.  In a database of its own.
\set VERBOSITY terse
SELECT current_database() AS main \gset
CREATE ROLE regress_lookalike;
CREATE DATABASE regression_keyrot_lookalike TEMPLATE template0;
GRANT CREATE ON DATABASE regression_keyrot_lookalike TO regress_lookalike;
\c regression_keyrot_lookalike
\set VERBOSITY terse

-- The prepared schema, with what keyrot would like to find in it.
SET ROLE regress_lookalike;
CREATE SCHEMA keyrot;
CREATE TABLE keyrot.ran (what text);
CREATE FUNCTION keyrot.run() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO keyrot.ran VALUES (TG_TABLE_NAME || ' as ' || current_user); RETURN NEW; END $$;
CREATE TABLE keyrot.app (app_key text COLLATE "C" PRIMARY KEY, version int, owner oid, owner_name text, secret bytea,
    previous_secret bytea, previous_valid_until timestamptz, created_at timestamptz, modified_at timestamptz,
    app_id bigint, previous_app_key text, app_name text, description text);
CREATE TABLE keyrot.zone (zone_id text COLLATE "C" PRIMARY KEY, version int, owner oid, owner_name text, secret bytea,
    previous_secret bytea, previous_valid_until timestamptz, created_at timestamptz, modified_at timestamptz);
CREATE TABLE keyrot.gateway (zone_id text, gateway_id text, added_at timestamptz, PRIMARY KEY (zone_id, gateway_id));
CREATE TABLE keyrot.data_key (id int PRIMARY KEY, wrapped bytea, master_key bytea, check_value bytea,
    created_at timestamptz);
CREATE TABLE keyrot.request (request_id uuid, target text, requested_at timestamptz, action text, caller text,
    caller_oid oid, "session_user" text, session_user_oid oid, client_addr inet, pid int, outcome text, version int,
    retry_of uuid, PRIMARY KEY (request_id, target));
CREATE SEQUENCE keyrot.app_id;
SELECT format('CREATE TRIGGER run BEFORE INSERT OR UPDATE ON keyrot.%I FOR EACH ROW EXECUTE FUNCTION keyrot.run()', t)
  FROM unnest(ARRAY['app', 'zone', 'gateway', 'data_key', 'request']) AS t \gexec
RESET ROLE;
CREATE EXTENSION keyrot;
SELECT count(*) AS extensions FROM pg_extension WHERE extname = 'keyrot';
SELECT count(*) AS functions_of_keyrot FROM pg_proc WHERE probin LIKE '%keyrot%';

-- Without the extension, the library's functions (as a superuser could declare them) find nothing to touch,
-- although tables of the right names are there.
CREATE FUNCTION public.create_zone_key(zone_id text, secret_key text) RETURNS uuid
    AS '$libdir/keyrot', 'keyrot_create_zone_key' LANGUAGE C;
CREATE FUNCTION public.refresh_zone_key(zone_id text, grace_period interval, OUT secret_key text, OUT request_id uuid)
    AS '$libdir/keyrot', 'keyrot_refresh_zone_key' LANGUAGE C;
CREATE FUNCTION public.verify_zone_string(zone_id text, string_to_sign text, signature text, algorithm text)
    RETURNS boolean AS '$libdir/keyrot', 'keyrot_verify_zone_string' LANGUAGE C;
SELECT public.create_zone_key('lookalike', NULL);
\set VERBOSITY sqlstate
SELECT public.refresh_zone_key('lookalike', '0');
SELECT public.verify_zone_string('lookalike', 'message', 'c2lnbmF0dXJl', 'sha256');
SELECT * FROM keyrot.ran;
\set VERBOSITY terse
DROP FUNCTION public.create_zone_key, public.refresh_zone_key, public.verify_zone_string;
SET client_min_messages = warning;
DROP SCHEMA keyrot CASCADE;
RESET client_min_messages;
-- An empty schema of that name is no better, nor can the extension be told to live in it.
SET ROLE regress_lookalike;
CREATE SCHEMA keyrot;
RESET ROLE;
CREATE EXTENSION keyrot;
CREATE EXTENSION keyrot SCHEMA keyrot;
DROP SCHEMA keyrot;

-- Installed, and one table taken out of the extension: it is no longer keyrot's.
CREATE EXTENSION keyrot;
SELECT app_key FROM keyrot.create_app('Lookalike', 'lookalike.app', 'lookalike-secret-1');
ALTER EXTENSION keyrot DROP TABLE keyrot.request;
SELECT app_key FROM keyrot.create_app('Lookalike', 'lookalike.2');
ALTER EXTENSION keyrot ADD TABLE keyrot.request;
SELECT app_key FROM keyrot.create_app('Lookalike', 'lookalike.2');
-- A look-alike under the name of a table that was renamed.
ALTER TABLE keyrot.request RENAME TO request_kept;
CREATE TABLE keyrot.request (LIKE keyrot.request_kept INCLUDING ALL);
SELECT keyrot.delete_app('lookalike.2');
SELECT count(*) FROM keyrot.request;
DROP TABLE keyrot.request;
ALTER TABLE keyrot.request_kept RENAME TO request;
-- Likewise under the name of its schema.
ALTER SCHEMA keyrot RENAME TO moved;
CREATE SCHEMA keyrot;
SELECT moved.delete_app('lookalike.2');
DROP SCHEMA keyrot;
ALTER SCHEMA moved RENAME TO keyrot;
SELECT keyrot.delete_app('lookalike.2') IS NOT NULL AS done;

-- Dropped and made again within one session: no stale plan, table or key is used.  What is made then can be
-- read by another session.
DROP EXTENSION keyrot;
SELECT count(*) AS schemas_left FROM pg_namespace WHERE nspname = 'keyrot';
SELECT count(*) AS functions_left FROM pg_proc WHERE probin LIKE '%keyrot%';
CREATE EXTENSION keyrot;
SELECT count(*) AS apps FROM keyrot.app;
SELECT app_id, app_key FROM keyrot.create_app('Lookalike', 'lookalike.app', 'lookalike-secret-2');
SELECT keyrot.create_zone_key('lookalike') IS NOT NULL AS done;
SELECT secret_key AS key FROM keyrot.refresh_zone_key('lookalike') \gset
SELECT count(*) AS data_keys FROM keyrot.data_key;
\c -
\set VERBOSITY terse
SELECT app_id, app_secret, version FROM keyrot.describe_app_security('lookalike.app');
SELECT secret_key = :'key' AS same_key, version FROM keyrot.describe_zone_key('lookalike');
-- Made again within a transaction that is rolled back: the old one is there again.
BEGIN;
DROP EXTENSION keyrot;
CREATE EXTENSION keyrot;
SELECT app_id, app_key FROM keyrot.create_app('Lookalike', 'lookalike.undone', 'lookalike-secret-3');
ROLLBACK;
SELECT app_secret FROM keyrot.describe_app_security('lookalike.app');
SELECT app_secret FROM keyrot.describe_app_security('lookalike.undone');
SELECT app_key FROM keyrot.create_app('Lookalike', 'lookalike.after', 'lookalike-secret-4');
\c -
\set VERBOSITY terse
SELECT app_secret FROM keyrot.describe_app_security('lookalike.after');

\c :main
DROP DATABASE regression_keyrot_lookalike;
DROP ROLE regress_lookalike;
