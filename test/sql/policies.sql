-- Policies: how long a version lives, and when a credential is due.
\set SHOW_CONTEXT never
SET TimeZone = 'America/New_York';
CREATE FUNCTION test.policy(id text, OUT state text, OUT lives interval, OUT due interval, OUT grace interval) LANGUAGE sql VOLATILE AS $$
SELECT c.state, c.valid_until AT TIME ZONE 'UTC' - c.modified_at AT TIME ZONE 'UTC', c.due_at AT TIME ZONE 'UTC' - c.modified_at AT TIME ZONE 'UTC',
       c.previous_valid_until - c.modified_at FROM keyrot.credentials AS c WHERE c.id = $1 $$;
SELECT keyrot.create_app('Policy', 'policy.app', 'policy-secret-number-1') IS NOT NULL AS app, keyrot.create_zone_key('policy-zone', test.secret_key(1)) IS NOT NULL AS zone;
SELECT * FROM test.policy('policy.app');
SELECT test.is_uuid7(keyrot.set_app_policy('policy.app', rotate_after => '60 days', lifetime => '90 days', grace_period => '1 day')) AS app,
       test.is_uuid7(keyrot.set_zone_policy('policy-zone', lifetime => '36 hours')) AS zone;
-- A day is 24 hours, whatever the session's time zone does in between.
SELECT * FROM test.policy('policy.app');
SELECT * FROM test.policy('policy-zone');
-- All three are set: what is left out is none.
SELECT keyrot.set_app_policy('policy.app', rotate_after => '10 days') IS NOT NULL AS set;
SELECT * FROM test.policy('policy.app');
SELECT rotate_after, lifetime, policy_grace FROM keyrot.app WHERE app_key = 'policy.app';
-- A rotation starts anew.
SELECT keyrot.set_app_policy('policy.app', '10 days', '20 days') IS NOT NULL AS set;
SELECT valid_until AS before FROM keyrot.credentials WHERE id = 'policy.app' \gset
SELECT keyrot.reset_app_secret('policy.app', new_app_secret => 'policy-secret-number-2') IS NOT NULL AS reset;
SELECT valid_until > :'before' AS later FROM keyrot.credentials WHERE id = 'policy.app';
SELECT * FROM test.policy('policy.app');

-- A new policy counts from the last rotation: this one is over already.
CREATE FUNCTION test.grow_older(id text, by interval) RETURNS void LANGUAGE sql VOLATILE AS $$
UPDATE keyrot.app SET modified_at = modified_at - by, valid_until = valid_until - by, due_at = due_at - by, previous_valid_until = previous_valid_until - by WHERE app_key = id;
UPDATE keyrot.zone SET modified_at = modified_at - by, valid_until = valid_until - by, due_at = due_at - by, previous_valid_until = previous_valid_until - by WHERE zone_id = id;
$$;
SELECT test.app_accepts('policy.app', 'policy-secret-number-2') AS before;
SELECT test.grow_older('policy.app', '2 days');
SELECT keyrot.set_app_policy('policy.app', lifetime => '1 day') IS NOT NULL AS set;
SELECT * FROM test.policy('policy.app');
SELECT test.app_accepts('policy.app', 'policy-secret-number-2') AS expired;
SELECT keyrot.sign_for_app('policy.app', 'message');
SELECT app_secret FROM keyrot.describe_app_security('policy.app');
-- Without it the version lives again; with it a rotation starts a new life, and the expired version is not kept.
SELECT keyrot.set_app_policy('policy.app') IS NOT NULL AS set;
SELECT test.app_accepts('policy.app', 'policy-secret-number-2') AS lives;
SELECT keyrot.set_app_policy('policy.app', lifetime => '1 day') IS NOT NULL AS set;
SELECT keyrot.reset_app_secret('policy.app', new_app_secret => 'policy-secret-number-3', grace_period => '1 hour') IS NOT NULL AS reset;
SELECT test.app_accepts('policy.app', 'policy-secret-number-2') AS expired, test.app_accepts('policy.app', 'policy-secret-number-3') AS new;
SELECT * FROM test.policy('policy.app');

-- Beside a grace period: a version in grace does not outlive its lifetime, and the grace does not lengthen it.
SELECT test.grow_older('policy.app', '23 hours');
SELECT keyrot.reset_app_secret('policy.app', new_app_secret => 'policy-secret-number-4', grace_period => '3 hours') IS NOT NULL AS reset;
SELECT previous_valid_until - modified_at BETWEEN '59 minutes' AND '1 hour' AS grace_is_cut, lives FROM keyrot.credentials, test.policy('policy.app') WHERE id = 'policy.app';
SELECT test.app_accepts('policy.app', 'policy-secret-number-3') AS in_grace, test.app_accepts('policy.app', 'policy-secret-number-4') AS new;
-- A shorter lifetime, set later, cuts a running grace; a longer one does not lengthen it.
SELECT keyrot.set_app_policy('policy.app', lifetime => '10 minutes') IS NOT NULL AS set;
SELECT lives, grace FROM test.policy('policy.app');
SELECT keyrot.set_app_policy('policy.app', lifetime => '10 days') IS NOT NULL AS set;
SELECT lives, grace FROM test.policy('policy.app');
-- With a NewAppKey the policy goes along, and the old AppKey's grace is cut likewise.
SELECT keyrot.reset_app_secret('policy.app', 'policy.new', 'policy-secret-number-5', '1 hour') IS NOT NULL AS renamed;
SELECT lives, grace FROM test.policy('policy.new');
SELECT state, lives, due FROM test.policy('policy.app');
SELECT keyrot.set_app_policy('policy.new', lifetime => '2 minutes') IS NOT NULL AS set;
SELECT id, state, previous_valid_until = (SELECT valid_until FROM keyrot.credentials WHERE id = 'policy.new') AS ends_with_the_lifetime
  FROM keyrot.credentials WHERE id LIKE 'policy.%' ORDER BY id;
