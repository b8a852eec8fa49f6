-- prune_requests() removes requests that are old enough, by their RequestId, and no others.
\set SHOW_CONTEXT never
\set VERBOSITY sqlstate

-- Requests of days past.  Every second one has a time before its RequestId's, as after a clock was set back.
CREATE FUNCTION pg_temp.id_at(at timestamptz) RETURNS uuid LANGUAGE sql AS
$$ SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008000' || lpad('', 12, '0'))::uuid $$;
CREATE TEMP TABLE past AS SELECT n AS days, pg_temp.id_at(now() - make_interval(days => n)) AS request_id
  FROM generate_series(1, 100) AS n;
INSERT INTO keyrot.request (request_id, target, requested_at, action, caller, caller_oid, "session_user", session_user_oid, pid, outcome)
SELECT request_id, 'pruned-' || days, now() - make_interval(days => days, hours => days % 2 * 5), 'refresh_zone_key',
       'regress_nobody', 1, 'regress_nobody', 1, 1, CASE days % 2 WHEN 0 THEN 'ok' ELSE 'P0002' END
  FROM past;
CREATE TEMP VIEW kept AS SELECT count(*), min(substring(target FROM 8)::int), max(substring(target FROM 8)::int)
  FROM keyrot.request WHERE target LIKE 'pruned-%';

-- What is older goes, whatever its outcome; each call says how many that were.
SELECT keyrot.prune_requests('50 days 12 hours');
SELECT * FROM kept;
SELECT keyrot.prune_requests('50 days 12 hours');
SELECT keyrot.prune_requests('1 month 10 days 12:00');
SELECT * FROM kept;
SELECT keyrot.prune_requests(older_than => interval '36 hours');
SELECT * FROM kept;

-- An age that no clock has reached removes nothing; not even the longest one is out of range.
SELECT keyrot.prune_requests('5000 years');
SELECT keyrot.prune_requests('290000 years');
SELECT keyrot.prune_requests('178000000 years');

-- It is a request itself, and stays on record.
SELECT action, target, outcome, caller = current_user AS mine, version
  FROM keyrot.request WHERE action = 'prune_requests' ORDER BY request_id LIMIT 1;

-- What is no age is an error, and changes nothing.
SELECT keyrot.prune_requests(NULL);
SELECT keyrot.prune_requests('-1 microsecond');
SELECT keyrot.prune_requests('1 day -25 hours');
BEGIN READ ONLY;
SELECT keyrot.prune_requests('1 day');
ROLLBACK;
SELECT * FROM kept;
\set VERBOSITY terse
SELECT keyrot.prune_requests('-1 day');
SELECT keyrot.prune_requests(NULL);

-- EXECUTE is the right to it; no right on the table is needed, nor one over those who made the requests.
CREATE ROLE regress_pruner;
GRANT USAGE ON SCHEMA keyrot TO regress_pruner;
SET ROLE regress_pruner;
SELECT keyrot.prune_requests('1 hour');
RESET ROLE;
GRANT EXECUTE ON FUNCTION keyrot.prune_requests(interval) TO regress_pruner;
SET ROLE regress_pruner;
SELECT keyrot.prune_requests('1 hour');
RESET ROLE;
SELECT * FROM kept;

-- It is rolled back with its caller's transaction.
INSERT INTO keyrot.request (request_id, target, requested_at, action, caller, caller_oid, "session_user", session_user_oid, pid, outcome)
SELECT request_id, 'pruned-' || days, now() - make_interval(days => days), 'refresh_zone_key',
       'regress_nobody', 1, 'regress_nobody', 1, 1, 'ok' FROM past WHERE days = 2;
BEGIN;
SELECT keyrot.prune_requests('1 hour');
ROLLBACK;
SELECT * FROM kept;
SELECT keyrot.prune_requests('1 hour');

-- Age 0 removes all that came before, but never itself.
BEGIN;
SELECT keyrot.prune_requests('0') > 0 AS removed;
SELECT count(*), min(action) FROM keyrot.request;
ROLLBACK;

-- What client_tokens were used for goes, too, but never within a day.
INSERT INTO keyrot.retry (caller, caller_oid, client_token, request_id, action, target, grace_period, grace_from, secret_given, created_at)
SELECT current_user, 1, 'token of ' || hours || ' hours', gen_random_uuid(), 'reset_app_secret', 'pruned', 0, 'rotation', false,
       now() - make_interval(hours => hours) FROM (VALUES (1), (23), (25), (49)) AS v (hours);
SELECT keyrot.prune_requests('2 days') >= 0 AS pruned;
SELECT client_token FROM keyrot.retry WHERE target = 'pruned' ORDER BY created_at DESC;
SELECT keyrot.prune_requests('0') >= 0 AS pruned;
SELECT client_token FROM keyrot.retry WHERE target = 'pruned' ORDER BY created_at DESC;
DELETE FROM keyrot.retry WHERE target = 'pruned';

REVOKE ALL ON SCHEMA keyrot FROM regress_pruner;
REVOKE ALL ON FUNCTION keyrot.prune_requests(interval) FROM regress_pruner;
DROP ROLE regress_pruner;
