-- The right to an action is USAGE on the schema and EXECUTE on its function, and nothing else: an ordinary
-- role is refused everything; granted one function, it can do that one thing and no other, to what it owns;
-- rights on keyrot's tables are neither needed nor there.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_ordinary;
SELECT app_key FROM keyrot.create_app('Rights', 'rights.app', 'rights-secret-number-1');
SELECT keyrot.create_zone_key('rights-zone', test.secret_key(1)) IS NOT NULL AS done;
SELECT gateway_id FROM keyrot.add_gateway('rights-zone', 'rights-gateway');
-- A previous version in grace, so that there is something to revert to.
SELECT keyrot.reset_app_secret('rights.app', grace_period => '1 hour') IS NOT NULL AS done,
       keyrot.modify_zone_key('rights-zone', test.secret_key(4), '1 hour') IS NOT NULL AS done;
SELECT keyrot.set_app_owner('rights.app', 'regress_ordinary') IS NOT NULL AS done,
       keyrot.set_zone_owner('rights-zone', 'regress_ordinary') IS NOT NULL AS done;

-- Each function in a call that works for the owner.
CREATE TABLE test.call (number serial, function text, arguments text);
GRANT SELECT ON test.call TO PUBLIC;
INSERT INTO test.call (function, arguments) VALUES
    ('create_app', $$'Rights'$$),
    ('reset_app_secret', $$'rights.app'$$),
    ('describe_app_security', $$'rights.app'$$),
    ('modify_app', $$'rights.app', 'Righteous'$$),
    ('set_app_owner', $$'rights.app', 'regress_ordinary'$$),
    ('delete_app', $$'rights.app'$$),
    ('end_app_grace', $$'rights.app'$$),
    ('revert_app_secret', $$'rights.app'$$),
    ('disable_app', $$'rights.app'$$),
    ('enable_app', $$'rights.app'$$),
    ('set_app_policy', $$'rights.app'$$),
    ('list_apps', ''),
    ('find_secret', $$'rights-secret-number-1'$$),
    ('create_zone_key', $$'rights-new'$$),
    ('refresh_zone_key', $$'rights-zone'$$),
    ('modify_zone_key', $$'rights-zone', test.secret_key(2)$$),
    ('describe_zone_key', $$'rights-zone'$$),
    ('set_zone_owner', $$'rights-zone', 'regress_ordinary'$$),
    ('delete_zone_key', $$'rights-zone'$$),
    ('end_zone_grace', $$'rights-zone'$$),
    ('revert_zone_key', $$'rights-zone'$$),
    ('disable_zone', $$'rights-zone'$$),
    ('enable_zone', $$'rights-zone'$$),
    ('set_zone_policy', $$'rights-zone'$$),
    ('add_gateway', $$'rights-zone'$$),
    ('remove_gateway', $$'rights-zone', 'rights-gateway'$$),
    ('verify_app_signature', $$'rights.app', 'message', 'signature'$$),
    ('verify_zone_signature', $$'rights-zone', 'message', 'signature'$$),
    ('verify_gateway_signature', $$'rights-zone', 'rights-gateway', 'message', 'signature'$$),
    ('verify_app_string', $$'rights.app', 'message', 'signature'$$),
    ('verify_zone_string', $$'rights-zone', 'message', 'signature'$$),
    ('verify_gateway_string', $$'rights-zone', 'rights-gateway', 'message', 'signature'$$),
    ('verify_gateway_token', $$'rights-zone', 'rights-gateway', 'token'$$),
    ('check_app_string', $$'rights.app', 'message', 'signature'$$),
    ('check_zone_string', $$'rights-zone', 'message', 'signature'$$),
    ('check_gateway_string', $$'rights-zone', 'rights-gateway', 'message', 'signature'$$),
    ('check_gateway_token', $$'rights-zone', 'rights-gateway', 'token'$$),
    ('sign_for_app', $$'rights.app', 'message'$$),
    ('sign_for_zone', $$'rights-zone', 'message'$$),
    ('sign_string_for_app', $$'rights.app', 'message'$$),
    ('sign_string_for_zone', $$'rights-zone', 'message'$$),
    ('sign_string_with_all_for_app', $$'rights.app', 'message'$$),
    ('sign_string_with_all_for_zone', $$'rights-zone', 'message'$$),
    ('sign_token_for_zone', $$'rights-zone', '{}'$$),
    ('api', $$'DescribeAppAttributes'$$),
    ('rotate_due', $$max_count => 1$$),
    ('rebind_owners', ''),
    ('prune_requests', $$'1000 years'$$),
    ('changes', ''),
    ('create_master_key', ''),
    ('distribute', ''),
    ('node_problem', ''),
    ('rotate_data_key', ''),
    ('rewrap_data_keys', ''),
    ('status', ''),
    ('read_metrics', '');
