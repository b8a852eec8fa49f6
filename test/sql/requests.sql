-- The request log: exactly one row for each successful request, with its target, action, caller and version,
-- in the caller's own transaction.  In a session that has no background worker to tell, none for a request
-- that failed or was rolled back.
\set SHOW_CONTEXT never
CREATE TEMP TABLE made (number serial, action text, target text, version int, request_id uuid);
SELECT count(*) AS before FROM keyrot.request \gset
-- Every function, with the row that it should have.
INSERT INTO made (action, target, version, request_id)
SELECT 'create_app', 'req.app', 1, request_id FROM keyrot.create_app('Requests', 'req.app');
INSERT INTO made (action, target, version, request_id)
SELECT 'create_app', app_key, 1, request_id FROM keyrot.create_app('Requests');
INSERT INTO made (action, target, version, request_id)
SELECT 'describe_app_security', 'req.app', NULL, request_id FROM keyrot.describe_app_security('req.app');
INSERT INTO made (action, target, version, request_id) VALUES
    ('modify_app', 'req.app', NULL, keyrot.modify_app('req.app', 'Requested')),
    ('modify_app', 'req.app', NULL, keyrot.modify_app('req.app')),
    ('reset_app_secret', 'req.app', 2, keyrot.reset_app_secret('req.app')),
    ('reset_app_secret', 'req.app', 3, keyrot.reset_app_secret('req.app', grace_period => '1 day')),
    -- The target is the AppKey of the call, before its renaming.
    ('reset_app_secret', 'req.app', 4, keyrot.reset_app_secret('req.app', 'req.app.2')),
    ('end_app_grace', 'req.app.2', NULL, keyrot.end_app_grace('req.app.2')),
    ('set_app_owner', 'req.app.2', NULL, keyrot.set_app_owner('req.app.2', current_user::regrole));
INSERT INTO made (action, target, version, request_id)
SELECT DISTINCT 'list_apps', '', NULL::int, request_id FROM keyrot.list_apps(page_size => 100);
INSERT INTO made (action, target, version, request_id)
SELECT 'list_apps', 'req.app.2', NULL, request_id FROM keyrot.list_apps(app_key => 'req.app.2');
INSERT INTO made (action, target, version, request_id) VALUES
    ('delete_app', 'req.app.2', NULL, keyrot.delete_app('req.app.2')),
    ('create_zone_key', 'req-zone', 1, keyrot.create_zone_key('req-zone'));
INSERT INTO made (action, target, version, request_id)
SELECT 'refresh_zone_key', 'req-zone', 2, request_id FROM keyrot.refresh_zone_key('req-zone');
INSERT INTO made (action, target, version, request_id)
SELECT 'describe_zone_key', 'req-zone', NULL, request_id FROM keyrot.describe_zone_key('req-zone');
INSERT INTO made (action, target, version, request_id)
SELECT 'add_gateway', 'req-zone', NULL, request_id FROM keyrot.add_gateway('req-zone', 'req-gateway');
INSERT INTO made (action, target, version, request_id) VALUES
    ('modify_zone_key', 'req-zone', 3, keyrot.modify_zone_key('req-zone', test.secret_key(1))),
    ('remove_gateway', 'req-zone', NULL, keyrot.remove_gateway('req-zone', 'req-gateway')),
    ('end_zone_grace', 'req-zone', NULL, keyrot.end_zone_grace('req-zone')),
    ('set_zone_owner', 'req-zone', NULL, keyrot.set_zone_owner('req-zone', current_user::regrole)),
    ('delete_zone_key', 'req-zone', NULL, keyrot.delete_zone_key('req-zone')),
    ('create_zone_key', 'req-zone', 4, keyrot.create_zone_key('req-zone'));
-- One row for each, and no other.
SELECT m.action, CASE WHEN m.target ~ '^ak' THEN 'made' ELSE m.target END AS target, m.version,
       (SELECT count(*) FROM keyrot.request AS r
         WHERE r.request_id = m.request_id AND r.action = m.action AND r.target = m.target
           AND r.version IS NOT DISTINCT FROM m.version AND r.outcome = 'ok' AND r.retry_of IS NULL
           AND r.caller = current_user AND r.caller_oid = to_regrole(quote_ident(current_user))
           AND r.session_user = session_user AND r.session_user_oid = to_regrole(quote_ident(session_user))
           AND r.pid = pg_backend_pid() AND r.client_addr IS NOT DISTINCT FROM inet_client_addr()
           AND r.requested_at BETWEEN clock_timestamp() - interval '1 hour' AND clock_timestamp()) AS rows
  FROM made AS m ORDER BY m.number;
