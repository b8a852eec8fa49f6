-- A repeated call with the same client_token is answered, not carried out again.
\set VERBOSITY terse
\set SHOW_CONTEXT never

SELECT app_key FROM keyrot.create_app('retried', app_key => 'retry-app');
SELECT keyrot.create_zone_key('retry-zone') IS NOT NULL AS created;

-- What a call left behind.
CREATE FUNCTION retry_state() RETURNS TABLE (id text, version int, state text) LANGUAGE sql AS $$
    SELECT id, version, state FROM keyrot.credentials WHERE id LIKE 'retry-%' ORDER BY id COLLATE "C"
$$;

-- One rotation, one RequestId; the repetition has a row of its own, without a version.
SELECT keyrot.reset_app_secret('retry-app', client_token => 't-1') AS first \gset
SELECT keyrot.reset_app_secret('retry-app', client_token => 't-1') = :'first' AS same_request_id;
SELECT * FROM retry_state();
SELECT outcome, version, retry_of = :'first' AS repeats_the_first
  FROM keyrot.requests WHERE target = 'retry-app' AND action = 'reset_app_secret' ORDER BY request_id;

-- Without a token, and with another, each call rotates.
SELECT keyrot.reset_app_secret('retry-app') <> :'first' AS another;
SELECT keyrot.reset_app_secret('retry-app', client_token => 't-2') <> :'first' AS another;
SELECT * FROM retry_state();
-- A generated secret that a newer rotation replaced is no obstacle: nothing of it is answered.
SELECT keyrot.reset_app_secret('retry-app', client_token => 't-1') = :'first' AS same_request_id;

-- A refresh is answered with the key that the first call made.
SELECT secret_key AS key, request_id AS first FROM keyrot.refresh_zone_key('retry-zone', client_token => 'z-1') \gset
SELECT secret_key = :'key' AS same_key, request_id = :'first' AS same_request_id
  FROM keyrot.refresh_zone_key('retry-zone', client_token => 'z-1');
SELECT secret_key = :'key' AS current FROM keyrot.describe_zone_key('retry-zone');
-- Once a newer rotation has replaced it, the repetition is an error, never somebody else's key.
SELECT keyrot.modify_zone_key('retry-zone', encode(sha256('one'), 'base64')) IS NOT NULL AS modified;
SELECT * FROM keyrot.refresh_zone_key('retry-zone', client_token => 'z-1');

-- A supplied secret is compared with what the first call set.
SELECT keyrot.modify_zone_key('retry-zone', encode(sha256('two'), 'base64'), client_token => 'z-2') AS first \gset
SELECT keyrot.modify_zone_key('retry-zone', encode(sha256('two'), 'base64'), client_token => 'z-2') = :'first' AS same_request_id;
SELECT keyrot.modify_zone_key('retry-zone', encode(sha256('three'), 'base64'), client_token => 'z-2');
SELECT keyrot.reset_app_secret('retry-app', new_app_secret => 'supplied-secret-1', client_token => 't-3') AS first \gset
SELECT keyrot.reset_app_secret('retry-app', new_app_secret => 'supplied-secret-1', client_token => 't-3') = :'first' AS same_request_id;
SELECT keyrot.reset_app_secret('retry-app', new_app_secret => 'supplied-secret-2', client_token => 't-3');
SELECT keyrot.reset_app_secret('retry-app', client_token => 't-3');
SELECT keyrot.reset_app_secret('retry-app') IS NOT NULL AS rotated;
SELECT keyrot.reset_app_secret('retry-app', new_app_secret => 'supplied-secret-1', client_token => 't-3');
-- No table holds more of it than that there was one.
SELECT client_token, secret_given, version FROM keyrot.retry WHERE target LIKE 'retry-%' ORDER BY client_token;

-- After a NewAppKey, the call is repeated with the AppKey of the first one.
SELECT keyrot.reset_app_secret('retry-app', 'retry-app-2', 'supplied-secret-3', client_token => 't-4') AS first \gset
SELECT keyrot.reset_app_secret('retry-app', 'retry-app-2', 'supplied-secret-3', client_token => 't-4') = :'first' AS same_request_id;
SELECT keyrot.reset_app_secret('retry-app-2', 'retry-app-2', 'supplied-secret-3', client_token => 't-4');
SELECT * FROM retry_state();

-- Any differing parameter is refused, another function too.
SELECT keyrot.reset_app_secret('retry-app-2', client_token => 't-5') AS first \gset
SELECT keyrot.reset_app_secret('retry-app-2', grace_period => '1 second', client_token => 't-5');
SELECT keyrot.reset_app_secret('retry-app-2', new_app_key => 'retry-app-3', client_token => 't-5');
SELECT keyrot.reset_app_secret('retry-app-2', new_app_secret => 'supplied-secret-4', client_token => 't-5');
SELECT keyrot.reset_app_secret('retry-app', client_token => 't-5');
SELECT * FROM keyrot.refresh_zone_key('retry-zone', client_token => 't-5');

-- The token of a call that failed or was rolled back is free again.
SELECT keyrot.reset_app_secret('retry-app-2', new_app_key => 'retry-app', client_token => 't-6');
SELECT keyrot.reset_app_secret('retry-app-2', client_token => 't-6') IS NOT NULL AS rotated;
BEGIN;
SELECT keyrot.reset_app_secret('retry-app-2', client_token => 't-7') IS NOT NULL AS rotated;
ROLLBACK;
SELECT keyrot.reset_app_secret('retry-app-2', grace_period => '1 minute', client_token => 't-7') IS NOT NULL AS rotated;
BEGIN;
SAVEPOINT before;
SELECT keyrot.reset_app_secret('retry-app-2', client_token => 't-8') AS undone \gset
ROLLBACK TO before;
SELECT keyrot.reset_app_secret('retry-app-2', client_token => 't-8') AS first \gset
SELECT keyrot.reset_app_secret('retry-app-2', client_token => 't-8') = :'first' AS same_request_id;
COMMIT;

