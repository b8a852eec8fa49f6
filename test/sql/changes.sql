-- The change feed: changes() gives each committed change of a credential once, in the order of transactions.
\set VERBOSITY terse
\set SHOW_CONTEXT never
-- An open transaction holds the feed back, and autovacuum may have one at any time: waits until there is none.
CREATE PROCEDURE test.settle() LANGUAGE plpgsql AS $$
BEGIN
    FOR attempt IN 1 .. 500 LOOP
        EXIT WHEN pg_current_xact_id_if_assigned() IS NOT NULL
               OR pg_snapshot_xmin(pg_current_snapshot()) = pg_snapshot_xmax(pg_current_snapshot());
        PERFORM pg_sleep(0.02);
    END LOOP;
END $$;
CALL test.settle();
-- Reads what came after the last reading.
CREATE TEMP TABLE reader (place text);
INSERT INTO reader VALUES (NULL);
CREATE FUNCTION test.news(max_count integer DEFAULT 1000) RETURNS TABLE (kind text, id text, version integer, action text)
    LANGUAGE plpgsql AS $$
DECLARE
    change record;
BEGIN
    CALL test.settle();
    FOR change IN SELECT * FROM keyrot.changes((SELECT place FROM reader), max_count) LOOP
        UPDATE reader SET place = change."position";
        RETURN QUERY SELECT change.kind, change.id, change.version, change.action;
    END LOOP;
END $$;
SELECT count(*) >= 0 AS read FROM test.news(1000000);

-- Each kind of change; and with it what is none: reads, names, owners, gateways, and what leaves a credential as it was.
SELECT app_key FROM keyrot.create_app('Changes', 'changes.app', 'changes-secret-number-1');
SELECT keyrot.create_zone_key('changes-zone', test.secret_key(1)) IS NOT NULL AS done;
SELECT keyrot.reset_app_secret('changes.app', grace_period => '1 hour') IS NOT NULL AS done;
SELECT secret_key IS NOT NULL AS done FROM keyrot.refresh_zone_key('changes-zone', '1 hour');
SELECT keyrot.revert_app_secret('changes.app') IS NOT NULL AS done, keyrot.revert_zone_key('changes-zone') IS NOT NULL AS done;
SELECT * FROM test.news();
SELECT keyrot.modify_zone_key('changes-zone', test.secret_key(1)) IS NOT NULL AS unchanged;
SELECT keyrot.modify_zone_key('changes-zone', test.secret_key(2), '1 hour') IS NOT NULL AS done;
SELECT keyrot.end_app_grace('changes.app') IS NOT NULL AS done, keyrot.end_zone_grace('changes-zone') IS NOT NULL AS done;
SELECT keyrot.end_app_grace('changes.app') IS NOT NULL AS unchanged,
       keyrot.end_zone_grace('changes-zone') IS NOT NULL AS unchanged;
SELECT * FROM test.news();
SELECT keyrot.disable_app('changes.app') IS NOT NULL AS done, keyrot.disable_zone('changes-zone') IS NOT NULL AS done;
SELECT keyrot.disable_app('changes.app') IS NOT NULL AS unchanged, keyrot.disable_zone('changes-zone') IS NOT NULL AS unchanged;
SELECT keyrot.enable_app('changes.app') IS NOT NULL AS done, keyrot.enable_zone('changes-zone') IS NOT NULL AS done;
SELECT keyrot.enable_app('changes.app') IS NOT NULL AS unchanged, keyrot.enable_zone('changes-zone') IS NOT NULL AS unchanged;
SELECT keyrot.set_app_policy('changes.app', lifetime => '1 year') IS NOT NULL AS done,
       keyrot.set_zone_policy('changes-zone', '30 days') IS NOT NULL AS done;
SELECT * FROM test.news();
SELECT keyrot.modify_app('changes.app', 'Changed') IS NOT NULL AS unchanged,
       keyrot.set_app_owner('changes.app', current_user::regrole) IS NOT NULL AS unchanged,
       keyrot.set_zone_owner('changes-zone', current_user::regrole) IS NOT NULL AS unchanged,
       keyrot.verify_app_string('changes.app', 'm', 's') AS unchanged;
