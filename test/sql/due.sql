-- rotate_due: what its policy says is due, and what has none and is older than max_age.
\set SHOW_CONTEXT never
CREATE ROLE regress_due_owner;
CREATE ROLE regress_scheduler;
GRANT USAGE ON SCHEMA keyrot TO regress_scheduler;
GRANT EXECUTE ON FUNCTION keyrot.rotate_due TO regress_scheduler;
-- Nothing else is due that earlier tests have left.
SELECT count(*) FROM keyrot.rotate_due();
-- Lets a credential's last rotation have been so long ago.
CREATE FUNCTION test.age(id text, age interval) RETURNS void LANGUAGE sql AS $$
    UPDATE keyrot.app SET modified_at = clock_timestamp() - age, due_at = clock_timestamp() - age + rotate_after,
           valid_until = clock_timestamp() - age + lifetime WHERE app_key = id;
    UPDATE keyrot.zone SET modified_at = clock_timestamp() - age, due_at = clock_timestamp() - age + rotate_after,
           valid_until = clock_timestamp() - age + lifetime WHERE zone_id = id $$;
CREATE FUNCTION test.due_state(id text, OUT version int, OUT state text, OUT in_grace boolean, OUT due_in interval) LANGUAGE sql VOLATILE AS $$
    SELECT c.version, c.state, c.previous_valid_until IS NOT NULL, date_trunc('hour', c.due_at - c.modified_at)
      FROM keyrot.credentials AS c WHERE c.id = due_state.id $$;
DO $$ BEGIN
    PERFORM keyrot.create_app('Due', 'due-' || i, 'due-secret-number-' || i) FROM generate_series(1, 6) AS i;
    PERFORM keyrot.create_zone_key('due-zone-' || i) FROM generate_series(1, 2) AS i;
END $$;
SELECT count(keyrot.set_app_policy('due-' || i, '10 days', NULL, '2 hours')) FROM generate_series(1, 3) AS i;
SELECT keyrot.set_zone_policy('due-zone-1', '5 days', '6 days') IS NOT NULL AS done;
-- A lifetime alone makes nothing due.
SELECT keyrot.set_app_policy('due-6', NULL, '1 day', '2 hours') IS NOT NULL AS done;

-- Not yet.
SELECT * FROM keyrot.rotate_due();
-- Due: the earliest first, whatever its kind; an expired one too.  What has no policy, and what has a lifetime alone, is
-- not, however old.
SELECT test.age('due-1', '11 days'), test.age('due-2', '13 days'), test.age('due-zone-1', '7 days'), test.age('due-4', '1000 days'), test.age('due-6', '20 days');
SELECT id, s.* FROM unnest('{due-1,due-2,due-3,due-4,due-6,due-zone-1}'::text[]) AS id, test.due_state(id) AS s;
SELECT test.key_of('due-zone-1') AS old_key \gset
SELECT kind, id, version, test.is_uuid7(request_id) AS has_request_id FROM keyrot.rotate_due();
SELECT id, s.* FROM unnest('{due-1,due-2,due-3,due-4,due-6,due-zone-1}'::text[]) AS id, test.due_state(id) AS s;
-- The policy's own grace period: 2 hours, and none for the zone.
SELECT test.app_accepts('due-1', 'due-secret-number-1') AS previous, test.app_accepts('due-1', test.secret_of('due-1')) AS current,
       test.zone_accepts('due-zone-1', :'old_key') AS previous_zone, test.zone_accepts('due-zone-1', test.key_of('due-zone-1')) AS current_zone;
SELECT previous_valid_until - modified_at AS grace FROM keyrot.credentials WHERE id = 'due-1';
-- Each has a request of its own.
SELECT target, action, outcome, r.version, caller = current_user AS caller, requested_at = c.modified_at AS same_time,
       test.time_of(request_id) BETWEEN requested_at - interval '1 ms' AND requested_at + interval '10 ms' AS id_tells_time
  FROM keyrot.requests AS r JOIN keyrot.credentials AS c ON c.id = target WHERE action = 'rotate_due' ORDER BY target;
-- Once is enough, and the call itself leaves nothing in the log.
SELECT * FROM keyrot.rotate_due();
SELECT count(*) FROM keyrot.requests WHERE action = 'rotate_due';

