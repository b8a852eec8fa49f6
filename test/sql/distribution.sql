-- distribute(): what it refuses, and why.  Then, with a stand-in for Citus that keeps all in this database, what it
-- does, and that the same calls give the same answers by the statements that a cluster needs.  That these are ones that
-- Citus can run, and find their rows on whichever node, is test/citus's to see.
\set SHOW_CONTEXT never
SELECT keyrot.distribute();
SELECT keyrot.distribute(NULL);
SELECT keyrot.distribute(0);
SELECT keyrot.distribute(64001);
BEGIN READ ONLY;
SELECT keyrot.distribute();
ROLLBACK;
CREATE ROLE regress_distributor;
GRANT USAGE ON SCHEMA keyrot TO regress_distributor;
GRANT EXECUTE ON FUNCTION keyrot.distribute TO regress_distributor;
GRANT SELECT ON keyrot.gateways TO regress_distributor;
SET ROLE regress_distributor;
SELECT keyrot.distribute();
-- Elsewhere owners count by OID, too, and what the views do not show, their helper does not either.
SELECT * FROM keyrot.read_distributed('gateways') AS t (zone_id text, gateway_id text, added_at timestamptz);
RESET ROLE;
DROP OWNED BY regress_distributor;

\set main :DBNAME
CREATE DATABASE regression_keyrot_distribution;
\c regression_keyrot_distribution
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION keyrot;
SELECT length(keyrot.create_master_key()) AS digits;

-- The stand-in: the catalogs and functions of Citus that keyrot asks.
SET allow_system_table_mods = on;
CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass PRIMARY KEY, kept text);
CREATE TABLE pg_catalog.pg_dist_local_group AS SELECT 0 AS groupid;
CREATE TABLE pg_catalog.pg_dist_node AS
    SELECT i AS nodeid, 'node' || i AS nodename, 5432 AS nodeport FROM generate_series(1, 2) AS i;
CREATE FUNCTION pg_catalog.create_reference_table(table_name regclass) RETURNS void LANGUAGE sql AS
$$ INSERT INTO pg_catalog.pg_dist_partition VALUES (table_name, 'on every node') $$;
CREATE FUNCTION pg_catalog.create_distributed_table(table_name regclass, distribution_column text,
    colocate_with text, shard_count int) RETURNS void LANGUAGE sql AS
$$ INSERT INTO pg_catalog.pg_dist_partition
   VALUES (table_name, concat_ws(' ', 'by', distribution_column, 'with', colocate_with, shard_count)) $$;
CREATE FUNCTION pg_catalog.truncate_local_data_after_distributing_table(function_name regclass) RETURNS void
    LANGUAGE sql AS $$ UPDATE pg_catalog.pg_dist_partition SET kept = kept || ', none here' WHERE logicalrelid = function_name $$;
CREATE FUNCTION pg_catalog.run_command_on_all_nodes(command text, OUT nodeid int, OUT success boolean, OUT result text)
    RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
    nodeid := 1; success := true; EXECUTE command INTO result; RETURN NEXT;
    nodeid := 2; success := false; result := 'no route to node2'; RETURN NEXT;
END $$;
INSERT INTO pg_catalog.pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
    VALUES (70000, 'citus', 10, 11, false, '11.3-1');
RESET allow_system_table_mods;