SELECT keyrot.set_app_policy('policy.app');

-- Expiry is exact: the instant before, and the instant of it.
SELECT keyrot.set_zone_policy('policy-zone', lifetime => '1 day') IS NOT NULL AS set;
UPDATE keyrot.zone SET valid_until = clock_timestamp() + '0.5 s' WHERE zone_id = 'policy-zone';
DO $$
DECLARE
    accepted boolean;
    wanted timestamptz := (SELECT valid_until FROM keyrot.zone WHERE zone_id = 'policy-zone');
    before timestamptz;
    after timestamptz;
    wrong int := 0;
    seen boolean[] := '{}';
BEGIN
    FOR i IN 1 .. 10000000 LOOP
        before := clock_timestamp();
        accepted := test.zone_accepts('policy-zone', test.secret_key(1));
        after := clock_timestamp();
        IF (accepted AND before >= wanted) OR (NOT accepted AND after < wanted) THEN wrong := wrong + 1; END IF;
        IF NOT accepted = ANY (seen) OR seen = '{}' THEN seen := seen || accepted; END IF;
        EXIT WHEN after > wanted + '0.2 s';
    END LOOP;
    RAISE NOTICE 'wrong answers: %, answers seen: %', wrong, seen;
END $$;
-- A zone that is made again has no policy.
SELECT keyrot.delete_zone_key('policy-zone') IS NOT NULL AS deleted;
SELECT state, lives, due FROM test.policy('policy-zone');
SELECT keyrot.create_zone_key('policy-zone') IS NOT NULL AS created;
SELECT state, lives, due FROM test.policy('policy-zone');

-- Months are the calendar's, at their end, too.
UPDATE keyrot.zone SET modified_at = '2024-01-31 12:00+00' WHERE zone_id = 'policy-zone';
CREATE FUNCTION test.due_after(period interval) RETURNS timestamp LANGUAGE plpgsql AS $$
BEGIN
    PERFORM keyrot.set_zone_policy('policy-zone', rotate_after => period);
    RETURN (SELECT due_at AT TIME ZONE 'UTC' FROM keyrot.zone WHERE zone_id = 'policy-zone');
END $$;
SELECT p AS rotate_after, due, due = timestamp '2024-01-31 12:00' + p AS as_postgresql
  FROM unnest('{1 month,13 months,1 month 1 day 00:00:01,11 months,25:00:00,00:00:00.000001}'::interval[]) AS p, test.due_after(p) AS due;
SELECT keyrot.set_zone_policy('policy-zone', lifetime => '290000 years') IS NOT NULL AS set;
SELECT valid_until AT TIME ZONE 'UTC' FROM keyrot.credentials WHERE id = 'policy-zone';
SELECT keyrot.set_zone_policy('policy-zone', lifetime => '292300 years');
-- A lifetime whose end can be held now, and no more when the credential is rotated, is for ever.
SELECT keyrot.set_zone_policy('policy-zone', lifetime => '292252 years 11 months') IS NOT NULL AS set;
SELECT request_id IS NOT NULL AS refreshed FROM keyrot.refresh_zone_key('policy-zone');
SELECT state, valid_until FROM keyrot.credentials WHERE id = 'policy-zone';

-- A rotation with a policy is one HOT update, as without.
SELECT keyrot.set_zone_policy('policy-zone', '1 day', '2 days', '1 hour') IS NOT NULL AS set;
BEGIN;
SELECT pg_stat_get_xact_tuples_updated('keyrot.zone'::regclass) AS updated, pg_stat_get_xact_tuples_hot_updated('keyrot.zone'::regclass) AS hot \gset
SELECT count(*) AS refreshed FROM generate_series(1, 3) AS n, keyrot.refresh_zone_key('policy-zone', make_interval(mins => n));
SELECT pg_stat_get_xact_tuples_updated('keyrot.zone'::regclass) - :updated AS updates,
       pg_stat_get_xact_tuples_hot_updated('keyrot.zone'::regclass) - :hot AS hot_updates;
COMMIT;
SELECT action, target, outcome, version FROM keyrot.requests WHERE action ~ '_policy$' AND target = 'policy.app' ORDER BY request_id;
