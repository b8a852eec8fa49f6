-- The functions check_…: why a verification says no, by the first reason that applies, and by which version it says yes.
\set SHOW_CONTEXT never
CREATE FUNCTION test.mac(message text, secret text, algorithm text DEFAULT 'sha256') RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT encode(public.hmac(convert_to(message, 'UTF8'), convert_to(secret, 'UTF8'), algorithm), 'base64') $$;
SELECT app_key FROM keyrot.create_app('Checks', 'checks.app', 'checks-secret-number-1');
SELECT keyrot.create_zone_key('checks-zone', test.secret_key(1)) IS NOT NULL AS done;
SELECT gateway_id FROM keyrot.add_gateway('checks-zone', 'gate');

-- Each function in a call of its own, beside the one that only says yes or no.
CREATE FUNCTION test.checked(app text, zone text, gateway text, message text, app_mac text, zone_mac text, algorithm text)
    RETURNS TABLE (function text, valid boolean, reason text, version int, previous boolean, verified boolean) LANGUAGE sql STABLE AS $$
SELECT 'app', c.*, keyrot.verify_app_string(app, message, app_mac, algorithm)
  FROM keyrot.check_app_string(app, message, app_mac, algorithm) AS c
UNION ALL
SELECT 'zone', c.*, keyrot.verify_zone_string(zone, message, zone_mac, algorithm)
  FROM keyrot.check_zone_string(zone, message, zone_mac, algorithm) AS c
UNION ALL
SELECT 'gateway', c.*, keyrot.verify_gateway_string(zone, gateway, message, zone_mac, algorithm)
  FROM keyrot.check_gateway_string(zone, gateway, message, zone_mac, algorithm) AS c
$$;
CREATE FUNCTION test.all_checked(app text, zone text, gateway text, version int, message text DEFAULT 'message')
    RETURNS TABLE (function text, valid boolean, reason text, version int, previous boolean, verified boolean) LANGUAGE sql STABLE AS $$
SELECT * FROM test.checked(app, zone, gateway, message, test.mac('message', 'checks-secret-number-' || version),
                           test.mac('message', test.secret_key(version)), 'sha256')
$$;

SELECT 'right' AS what, * FROM test.all_checked('checks.app', 'checks-zone', 'gate', 1)
UNION ALL SELECT 'wrong', * FROM test.all_checked('checks.app', 'checks-zone', 'gate', 2)
UNION ALL SELECT 'another message', * FROM test.all_checked('checks.app', 'checks-zone', 'gate', 1, 'message.')
UNION ALL SELECT 'unknown', * FROM test.all_checked('checks.none', 'checks-none', 'gate', 1)
UNION ALL SELECT 'another gateway', * FROM test.all_checked('checks.app', 'checks-zone', 'gate-2', 1)
UNION ALL SELECT 'that and wrong', * FROM test.all_checked('checks.app', 'checks-zone', 'gate-2', 2);
-- By name, with the default algorithm and with the other.
SELECT * FROM keyrot.check_app_string(app_key => 'checks.app', string_to_sign => 'm', signature => test.mac('m', 'checks-secret-number-1'));
SELECT * FROM keyrot.check_zone_string(zone_id => 'checks-zone', string_to_sign => 'm',
                                       signature => test.mac('m', test.secret_key(1), 'sha1'), algorithm => 'sha1');
SELECT * FROM keyrot.check_gateway_string(zone_id => 'checks-zone', gateway_id => 'gate', string_to_sign => 'm',
                                          signature => test.mac('m', test.secret_key(1)));

