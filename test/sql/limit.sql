-- The rate limit, as one session meets it: what it counts, what it does not, and who may change it.
-- How exactly it holds, and that it holds across sessions, is for a TAP test.
-- A session of its own: where the server has not loaded the library, only a first call does.
\c -
\set SHOW_CONTEXT never
LOAD 'keyrot';
SELECT name, boot_val, vartype, min_val, max_val, short_desc <> '' AS described
  FROM pg_settings WHERE name ~ '^keyrot\..*rate_limit' ORDER BY name;
SELECT name, context FROM pg_settings WHERE name IN ('keyrot.app_rate_limit', 'keyrot.zone_rate_limit') ORDER BY name;
SELECT context = CASE value WHEN 'of all sessions' THEN 'postmaster' ELSE 'sighup' END AS of_the_server,
       (coalesce(problem, '') ~ 'per session') = (value = 'of each session') AS told
  FROM keyrot.status(), pg_settings WHERE item = 'rate_limits' AND name = 'keyrot.rate_limit_entries';
SELECT value::bigint >= 0 AS counted FROM keyrot.status() WHERE item = 'limit_overflows';
SET keyrot.zone_rate_limit = 1001;
SET keyrot.zone_rate_limit = -1;

-- Calls, one after the other within less than a second, by a caller that has made none before; where the
-- machine was slower, the same by another such caller.
CREATE ROLE regress_limited;
GRANT USAGE ON SCHEMA keyrot TO regress_limited;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA keyrot TO regress_limited;
CREATE SEQUENCE test.limit_caller;
CREATE FUNCTION test.outcome_of(statement text) RETURNS test.outcome LANGUAGE plpgsql AS $$
DECLARE
    result test.outcome;
BEGIN
    EXECUTE statement;
    result.state := 'ok';
    RETURN result;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS
        result.state := RETURNED_SQLSTATE,
        result.message := MESSAGE_TEXT,
        result.detail := PG_EXCEPTION_DETAIL,
        result.hint := PG_EXCEPTION_HINT,
        result.context := PG_EXCEPTION_CONTEXT;
    RETURN result;
END $$;
CREATE FUNCTION test.burst(VARIADIC calls text[]) RETURNS test.outcome[] LANGUAGE plpgsql AS $$
DECLARE
    caller text;
    started timestamptz;
    results test.outcome[];
BEGIN
    FOR attempt IN 1 .. 30 LOOP
        caller := 'regress_burst_' || nextval('test.limit_caller');
        EXECUTE format('CREATE ROLE %I IN ROLE regress_limited', caller);
        PERFORM set_config('role', caller, true);
        results := '{}';
        started := clock_timestamp();
        FOR i IN 1 .. cardinality(calls) LOOP
            results := results || test.outcome_of(calls[i]);
        END LOOP;
        IF clock_timestamp() < started + interval '1 s' THEN
            PERFORM set_config('role', 'none', true);
            RETURN results;
        END IF;
        PERFORM set_config('role', 'none', true);
    END LOOP;
    RAISE 'these calls take more than a second';
END $$;
CREATE FUNCTION test.states(VARIADIC calls text[]) RETURNS text LANGUAGE sql AS
$$ SELECT string_agg(state, ' ') FROM unnest(test.burst(VARIADIC calls)) $$;
CREATE FUNCTION test.set_limit(name text, value integer) RETURNS text LANGUAGE sql SECURITY DEFINER AS
$$ SELECT set_config(name, value::text, false) $$;
GRANT EXECUTE ON FUNCTION test.set_limit(text, integer) TO PUBLIC;

SELECT keyrot.create_zone_key('limit-zone') IS NOT NULL AS done;
SELECT keyrot.create_zone_key('limit-foreign') IS NOT NULL AS done;
SELECT keyrot.set_zone_owner('limit-zone', 'regress_limited') IS NOT NULL AS done;
SELECT app_key FROM keyrot.create_app('Limit', 'limit.app');
SELECT keyrot.set_app_owner('limit.app', 'regress_limited') IS NOT NULL AS done;
\set refresh 'SELECT keyrot.refresh_zone_key($$limit-zone$$)'
\set describe 'SELECT keyrot.describe_zone_key($$limit-zone$$)'
\set list 'SELECT keyrot.list_apps()'

-- N calls, and no more.  The error says so, and when to come again; it has its RequestId.
SET keyrot.zone_rate_limit = 2;
SELECT test.states(:'refresh', :'refresh', :'refresh', :'refresh');
SELECT o.state, o.message, o.detail,
       o.hint ~ '^Try again in [0-9]+\.[0-9]{3} ms\.$' AS hint,
       substring(o.hint FROM '[0-9.]+')::numeric > 0 AND substring(o.hint FROM '[0-9.]+')::numeric <= 1000 AS wait,
       o.context ~ '^keyrot request [0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}: refresh_zone_key'
           AS context
  FROM unnest((test.burst(:'refresh', :'refresh', :'refresh'))[3:]) AS o;
-- Only the admitted ones are in the log.
SELECT test.states(:'refresh', :'refresh', :'refresh', :'refresh');
SELECT count(*) FROM keyrot.request WHERE caller = 'regress_burst_' || currval('test.limit_caller');

-- Each function for itself.
SELECT test.states(:'refresh', :'refresh', :'refresh', :'describe', :'describe', :'describe');
-- Each caller for itself, also where one calls through another's function.
CREATE ROLE regress_limit_wrapper IN ROLE regress_limited;
CREATE FUNCTION test.limit_wrapped() RETURNS uuid LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$ SELECT request_id FROM keyrot.refresh_zone_key('limit-zone') $$;
ALTER FUNCTION test.limit_wrapped() OWNER TO regress_limit_wrapper;
SELECT test.states(:'refresh', :'refresh', :'refresh', 'SELECT test.limit_wrapped()');