SELECT version AS unchanged FROM keyrot.describe_app_security('changes.app');
SELECT gateway_id AS unchanged FROM keyrot.add_gateway('changes-zone', 'changes-gateway');
SELECT keyrot.remove_gateway('changes-zone', 'changes-gateway') IS NOT NULL AS unchanged;
SELECT keyrot.reset_app_secret('changes.app', client_token => 'changes-1') IS NOT NULL AS done;
SELECT keyrot.reset_app_secret('changes.app', client_token => 'changes-1') IS NOT NULL AS repeated;
SELECT keyrot.reset_app_secret('changes.app', 'changes.app.2', grace_period => '1 hour') IS NOT NULL AS done;
SELECT keyrot.delete_app('changes.app.2') IS NOT NULL AS done, keyrot.delete_zone_key('changes-zone') IS NOT NULL AS done;
SELECT keyrot.create_zone_key('changes-zone') IS NOT NULL AS done;
SELECT * FROM test.news();
-- By way of api(): the function that an action stands for, and what it does; what fails changes nothing.
SELECT http_status FROM keyrot.api('CreateApp', '{"AppName": "Changes", "AppKey": "changes.api"}');
SELECT http_status FROM keyrot.api('ModifyApp', '{"AppKey": "changes.api", "Description": "unchanged"}');
SELECT http_status FROM keyrot.api('ModifyApp', '{"AppKey": "changes.api", "Disabled": true, "AppName": "Both"}');
SELECT http_status FROM keyrot.api('ModifyApp', '{"AppKey": "changes.api", "Disabled": true, "AppName": "unchanged"}');
SELECT http_status FROM keyrot.api('ResetAppSecret', '{"AppKey": "changes.api"}');
SELECT http_status FROM keyrot.api('ResetAppSecret', '{"AppKey": "changes.api", "NewAppKey": "changes.app"}');
SELECT http_status FROM keyrot.api('ResetAppSecret', '{"AppKey": "changes.api", "NewAppSecret": "short"}');
SELECT * FROM test.news();
-- Many at once: each rotation is a change, of its kind.
SELECT keyrot.set_zone_policy('changes-zone', '1 microsecond') IS NOT NULL AS done;
SELECT kind, id FROM keyrot.rotate_due() WHERE id LIKE 'changes%';
SELECT keyrot.set_zone_policy('changes-zone') IS NOT NULL AS done;
CALL keyrot.reset_apps(app_keys => '{changes.api}');
SELECT * FROM test.news() WHERE id LIKE 'changes%';
-- What the rows tell is what the log has.
SELECT count(*) > 20 AS many, bool_and(c.id = r.target AND c.action = r.action AND c.changed_at = r.requested_at
       AND c.version IS NOT DISTINCT FROM r.version AND r.outcome = 'ok') AS as_logged,
       count(DISTINCT c."position") = count(*) AS apart
  FROM keyrot.changes(max_count => 1000000) AS c JOIN keyrot.requests AS r USING (request_id) WHERE id LIKE 'changes%';

-- In the transaction that makes it, a change is no change yet; undone, it never was one.
BEGIN;
SELECT keyrot.reset_app_secret('changes.api') IS NOT NULL AS done;
SAVEPOINT a;
SELECT keyrot.disable_app('changes.api') IS NOT NULL AS undone;
ROLLBACK TO a;
SELECT keyrot.set_app_policy('changes.api') IS NOT NULL AS done;
SAVEPOINT b;
SELECT keyrot.refresh_zone_key('changes-zone') IS NOT NULL AS done;
SAVEPOINT c;
SELECT keyrot.reset_app_secret('changes.api') IS NOT NULL AS done;
RELEASE b;
SELECT * FROM test.news();
COMMIT;
SELECT * FROM test.news();
BEGIN;
SELECT keyrot.reset_app_secret('changes.api') IS NOT NULL AS undone;
ROLLBACK;
SELECT * FROM test.news();

-- In pages, also through one transaction: nothing twice, nothing left out.
CREATE TEMP TABLE start AS SELECT place FROM reader;
DO $$
BEGIN
    PERFORM keyrot.disable_app('changes.api'), keyrot.enable_app('changes.api') FROM generate_series(1, 25);
    PERFORM keyrot.reset_app_secret('changes.api') FROM generate_series(1, 3);
END $$;
CALL test.settle();
SELECT (SELECT count(*) FROM test.news(10)) AS first, (SELECT count(*) FROM test.news(10)) AS second,
       (SELECT count(*) FROM test.news(1)) AS third, (SELECT count(*) FROM test.news(2147483647)) AS rest,
       (SELECT count(*) FROM test.news(10)) AS last;
SELECT count(*), min(version), max(version) FROM keyrot.changes((SELECT place FROM start));

-- Rows are those that the view shows: of requests that roles made whose rights one has.
CREATE ROLE regress_change_a;
CREATE ROLE regress_change_b;
CREATE ROLE regress_change_operator;
GRANT USAGE ON SCHEMA keyrot TO regress_change_a, regress_change_b, regress_change_operator;
GRANT EXECUTE ON FUNCTION keyrot.create_zone_key, keyrot.changes
    TO regress_change_a, regress_change_b, regress_change_operator;
