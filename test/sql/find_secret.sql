-- find_secret: whose secret has leaked, among the credentials that the caller may act on.
\set SHOW_CONTEXT never
CREATE ROLE regress_finder;
GRANT USAGE ON SCHEMA keyrot TO regress_finder;
GRANT EXECUTE ON FUNCTION keyrot.find_secret TO regress_finder;
SELECT keyrot.create_app('Find', 'find.app', 'find-secret-number-1') IS NOT NULL AS app, keyrot.create_app('Find', 'find.other', 'find-secret-number-9') IS NOT NULL AS other,
       keyrot.create_zone_key('find-zone', encode(sha256('find 1'), 'base64')) IS NOT NULL AS zone;
SELECT keyrot.set_app_owner('find.other', 'regress_finder') IS NOT NULL AS given;
SELECT * FROM keyrot.find_secret('find-secret-number-1');
SELECT * FROM keyrot.find_secret(encode(sha256('find 1'), 'base64'));
-- What is nobody's, and what cannot be a secret, finds no row.
SELECT * FROM keyrot.find_secret('find-secret-number-0');
SELECT * FROM keyrot.find_secret('find-secret-number-');
SELECT v AS not_a_secret, (SELECT count(*) FROM keyrot.find_secret(v)) AS found FROM unnest(ARRAY['', ' ', 'short', 'find secret number 1', repeat('x', 129), U&'find-secret-number-\00e4']) AS v;
SELECT * FROM keyrot.find_secret(NULL);
-- The same secret of several credentials is found under each.
SELECT keyrot.create_app('Find', 'find.twin', 'find-secret-number-1') IS NOT NULL AS created;
SELECT * FROM keyrot.find_secret('find-secret-number-1') ORDER BY id;
SELECT keyrot.delete_app('find.twin') IS NOT NULL AS deleted;
-- A SecretKey's text may be an app's secret, too.
SELECT keyrot.create_app('Find', 'find.base64', encode(sha256('find 1'), 'base64')) IS NOT NULL AS created;
SELECT * FROM keyrot.find_secret(encode(sha256('find 1'), 'base64')) ORDER BY kind;

-- In grace, in the same row and, after a NewAppKey, under the old AppKey; and no more when the grace has ended.
SELECT keyrot.reset_app_secret('find.app', new_app_secret => 'find-secret-number-2', grace_period => '1 hour') IS NOT NULL AS reset;
SELECT * FROM keyrot.find_secret('find-secret-number-1'), keyrot.find_secret('find-secret-number-2') AS current;
SELECT keyrot.reset_app_secret('find.app', 'find.new', 'find-secret-number-3', '1 hour') IS NOT NULL AS renamed;
SELECT s, f.* FROM generate_series(1, 3) AS s, keyrot.find_secret('find-secret-number-' || s) AS f;
SELECT keyrot.end_app_grace('find.new') IS NOT NULL AS ended;
SELECT s, f.* FROM generate_series(1, 3) AS s, keyrot.find_secret('find-secret-number-' || s) AS f;
UPDATE keyrot.zone SET previous_secret = secret, previous_valid_until = clock_timestamp() WHERE zone_id = 'find-zone';
SELECT * FROM keyrot.find_secret(encode(sha256('find 1'), 'base64')) WHERE kind = 'zone';
-- Disabled, expired, deleted.
SELECT keyrot.disable_app('find.new') IS NOT NULL AS disabled;
SELECT * FROM keyrot.find_secret('find-secret-number-3');
SELECT keyrot.enable_app('find.new') IS NOT NULL AS enabled, keyrot.set_app_policy('find.new', lifetime => '1 microsecond') IS NOT NULL AS set;
SELECT * FROM keyrot.find_secret('find-secret-number-3');
SELECT keyrot.delete_app('find.new') IS NOT NULL AS deleted;
SELECT * FROM keyrot.find_secret('find-secret-number-3');

-- Others' credentials are not told of.
SET ROLE regress_finder;
SELECT * FROM keyrot.find_secret('find-secret-number-9');
SELECT * FROM keyrot.find_secret(encode(sha256('find 1'), 'base64'));
RESET ROLE;
-- A damaged row is passed over.
UPDATE keyrot.app SET secret = overlay(secret PLACING '\x00' FROM 40) WHERE app_key = 'find.base64';
SELECT * FROM keyrot.find_secret(encode(sha256('find 1'), 'base64'));
SELECT action, target, outcome, version, count(*) FROM keyrot.requests WHERE action = 'find_secret' GROUP BY 1, 2, 3, 4 ORDER BY 3;
DELETE FROM keyrot.app WHERE app_key = 'find.base64';
DROP OWNED BY regress_finder;
DROP ROLE regress_finder;