-- max_age is for those without a policy of when, with the argument's grace period; exactly that old is not older.
SELECT test.age('due-5', '40 days'), test.age('due-2', '9 days'), test.age('due-zone-2', '35 days');
SELECT kind, id, version FROM keyrot.rotate_due('30 days', '1 hour') WHERE id LIKE 'due-%';
SELECT id, c.version, previous_valid_until - modified_at AS grace FROM keyrot.credentials AS c WHERE id ~ '^due-([456]|zone-2)$' ORDER BY id;
SELECT count(*) FROM keyrot.rotate_due('30 days');
-- Also none that was rotated in this call.
SELECT id, count(*) FROM keyrot.rotate_due('0', max_count => 10000) WHERE id LIKE 'due-%' GROUP BY id ORDER BY id;
-- An age that reaches back before all time is nobody's.
SELECT count(*) FROM keyrot.rotate_due('170000000 years');
SELECT count(*) FROM keyrot.rotate_due('290000 years');

-- max_count: the earliest of both kinds; the others come next.
SELECT test.age('due-1', '30 days'), test.age('due-2', '20 days'), test.age('due-3', '25 days'), test.age('due-zone-1', '18 days');
SELECT id FROM keyrot.rotate_due(max_count => 1);
SELECT id FROM keyrot.rotate_due(max_count => 2);
SELECT id FROM keyrot.rotate_due(max_count => 2);
SELECT count(*) FROM keyrot.rotate_due(max_count => 2);
-- More than are locked at once; undone, since tests after this one compare all that is stored.
BEGIN;
DO $$ BEGIN
    PERFORM keyrot.create_app('Many', 'due-many-' || i) FROM generate_series(1, 2100) AS i;
    PERFORM keyrot.set_app_policy('due-many-' || i, '1 day') FROM generate_series(1, 2100) AS i;
    UPDATE keyrot.app SET due_at = clock_timestamp() - interval '1 day' WHERE app_key LIKE 'due-many-%';
END $$;
SELECT count(*), count(DISTINCT id) AS apps, count(DISTINCT request_id) AS requests, min(version), max(version) FROM keyrot.rotate_due(max_count => 2050);
SELECT count(*), count(DISTINCT id) AS apps FROM keyrot.rotate_due();
SELECT version, count(*) FROM keyrot.credentials WHERE id LIKE 'due-many-%' GROUP BY 1;
ROLLBACK;

-- A policy's grace period may be longer than is allowed by now.
SELECT test.age('due-1', '30 days');
SET keyrot.max_grace = '1h';
SELECT keyrot.rotate_due() IS NOT NULL AS rotated;
SELECT previous_valid_until - modified_at AS grace FROM keyrot.credentials WHERE id = 'due-1';
RESET keyrot.max_grace;
-- A version in grace does not outlive its lifetime.
SELECT keyrot.set_app_policy('due-1', '1 day', '25 hours', '10 days') IS NOT NULL AS done, test.age('due-1', '24 hours 30 minutes');
SELECT keyrot.rotate_due() IS NOT NULL AS rotated;
SELECT previous_valid_until < modified_at + interval '30 minutes' AS shortened, valid_until - modified_at AS lives FROM keyrot.credentials WHERE id = 'due-1';