-- That is every function but the views' helpers, two that anybody may call, the procedures, which cannot run here, and a
-- function that writes into the key file, which no rollback undoes.  Only distribute() needs what is not here.
SELECT proname AS not_called FROM pg_proc WHERE pronamespace = 'keyrot'::regnamespace
   AND proname NOT IN (SELECT function FROM test.call) AND proname NOT IN ('request_id_at', 'request_time') ORDER BY 1;
SELECT count(*) AS functions,
       count(*) FILTER (WHERE (test.try(function, arguments, NULL)).state = 'ok') AS work_for_a_superuser
  FROM test.call;

-- Refused everything: first the schema, then the functions; nothing reaches keyrot, so no RequestId.
CREATE FUNCTION test.refusals() RETURNS TABLE (state text, calls bigint, any_request_id boolean, message text)
    LANGUAGE sql AS $$
SELECT o.state, count(*), bool_or(o.context LIKE '%keyrot request%'),
       regexp_replace(o.message, '\m' || function || '$', 'FUNCTION')
  FROM test.call, LATERAL test.try(function, arguments, NULL) AS o GROUP BY 1, 4 ORDER BY 1, 4 $$;
SET ROLE regress_ordinary;
SELECT * FROM test.refusals();
RESET ROLE;
GRANT USAGE ON SCHEMA keyrot TO regress_ordinary;
SET ROLE regress_ordinary;
SELECT * FROM test.refusals();
SELECT keyrot.rotate_master_key();
CALL keyrot.reseal();
CALL keyrot.reset_apps(app_keys => '{rights.app}');
CALL keyrot.refresh_zones(zone_ids => '{rights-zone}');
SELECT relation, test.state_of('SELECT FROM keyrot.' || relation) AS read,
       test.state_of('DELETE FROM keyrot.' || relation) AS delete
  FROM (VALUES ('credentials'), ('gateways'), ('requests'), ('progress'), ('app'), ('zone'), ('gateway'), ('data_key'), ('request'),
               ('retry'), ('reseal'), ('credential_use'), ('metrics'))
       AS v (relation);
SELECT test.state_of($$SELECT nextval('keyrot.app_id')$$) AS next,
       test.state_of('SELECT last_value FROM keyrot.app_id') AS last;
-- What PUBLIC may execute tells nothing but who one is, what bulk work one's own roles have running, and the time of a RequestId.
SELECT keyrot.has_rights_of('regress_ordinary'::regrole, 'regress_ordinary') AS myself,
       keyrot.has_rights_of(10, (SELECT rolname FROM pg_roles WHERE oid = 10)) AS superuser,
       keyrot.has_rights_of('regress_ordinary'::regrole, 'regress_other') AS other_name,
       keyrot.has_rights_of(0, '') AS nobody, keyrot.has_rights_of(NULL, NULL) AS nothing,
       (SELECT count(*) FROM keyrot.running_work()) AS work;
SELECT keyrot.request_time(keyrot.request_id_at('2026-11-28 12:00+00')) = '2026-11-28 12:00+00' AS told;
RESET ROLE;

