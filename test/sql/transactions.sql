-- Rotation is transactional: it commits or rolls back with the caller's own work, with savepoints and
-- exception blocks too, and its request row with it.  The old credential is invalid from the next statement.
-- Versions leave no gap.
\set SHOW_CONTEXT never
SELECT app_key FROM keyrot.create_app('Transactions', 'tx.app', 'tx-secret-number-1');
SELECT keyrot.create_zone_key('tx-zone', test.secret_key(1)) IS NOT NULL AS done;
CREATE TEMP TABLE work (what text);
-- Versions, how many of them the request log has, and the numbers of the secrets that are accepted.
CREATE TEMP VIEW now AS
SELECT id, version, (SELECT count(*) FROM keyrot.request WHERE target = id AND version IS NOT NULL) AS recorded,
       (SELECT array_agg(n) FROM generate_series(1, 6) AS n
         WHERE CASE kind WHEN 'app' THEN test.app_accepts(id, 'tx-secret-number-' || n)
                         ELSE test.zone_accepts(id, test.secret_key(n)) END) AS accepted,
       (SELECT count(*) FROM work) AS work_done
  FROM keyrot.credentials WHERE id IN ('tx.app', 'tx-zone') ORDER BY id;
SELECT * FROM now;

-- Rolled back: version, secret, grace and request row are as before.  Within the transaction the new one
-- holds already.
BEGIN;
INSERT INTO work VALUES ('rolled back');
SELECT keyrot.reset_app_secret('tx.app', NULL, 'tx-secret-number-2', '1 day') IS NOT NULL AS done;
SELECT keyrot.modify_zone_key('tx-zone', test.secret_key(2)) IS NOT NULL AS done;
SELECT * FROM now;
ROLLBACK;
SELECT * FROM now;

-- Committed, with the caller's work.
BEGIN;
INSERT INTO work VALUES ('committed');
SELECT keyrot.reset_app_secret('tx.app', NULL, 'tx-secret-number-2') IS NOT NULL AS done;
SELECT keyrot.modify_zone_key('tx-zone', test.secret_key(2)) IS NOT NULL AS done;
COMMIT;
SELECT * FROM now;

-- Savepoints: what is rolled back to is as it was there.
BEGIN;
SELECT keyrot.reset_app_secret('tx.app', NULL, 'tx-secret-number-3') IS NOT NULL AS done;
SAVEPOINT a;
SELECT keyrot.reset_app_secret('tx.app', NULL, 'tx-secret-number-4') IS NOT NULL AS done;
SELECT keyrot.delete_zone_key('tx-zone') IS NOT NULL AS done;
SAVEPOINT b;
SELECT keyrot.delete_app('tx.app') IS NOT NULL AS done;
SELECT * FROM now;
ROLLBACK TO b;
SELECT * FROM now;
ROLLBACK TO a;
SELECT * FROM now;
COMMIT;
SELECT * FROM now;

-- Exception blocks.
DO $$
BEGIN
    BEGIN
        PERFORM keyrot.reset_app_secret('tx.app', NULL, 'tx-secret-number-4');
        PERFORM keyrot.refresh_zone_key('tx-zone');
        PERFORM 1 / 0;
    EXCEPTION WHEN division_by_zero THEN
        INSERT INTO work VALUES ('handled');
    END;
    PERFORM keyrot.reset_app_secret('tx.app', NULL, 'tx-secret-number-5');
    -- A request that failed leaves the transaction usable, and the next one works.
    BEGIN
        PERFORM keyrot.reset_app_secret('tx.app', NULL, 'tx-secret-number-5');
    EXCEPTION WHEN invalid_parameter_value THEN
        INSERT INTO work VALUES ('refused');
    END;
    PERFORM keyrot.modify_zone_key('tx-zone', test.secret_key(3));
END $$;
SELECT what FROM work ORDER BY what;
SELECT * FROM now;

-- A statement that fails later takes its rotation with it, a constraint that fails at COMMIT too.
SELECT keyrot.reset_app_secret('tx.app', NULL, 'tx-secret-number-6'), 1 / (version - version)
  FROM keyrot.credentials WHERE id = 'tx.app';