-- A disabled one is left alone, and due when it is enabled.
SELECT test.age('due-1', '2 days'), keyrot.disable_app('due-1') IS NOT NULL AS disabled;
SELECT count(*) FROM keyrot.rotate_due();
SELECT keyrot.enable_app('due-1') IS NOT NULL AS enabled;
SELECT id FROM keyrot.rotate_due();
-- Retired and deleted ones are nobody's; an AppKey in grace loses it to the rotation of its successor.
SELECT test.secret_of('due-2') AS old_secret \gset
SELECT keyrot.reset_app_secret('due-2', 'due-2-new', grace_period => '1 hour') IS NOT NULL AS renamed;
SELECT test.age('due-2-new', '20 days'), keyrot.delete_app('due-3') IS NOT NULL AS deleted, keyrot.delete_zone_key('due-zone-1') IS NOT NULL AS deleted;
SELECT test.app_accepts('due-2', :'old_secret') AS accepted;
SELECT id, version FROM keyrot.rotate_due();
SELECT test.app_accepts('due-2', :'old_secret') AS accepted;
SELECT id, state, version, previous_valid_until IS NOT NULL AS in_grace FROM keyrot.credentials WHERE app_id = (SELECT app_id FROM keyrot.app WHERE app_key = 'due-2') ORDER BY id;
-- The last version stays, and keeps nobody else from their turn.
SELECT test.age('due-1', '9 days'), test.age('due-2-new', '20 days');
UPDATE keyrot.app SET version = 2147483647 WHERE app_key = 'due-2-new';
SELECT id FROM keyrot.rotate_due(max_count => 1);
SELECT count(*) FROM keyrot.rotate_due();
SELECT keyrot.delete_app('due-2-new') IS NOT NULL AS deleted;
-- What does not open is rotated all the same, with nothing in grace.
SELECT keyrot.set_app_policy('due-4', '1 day', grace_period => '1 hour') IS NOT NULL AS done, test.age('due-4', '3 days');
UPDATE keyrot.app SET secret = set_byte(secret, 40, get_byte(secret, 40) # 1) WHERE app_key = 'due-4';
SELECT id FROM keyrot.rotate_due();
SELECT version, state, previous_valid_until FROM keyrot.credentials WHERE id = 'due-4';
SELECT test.app_accepts('due-4', test.secret_of('due-4')) AS accepted;

-- Only what the caller may act on.
SELECT test.age('due-1', '9 days'), test.age('due-4', '8 days');
SELECT keyrot.set_app_owner('due-4', 'regress_due_owner') IS NOT NULL AS done;
SET ROLE regress_scheduler;
SELECT * FROM keyrot.rotate_due('0');
RESET ROLE;
GRANT regress_due_owner TO regress_scheduler;
SET ROLE regress_scheduler;
SELECT kind, id FROM keyrot.rotate_due('0');
RESET ROLE;
-- Owners whose OID and name disagree: an operator's alone.
SELECT test.age('due-4', '8 days');
UPDATE keyrot.app SET owner_name = 'regress_renamed' WHERE app_key = 'due-4';
SET ROLE regress_scheduler;
SELECT kind, id FROM keyrot.rotate_due();
RESET ROLE;
GRANT pg_monitor TO regress_scheduler;
SET keyrot.operator_role = 'pg_monitor';
SET ROLE regress_scheduler;
SELECT kind, id FROM keyrot.rotate_due() ORDER BY id;
RESET ROLE;
RESET keyrot.operator_role;

-- In the caller's transaction: undone with it.
SELECT test.age('due-1', '9 days');
BEGIN;
SELECT id FROM keyrot.rotate_due();
ROLLBACK;
SELECT id FROM keyrot.rotate_due();
-- All or nothing: a row that cannot be written, or recorded, undoes the call.
CREATE FUNCTION test.skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
SELECT test.age('due-1', '9 days'), test.age('due-4', '8 days');
CREATE TRIGGER skip BEFORE UPDATE ON keyrot.app FOR EACH ROW WHEN (OLD.app_key = 'due-4') EXECUTE FUNCTION test.skip();
SELECT * FROM keyrot.rotate_due();
DROP TRIGGER skip ON keyrot.app;
CREATE TRIGGER skip BEFORE INSERT ON keyrot.request FOR EACH ROW WHEN (NEW.target = 'due-4') EXECUTE FUNCTION test.skip();
SELECT * FROM keyrot.rotate_due();
DROP TRIGGER skip ON keyrot.request;
CREATE FUNCTION test.change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.secret := set_byte(NEW.secret, 40, 0); NEW.version := NEW.version + 1; RETURN NEW; END $$;
CREATE TRIGGER change BEFORE UPDATE ON keyrot.app FOR EACH ROW WHEN (OLD.app_key = 'due-4') EXECUTE FUNCTION test.change();
SELECT * FROM keyrot.rotate_due();
DROP TRIGGER change ON keyrot.app;
SELECT id FROM keyrot.rotate_due();
DROP FUNCTION test.skip(), test.change();

-- Malformed and missing arguments.
SELECT keyrot.rotate_due('-1 s');
SELECT keyrot.rotate_due(grace_period => NULL);
SELECT keyrot.rotate_due(grace_period => '1000 years');
SELECT keyrot.rotate_due(grace_period => '-1 s');
SELECT keyrot.rotate_due(max_count => 0);
SELECT keyrot.rotate_due(max_count => -1);
SELECT keyrot.rotate_due(max_count => NULL);
BEGIN READ ONLY;
SELECT keyrot.rotate_due();
ROLLBACK;

DROP FUNCTION test.age(text, interval), test.due_state(text);
DROP OWNED BY regress_scheduler;
DO $$ BEGIN
    PERFORM keyrot.set_app_owner('due-4', current_user::regrole);
    PERFORM keyrot.delete_app(id) FROM keyrot.credentials WHERE kind = 'app' AND id LIKE 'due-%' AND state <> 'retired';
END $$;
DROP ROLE regress_scheduler, regress_due_owner;
