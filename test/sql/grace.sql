-- Grace periods: the previous version is accepted beside the new one until its time is over, a later rotation
-- ends it, end_*_grace ends it, or the credential is deleted.  After a NewAppKey the old pair goes on beside
-- the new pair, never crosswise, and is good for nothing but verifying.
\set SHOW_CONTEXT never
-- Which of the secrets grace-secret-number-1 to -9 an AppKey verifies; which keys 1 to 9 a zone does.
CREATE FUNCTION pg_temp.accepted(id text) RETURNS int[] LANGUAGE sql VOLATILE AS $$
    SELECT array_agg(n) FROM generate_series(1, 9) AS n
     WHERE test.app_accepts(id, 'grace-secret-number-' || n) OR test.zone_accepts(id, test.secret_key(n)) $$;
CREATE FUNCTION pg_temp.state(id text) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT concat_ws(' ', c.state, c.version, CASE WHEN c.previous_valid_until > now() THEN 'with a previous one' END)
      FROM keyrot.credentials AS c WHERE c.id = state.id $$;

-- No grace period: nothing of the old one is accepted or kept.
SELECT app_key FROM keyrot.create_app('Grace', 'grace.none', 'grace-secret-number-1');
SELECT keyrot.reset_app_secret('grace.none', NULL, 'grace-secret-number-2') IS NOT NULL AS done;
SELECT pg_temp.accepted('grace.none'), pg_temp.state('grace.none');
SELECT previous_secret IS NULL AS nothing_kept, previous_valid_until FROM keyrot.app WHERE app_key = 'grace.none';
SELECT keyrot.reset_app_secret('grace.none', NULL, 'grace-secret-number-3', grace_period => '0') IS NOT NULL AS done;
SELECT pg_temp.accepted('grace.none'), pg_temp.state('grace.none');

-- It ends by time: by the clock at the call, and the clock at verification, also within one transaction.
SELECT app_key FROM keyrot.create_app('Grace', 'grace.time', 'grace-secret-number-1');
SELECT keyrot.create_zone_key('grace-time', test.secret_key(1)) IS NOT NULL AS done;
SELECT gateway_id FROM keyrot.add_gateway('grace-time', 'gateway');
BEGIN;
SELECT pg_sleep(0.2);
SELECT keyrot.reset_app_secret('grace.time', NULL, 'grace-secret-number-2', '1 hour') AS app_request \gset
SELECT keyrot.modify_zone_key('grace-time', test.secret_key(2), '1 hour') AS zone_request \gset
SELECT c.id, c.previous_valid_until - r.requested_at AS grace, r.requested_at > now() + interval '0.1 s' AS by_the_clock
  FROM keyrot.credentials AS c JOIN keyrot.requests AS r ON r.target = c.id
 WHERE r.request_id IN (:'app_request', :'zone_request') ORDER BY c.id;
SELECT id, pg_temp.accepted(id), pg_temp.state(id) FROM (VALUES ('grace.time'), ('grace-time')) AS v (id);
SELECT test.gateway_accepts('grace-time', 'gateway', test.secret_key(1)) AS old_key,
       test.gateway_accepts('grace-time', 'gateway', test.secret_key(2)) AS new_key;
COMMIT;
SELECT keyrot.reset_app_secret('grace.time', NULL, 'grace-secret-number-3', '300 ms') IS NOT NULL AS done;
SELECT keyrot.modify_zone_key('grace-time', test.secret_key(3), '300 ms') IS NOT NULL AS done;
BEGIN;
SELECT now() IS NOT NULL AS transaction_has_begun;
SELECT pg_sleep(0.4);
SELECT id, pg_temp.accepted(id), (SELECT previous_valid_until FROM keyrot.credentials AS c WHERE c.id = v.id)
  FROM (VALUES ('grace.time'), ('grace-time')) AS v (id);
SELECT test.gateway_accepts('grace-time', 'gateway', test.secret_key(2)) AS old_key,
       test.gateway_accepts('grace-time', 'gateway', test.secret_key(3)) AS new_key;
