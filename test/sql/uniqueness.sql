-- An AppKey is unique for all time, a zone has one key and stays with its owner.  What was rolled back never
-- happened: it is free again.
\set SHOW_CONTEXT never
CREATE ROLE regress_zone_first;
CREATE ROLE regress_zone_second;
CREATE ROLE regress_zone_operator;
GRANT USAGE ON SCHEMA keyrot TO regress_zone_first, regress_zone_second, regress_zone_operator;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA keyrot TO regress_zone_first, regress_zone_second, regress_zone_operator;

-- After a NewAppKey, and after a second one, none of the AppKeys can be issued again: by nobody, in no way.
SELECT app_id AS first_id, app_key FROM keyrot.create_app('First', 'unique.a') \gset
SELECT keyrot.reset_app_secret('unique.a', 'unique.b') IS NOT NULL AS done;
SELECT keyrot.reset_app_secret('unique.b', 'unique.c') IS NOT NULL AS done;
SELECT app_key FROM keyrot.create_app('Other', 'unique.other') \gset
SELECT k, (test.try('create_app', '''Again'', $1', k)).constraint_name AS by_create,
       (test.try('reset_app_secret', '''unique.other'', $1', k)).constraint_name AS by_another,
       (test.try('reset_app_secret', '''unique.c'', $1', k)).constraint_name AS by_itself
  FROM (VALUES ('unique.a'), ('unique.b'), ('unique.c')) AS v (k);
-- After its deletion too.
SELECT keyrot.delete_app('unique.c') IS NOT NULL AS done;
SELECT k, (test.try('create_app', '''Again'', $1', k)).constraint_name AS by_create,
       (test.try('reset_app_secret', '''unique.other'', $1', k)).constraint_name AS by_another
  FROM (VALUES ('unique.a'), ('unique.b'), ('unique.c')) AS v (k);
SELECT count(DISTINCT app_id) AS apps, count(*) AS keys FROM keyrot.app WHERE app_key LIKE 'unique._';
-- That one is taken is no secret, whoever asks.
SET ROLE regress_zone_second;
SELECT app_key FROM keyrot.create_app('Mine', 'unique.c');
SELECT app_key FROM keyrot.create_app('Mine', 'unique.other');
RESET ROLE;
-- The constraint of the database says so, not keyrot's code alone.
SELECT conname, contype, pg_get_constraintdef(oid) FROM pg_constraint
 WHERE connamespace = 'keyrot'::regnamespace AND contype IN ('p', 'u') ORDER BY conname;
INSERT INTO keyrot.app SELECT (a).* FROM (SELECT a FROM keyrot.app AS a WHERE app_key = 'unique.a') AS s;

-- A rolled back NewAppKey is free, and so is a rolled back AppKey; numbers may be lost, never used twice.
BEGIN;
SELECT keyrot.reset_app_secret('unique.other', 'unique.undone') IS NOT NULL AS done;
SELECT app_id AS lost_id FROM keyrot.create_app('Undone', 'unique.undone.2') \gset
ROLLBACK;
SELECT app_id > :lost_id AS later_number FROM keyrot.create_app('Again', 'unique.undone.2');
SELECT app_key FROM keyrot.create_app('Again', 'unique.undone');
-- A savepoint frees as well, within the same transaction.
BEGIN;
SAVEPOINT s;
SELECT app_key FROM keyrot.create_app('Undone', 'unique.savepoint');
ROLLBACK TO s;
SELECT app_key FROM keyrot.create_app('Again', 'unique.savepoint');
COMMIT;

-- A zone has one key, whoever asks; it is one row.
SET ROLE regress_zone_first;
SELECT keyrot.create_zone_key('unique-zone', test.secret_key(41)) IS NOT NULL AS done;
SELECT keyrot.create_zone_key('unique-zone');
SET ROLE regress_zone_second;
SELECT keyrot.create_zone_key('unique-zone');
-- Deleted, it stays with its owner: others may not create its key, and its version goes on.
SET ROLE regress_zone_first;
SELECT keyrot.refresh_zone_key('unique-zone') IS NOT NULL AS done;
SELECT created_at AS first_created_at, version FROM keyrot.describe_zone_key('unique-zone') \gset
SELECT keyrot.delete_zone_key('unique-zone') IS NOT NULL AS done;
SET ROLE regress_zone_second;
SELECT state, message, hint, context ~ '^keyrot request .*: create_zone_key' AS has_request_id
  FROM test.try('create_zone_key', $$'unique-zone'$$, NULL);
SET ROLE regress_zone_first;
SELECT keyrot.create_zone_key('unique-zone', test.secret_key(41)) IS NOT NULL AS done;
SELECT secret_key = test.secret_key(41) AS key_as_given, :version + 1 AS wanted, version,
       created_at > :'first_created_at' AS created_later, created_at = modified_at AS unmodified
  FROM keyrot.describe_zone_key('unique-zone');
-- An operator may, and the owner is still the first one.
SELECT keyrot.delete_zone_key('unique-zone') IS NOT NULL AS done;
RESET ROLE;
SET keyrot.operator_role = 'regress_zone_operator';
SET ROLE regress_zone_operator;
SELECT keyrot.create_zone_key('unique-zone') IS NOT NULL AS done;
RESET ROLE;
SELECT owner, version, state FROM keyrot.credentials WHERE id = 'unique-zone';
SELECT count(*) FROM keyrot.zone WHERE zone_id = 'unique-zone';
-- A new zone's rolled back key leaves the ZoneId free for anybody.
BEGIN;
SELECT keyrot.create_zone_key('unique-undone') IS NOT NULL AS done;
ROLLBACK;
SET ROLE regress_zone_second;
SELECT keyrot.create_zone_key('unique-undone') IS NOT NULL AS done;
RESET ROLE;
SELECT owner, version FROM keyrot.credentials WHERE id = 'unique-undone';

RESET keyrot.operator_role;
DROP OWNED BY regress_zone_first, regress_zone_second, regress_zone_operator;
DROP ROLE regress_zone_first, regress_zone_second, regress_zone_operator;