SELECT count(*) - :before - (SELECT count(*) FROM made) AS others FROM keyrot.request;
-- rebind_owners() is a request, too, and returns a number.
SELECT keyrot.rebind_owners() >= 0 AS rebound;
SELECT count(*) - :before - (SELECT count(*) FROM made) AS others FROM keyrot.request;
SELECT target, version, outcome FROM keyrot.request WHERE action = 'rebind_owners' ORDER BY request_id DESC LIMIT 1;

-- requested_at is the clock at the call, not the transaction's begin.
BEGIN;
SELECT pg_sleep(0.05);
SELECT keyrot.refresh_zone_key('req-zone') IS NOT NULL AS done;
SELECT requested_at > now() + interval '0.04 s' AS by_the_clock, requested_at <= clock_timestamp() AS not_later
  FROM keyrot.request WHERE target = 'req-zone' ORDER BY request_id DESC LIMIT 1;
COMMIT;

-- None for what failed, was rolled back, or is no request.
SELECT count(*) AS before FROM keyrot.request \gset
SELECT f, (test.try(f, arguments, NULL)).state
  FROM (VALUES ('create_app', $$''$$), ('create_app', $$'x', 'req.app'$$), ('reset_app_secret', $$'req.unknown'$$),
               ('reset_app_secret', $$'req.app'$$), ('describe_app_security', 'NULL'), ('list_apps', 'page_size => 0'),
               ('create_zone_key', $$'req-zone'$$), ('refresh_zone_key', $$'req-zone', '-1 s'$$),
               ('add_gateway', $$'req-unknown'$$), ('delete_app', $$' '$$)) AS v (f, arguments);
BEGIN;
SELECT count(*) FROM keyrot.refresh_zone_key('req-zone');
SELECT count(*) FROM keyrot.describe_zone_key('req-zone');
ROLLBACK;
SELECT keyrot.verify_zone_string('req-zone', 'message', keyrot.sign_string_for_zone('req-zone', 'message')) AS verified;
SELECT count(*) >= 1 AS seen FROM keyrot.requests;
SELECT count(*) - :before AS added FROM keyrot.request;

-- Who asked: the caller is current_user at the call, the session's user stands beside it.
CREATE ROLE regress_asker;
CREATE ROLE regress_wrapper;
GRANT USAGE ON SCHEMA keyrot TO regress_asker, regress_wrapper;
GRANT EXECUTE ON FUNCTION keyrot.create_zone_key, keyrot.refresh_zone_key, keyrot.list_apps
    TO regress_asker, regress_wrapper;
GRANT regress_asker TO regress_wrapper;
CREATE VIEW test.asked AS
SELECT r.action, r.caller, r.caller_oid = to_regrole(r.caller) AS caller_agrees,
       CASE WHEN r.session_user LIKE 'regress_%' THEN r.session_user ELSE 'the superuser' END AS session_user,
       r.session_user_oid = to_regrole(quote_ident(r.session_user)) AS session_user_agrees
  FROM keyrot.request AS r WHERE r.caller LIKE 'regress_%' ORDER BY r.request_id DESC LIMIT 1;
GRANT SELECT ON test.asked TO PUBLIC;
-- SET ROLE
SET ROLE regress_asker;
SELECT keyrot.create_zone_key('req-asked') IS NOT NULL AS done;
SELECT * FROM test.asked;
RESET ROLE;
-- Inside a SECURITY DEFINER function it is the function's owner.
CREATE FUNCTION test.wrapped_refresh(zone_id text) RETURNS text LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$ SELECT secret_key FROM keyrot.refresh_zone_key(zone_id) $$;
ALTER FUNCTION test.wrapped_refresh(text) OWNER TO regress_wrapper;
SELECT test.wrapped_refresh('req-asked') IS NOT NULL AS done;
SELECT * FROM test.asked;
-- Another one logged in.
SET SESSION AUTHORIZATION regress_asker;
SELECT test.wrapped_refresh('req-asked') IS NOT NULL AS done;
SELECT * FROM test.asked;
SELECT count(*) IS NOT NULL AS done FROM keyrot.list_apps();
SELECT * FROM test.asked;
RESET SESSION AUTHORIZATION;
-- A role that sets another one, and a function that another one calls.
SET SESSION AUTHORIZATION regress_wrapper;
SET ROLE regress_asker;
SELECT count(*) AS done FROM keyrot.refresh_zone_key('req-asked');
SELECT * FROM test.asked;
RESET SESSION AUTHORIZATION;

DROP FUNCTION test.wrapped_refresh(text);
DROP VIEW test.asked;
DROP OWNED BY regress_asker, regress_wrapper;
DROP ROLE regress_asker, regress_wrapper;