COMMIT;
SELECT keyrot.end_app_grace('grace.time') IS NOT NULL AS done, keyrot.end_zone_grace('grace-time') IS NOT NULL AS done;

-- A later rotation ends it, with a grace period of its own or without: one previous version at most.
SELECT app_key FROM keyrot.create_app('Grace', 'grace.later', 'grace-secret-number-1');
SELECT keyrot.create_zone_key('grace-later', test.secret_key(1)) IS NOT NULL AS done;
SELECT keyrot.reset_app_secret('grace.later', NULL, 'grace-secret-number-2', '1 day') IS NOT NULL AS done;
SELECT keyrot.modify_zone_key('grace-later', test.secret_key(2), '1 day') IS NOT NULL AS done;
SELECT keyrot.reset_app_secret('grace.later', NULL, 'grace-secret-number-3', '1 hour') IS NOT NULL AS done;
SELECT keyrot.modify_zone_key('grace-later', test.secret_key(3), '1 hour') IS NOT NULL AS done;
SELECT id, pg_temp.accepted(id), pg_temp.state(id) FROM (VALUES ('grace.later'), ('grace-later')) AS v (id);
SELECT keyrot.reset_app_secret('grace.later', NULL, 'grace-secret-number-4') IS NOT NULL AS done;
SELECT keyrot.refresh_zone_key('grace-later') IS NOT NULL AS done;
SELECT id, pg_temp.accepted(id), pg_temp.state(id) FROM (VALUES ('grace.later'), ('grace-later')) AS v (id);
-- An earlier secret may be set again, also the one in grace.  The current one is refused for an app, and for a zone
-- changes nothing.
SELECT keyrot.reset_app_secret('grace.later', NULL, 'grace-secret-number-5', '1 day') IS NOT NULL AS done;
SELECT keyrot.reset_app_secret('grace.later', NULL, 'grace-secret-number-4', '1 day') IS NOT NULL AS undone;
SELECT keyrot.modify_zone_key('grace-later', test.secret_key(1), '1 day') IS NOT NULL AS undone;
SELECT id, pg_temp.accepted(id), pg_temp.state(id) FROM (VALUES ('grace.later'), ('grace-later')) AS v (id);
SELECT state, message FROM test.try('reset_app_secret', $$'grace.later', NULL, $1$$, 'grace-secret-number-4');
SELECT state, message FROM test.try('modify_zone_key', $$'grace-later', $1$$, test.secret_key(1));

-- end_*_grace ends it, and leaves the current version alone.
SELECT keyrot.end_app_grace('grace.later') IS NOT NULL AS done,
       keyrot.end_zone_grace('grace-later') IS NOT NULL AS done;
SELECT id, pg_temp.accepted(id), pg_temp.state(id) FROM (VALUES ('grace.later'), ('grace-later')) AS v (id);
SELECT previous_secret IS NULL AS wiped FROM keyrot.app WHERE app_key = 'grace.later';
-- Deletion ends it.
SELECT keyrot.reset_app_secret('grace.later', NULL, 'grace-secret-number-6', '1 day') IS NOT NULL AS done;
SELECT keyrot.modify_zone_key('grace-later', test.secret_key(6), '1 day') IS NOT NULL AS done;
SELECT keyrot.delete_app('grace.later') IS NOT NULL AS done, keyrot.delete_zone_key('grace-later') IS NOT NULL AS done;
SELECT id, pg_temp.accepted(id), pg_temp.state(id) FROM (VALUES ('grace.later'), ('grace-later')) AS v (id);
SELECT secret IS NULL AND previous_secret IS NULL AS wiped FROM keyrot.app WHERE app_key = 'grace.later';
SELECT secret IS NULL AND previous_secret IS NULL AS wiped FROM keyrot.zone WHERE zone_id = 'grace-later';