-- One function at a time: what works is that function and no other.
CREATE FUNCTION test.only(granted text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    signature regprocedure :=
        (SELECT oid FROM pg_proc WHERE proname = granted AND pronamespace = 'keyrot'::regnamespace);
    result text;
BEGIN
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO regress_ordinary', signature);
    SET LOCAL ROLE regress_ordinary;
    SELECT string_agg(function, ', ' ORDER BY number) INTO result
      FROM test.call WHERE (test.try(function, arguments, NULL)).state = 'ok';
    RESET ROLE;
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM regress_ordinary', signature);
    RETURN result;
END $$;
SELECT function AS granted, test.only(function) AS works FROM test.call ORDER BY number;
-- rebind_owners() is for superusers, whatever was granted.
GRANT EXECUTE ON FUNCTION keyrot.rebind_owners TO regress_ordinary;
SET ROLE regress_ordinary;
SELECT state, message, hint, context ~ '^keyrot request .*: rebind_owners' AS has_request_id
  FROM test.try('rebind_owners', '', NULL);
RESET ROLE;
REVOKE EXECUTE ON FUNCTION keyrot.rebind_owners FROM regress_ordinary;

-- All functions: still no right on any table, and no way to the secrets but those functions.
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA keyrot TO regress_ordinary;
SET ROLE regress_ordinary;
SELECT * FROM test.refusals() WHERE state <> 'ok';
SELECT string_agg(test.state_of(format('%s keyrot.%s', statement, relation)), ', ') AS states
  FROM (VALUES ('app'), ('zone'), ('gateway'), ('data_key'), ('request'),
               ('retry'), ('reseal'), ('credential_use'), ('metrics')) AS r (relation),
       (VALUES ('TABLE'), ('DELETE FROM'), ('TRUNCATE'), ('LOCK TABLE')) AS s (statement);
RESET ROLE;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA keyrot FROM regress_ordinary;

-- Rotating without the right to read: the reset answers with no secret, and none can be had.
GRANT EXECUTE ON FUNCTION keyrot.reset_app_secret, keyrot.modify_zone_key, keyrot.verify_app_string
    TO regress_ordinary;
SET ROLE regress_ordinary;
SELECT keyrot.reset_app_secret('rights.app') IS NOT NULL AS rotated,
       keyrot.modify_zone_key('rights-zone', test.secret_key(3)) IS NOT NULL AS rotated;
SELECT app_secret FROM keyrot.describe_app_security('rights.app');
SELECT keyrot.sign_for_app('rights.app', 'message');
SELECT keyrot.verify_app_string('rights.app', 'message', 'c2lnbmF0dXJl') AS verified;
RESET ROLE;

-- Procedures: those of the caller's own, with EXECUTE.
GRANT EXECUTE ON PROCEDURE keyrot.reset_apps TO regress_ordinary;
SET ROLE regress_ordinary;
CALL keyrot.reset_apps(app_keys => '{rights.app}');
CALL keyrot.reset_apps('regress_ordinary');
CALL keyrot.refresh_zones('regress_ordinary');
RESET ROLE;
REVOKE EXECUTE ON PROCEDURE keyrot.reset_apps FROM regress_ordinary;

-- One view at a time, each by itself.
GRANT SELECT ON keyrot.credentials TO regress_ordinary;
SET ROLE regress_ordinary;
SELECT kind, id, owner, state, version FROM keyrot.credentials;
SELECT count(*) FROM keyrot.gateways;
SELECT count(*) FROM keyrot.requests;
RESET ROLE;
REVOKE SELECT ON keyrot.credentials FROM regress_ordinary;
GRANT SELECT ON keyrot.gateways, keyrot.requests TO regress_ordinary;
SET ROLE regress_ordinary;
SELECT zone_id, gateway_id FROM keyrot.gateways;
SELECT action, target, version FROM keyrot.requests ORDER BY request_id;
SELECT count(*) FROM keyrot.credentials;
SELECT test.state_of('DELETE FROM keyrot.requests') AS delete,
       test.state_of('UPDATE keyrot.requests SET outcome = ''x''') AS update,
       test.state_of('SELECT FROM keyrot.request') AS below;
RESET ROLE;

DROP FUNCTION test.only(text), test.refusals();
DROP TABLE test.call;
DROP OWNED BY regress_ordinary;
DROP ROLE regress_ordinary;
