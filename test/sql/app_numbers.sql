-- A number is one app's for all time, also where the sequence did not come along with the rows or was set back;
-- and what is done to an app is done to its own AppKeys, whatever numbers the rows have.
\set VERBOSITY terse
\set SHOW_CONTEXT never
CREATE ROLE regress_tenant_a;
CREATE ROLE regress_tenant_b;
CREATE ROLE regress_guest IN ROLE regress_tenant_a;
GRANT USAGE ON SCHEMA keyrot TO regress_tenant_a, regress_tenant_b;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA keyrot TO regress_tenant_a, regress_tenant_b;
CREATE FUNCTION test.owners() RETURNS TABLE (app_key text, owner text) LANGUAGE sql AS
$$ SELECT app_key, owner_name FROM keyrot.app WHERE app_key LIKE 'number.%' ORDER BY app_key $$;
CREATE FUNCTION test.number_of(app_key text) RETURNS bigint LANGUAGE sql AS
$$ SELECT app_id FROM keyrot.app AS a WHERE a.app_key = number_of.app_key $$;

SET ROLE regress_tenant_b;
SELECT app_key FROM keyrot.create_app('B', 'number.b.1', 'number-secret-of-b');
SELECT keyrot.reset_app_secret('number.b.1', 'number.b.2', 'number-secret-of-b-2', '1 day') IS NOT NULL AS done;
RESET ROLE;

-- Set back, the sequence gives no number in use: none of somebody else's app, and so no way to it.
SELECT setval('keyrot.app_id', test.number_of('number.b.1'), false) IS NOT NULL AS set_back;
SET ROLE regress_guest;
SELECT app_key FROM keyrot.create_app('A', 'number.a.1');
SELECT keyrot.set_app_owner('number.a.1', 'regress_tenant_a') IS NOT NULL AS done;
SELECT app_secret FROM keyrot.describe_app_security('number.b.2');
RESET ROLE;
SELECT * FROM test.owners();
SELECT test.number_of('number.a.1') = max(app_id) AS after_all_others FROM keyrot.app;
SELECT keyrot.reset_app_secret('number.a.1', 'number.a.2') IS NOT NULL AS done,
       keyrot.reset_app_secret('number.a.2', 'number.a.3') IS NOT NULL AS done;
-- The constraint says so, too: neither a second first AppKey, nor a second successor of one.
INSERT INTO keyrot.app (app_key, version, owner, owner_name, created_at, modified_at, app_id, app_name)
SELECT 'number.c', version, owner, owner_name, created_at, modified_at, app_id, app_name
  FROM keyrot.app WHERE app_key = 'number.b.1';
INSERT INTO keyrot.app (app_key, version, owner, owner_name, created_at, modified_at, app_id, app_name, previous_app_key)
SELECT 'number.c', version, owner, owner_name, created_at, modified_at, app_id, app_name, previous_app_key
  FROM keyrot.app WHERE app_key = 'number.b.2';
-- A deleted app keeps its number.
SELECT app_id AS deleted_id FROM keyrot.create_app('Deleted', 'number.deleted') \gset
SELECT keyrot.delete_app('number.deleted') IS NOT NULL AS done;
SELECT setval('keyrot.app_id', :deleted_id, false) = :deleted_id AS set_back;
SELECT app_id = :deleted_id + 1 AS the_next FROM keyrot.create_app('After', 'number.after');

-- Many numbers in use are left behind in one step, and the numbers go on from there.
SELECT app_id AS before FROM keyrot.create_app('Before', 'number.before') \gset
BEGIN;
INSERT INTO keyrot.app (app_key, version, owner, owner_name, created_at, modified_at, app_id, app_name)
SELECT 'number.many.' || i, 1, 10, 'nobody', now(), now(), :before + i, 'Many' FROM generate_series(1, 2000) AS i;
SELECT app_id - :before AS app_id FROM keyrot.create_app('Past them', 'number.past.1');
SELECT last_value - :before AS last_value FROM keyrot.app_id;
SELECT app_id - :before AS app_id FROM keyrot.create_app('Past them', 'number.past.2');
ROLLBACK;

-- Where the tables cannot have the constraint, rows may share a number.  Each app is still itself.
BEGIN;
ALTER TABLE keyrot.app DROP CONSTRAINT app_app_id_key;
UPDATE keyrot.app SET app_id = test.number_of('number.b.1') WHERE app_key LIKE 'number.a.%';
SELECT count(DISTINCT app_key) AS keys, count(DISTINCT app_id) AS numbers FROM keyrot.app WHERE app_key ~ '^number\.[ab]\.';
SELECT test.number_of('number.b.1') AS shared \gset
SET ROLE regress_guest;
SELECT keyrot.set_app_owner('number.a.3', 'regress_guest') IS NOT NULL AS done;
SELECT app_key FROM keyrot.list_apps(app_id => :shared);
RESET ROLE;
SELECT * FROM test.owners() WHERE app_key ~ '^number\.[ab]\.';
SELECT http_status, body ->> 'Code' AS code
  FROM keyrot.api('DescribeAppSecurity', jsonb_build_object('AppId', :shared));
SELECT keyrot.delete_app('number.a.3') IS NOT NULL AS done;
SELECT app_key, secret IS NOT NULL AS has_secret, previous_secret IS NOT NULL AS has_previous
  FROM keyrot.app WHERE app_key ~ '^number\.[ab]\.' ORDER BY app_key;
-- Numbers in use are skipped by looking for them.
SELECT setval('keyrot.app_id', :shared, false) = :shared AS set_back;
SELECT app_id > :shared AS skipped FROM keyrot.create_app('Looked up', 'number.looked.up');
ROLLBACK;

-- Where a trigger keeps the row from being written, nothing is handed out, and nothing is tried for ever.
CREATE FUNCTION test.suppress() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER suppress BEFORE INSERT ON keyrot.app FOR EACH ROW EXECUTE FUNCTION test.suppress();
\set VERBOSITY default
SELECT app_key FROM keyrot.create_app('Suppressed', 'number.suppressed');
\set VERBOSITY terse
SELECT app_key FROM keyrot.create_app('Suppressed');
DROP FUNCTION test.suppress() CASCADE;

-- A rotation is one HOT update: it changes no column of an index.
VACUUM FULL keyrot.app;
VACUUM FULL keyrot.zone;
SELECT keyrot.create_zone_key('number-zone') IS NOT NULL AS done;
BEGIN;
CREATE TEMP TABLE before ON COMMIT DROP AS SELECT * FROM pg_stat_xact_user_tables;
SELECT keyrot.reset_app_secret('number.a.3', grace_period => '1 day') IS NOT NULL AS done;
SELECT secret_key IS NOT NULL AS done FROM keyrot.refresh_zone_key('number-zone', '1 day');
SELECT relname, s.n_tup_upd - b.n_tup_upd AS updates, s.n_tup_hot_upd - b.n_tup_hot_upd AS hot
  FROM pg_stat_xact_user_tables AS s JOIN before AS b USING (relid, relname)
 WHERE relid IN ('keyrot.app'::regclass, 'keyrot.zone'::regclass) ORDER BY relname;
COMMIT;

DROP FUNCTION test.owners(), test.number_of(text);
DROP OWNED BY regress_guest, regress_tenant_a, regress_tenant_b;
DROP ROLE regress_guest, regress_tenant_a, regress_tenant_b;
