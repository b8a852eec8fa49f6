-- Data keys: a new one seals at once, and reseal() leaves the old ones behind without changing anything that
-- anybody sees.  In a database of its own, where ids and counts are known.  rotate_master_key() is not called
-- with success here: it writes into the key file of the server that the tests run on.
SELECT current_database() AS main \gset
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regression_keyrot_data_keys;
CREATE DATABASE regression_keyrot_data_keys;
\c regression_keyrot_data_keys
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION pgcrypto;
CREATE EXTENSION keyrot;
-- The master key of this server is there; nothing is made.
SELECT keyrot.create_master_key() = value AS of_the_server FROM keyrot.status() WHERE item = 'master_key';
RESET client_min_messages;
-- A table of data keys that is read by SQL may be empty, too.
CREATE TRIGGER t BEFORE TRUNCATE ON keyrot.data_key EXECUTE FUNCTION suppress_redundant_updates_trigger();
SELECT keyrot.verify_app_signature('nobody', 'message', 'signature');
DROP TRIGGER t ON keyrot.data_key;

-- Which data key each secret is sealed with.
CREATE FUNCTION key_of(sealed bytea) RETURNS int LANGUAGE sql AS
$$ SELECT ('x' || encode(substr(sealed, 2, 4), 'hex'))::bit(32)::int $$;
CREATE VIEW sealed AS
SELECT 'app' AS kind, app_key AS id, version, key_of(secret) AS current, key_of(previous_secret) AS previous FROM keyrot.app
UNION ALL SELECT 'zone', zone_id, version, key_of(secret), key_of(previous_secret) FROM keyrot.zone;
CREATE VIEW data_keys AS SELECT string_agg(id::text, ' ' ORDER BY id) AS data_keys FROM keyrot.data_key;
CREATE FUNCTION secret_key(number int) RETURNS text LANGUAGE sql AS
$$ SELECT encode(sha256(number::text::bytea), 'base64') $$;
CREATE FUNCTION state_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;

-- Where there is no data key yet, there is nothing to do, and none is made but by the one function that promises it.
CALL keyrot.reseal();
SELECT keyrot.rewrap_data_keys() AS rewrapped;
SELECT item, value FROM keyrot.status() WHERE item IN ('data_key', 'data_keys', 'master_key_in_use', 'reseal');
TABLE keyrot.reseal;
BEGIN;
SELECT keyrot.rotate_data_key() AS data_key;
ROLLBACK;
TABLE data_keys;
SELECT keyrot.rotate_data_key() AS data_key;
SELECT item, value FROM keyrot.status() WHERE item IN ('data_key', 'data_keys');
SELECT count(*) AS master_keys, count(DISTINCT value) AS distinct FROM keyrot.status() WHERE item IN ('master_key', 'master_key_in_use');
SELECT keyrot.rewrap_data_keys() AS rewrapped;
CALL keyrot.reseal();

-- A new one seals in the same command, in the same transaction and from then on.
SELECT app_key FROM keyrot.create_app('Data keys', 'app-1', 'data-key-secret-1');
SELECT app_key FROM keyrot.create_app('Data keys', 'app-2', 'data-key-secret-1');
SELECT app_key FROM keyrot.create_app('Data keys', 'app-3', 'data-key-secret-1');
SELECT keyrot.rotate_data_key() AS data_key, keyrot.reset_app_secret('app-1') IS NOT NULL AS reset;
BEGIN;
SELECT keyrot.rotate_data_key() AS data_key;
SELECT keyrot.reset_app_secret('app-2') IS NOT NULL AS reset;
COMMIT;
SELECT keyrot.reset_app_secret('app-1', grace_period => '1 day') IS NOT NULL AS reset;
SELECT id, version, current, previous FROM sealed ORDER BY id;