CREATE TEMP TABLE late (n integer UNIQUE DEFERRABLE INITIALLY DEFERRED);
BEGIN;
INSERT INTO late VALUES (1), (1);
SELECT keyrot.reset_app_secret('tx.app', NULL, 'tx-secret-number-6') IS NOT NULL AS done;
COMMIT;
SELECT * FROM now;

-- Several rotations in one statement are made one after the other.
SELECT count(DISTINCT keyrot.reset_app_secret(left('tx.app', 100 + n))) AS requests FROM generate_series(1, 5) AS n;
SELECT count(DISTINCT secret_key) AS keys
  FROM generate_series(1, 5) AS n, keyrot.refresh_zone_key(left('tx-zone', 100 + n));
SELECT * FROM now;
-- A cursor's: each when its row is fetched.
BEGIN;
DECLARE rotations CURSOR FOR
    SELECT keyrot.reset_app_secret(left('tx.app', 100 + n)) FROM generate_series(1, 5) AS n;
MOVE 2 IN rotations;
SELECT * FROM now;
CLOSE rotations;
COMMIT;
-- Every version that was made is in the log exactly once, in order.
SELECT target, array_agg(version ORDER BY request_id) AS versions FROM keyrot.requests
 WHERE target IN ('tx.app', 'tx-zone') AND version IS NOT NULL GROUP BY target ORDER BY target;

-- REPEATABLE READ and SERIALIZABLE transactions see their own rotations.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM now;
SELECT keyrot.reset_app_secret('tx.app', NULL, 'tx-secret-number-1') IS NOT NULL AS done;
SELECT keyrot.reset_app_secret('tx.app', NULL, 'tx-secret-number-2', '1 day') IS NOT NULL AS done;
SELECT app_secret FROM keyrot.describe_app_security('tx.app');
SELECT * FROM now;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT keyrot.modify_zone_key('tx-zone', test.secret_key(1)) IS NOT NULL AS done;
SELECT keyrot.modify_zone_key('tx-zone', test.secret_key(2), '1 day') IS NOT NULL AS done;
SELECT secret_key = test.secret_key(2) AS same_key FROM keyrot.describe_zone_key('tx-zone');
COMMIT;
SELECT * FROM now;

-- Nothing can be recorded in a read-only transaction, so nothing is done there (25006).  Verifying and
-- signing write nothing.
BEGIN READ ONLY;
SELECT * FROM now;
SELECT keyrot.verify_app_string('tx.app', 'message', keyrot.sign_string_for_app('tx.app', 'message')) AS app,
       keyrot.verify_zone_string('tx-zone', 'message', keyrot.sign_string_for_zone('tx-zone', 'message')) AS zone;
SELECT state, message, context ~ '^keyrot request .*: refresh_zone_key' AS has_request_id
  FROM test.try('refresh_zone_key', $$'tx-zone'$$, NULL);
SELECT f, (test.try(f, arguments, NULL)).state
  FROM (VALUES ('create_app', $$'Read only'$$), ('reset_app_secret', $$'tx.app'$$),
               ('describe_app_security', $$'tx.app'$$), ('modify_app', $$'tx.app'$$),
               ('set_app_owner', $$'tx.app', current_user::regrole$$), ('delete_app', $$'tx.app'$$),
               ('end_app_grace', $$'tx.app'$$), ('list_apps', ''), ('create_zone_key', $$'tx-new'$$),
               ('refresh_zone_key', $$'tx-zone'$$), ('modify_zone_key', $$'tx-zone', test.secret_key(4)$$),
               ('describe_zone_key', $$'tx-zone'$$), ('set_zone_owner', $$'tx-zone', current_user::regrole$$),
               ('delete_zone_key', $$'tx-zone'$$), ('end_zone_grace', $$'tx-zone'$$), ('add_gateway', $$'tx-zone'$$),
               ('remove_gateway', $$'tx-zone', 'x'$$), ('rebind_owners', ''),
               ('prune_requests', $$'1000 years'$$)) AS v (f, arguments);
COMMIT;
