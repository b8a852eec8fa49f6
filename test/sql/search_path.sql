-- A hostile search_path: operators, functions, types and tables of the caller's own, in front of PostgreSQL's,
-- are never run or read by keyrot, not even when the path changes between two calls and plans are made anew.
-- Whatever of them runs ends in an error.
\set SHOW_CONTEXT never
CREATE ROLE regress_hostile;
CREATE SCHEMA regress_evil AUTHORIZATION regress_hostile;
GRANT USAGE ON SCHEMA keyrot TO regress_hostile;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA keyrot TO regress_hostile;
GRANT SELECT ON keyrot.credentials, keyrot.gateways, keyrot.requests TO regress_hostile;

SET ROLE regress_hostile;
CREATE FUNCTION regress_evil.trap(what text) RETURNS boolean LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'hostile % ran', what; END $$;
-- Comparisons of every type that keyrot's tables have, and the view's subtraction of times.
DO $$
DECLARE
    type text;
    operator text;
BEGIN
    FOREACH type IN ARRAY ARRAY['text', 'name', 'int4', 'int8', 'oid', 'bool', 'bytea', 'uuid', 'timestamptz',
                               'interval', 'xid8']
    LOOP
        EXECUTE format('CREATE FUNCTION regress_evil.compare(a %1$s, b %1$s) RETURNS boolean
                        RETURN regress_evil.trap(''operator'')', type);
        FOREACH operator IN ARRAY ARRAY['=', '<>', '<', '>', '<=', '>=', '~', '~~']
        LOOP
            EXECUTE format('CREATE OPERATOR regress_evil.%s (leftarg = %s, rightarg = %2$s,
                                                             function = regress_evil.compare)', operator, type);
        END LOOP;
    END LOOP;
END $$;
CREATE FUNCTION regress_evil.subtract(a timestamptz, b timestamptz) RETURNS interval
    LANGUAGE plpgsql AS $$ BEGIN PERFORM regress_evil.trap('subtraction'); END $$;
CREATE OPERATOR regress_evil.- (leftarg = timestamptz, rightarg = timestamptz, function = regress_evil.subtract);
-- Functions under the names of PostgreSQL's and of keyrot's own, and an aggregate.
DO $$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY['nextval(regclass) RETURNS bigint', 'nextval(text) RETURNS bigint',
        'now() RETURNS timestamptz', 'clock_timestamp() RETURNS timestamptz', 'inet_client_addr() RETURNS inet',
        'pg_has_role(oid, oid, text) RETURNS boolean', 'pg_has_role(name, oid, text) RETURNS boolean',
        'pg_has_role(oid, text) RETURNS boolean', 'has_rights_of(oid, text) RETURNS boolean',
        'current_setting(text) RETURNS text', 'count_one(bigint) RETURNS bigint',
        'pg_current_snapshot() RETURNS pg_snapshot', 'pg_snapshot_xmin(pg_snapshot) RETURNS xid8']
    LOOP
        EXECUTE format('CREATE FUNCTION regress_evil.%s LANGUAGE plpgsql AS
                        $f$ BEGIN PERFORM regress_evil.trap(''%s''); END $f$',
                       signature, split_part(signature, '(', 1));
    END LOOP;
END $$;
CREATE AGGREGATE regress_evil.count(*) (sfunc = regress_evil.count_one, stype = bigint, initcond = '0');
-- Tables, views and types that are called like those keyrot reads, there and among the temporary ones.
CREATE VIEW regress_evil.pg_roles AS SELECT regress_evil.trap('pg_roles') AS rolname, 0::oid AS oid;
CREATE VIEW regress_evil.app AS SELECT regress_evil.trap('app') AS app_key;
CREATE VIEW regress_evil.zone AS SELECT regress_evil.trap('zone') AS zone_id;
CREATE VIEW regress_evil.request AS SELECT regress_evil.trap('request') AS request_id;
CREATE DOMAIN regress_evil.timestamptz AS pg_catalog.text CHECK (regress_evil.trap('timestamptz'));
CREATE DOMAIN regress_evil.uuid AS pg_catalog.text CHECK (regress_evil.trap('uuid'));
CREATE TEMP VIEW pg_roles AS SELECT regress_evil.trap('temporary pg_roles') AS rolname, 0::oid AS oid;
CREATE TEMP VIEW pg_class AS SELECT regress_evil.trap('temporary pg_class') AS relname, 0::oid AS oid;
CREATE TEMP VIEW app AS SELECT regress_evil.trap('temporary app') AS app_key;
RESET ROLE;

-- All of keyrot, and all of its views, in one call; written so that nothing in it is looked up on the path.
CREATE FUNCTION test.everything(suffix text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    app text := pg_catalog.concat('path.app.', suffix);
    app_2 text := pg_catalog.concat('path.app.', suffix, '.2');
    zone text := pg_catalog.concat('path-zone-', suffix);
BEGIN
    PERFORM keyrot.create_app('Path', app);
    PERFORM keyrot.create_app('Path');
    PERFORM keyrot.describe_app_security(app);
    PERFORM keyrot.modify_app(app, 'Path', 'Described');
    PERFORM keyrot.reset_app_secret(app, grace_period => '1 hour');
    PERFORM keyrot.reset_app_secret(app, app_2, 'path-secret-number-1', '1 hour');
    PERFORM keyrot.verify_app_string(app_2, 'message', keyrot.sign_string_for_app(app_2, 'message'));
    PERFORM keyrot.list_apps(app_name => 'Path');
    PERFORM keyrot.list_apps(1, app_2, 'Path');
    PERFORM keyrot.end_app_grace(app_2);
    PERFORM keyrot.set_app_owner(app_2, 'regress_hostile');
    PERFORM keyrot.delete_app(app_2);
    PERFORM keyrot.create_zone_key(zone);
    PERFORM keyrot.add_gateway(zone);
    PERFORM keyrot.add_gateway(zone, 'gateway');
    PERFORM keyrot.refresh_zone_key(zone, '1 hour');
    PERFORM keyrot.modify_zone_key(zone, 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=', '1 hour');
    PERFORM keyrot.describe_zone_key(zone);
    PERFORM keyrot.verify_gateway_string(zone, 'gateway', 'message', keyrot.sign_string_for_zone(zone, 'message'));
    PERFORM keyrot.remove_gateway(zone, 'gateway');
    PERFORM keyrot.end_zone_grace(zone);
    PERFORM keyrot.set_zone_owner(zone, 'regress_hostile');
    PERFORM keyrot.delete_zone_key(zone);
    PERFORM keyrot.create_zone_key(zone);
    PERFORM keyrot.status();
    PERFORM keyrot.changes();
    PERFORM * FROM keyrot.credentials;
    PERFORM * FROM keyrot.gateways;
    PERFORM * FROM keyrot.requests;
    RETURN 'nothing hostile ran';
END $$;

-- The trap is one: what looks its operators up on the path runs into it.
SET search_path = regress_evil, pg_catalog;
SELECT 'a'::text = 'a'::text;
SELECT now() - now();
SELECT clock_timestamp();
SELECT count(*);
SELECT FROM pg_roles;
RESET search_path;

-- First on an honest path, so that there are plans to keep; then on the hostile one.
SET ROLE regress_hostile;
SELECT test.everything('honest');
SET search_path = regress_evil, pg_catalog;
SELECT test.everything('hostile');
SET search_path = pg_temp, regress_evil, pg_catalog, keyrot;
SELECT test.everything('temporary');
SET search_path = '';
SELECT test.everything('empty');
SET search_path = regress_no_such_schema;
SELECT test.everything('missing');
RESET ROLE;
-- As a superuser on that path, with plans that were thrown away, too.
SET search_path = regress_evil, pg_catalog;
SELECT test.everything('superuser');
ANALYZE keyrot.app, keyrot.zone, keyrot.gateway, keyrot.request, keyrot.data_key;
SELECT test.everything('analyzed');
SELECT keyrot.rebind_owners() IS NOT NULL AS rebound;
-- In a new session: the hostile path comes first.
\c -
\set SHOW_CONTEXT never
SET ROLE regress_hostile;
SET search_path = regress_evil, pg_catalog;
SELECT test.everything('session');
RESET ROLE;
SELECT keyrot.rebind_owners() IS NOT NULL AS rebound;
-- The caller's path is the caller's again after each call, whether it succeeds or fails.
SHOW search_path;
SELECT keyrot.delete_app('path.unknown');
SHOW search_path;
SELECT CURRENT_USER OPERATOR(pg_catalog.=) SESSION_USER AS still_oneself;
RESET search_path;

DROP FUNCTION test.everything(text);
DROP OWNED BY regress_hostile CASCADE;
DROP ROLE regress_hostile;