-- One that is rolled back, as a whole or to a savepoint, seals nothing that stays; its id is free again, for
-- another key.
BEGIN;
SELECT keyrot.rotate_data_key() AS data_key;
SELECT keyrot.reset_app_secret('app-3', new_app_secret => 'data-key-secret-2') IS NOT NULL AS reset;
SELECT id, current FROM sealed WHERE id = 'app-3';
SELECT check_value AS rolled_back FROM keyrot.data_key ORDER BY id DESC LIMIT 1 \gset
ROLLBACK;
SELECT keyrot.reset_app_secret('app-3', new_app_secret => 'data-key-secret-3') IS NOT NULL AS reset;
SELECT id, current FROM sealed WHERE id = 'app-3';
BEGIN;
SAVEPOINT one;
SELECT keyrot.rotate_data_key() AS data_key;
SELECT keyrot.reset_app_secret('app-3', new_app_secret => 'data-key-secret-4') IS NOT NULL AS reset;
ROLLBACK TO one;
SELECT keyrot.reset_app_secret('app-3', new_app_secret => 'data-key-secret-5') IS NOT NULL AS reset;
SELECT id, current FROM sealed WHERE id = 'app-3';
SELECT keyrot.rotate_data_key() AS data_key;
SELECT keyrot.reset_app_secret('app-3', new_app_secret => 'data-key-secret-6') IS NOT NULL AS reset;
COMMIT;
SELECT id, current FROM sealed WHERE id = 'app-3';
SELECT app_secret FROM keyrot.describe_app_security('app-3');
SELECT check_value <> :'rolled_back' AS another_key FROM keyrot.data_key ORDER BY id DESC LIMIT 1;

-- What reseal() tells.  Nobody else's secret is in the way, so one batch moves all.
CALL keyrot.reseal();
TABLE data_keys;
CALL keyrot.reseal();
SELECT data_key, done, total, ended_at >= updated_at AND updated_at >= started_at AS in_order FROM keyrot.reseal ORDER BY 1;

-- All that a row can be: current and previous versions, in grace and past it, retired AppKeys that still verify,
-- deleted ones, each sealed with another key.
SET client_min_messages = warning;
DO $$
BEGIN
    PERFORM keyrot.create_app('Data keys', 'renamed', 'data-key-secret-1');
    PERFORM keyrot.create_app('Data keys', 'renamed-no-grace', 'data-key-secret-1');
    PERFORM keyrot.create_app('Data keys', 'deleted', 'data-key-secret-1');
    PERFORM keyrot.create_app('Data keys', 'expired', 'data-key-secret-1');
    PERFORM keyrot.create_zone_key('zone-1', secret_key(1));
    PERFORM keyrot.create_zone_key('zone-2', secret_key(1));
    PERFORM keyrot.create_zone_key('zone-deleted', secret_key(1));
    PERFORM keyrot.add_gateway('zone-1', 'gateway-1');
    PERFORM keyrot.rotate_data_key();
    PERFORM keyrot.reset_app_secret('app-1', NULL, 'data-key-secret-2', '1 day');
    PERFORM keyrot.reset_app_secret('renamed', 'renamed-2', 'data-key-secret-2', '1 day');
    PERFORM keyrot.reset_app_secret('renamed-no-grace', 'renamed-3', 'data-key-secret-2');
    PERFORM keyrot.reset_app_secret('expired', NULL, 'data-key-secret-2', '1 microsecond');
    PERFORM keyrot.delete_app('deleted');
    PERFORM keyrot.modify_zone_key('zone-1', secret_key(2), '1 day');
    PERFORM keyrot.delete_zone_key('zone-deleted');
    PERFORM keyrot.rotate_data_key();
    PERFORM keyrot.create_app('Data keys', 'late', 'data-key-secret-1');
    PERFORM keyrot.rotate_data_key();
END $$;
SELECT kind, id, version, current, previous FROM sealed ORDER BY kind, id;
TABLE data_keys;
CREATE TABLE id AS SELECT kind, id FROM sealed;
-- What anybody can see of it: each credential with each secret, described, signed with and verified; and each
-- row but for its sealed bytes.
CREATE FUNCTION signature(kind text, secret text) RETURNS text LANGUAGE sql AS $$
    SELECT encode(hmac('m', secret, 'sha256'),
                  'base64') $$;