-- Malformed: what no identifier or signature can be, and NULL; this before all else.
SELECT what, count(*) AS checks, min(reason) AS reason, max(reason) AS reason, bool_or(valid OR verified) AS any_valid,
       count(version) + count(previous) AS versions
  FROM (VALUES ('no identifiers', NULL, NULL, 'gate', 'm', test.mac('m', 'x')),
               ('malformed ones', 'a b', '-', 'gate', 'm', test.mac('m', 'x')),
               ('a secret', repeat('0123456789abcdef', 4), test.secret_key(1), 'gate', 'm', test.mac('m', 'x')),
               ('no message', 'checks.app', 'checks-zone', 'gate', NULL, test.mac('m', 'x')),
               ('no signature', 'checks.app', 'checks-zone', 'gate', 'm', NULL),
               ('an empty one', 'checks.app', 'checks-zone', 'gate', 'm', ''),
               ('no base64', 'checks.app', 'checks-zone', 'gate', 'm', rtrim(test.mac('m', 'x'), '=')),
               ('base64 of SHA-1', 'checks.app', 'checks-zone', 'gate', 'm', test.mac('m', 'x', 'sha1')),
               ('33 bytes', 'checks.app', 'checks-zone', 'gate', 'm', encode(decode(repeat('00', 33), 'hex'), 'base64')),
               ('for nobody', 'checks.none', 'checks-none', 'none', 'm', 'x'))
       AS v (what, app, zone, gateway, message, mac),
       LATERAL test.checked(app, zone, gateway, message, mac, mac, 'sha256') GROUP BY 1 ORDER BY 1;
SELECT gateway_id, c.* FROM (VALUES (NULL), (''), ('-'), ('gate ')) AS v (gateway_id),
       LATERAL keyrot.check_gateway_string('checks-zone', gateway_id, 'm', test.mac('m', test.secret_key(1))) AS c;
-- An algorithm that there is not is the caller's error, as in verifying.
SELECT function, count(*) AS calls, string_agg(DISTINCT state, ' ') AS states
  FROM (VALUES ('check_app_string', $$'checks.app', 'm', 'x'$$), ('check_zone_string', $$'checks-zone', 'm', 'x'$$),
               ('check_gateway_string', $$'checks-zone', 'gate', 'm', 'x'$$)) AS f (function, arguments),
       (VALUES ('NULL'), ($$''$$), ($$'md5'$$), ($$'SHA256'$$), ($$'sha256 '$$)) AS a (algorithm),
       LATERAL test.state_of(format('SELECT * FROM keyrot.%s(%s, %s)', function, arguments, algorithm)) AS state
 GROUP BY 1 ORDER BY 1;

-- In grace.
SELECT keyrot.reset_app_secret('checks.app', NULL, 'checks-secret-number-2', '1 day') IS NOT NULL AS reset,
       keyrot.modify_zone_key('checks-zone', test.secret_key(2), '1 day') IS NOT NULL AS modified;
SELECT 'current' AS what, * FROM test.all_checked('checks.app', 'checks-zone', 'gate', 2)
UNION ALL SELECT 'previous', * FROM test.all_checked('checks.app', 'checks-zone', 'gate', 1)
UNION ALL SELECT 'neither', * FROM test.all_checked('checks.app', 'checks-zone', 'gate', 3)
UNION ALL SELECT 'previous, another gateway', * FROM test.all_checked('checks.app', 'checks-zone', 'gate-2', 1)
UNION ALL SELECT 'previous, unknown', * FROM test.all_checked('checks.none', 'checks-none', 'gate', 1)
UNION ALL SELECT 'previous, malformed', * FROM test.all_checked('', '', 'gate', 1);
-- What is sent meanwhile: a signature by each version that verifies, under the id that it verifies under.
SELECT s.id, s.version, s.signature = test.mac('m', 'checks-secret-number-' || s.version) AS right, c.*
  FROM keyrot.sign_string_with_all_for_app(app_key => 'checks.app', string_to_sign => 'm') AS s,
       LATERAL keyrot.check_app_string(s.id, 'm', s.signature) AS c ORDER BY 2 DESC;
SELECT s.id, s.version, s.signature = test.mac('m', test.secret_key(s.version), 'sha1') AS right, c.*
  FROM keyrot.sign_string_with_all_for_zone(zone_id => 'checks-zone', string_to_sign => 'm', algorithm => 'sha1') AS s,
       LATERAL keyrot.check_zone_string(s.id, 'm', s.signature, 'sha1') AS c ORDER BY 2 DESC;