-- What it refuses there.
SELECT keyrot.distribute();
SET allow_system_table_mods = on;
UPDATE pg_catalog.pg_extension SET extversion = '13.2-1' WHERE extname = 'citus';
RESET allow_system_table_mods;
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE FUNCTION obstacle(add text, remove text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text;
    detail text;
BEGIN
    EXECUTE add;
    BEGIN
        PERFORM keyrot.distribute();
        message := 'distributed';
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS message := MESSAGE_TEXT, detail := PG_EXCEPTION_DETAIL;
        message := concat_ws(' ', SQLSTATE, message || '.', detail);
    END;
    EXECUTE remove;
    RETURN message;
END $$;
CREATE TABLE of_theirs (zone_id text COLLATE "C" REFERENCES keyrot.zone);
CREATE TABLE app_child () INHERITS (keyrot.app);
SELECT obstacle('ALTER TABLE app_child NO INHERIT keyrot.app', 'DROP TABLE app_child, of_theirs');
SELECT obstacle('CREATE TABLE app_child () INHERITS (keyrot.app)', 'DROP TABLE app_child');
SELECT obstacle('CREATE TRIGGER t BEFORE INSERT ON keyrot.request EXECUTE FUNCTION nothing()', 'DROP TRIGGER t ON keyrot.request');
SELECT obstacle('CREATE RULE r AS ON INSERT TO keyrot.retry DO ALSO SELECT 1', 'DROP RULE r ON keyrot.retry');
SELECT obstacle('ALTER TABLE keyrot.zone ENABLE ROW LEVEL SECURITY', 'ALTER TABLE keyrot.zone DISABLE ROW LEVEL SECURITY');
SELECT obstacle('CREATE UNIQUE INDEX u ON keyrot.app (app_name)', 'DROP INDEX keyrot.u');
SELECT obstacle('ALTER TABLE keyrot.gateway ADD number bigint GENERATED ALWAYS AS IDENTITY',
                'ALTER TABLE keyrot.gateway DROP number');
SELECT app_id, app_key FROM keyrot.create_app('before', 'before-it', 'before-it-secret-1');
SELECT obstacle('UPDATE keyrot.app SET grace_after_use = 1', 'UPDATE keyrot.app SET grace_after_use = NULL');

-- What it does.
CREATE ROLE regress_one;
CREATE ROLE regress_other;
GRANT USAGE ON SCHEMA keyrot TO regress_one, regress_other;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA keyrot TO regress_one, regress_other;
GRANT SELECT ON keyrot.credentials, keyrot.gateways, keyrot.requests TO regress_one, regress_other;
SELECT keyrot.create_zone_key('zone-before') IS NOT NULL AS created;
CREATE TEMP TABLE before AS SELECT (SELECT jsonb_agg(to_jsonb(c) - 'age') FROM keyrot.credentials AS c) AS credentials,
    (SELECT jsonb_agg(to_jsonb(r)) FROM keyrot.requests AS r) AS requests;
SELECT keyrot.distribute(4);
SELECT keyrot.distribute();
SELECT logicalrelid, kept FROM pg_dist_partition ORDER BY logicalrelid::text;
SELECT conname FROM pg_constraint WHERE conrelid = 'keyrot.app'::regclass AND contype IN ('p', 'u');
SELECT b.credentials = (SELECT jsonb_agg(to_jsonb(c) - 'age') FROM keyrot.credentials AS c) AS same_credentials,
       b.requests = (SELECT jsonb_agg(to_jsonb(r)) FROM keyrot.requests AS r) AS same_requests FROM before AS b;

-- No function that reads tables may run in a parallel worker.
SELECT count(*) AS still_safe FROM pg_proc
 WHERE pronamespace = 'keyrot'::regnamespace AND proparallel <> 'u' AND proname NOT IN ('request_id_at', 'request_time');

-- Apps: AppKeys are unique, and numbers are one app's each, those of another node in a range of its own.
CREATE FUNCTION pg_temp.signs(app_key text) RETURNS boolean LANGUAGE sql AS
$$ SELECT keyrot.verify_app_string(app_key, 'm', keyrot.sign_string_for_app(app_key, 'm')) $$;
SELECT app_id FROM keyrot.create_app('second', 'second-app', description => 'the second');
SELECT * FROM keyrot.create_app('again', 'second-app');
SELECT setval('keyrot.app_id', 1, false);
SELECT app_id FROM keyrot.create_app('third', 'third-app');
UPDATE pg_dist_local_group SET groupid = 3;
SELECT app_id, app_id - (3::bigint << 44) AS number FROM keyrot.create_app('fourth', 'fourth-app');
SELECT setval('keyrot.app_id', 1, false);
SELECT app_id - (3::bigint << 44) AS number FROM keyrot.create_app('fifth', 'fifth-app');
UPDATE pg_dist_local_group SET groupid = 0;
SELECT keyrot.reset_app_secret('second-app', 'second-new', 'second-new-secret-1', '1 hour') IS NOT NULL AS renamed;
SELECT * FROM keyrot.reset_app_secret('third-app', 'second-app');
SELECT app_key, app_name, description, total_count FROM keyrot.list_apps(newest_first => false, page_size => 3);
SELECT pg_temp.signs('second-new') AS new_signs, (SELECT app_id FROM keyrot.describe_app_security('second-new'));
SELECT id, state, version, previous_valid_until > now() AS in_grace FROM keyrot.credentials WHERE kind = 'app' ORDER BY id;
SELECT http_status, body ->> 'AppName' AS name FROM keyrot.api('DescribeApp', '{"AppId": 2}');

-- Values that go to other nodes as text are in a style that is the same everywhere, whatever the session's.
CREATE FUNCTION pg_temp.show_style() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE WARNING 'DateStyle: %, IntervalStyle: %', current_setting('DateStyle'), current_setting('IntervalStyle');
    RETURN NEW;
END $$;
CREATE TRIGGER show_style BEFORE UPDATE ON keyrot.app FOR EACH ROW EXECUTE FUNCTION pg_temp.show_style();
SET DateStyle = 'SQL, DMY';
SELECT keyrot.modify_app('third-app', 'styled') IS NOT NULL AS modified;
SHOW DateStyle;
RESET DateStyle;
DROP TRIGGER show_style ON keyrot.app;

-- Zones, gateways, tokens.
SELECT gateway_id FROM keyrot.add_gateway('zone-before', 'gateway-1');
SELECT zone_id, gateway_id FROM keyrot.gateways;
SELECT keyrot.modify_zone_key('zone-before', 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=', '1 hour') IS NOT NULL AS modified;
SELECT keyrot.end_zone_grace('zone-before') IS NOT NULL AS ended;
SELECT keyrot.reset_app_secret('third-app', client_token => 'once') = keyrot.reset_app_secret('third-app', client_token => 'once') AS repeated;

-- Rights: by the owner's and caller's name alone, for an OID is each node's own.
SELECT keyrot.set_app_owner('third-app', 'regress_one') IS NOT NULL AS given;
UPDATE keyrot.app SET owner = 1 WHERE app_key = 'third-app';
UPDATE keyrot.retry SET caller_oid = 1;
SELECT keyrot.reset_app_secret('third-app', client_token => 'once') IS NOT NULL AS repeated;
SET ROLE regress_one;
SELECT keyrot.modify_app('third-app', 'mine') IS NOT NULL AS modified;
SELECT app_key, total_count FROM keyrot.list_apps();
SELECT id, owner FROM keyrot.credentials;
SELECT DISTINCT caller FROM keyrot.requests;
SELECT kind, id FROM keyrot.rotate_due('0');
SET ROLE regress_other;
SELECT keyrot.modify_app('third-app', 'not mine');
SELECT count(*) FROM keyrot.list_apps();
SELECT count(*) FROM keyrot.credentials;
SELECT count(*) FROM keyrot.rotate_due('0');
SELECT * FROM keyrot.read_distributed('credentials') AS t (kind text);
SELECT * FROM keyrot.read_distributed('app') AS t (app_key text);
SELECT * FROM keyrot.read_distributed('nothing') AS t (app_key text);
RESET ROLE;
REVOKE SELECT ON keyrot.gateways FROM regress_other;
SET ROLE regress_other;
SELECT * FROM keyrot.read_distributed('gateways') AS t (zone_id text, gateway_id text, added_at timestamptz);
RESET ROLE;
ALTER ROLE regress_one RENAME TO regress_renamed;
SET ROLE regress_renamed;
SELECT keyrot.modify_app('third-app', 'whose');
RESET ROLE;
SELECT keyrot.rebind_owners();
ALTER ROLE regress_renamed RENAME TO regress_one;

-- Many at once: the order of what is due, and lists.
SELECT keyrot.set_app_policy('third-app', '1 hour') IS NOT NULL AS set;
SELECT keyrot.disable_app('fifth-app') IS NOT NULL AS disabled;
SELECT kind, id, version FROM keyrot.rotate_due('0', max_count => 2);
SELECT count(*) FROM keyrot.rotate_due(NULL);
CALL keyrot.reset_apps(owner => 'regress_one');
CALL keyrot.reset_apps(all_owners => true, grace_period => '1 hour', batch_size => 2);
CALL keyrot.reset_apps(app_keys => '{before-it,third-app,before-it}');
CALL keyrot.refresh_zones(zone_ids => '{zone-before,zone-unknown}');
CALL keyrot.refresh_zones(all_owners => true);
SELECT id, state, version, previous_valid_until IS NOT NULL AS in_grace FROM keyrot.credentials ORDER BY id;
SELECT action, target, version FROM keyrot.requests WHERE action IN ('reset_apps', 'refresh_zones') AND outcome = 'ok' ORDER BY request_id;

-- Data keys.
SELECT keyrot.modify_app('before-it', 'x') IS NOT NULL AS modified;
SELECT keyrot.rotate_data_key();
CALL keyrot.reseal(batch_size => 2);
SELECT id, done, total FROM keyrot.data_key, keyrot.reseal;
SELECT keyrot.reset_app_secret('before-it', new_app_secret => 'a-leaked-secret-number-1') IS NOT NULL AS reset;
SELECT * FROM keyrot.find_secret('a-leaked-secret-number-1');
SELECT keyrot.prune_requests('1 day');

-- What is not to be had there.
SELECT * FROM keyrot.changes();
SELECT keyrot.reset_app_secret('before-it', grace_period => '1 hour', grace_from => 'first_use');

-- status() asks the nodes.
SELECT item, value, problem FROM keyrot.status() WHERE item = 'node';
SELECT keyrot.node_problem();

DROP OWNED BY regress_one, regress_other;
\c :main
SET client_min_messages = warning;
DROP DATABASE regression_keyrot_distribution;
DROP ROLE regress_one, regress_other, regress_distributor;