GRANT EXECUTE ON PROCEDURE test.settle() TO PUBLIC;
SET ROLE regress_change_a;
SELECT keyrot.create_zone_key('changes-a') IS NOT NULL AS done;
CALL test.settle();
SELECT id FROM keyrot.changes();
SET ROLE regress_change_b;
SELECT keyrot.create_zone_key('changes-b') IS NOT NULL AS done;
CALL test.settle();
SELECT id FROM keyrot.changes();
SELECT id FROM keyrot.changes(max_count => 1);
RESET ROLE;
GRANT regress_change_a TO regress_change_b;
SET ROLE regress_change_b;
SELECT id FROM keyrot.changes();
RESET ROLE;
SET keyrot.operator_role = 'regress_change_operator';
SET ROLE regress_change_operator;
SELECT count(*) > 20 AS all_of_them FROM keyrot.changes();
RESET ROLE;
RESET keyrot.operator_role;
-- Whoever has only the caller's name, or only its OID, does not see it.
ALTER ROLE regress_change_a RENAME TO regress_change_c;
SET ROLE regress_change_b;
SELECT id FROM keyrot.changes();
RESET ROLE;

-- Pruning shortens the feed: it goes on with what is left.
SELECT "position" AS first FROM keyrot.changes(max_count => 1) \gset
SELECT keyrot.prune_requests('0') > 0 AS pruned;
SELECT * FROM test.news();
SELECT count(*) FROM keyrot.changes(:'first');
SELECT keyrot.reset_app_secret('changes.api') IS NOT NULL AS done;
SELECT * FROM test.news();
SELECT id FROM keyrot.changes(:'first');

-- Arguments.
SELECT * FROM keyrot.changes(max_count => 0);
SELECT * FROM keyrot.changes(max_count => -1);
SELECT * FROM keyrot.changes(max_count => NULL);
CREATE TEMP TABLE bad (number serial, position text);
INSERT INTO bad (position)
SELECT v FROM reader, unnest(ARRAY['', ' ', 'x', '0', ' ' || place, place || ' ', place || '0', upper(place),
                                   left(place, -1), replace(place, '-', '--'), '+' || place, '0' || place, '0x' || place, repeat(place, 2),
                                   regexp_replace(place, '^[0-9a-f]+', ''), repeat('f', 100000)]) AS v;
SELECT number, test.state_of(format('SELECT FROM keyrot.changes(%L)', position)) FROM bad ORDER BY number;
-- Positions of another server, another database, another timeline, or from beyond the end of the history.
\set VERBOSITY default
SELECT regexp_replace(place, '^[0-9a-f]+', '1') AS other_system,
       regexp_replace(place, '^([0-9a-f]+)-[0-9a-f]+', '\1-1') AS other_database,
       regexp_replace(place, '^([0-9a-f]+-[0-9a-f]+)-[0-9a-f]+', '\1-fff') AS other_timeline,
       regexp_replace(place, '^([0-9a-f]+-[0-9a-f]+-[0-9a-f]+)-[0-9a-f]+', '\1-7fffffffffffffff') AS lost
  FROM reader \gset
SELECT * FROM keyrot.changes(:'other_system');
SELECT * FROM keyrot.changes(:'other_database');
SELECT * FROM keyrot.changes(:'other_timeline');
SELECT * FROM keyrot.changes(:'lost');
-- A change that the log has not, though it has older ones; and one that may yet come to be.
SELECT keyrot.disable_app('changes.api') IS NOT NULL AS done, keyrot.enable_app('changes.api') IS NOT NULL AS done;
SELECT count(*) FROM test.news();
SELECT regexp_replace(place, '.$', 'g') AS no_digit, substr(place, 1, length(place) - 1) ||
       CASE right(place, 1) WHEN '0' THEN '1' ELSE '0' END AS other_change,
       regexp_replace(place, '-([0-9a-f]+)-([0-9a-f]+)$', '-fffffffffff-\2') AS to_come FROM reader \gset
SELECT count(*) FROM keyrot.changes(:'no_digit');
SELECT count(*) FROM keyrot.changes(:'other_change');
SELECT count(*) FROM keyrot.changes(:'to_come');
\set VERBOSITY terse
-- In a read-only transaction and from a function that is STABLE itself; not a request, so nothing is recorded.
SELECT count(*) AS before FROM keyrot.request \gset
BEGIN READ ONLY;
SELECT count(*) FROM keyrot.changes();
COMMIT;
SELECT count(*) = :before AS nothing_recorded FROM keyrot.request;

-- keyrot.notify: off at first, a superuser's to set; a notification for each rotation that commits.
SHOW keyrot.notify;
SET ROLE regress_change_b;
SET keyrot.notify = on;
RESET ROLE;
LISTEN keyrot;
SET keyrot.notify = on;
BEGIN;
SELECT keyrot.reset_app_secret('changes.api') IS NOT NULL AS undone;
ROLLBACK;
SELECT keyrot.disable_app('changes.api') IS NOT NULL AS no_rotation;
UNLISTEN keyrot;
RESET keyrot.notify;

DELETE FROM keyrot.retry WHERE client_token = 'changes-1';
DROP FUNCTION test.news(integer);
DROP PROCEDURE test.settle();
DROP OWNED BY regress_change_c, regress_change_b, regress_change_operator;
DROP ROLE regress_change_c, regress_change_b, regress_change_operator;