-- After its end: the version is none any more.
SELECT keyrot.end_app_grace('checks.app') IS NOT NULL AS ended, keyrot.end_zone_grace('checks-zone') IS NOT NULL AS ended;
SELECT 'current' AS what, * FROM test.all_checked('checks.app', 'checks-zone', 'gate', 2)
UNION ALL SELECT 'previous', * FROM test.all_checked('checks.app', 'checks-zone', 'gate', 1);
SELECT id, version FROM keyrot.sign_string_with_all_for_app('checks.app', 'm')
UNION ALL SELECT id, version FROM keyrot.sign_string_with_all_for_zone('checks-zone', 'm');
-- The same by the clock, with nobody having looked at the row since.
SELECT keyrot.reset_app_secret('checks.app', NULL, 'checks-secret-number-3', '200 ms') IS NOT NULL AS reset,
       keyrot.modify_zone_key('checks-zone', test.secret_key(3), '200 ms') IS NOT NULL AS modified;
SELECT pg_sleep(0.25);
SELECT 'current' AS what, * FROM test.all_checked('checks.app', 'checks-zone', 'gate', 3)
UNION ALL SELECT 'previous', * FROM test.all_checked('checks.app', 'checks-zone', 'gate', 2);
SELECT id, version FROM keyrot.sign_string_with_all_for_app('checks.app', 'm')
UNION ALL SELECT id, version FROM keyrot.sign_string_with_all_for_zone('checks-zone', 'm');

-- Disabled, by whichever version; this before the gateway and the signature.
SELECT keyrot.reset_app_secret('checks.app', NULL, 'checks-secret-number-4', '1 day') IS NOT NULL AS reset,
       keyrot.modify_zone_key('checks-zone', test.secret_key(4), '1 day') IS NOT NULL AS modified,
       keyrot.disable_app('checks.app') IS NOT NULL AS disabled, keyrot.disable_zone('checks-zone') IS NOT NULL AS disabled;
SELECT 'current' AS what, * FROM test.all_checked('checks.app', 'checks-zone', 'gate', 4)
UNION ALL SELECT 'previous', * FROM test.all_checked('checks.app', 'checks-zone', 'gate', 3)
UNION ALL SELECT 'neither, another gateway', * FROM test.all_checked('checks.app', 'checks-zone', 'gate-2', 1);
SELECT * FROM keyrot.sign_string_with_all_for_app('checks.app', 'm');
SELECT * FROM keyrot.sign_string_with_all_for_zone('checks-zone', 'm');
SELECT keyrot.sign_token_for_zone('checks-zone', '{}');
SELECT keyrot.enable_app('checks.app') IS NOT NULL AS enabled, keyrot.enable_zone('checks-zone') IS NOT NULL AS enabled;
-- Expired, where the current version signed and its lifetime is over; this before a token's own times.
SELECT keyrot.sign_token_for_zone('checks-zone', '{"exp": 1}') AS token \gset
SELECT keyrot.set_app_policy('checks.app', lifetime => '1 microsecond') IS NOT NULL AS app,
       keyrot.set_zone_policy('checks-zone', lifetime => '1 microsecond') IS NOT NULL AS zone;