-- With a NewAppKey, A -> B: the old pair and the new pair verify, never crosswise.
SELECT app_key FROM keyrot.create_app('Grace', 'grace.a', 'grace-secret-number-1');
SELECT keyrot.reset_app_secret('grace.a', 'grace.b', 'grace-secret-number-2', '1 day') IS NOT NULL AS done;
CREATE TEMP VIEW chain AS SELECT id, pg_temp.accepted(id), pg_temp.state(id)
  FROM (VALUES ('grace.a'), ('grace.b'), ('grace.c'), ('grace.d')) AS v (id);
SELECT * FROM chain;
SELECT keyrot.verify_app_string('grace.a', 'message', keyrot.sign_string_for_app('grace.b', 'message')) AS crosswise;
-- For everything but verifying, the old AppKey is gone.
SELECT f, (test.try(f, arguments, NULL)).state
  FROM (VALUES ('reset_app_secret', $$'grace.a'$$), ('describe_app_security', $$'grace.a'$$),
               ('modify_app', $$'grace.a', 'Name'$$), ('set_app_owner', $$'grace.a', current_user::regrole$$),
               ('delete_app', $$'grace.a'$$), ('end_app_grace', $$'grace.a'$$),
               ('sign_for_app', $$'grace.a', 'message'$$), ('sign_string_for_app', $$'grace.a', 'message'$$))
       AS v (f, arguments);
-- What is done to the new AppKey but a rotation leaves the grace as it is.
SELECT keyrot.modify_app('grace.b', 'Graced') IS NOT NULL AS done;
SELECT * FROM chain;
-- B -> C, with a grace period: A's is over, B's begins.
SELECT keyrot.reset_app_secret('grace.b', 'grace.c', 'grace-secret-number-3', '1 day') IS NOT NULL AS done;
SELECT * FROM chain;
-- C is reset with a grace period: B's is over, C's own begins.
SELECT keyrot.reset_app_secret('grace.c', NULL, 'grace-secret-number-4', '1 day') IS NOT NULL AS done;
SELECT * FROM chain;
-- C -> D: what C had in its own row before is over, and C is in grace with its last secret.
SELECT keyrot.reset_app_secret('grace.c', 'grace.d', 'grace-secret-number-5', '1 day') IS NOT NULL AS done;
SELECT * FROM chain;
-- end_app_grace of the new AppKey ends the grace of the one before it.
SELECT keyrot.end_app_grace('grace.d') IS NOT NULL AS done;
SELECT * FROM chain;
SELECT count(*) AS secrets_kept FROM keyrot.app
 WHERE app_key LIKE 'grace._' AND (secret IS NOT NULL OR previous_secret IS NOT NULL);

-- A -> B without a grace period of its own ends an earlier one; so does deletion; and time.
SELECT app_key FROM keyrot.create_app('Grace', 'grace.e', 'grace-secret-number-1');
SELECT keyrot.reset_app_secret('grace.e', 'grace.f', 'grace-secret-number-2', '1 day') IS NOT NULL AS done;
SELECT keyrot.reset_app_secret('grace.f', 'grace.g', 'grace-secret-number-3') IS NOT NULL AS done;
SELECT id, pg_temp.accepted(id), pg_temp.state(id) FROM (VALUES ('grace.e'), ('grace.f'), ('grace.g')) AS v (id);
SELECT keyrot.reset_app_secret('grace.g', 'grace.h', 'grace-secret-number-4', '1 day') IS NOT NULL AS done;
SELECT keyrot.delete_app('grace.h') IS NOT NULL AS done;
SELECT id, pg_temp.accepted(id), pg_temp.state(id) FROM (VALUES ('grace.g'), ('grace.h')) AS v (id);
SELECT app_key FROM keyrot.create_app('Grace', 'grace.i', 'grace-secret-number-1');
SELECT keyrot.reset_app_secret('grace.i', 'grace.j', 'grace-secret-number-2', '300 ms') IS NOT NULL AS done;
SELECT pg_temp.accepted('grace.j') AS new_pair FROM pg_sleep(0.4);
SELECT id, pg_temp.accepted(id), pg_temp.state(id) FROM (VALUES ('grace.i'), ('grace.j')) AS v (id);