CREATE FUNCTION seen(OUT verified text, OUT accepted bigint, OUT described text, OUT rows text) LANGUAGE plpgsql AS $$
BEGIN
    SELECT md5(string_agg(format('%s %s %s %s', id.id, n, v.app, v.gateway), ',' ORDER BY id.kind, id.id, n)),
           count(*) FILTER (WHERE v.app) + count(*) FILTER (WHERE v.gateway)
      INTO verified, accepted
      FROM id, generate_series(1, 6) AS n,
           LATERAL (SELECT CASE id.kind WHEN 'app' THEN 'data-key-secret-' || n ELSE secret_key(n) END AS secret) AS c,
           LATERAL (SELECT signature(id.kind, c.secret) AS s) AS s,
           LATERAL (SELECT CASE id.kind WHEN 'app' THEN keyrot.verify_app_string(id.id, 'm', s)
                                        ELSE keyrot.verify_zone_string(id.id, 'm', s) END AS app,
                           keyrot.verify_gateway_string(id.id, 'gateway-1', 'm', s) AS gateway) AS v;
    SELECT md5(string_agg(c::text, ',' ORDER BY c.kind, c.id)) INTO described
      FROM (SELECT id.kind, id.id, d.app_secret, d.version, d.created_at, d.modified_at, keyrot.sign_for_app(id.id, 'm')
              FROM id JOIN keyrot.credentials AS c USING (kind, id), keyrot.describe_app_security(id.id) AS d
             WHERE id.kind = 'app' AND c.state = 'current'
            UNION ALL
            SELECT id.kind, id.id, d.secret_key, d.version, d.created_at, d.modified_at, keyrot.sign_for_zone(id.id, 'm')
              FROM id JOIN keyrot.credentials AS c USING (kind, id), keyrot.describe_zone_key(id.id) AS d
             WHERE id.kind = 'zone' AND c.state = 'current') AS c;
    SELECT md5(string_agg((to_jsonb(r) - 'secret' - 'previous_secret')::text, ',' ORDER BY to_jsonb(r)::text))
      INTO rows
      FROM (SELECT to_jsonb(a) - 'secret' - 'previous_secret' AS r FROM keyrot.app AS a
            UNION ALL SELECT to_jsonb(z) - 'secret' - 'previous_secret' FROM keyrot.zone AS z
            UNION ALL SELECT to_jsonb(g) FROM keyrot.gateway AS g
            UNION ALL SELECT to_jsonb(t) FROM keyrot.retry AS t) AS r;
END $$;
CREATE TABLE before AS SELECT * FROM seen();
CREATE TABLE requests_before AS TABLE keyrot.request;
SELECT accepted FROM before;

-- What is refused changes nothing: no batch size, and no place in which it could not commit.
CREATE TABLE sealed_before AS TABLE sealed;
CALL keyrot.reseal(NULL);
CALL keyrot.reseal(0);
CALL keyrot.reseal(-1);
CALL keyrot.reseal(100001);
SELECT keyrot.rotate_master_key(NULL);
BEGIN;
CALL keyrot.reseal();
ROLLBACK;
BEGIN;
SAVEPOINT one;
CALL keyrot.reseal();
ROLLBACK;
CREATE FUNCTION from_a_function() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL keyrot.reseal(); END $$;
SELECT from_a_function();
CREATE FUNCTION from_sql() RETURNS void LANGUAGE sql AS $$ CALL keyrot.reseal() $$;
SELECT from_sql();
CREATE PROCEDURE of_a_definer() LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN CALL keyrot.reseal(); END $$;
CALL of_a_definer();
CREATE PROCEDURE with_a_setting() LANGUAGE plpgsql SET work_mem = '1MB' AS $$ BEGIN CALL keyrot.reseal(); END $$;
CALL with_a_setting();
DO $$
BEGIN
    BEGIN
        CALL keyrot.reseal();
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'in a block that catches errors: % %', SQLSTATE, SQLERRM;
    END;
END $$;
BEGIN;
DO $$ BEGIN CALL keyrot.reseal(); END $$;
ROLLBACK;
SET default_transaction_read_only = on;
CALL keyrot.reseal();
SELECT keyrot.rotate_data_key();
SELECT keyrot.rewrap_data_keys();
SELECT keyrot.create_master_key();
SELECT keyrot.rotate_master_key();
RESET default_transaction_read_only;
SELECT count(*) AS changed FROM (TABLE sealed EXCEPT TABLE sealed_before) AS d;
SELECT value, problem FROM keyrot.status() WHERE item = 'reseal';

-- One credential a batch, from a block at the top level, which may go on.
DO $$
BEGIN
    CALL keyrot.reseal(1);
    CREATE TABLE went_on (n int);
    CALL keyrot.reseal(batch_size => 2);