-- A token of one role says nothing to another; a former owner's retry is refused.
CREATE ROLE regress_retry_a;
CREATE ROLE regress_retry_b;
GRANT USAGE ON SCHEMA keyrot TO regress_retry_a, regress_retry_b;
GRANT EXECUTE ON FUNCTION keyrot.reset_app_secret TO regress_retry_a, regress_retry_b;
SELECT keyrot.set_app_owner('retry-app-2', 'regress_retry_a') IS NOT NULL AS given;
SET ROLE regress_retry_a;
SELECT keyrot.reset_app_secret('retry-app-2', client_token => 't-9') AS first \gset
RESET ROLE;
SELECT keyrot.set_app_owner('retry-app-2', 'regress_retry_b') IS NOT NULL AS given;
SET ROLE regress_retry_a;
SELECT keyrot.reset_app_secret('retry-app-2', client_token => 't-9');
RESET ROLE;
SET ROLE regress_retry_b;
SELECT keyrot.reset_app_secret('retry-app-2', client_token => 't-9') <> :'first' AS another;
RESET ROLE;

-- A token is its caller's by OID and name.  These are operators, so that the app's owner is no matter.
CREATE ROLE regress_retry_operator;
SET keyrot.operator_role = 'regress_retry_operator';
GRANT regress_retry_operator TO regress_retry_a, regress_retry_b;
CREATE FUNCTION oid_of(role regrole) RETURNS oid LANGUAGE sql AS 'SELECT role::oid';
SET ROLE regress_retry_a;
SELECT keyrot.reset_app_secret('retry-app-2', client_token => 't-10') AS first \gset
RESET ROLE;
-- As after a restore where the caller has another OID, and somebody else has the one it had.
UPDATE keyrot.retry SET caller_oid = oid_of('regress_retry_b') WHERE client_token = 't-10';
SET ROLE regress_retry_a;
\set VERBOSITY default
SELECT keyrot.reset_app_secret('retry-app-2', client_token => 't-10');
\set VERBOSITY terse
SET ROLE regress_retry_b;
SELECT keyrot.reset_app_secret('retry-app-2', client_token => 't-10') AS of_b \gset
SELECT :'of_b' <> :'first' AS another;
RESET ROLE;
SELECT keyrot.rebind_owners() AS rebound;
SET ROLE regress_retry_a;
SELECT keyrot.reset_app_secret('retry-app-2', client_token => 't-10') = :'first' AS same_request_id;
SET ROLE regress_retry_b;
SELECT keyrot.reset_app_secret('retry-app-2', client_token => 't-10') = :'of_b' AS same_request_id;
RESET ROLE;
-- Renamed, a caller finds its tokens again once it is bound.
ALTER ROLE regress_retry_a RENAME TO regress_retry_c;
SELECT keyrot.rebind_owners() > 0 AS rebound;
SET ROLE regress_retry_c;
SELECT keyrot.reset_app_secret('retry-app-2', client_token => 't-10') = :'first' AS same_request_id;
RESET ROLE;
-- Dropped and made again it is somebody else, until it is bound.
DROP OWNED BY regress_retry_c;
DROP ROLE regress_retry_c;
CREATE ROLE regress_retry_c IN ROLE regress_retry_operator;
GRANT USAGE ON SCHEMA keyrot TO regress_retry_c;
GRANT EXECUTE ON FUNCTION keyrot.reset_app_secret TO regress_retry_c;
SET ROLE regress_retry_c;
SELECT keyrot.reset_app_secret('retry-app-2', client_token => 't-10');
RESET ROLE;
SELECT keyrot.rebind_owners() > 0 AS rebound;
SET ROLE regress_retry_c;
SELECT keyrot.reset_app_secret('retry-app-2', client_token => 't-10') = :'first' AS same_request_id;
RESET ROLE;
-- Tokens that would come to be one: a caller's own stays, else the newest.
INSERT INTO keyrot.retry (caller, caller_oid, client_token, request_id, action, target, grace_period, grace_from, secret_given, created_at)
SELECT 'regress_gone_' || i, oid_of('regress_retry_b'), t, gen_random_uuid(), 'reset_app_secret', 'gone', 0, 'rotation', false,
       now() + make_interval(mins => i) FROM generate_series(1, 3) AS i, (VALUES ('t-10'), ('t-11')) AS v (t);
SELECT keyrot.rebind_owners() AS rebound;
SELECT caller, client_token, target, created_at > now() + interval '150 s' AS the_newest FROM keyrot.retry
 WHERE caller_oid = oid_of('regress_retry_b') AND client_token IN ('t-10', 't-11') ORDER BY client_token, caller;
DELETE FROM keyrot.retry WHERE target = 'gone';
DROP FUNCTION oid_of(regrole);
RESET keyrot.operator_role;

-- Its form.
SELECT keyrot.reset_app_secret('retry-app-2', client_token => '');
SELECT keyrot.reset_app_secret('retry-app-2', client_token => 'two words');
SELECT keyrot.reset_app_secret('retry-app-2', client_token => repeat('x', 65));
SELECT keyrot.reset_app_secret('retry-app-2', client_token => repeat('~', 64)) IS NOT NULL AS rotated;

DROP OWNED BY regress_retry_b, regress_retry_c;
DROP ROLE regress_retry_b;
DROP ROLE regress_retry_c;
DROP ROLE regress_retry_operator;
DROP FUNCTION retry_state();