SELECT 'current' AS what, * FROM test.all_checked('checks.app', 'checks-zone', 'gate', 4)
UNION ALL SELECT 'previous', * FROM test.all_checked('checks.app', 'checks-zone', 'gate', 3)
UNION ALL SELECT 'neither', * FROM test.all_checked('checks.app', 'checks-zone', 'gate', 1)
UNION ALL SELECT 'current, another gateway', * FROM test.all_checked('checks.app', 'checks-zone', 'gate-2', 4);
SELECT * FROM keyrot.check_gateway_token('checks-zone', 'gate', :'token');
SELECT keyrot.verify_gateway_token('checks-zone', 'gate', :'token') AS verified;
SELECT * FROM keyrot.sign_string_with_all_for_app('checks.app', 'm');
SELECT * FROM keyrot.sign_string_with_all_for_zone('checks-zone', 'm');
SELECT keyrot.sign_token_for_zone('checks-zone', '{}');
SELECT keyrot.disable_app('checks.app') IS NOT NULL AS disabled;
SELECT reason AS of_both FROM keyrot.check_app_string('checks.app', 'm', test.mac('m', 'checks-secret-number-4'));
-- The version that follows an expired one is good again; the expired one was not kept, for all its grace period.
SELECT keyrot.enable_app('checks.app') IS NOT NULL AS enabled, keyrot.set_app_policy('checks.app') IS NOT NULL AS app,
       keyrot.set_app_policy('checks.app', lifetime => '1 microsecond') IS NOT NULL AS set,
       keyrot.reset_app_secret('checks.app', NULL, 'checks-secret-number-5', '1 day') IS NOT NULL AS reset,
       keyrot.set_app_policy('checks.app') IS NOT NULL AS set;
SELECT n AS signed_by, c.* FROM generate_series(4, 5) AS n,
       LATERAL keyrot.check_app_string('checks.app', 'm', test.mac('m', 'checks-secret-number-' || n)) AS c ORDER BY 1;

-- After a NewAppKey with grace: each AppKey has its version, and the old one's is the one in grace.
SELECT keyrot.reset_app_secret('checks.app', 'checks.new', 'checks-secret-number-6', '1 day') IS NOT NULL AS reset;
SELECT app_key, n AS signed_by, c.*
  FROM unnest(ARRAY['checks.app', 'checks.new']) AS app_key, generate_series(5, 6) AS n,
       LATERAL keyrot.check_app_string(app_key, 'm', test.mac('m', 'checks-secret-number-' || n)) AS c ORDER BY 1, 2;
SELECT s.id, s.version, s.signature = test.mac('m', 'checks-secret-number-' || s.version) AS right, c.*
  FROM keyrot.sign_string_with_all_for_app('checks.new', 'm') AS s,
       LATERAL keyrot.check_app_string(s.id, 'm', s.signature) AS c ORDER BY 2 DESC;
SELECT * FROM keyrot.sign_string_with_all_for_app('checks.app', 'm');
-- Disabled, both are.
SELECT keyrot.disable_app('checks.new') IS NOT NULL AS disabled;
SELECT app_key, c.reason FROM (VALUES ('checks.app', 5), ('checks.new', 6)) AS v (app_key, n),
       LATERAL keyrot.check_app_string(app_key, 'm', test.mac('m', 'checks-secret-number-' || n)) AS c;
SELECT keyrot.enable_app('checks.new') IS NOT NULL AS enabled;
-- A rotation of the new AppKey ends that; and its own previous version is the one in grace.
SELECT keyrot.reset_app_secret('checks.new', NULL, 'checks-secret-number-7', '1 day') IS NOT NULL AS reset;
SELECT id, version FROM keyrot.sign_string_with_all_for_app('checks.new', 'm');
SELECT reason FROM keyrot.check_app_string('checks.app', 'm', test.mac('m', 'checks-secret-number-5'));

-- Retired and deleted is unknown, whatever was signed.
SELECT keyrot.delete_app('checks.new') IS NOT NULL AS deleted, keyrot.delete_zone_key('checks-zone') IS NOT NULL AS deleted;
SELECT 'was current' AS what, * FROM test.all_checked('checks.new', 'checks-zone', 'gate', 7)
UNION ALL SELECT 'was zone''s', * FROM test.all_checked('checks.new', 'checks-zone', 'gate', 4)
UNION ALL SELECT 'retired', * FROM test.all_checked('checks.app', 'checks-zone', 'gate', 4);
SELECT * FROM keyrot.sign_string_with_all_for_zone('checks-zone', 'm');
-- In parallel workers they may run, as verification may.
SELECT proname, provolatile, proparallel, proisstrict FROM pg_proc
 WHERE pronamespace = 'keyrot'::regnamespace AND proname ~ '^(check|verify)_' ORDER BY 1;