END $$;
SELECT count(*) AS went_on FROM went_on;
SELECT kind, id, version, current, previous FROM sealed WHERE current IS NOT NULL OR previous IS NOT NULL ORDER BY kind, id;
TABLE data_keys;
-- Each is one request, however many batches it took, and nobody sees a difference.
SELECT action, target, outcome, version FROM (TABLE keyrot.request EXCEPT TABLE requests_before) AS d ORDER BY request_id;
SELECT seen.verified = before.verified AS verified, seen.accepted, seen.described = before.described AS described,
       seen.rows = before.rows AS rows FROM seen(), before;
SELECT done, total FROM keyrot.reseal ORDER BY data_key DESC LIMIT 1;
-- Whatever the batch, nothing is moved twice.
SELECT md5(string_agg(secret::text, ',' ORDER BY app_key)) AS sealed FROM keyrot.app \gset
CALL keyrot.reseal(100000);
SELECT md5(string_agg(secret::text, ',' ORDER BY app_key)) = :'sealed' AS as_it_was FROM keyrot.app;

-- In a procedure of one's own, in a loop over rows, which stays open; and twice.
SELECT keyrot.rotate_data_key() AS data_key;
CREATE PROCEDURE in_a_loop() LANGUAGE plpgsql AS $$
DECLARE
    n int;
BEGIN
    FOR n IN SELECT g FROM generate_series(1, 3) AS g LOOP
        PERFORM keyrot.rotate_data_key();
        CALL keyrot.reseal(2);
    END LOOP;
END $$;
CALL in_a_loop();
TABLE data_keys;
SELECT seen.verified = before.verified AS verified, seen.described = before.described AS described,
       seen.rows = before.rows AS rows FROM seen(), before;

-- Whatever isolation a session is used to, reseal() sees what is committed.
SET default_transaction_isolation = 'serializable';
SELECT keyrot.rotate_data_key() AS data_key;
CALL keyrot.reseal(2);
SET default_transaction_isolation = 'repeatable read';
SELECT keyrot.rotate_data_key() AS data_key;
CALL keyrot.reseal(2);
SHOW transaction_isolation;
RESET default_transaction_isolation;
TABLE data_keys;
SELECT seen.verified = before.verified AS verified, seen.described = before.described AS described,
       seen.rows = before.rows AS rows FROM seen(), before;