-- keyrot.max_grace bounds what may be asked for; 0 allows none.
SHOW keyrot.max_grace;
SET keyrot.max_grace = '1h';
SELECT grace, (test.try('reset_app_secret', $$'grace.none', grace_period => $1::interval$$, grace)).state AS app,
       (test.try('refresh_zone_key', $$'grace-time', $1::interval$$, grace)).state AS refreshed,
       (test.try('modify_zone_key', $$'grace-time', test.secret_key(9), $1::interval$$, grace)).state AS modified
  FROM (VALUES ('0'), ('59 min'), ('1 hour'), ('1 hour 1 us'), ('1 day')) AS v (grace);
SET keyrot.max_grace = 0;
SELECT grace, (test.try('reset_app_secret', $$'grace.none', grace_period => $1::interval$$, grace)).state AS app
  FROM (VALUES ('0'), ('1 us'), ('1 day')) AS v (grace);
-- Its largest value in seconds, and a day more.
SET keyrot.max_grace = 2147483647;
SELECT grace, (test.try('reset_app_secret', $$'grace.none', grace_period => $1::interval$$, grace)).state AS app
  FROM (VALUES ('2147483647 s'), ('2147483648 s'), ('24855 days'), ('24856 days')) AS v (grace);
SELECT message, hint FROM test.try('reset_app_secret', $$'grace.none', grace_period => '24856 days'$$, NULL);
-- What PostgreSQL says of a value out of range differs by version.
\set VERBOSITY sqlstate
SET keyrot.max_grace = -1;
\set VERBOSITY default
-- A lower bound does not shorten what was promised.
RESET keyrot.max_grace;
SELECT keyrot.reset_app_secret('grace.none', NULL, 'grace-secret-number-4', '30 days') IS NOT NULL AS done;
SET keyrot.max_grace = 0;
SELECT pg_temp.accepted('grace.none');
RESET keyrot.max_grace;
-- It is a superuser's to set.
CREATE ROLE regress_grace;
SET ROLE regress_grace;
SET keyrot.max_grace = '60 days';
SHOW keyrot.max_grace;
RESET ROLE;
DROP ROLE regress_grace;

-- When a grace period begins is one of two words; with the first use only where uses are noted, which is not here.
SELECT app_key FROM keyrot.create_app('Grace', 'grace.from', 'grace-secret-number-1');
SELECT keyrot.create_zone_key('grace-from', test.secret_key(1)) IS NOT NULL AS done;
SELECT keyrot.reset_app_secret('grace.from', grace_from => NULL);
SELECT keyrot.reset_app_secret('grace.from', grace_from => '');
SELECT keyrot.reset_app_secret('grace.from', grace_from => 'First_Use');
SELECT keyrot.reset_app_secret('grace.from', grace_period => '1 hour', grace_from => 'first_use');
SELECT keyrot.refresh_zone_key('grace-from', grace_from => 'use');
SELECT keyrot.refresh_zone_key('grace-from', grace_from => 'first_use');
SELECT keyrot.modify_zone_key('grace-from', test.secret_key(2), grace_from => NULL);
SELECT keyrot.modify_zone_key('grace-from', test.secret_key(2), grace_from => 'first_use');
SELECT keyrot.reset_app_secret('grace.from', NULL, 'grace-secret-number-2', '1 hour', NULL, 'rotation') IS NOT NULL AS done,
       keyrot.modify_zone_key('grace-from', test.secret_key(2), '1 hour', NULL, 'rotation') IS NOT NULL AS done;
SELECT id, pg_temp.accepted(id), pg_temp.state(id) FROM (VALUES ('grace.from'), ('grace-from')) AS v (id);
SELECT body ->> 'Code' AS code, body ->> 'Message' AS message
  FROM keyrot.api('ResetAppSecret', '{"AppKey": "grace.from", "GraceFrom": "first_use"}');
SELECT id, last_used_at, previous_last_used_at FROM keyrot.credentials WHERE id IN ('grace.from', 'grace-from') ORDER BY id;