-- A malformed call does not count, and is told of its form first.
SELECT test.states('SELECT keyrot.refresh_zone_key($$no zone$$)', 'SELECT keyrot.refresh_zone_key(NULL)',
                   'SELECT keyrot.refresh_zone_key($$limit-zone$$, $$-1 s$$)', :'refresh', :'refresh', :'refresh',
                   'SELECT keyrot.refresh_zone_key($$no zone$$)');
-- One that is admitted counts although it fails, also for want of rights, or is undone; the limit comes first.
SELECT test.states('SELECT keyrot.refresh_zone_key($$limit-unknown$$)', 'SELECT keyrot.refresh_zone_key($$limit-foreign$$)',
                   :'refresh', 'SELECT keyrot.refresh_zone_key($$limit-unknown$$)',
                   'SELECT keyrot.refresh_zone_key($$limit-foreign$$)');
\set undone 'DO $$BEGIN PERFORM keyrot.refresh_zone_key(''limit-zone''); RAISE ''undone''; END$$'
SELECT test.states(:'undone', :'undone', :'refresh');

-- The limit in force at the call is what counts, whatever it was before.
\set to_1 'SELECT test.set_limit($$keyrot.zone_rate_limit$$, 1)'
\set to_4 'SELECT test.set_limit($$keyrot.zone_rate_limit$$, 4)'
SELECT test.states(:'to_4', :'refresh', :'refresh', :'to_1', :'refresh', :'to_4', :'refresh', :'refresh', :'refresh');
-- 0 is no limit; such calls are not counted.
\set to_0 'SELECT test.set_limit($$keyrot.zone_rate_limit$$, 0)'
SELECT test.states(:'to_0', :'describe', :'describe', :'describe', :'to_1', :'describe', :'describe', :'to_0', :'describe');
-- Functions on apps have a limit of their own; verification and administration have none (42501 comes later).
SET keyrot.zone_rate_limit = 1;
SELECT test.states(:'refresh', :'list', :'list', :'list', :'refresh');
SET keyrot.app_rate_limit = 2;
SELECT test.states(:'list', :'list', :'list', 'SELECT keyrot.reset_app_secret($$limit.app$$)', :'refresh', :'refresh');
SELECT test.states('SELECT keyrot.verify_zone_string($$limit-zone$$, $$m$$, $$s$$)',
                   'SELECT keyrot.verify_zone_string($$limit-zone$$, $$m$$, $$s$$)',
                   'SELECT keyrot.sign_for_zone($$limit-zone$$, $$m$$)', 'SELECT keyrot.sign_for_zone($$limit-zone$$, $$m$$)',
                   'SELECT keyrot.rebind_owners()', 'SELECT keyrot.rebind_owners()', 'SELECT keyrot.rebind_owners()');

-- Who waits as long as the error says is admitted; refused calls in between make it no longer.
CREATE FUNCTION test.wait_and_call(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    refused test.outcome;
BEGIN
    LOOP
        refused := test.outcome_of(call);
        EXIT WHEN refused.state <> 'ok';
    END LOOP;
    PERFORM test.outcome_of(call) FROM generate_series(1, 50);
    PERFORM pg_sleep(substring(refused.hint FROM '[0-9.]+')::float8 / 1000);
    RETURN (test.outcome_of(call)).state;
END $$;
SET keyrot.app_rate_limit = 1;
SELECT test.wait_and_call(:'list');

-- No ordinary role changes a limit, its own least of all.
SET ROLE regress_limited;
SHOW keyrot.zone_rate_limit;
SET keyrot.zone_rate_limit = 0;
RESET keyrot.zone_rate_limit;
SET keyrot.app_rate_limit = 0;
ALTER ROLE regress_limited SET keyrot.zone_rate_limit = 0;
CREATE FUNCTION pg_temp.faster() RETURNS text LANGUAGE sql SET keyrot.zone_rate_limit = 0 AS
$$ SELECT current_setting('keyrot.zone_rate_limit') $$;
RESET ROLE;
-- Nor before the library is loaded, when anybody may give the names a value.
\c -
SET client_min_messages = error;
SET SESSION AUTHORIZATION regress_limited;
CREATE FUNCTION pg_temp.try_to_set(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config(name, '0', false);
EXCEPTION WHEN insufficient_privilege OR cant_change_runtime_param OR invalid_parameter_value THEN
    NULL;
END $$;
SELECT pg_temp.try_to_set('keyrot.zone_rate_limit'), pg_temp.try_to_set('keyrot.rate_limit_entries');
SELECT count(*) >= 1 AS listed FROM keyrot.list_apps();
SELECT name, setting = reset_val AS is_as_before FROM pg_settings
 WHERE name IN ('keyrot.zone_rate_limit', 'keyrot.rate_limit_entries') ORDER BY name;
RESET SESSION AUTHORIZATION;

DROP FUNCTION test.states(text[]), test.burst(text[]), test.outcome_of(text), test.wait_and_call(text),
    test.set_limit(text, integer), test.limit_wrapped();
DROP SEQUENCE test.limit_caller;
DROP OWNED BY regress_limited, regress_limit_wrapper;
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT rolname FROM pg_roles WHERE rolname LIKE 'regress\_burst\_%' LOOP
        EXECUTE format('DROP ROLE %I', name);
    END LOOP;
END $$;
DROP ROLE regress_limited, regress_limit_wrapper;