-- A secret that does not open stays, with a warning, and so does its data key; all else is moved.  Once it was
-- rotated, nothing holds the data key.
UPDATE keyrot.app SET secret = set_byte(secret, 40, get_byte(secret, 40) # 1) WHERE app_key = 'app-2';
UPDATE keyrot.zone SET previous_secret = set_byte(previous_secret, 40, get_byte(previous_secret, 40) # 1)
 WHERE zone_id = 'zone-1';
UPDATE keyrot.app SET secret = '\x01' WHERE app_key = 'app-3';
UPDATE keyrot.app SET secret = secret || secret || secret || secret WHERE app_key = 'late';
CREATE TABLE damaged AS SELECT ctid AS place, app_key, secret FROM keyrot.app WHERE app_key IN ('app-2', 'app-3', 'late');
SELECT keyrot.rotate_data_key() AS data_key;
SELECT keyrot.rotate_data_key() AS data_key;
CALL keyrot.reseal();
SELECT count(*) AS untouched FROM damaged JOIN keyrot.app USING (app_key, secret) WHERE app.ctid = damaged.place;
SELECT keyrot.reset_app_secret('late') IS NOT NULL AS reset;
SELECT kind, id, current, previous FROM sealed WHERE id IN ('app-1', 'app-2', 'app-3', 'zone-1') ORDER BY id;
TABLE data_keys;
RESET client_min_messages;
SELECT keyrot.end_zone_grace('zone-1') IS NOT NULL AS ended;
SELECT keyrot.reset_app_secret('app-3') IS NOT NULL AS reset;
SELECT keyrot.reset_app_secret('app-2') IS NOT NULL AS reset;
CALL keyrot.reseal();
TABLE data_keys;

-- What is on record: the data key's id, the fingerprint of the current master key, or nothing where there was no key.
SELECT r.action, replace(r.target, s.value, 'MASTER KEY') AS target, r.outcome, count(*)
  FROM keyrot.request AS r, keyrot.status() AS s WHERE s.item = 'master_key' AND r.action ~ '_keys?$|^reseal' AND r.action !~ 'zone'
 GROUP BY 1, 2, 3 ORDER BY 1, min(r.requested_at);

-- Whom they are for: superusers unless granted, and then without any right to the tables.
CREATE ROLE regress_keeper;
GRANT USAGE ON SCHEMA keyrot TO regress_keeper;
SET ROLE regress_keeper;
SELECT keyrot.rotate_data_key();
SELECT keyrot.rewrap_data_keys();
SELECT keyrot.create_master_key();
SELECT keyrot.rotate_master_key();
CALL keyrot.reseal();
RESET ROLE;
GRANT EXECUTE ON FUNCTION keyrot.rotate_data_key, keyrot.rewrap_data_keys, keyrot.create_master_key, keyrot.status TO regress_keeper;
GRANT EXECUTE ON PROCEDURE keyrot.reseal TO regress_keeper;
SET ROLE regress_keeper;
SELECT keyrot.rotate_data_key() IS NOT NULL AS rotated;
SELECT keyrot.rewrap_data_keys() AS rewrapped;
SET client_min_messages = warning;
SELECT keyrot.create_master_key() = value AS of_the_server FROM keyrot.status() WHERE item = 'master_key';
CALL keyrot.reseal();
RESET client_min_messages;
SELECT item, value FROM keyrot.status() WHERE item IN ('data_key', 'data_keys', 'reseal');
SELECT count(*) AS master_keys_in_use FROM keyrot.status() WHERE item = 'master_key_in_use';
RESET ROLE;
-- On a search_path of somebody else's, nothing of theirs runs.
CREATE SCHEMA regress_evil;
CREATE FUNCTION regress_evil.trap(bytea, bytea) RETURNS boolean LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'hostile operator ran'; END $$;
CREATE FUNCTION regress_evil.trap(text, text) RETURNS boolean LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'hostile operator ran'; END $$;
CREATE FUNCTION regress_evil.trap(int, int) RETURNS boolean LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'hostile operator ran'; END $$;
CREATE FUNCTION regress_evil.trap(bigint, bigint) RETURNS bigint LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'hostile operator ran'; END $$;
CREATE FUNCTION regress_evil.substr(bytea, int, int) RETURNS bytea LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'hostile function ran'; END $$;
CREATE OPERATOR regress_evil.< (leftarg = bytea, rightarg = bytea, function = regress_evil.trap);
CREATE OPERATOR regress_evil.= (leftarg = bytea, rightarg = bytea, function = regress_evil.trap);
CREATE OPERATOR regress_evil.> (leftarg = text, rightarg = text, function = regress_evil.trap);
CREATE OPERATOR regress_evil.= (leftarg = int, rightarg = int, function = regress_evil.trap);
CREATE OPERATOR regress_evil.+ (leftarg = bigint, rightarg = bigint, function = regress_evil.trap);
CREATE TABLE regress_evil.app (app_key text);
CREATE TABLE regress_evil.data_key (id int);
SET search_path = regress_evil, pg_catalog, public;
SET client_min_messages = warning;
SELECT keyrot.rotate_data_key() IS NOT NULL AS rotated;
SELECT keyrot.rewrap_data_keys() AS rewrapped;
CALL keyrot.reseal(2);
RESET search_path;
SELECT count(*) AS data_keys FROM keyrot.data_key;

-- Not where PostgreSQL runs somebody's code under another role's name, nor in parallel workers.
GRANT CREATE ON SCHEMA public TO regress_keeper;
SET ROLE regress_keeper;
CREATE MATERIALIZED VIEW attempts AS
SELECT statement, state_of(statement) FROM (VALUES ('SELECT keyrot.rotate_data_key()'), ('SELECT keyrot.rewrap_data_keys()'),
    ('SELECT keyrot.create_master_key()'), ('CALL keyrot.reseal()')) AS v (statement) WITH NO DATA;
RESET ROLE;
REFRESH MATERIALIZED VIEW attempts;
SELECT * FROM attempts ORDER BY statement;
CREATE FUNCTION of_a_liar() RETURNS int LANGUAGE plpgsql PARALLEL SAFE AS
$$ BEGIN RETURN keyrot.rotate_data_key(); END $$;
BEGIN;
SELECT count(set_config(name, 'on', true)) AS forced_parallel
  FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
SELECT of_a_liar();
ROLLBACK;

\c :main
SET client_min_messages = warning;
DROP DATABASE regression_keyrot_data_keys;
DROP ROLE regress_keeper;
