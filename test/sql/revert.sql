-- revert: while a grace period runs, the previous secret is current again, as a new version.
\set SHOW_CONTEXT never
SELECT keyrot.create_app('Revert', 'revert.app', 'revert-secret-number-1') IS NOT NULL AS app, keyrot.create_zone_key('revert-zone', test.secret_key(1)) IS NOT NULL AS zone;
-- There is nothing to go back to.
SELECT keyrot.revert_app_secret('revert.app');
SELECT keyrot.revert_zone_key('revert-zone');
SELECT keyrot.reset_app_secret('revert.app', new_app_secret => 'revert-secret-number-2') IS NOT NULL AS reset_without_grace;
SELECT keyrot.revert_app_secret('revert.app');

CREATE FUNCTION test.revert_app() RETURNS text LANGUAGE sql VOLATILE AS $$
SELECT format('version %s is secret %s; accepted: %s', d.version, right(d.app_secret, 1),
              (SELECT string_agg(n::text, ' ' ORDER BY n) FROM generate_series(1, 4) AS n WHERE test.app_accepts('revert.app', 'revert-secret-number-' || n)))
  FROM keyrot.describe_app_security('revert.app') AS d $$;
SELECT keyrot.reset_app_secret('revert.app', new_app_secret => 'revert-secret-number-3', grace_period => '1 hour') IS NOT NULL AS reset;
SELECT previous_valid_until AS grace_end FROM keyrot.credentials WHERE id = 'revert.app' \gset
SELECT test.revert_app();
SELECT test.is_uuid7(keyrot.revert_app_secret('revert.app')) AS reverted;
SELECT test.revert_app();
-- The grace period is the one that was given, no longer.
SELECT previous_valid_until = :'grace_end' AS same_end FROM keyrot.credentials WHERE id = 'revert.app';
-- Twice is there and back.
SELECT keyrot.revert_app_secret('revert.app') IS NOT NULL AS reverted;
SELECT test.revert_app();
SELECT previous_valid_until = :'grace_end' AS same_end FROM keyrot.credentials WHERE id = 'revert.app';
-- After its end there is nothing to go back to.
SELECT keyrot.end_app_grace('revert.app') IS NOT NULL AS ended;
SELECT keyrot.revert_app_secret('revert.app');
SELECT keyrot.reset_app_secret('revert.app', new_app_secret => 'revert-secret-number-1', grace_period => '1 hour') IS NOT NULL AS reset;
UPDATE keyrot.app SET previous_valid_until = clock_timestamp() WHERE app_key = 'revert.app';
SELECT keyrot.revert_app_secret('revert.app');
SELECT test.revert_app();
-- A disabled credential stays disabled.
SELECT keyrot.reset_app_secret('revert.app', new_app_secret => 'revert-secret-number-4', grace_period => '1 hour') IS NOT NULL AS reset;
SELECT keyrot.disable_app('revert.app') IS NOT NULL AS disabled, keyrot.revert_app_secret('revert.app') IS NOT NULL AS reverted;
SELECT state FROM keyrot.credentials WHERE id = 'revert.app';
SELECT test.revert_app();
SELECT keyrot.enable_app('revert.app') IS NOT NULL AS enabled;
SELECT test.revert_app();

-- With a lifetime the reverted version has a full one, and the one in grace no more than its own.
SELECT keyrot.set_app_policy('revert.app', lifetime => '30 minutes') IS NOT NULL AS set;
SELECT keyrot.revert_app_secret('revert.app') IS NOT NULL AS reverted;
SELECT valid_until - modified_at AS lives, previous_valid_until < valid_until AS cut FROM keyrot.credentials WHERE id = 'revert.app';

-- After a rotation that changed the AppKey there is no way back, nor under the old one.
SELECT keyrot.reset_app_secret('revert.app', 'revert.new', grace_period => '10 minutes') IS NOT NULL AS renamed;
SELECT keyrot.revert_app_secret('revert.new');
SELECT keyrot.revert_app_secret('revert.app');
SELECT keyrot.reset_app_secret('revert.new', grace_period => '5 minutes') IS NOT NULL AS reset;
SELECT keyrot.revert_app_secret('revert.new') IS NOT NULL AS reverted;

-- Zones, and their gateways.
SELECT keyrot.add_gateway('revert-zone', 'revert-gateway') IS NOT NULL AS added, keyrot.modify_zone_key('revert-zone', test.secret_key(2), '1 hour') IS NOT NULL AS modified;
SELECT keyrot.revert_zone_key('revert-zone') IS NOT NULL AS reverted;
SELECT version, secret_key = test.secret_key(1) AS first_key FROM keyrot.describe_zone_key('revert-zone');
SELECT test.gateway_accepts('revert-zone', 'revert-gateway', test.secret_key(1)) AS current, test.gateway_accepts('revert-zone', 'revert-gateway', test.secret_key(2)) AS in_grace;
SELECT action, target, outcome, version FROM keyrot.requests WHERE action LIKE 'revert%' ORDER BY request_id;

-- modify_zone_key with the current key changes nothing, also where it is repeated with a client_token.
SELECT xmin AS row_version FROM keyrot.zone WHERE zone_id = 'revert-zone' \gset
SELECT keyrot.modify_zone_key('revert-zone', test.secret_key(1)) IS NOT NULL AS modified;
SELECT keyrot.modify_zone_key('revert-zone', test.secret_key(1), client_token => 'revert-token') AS first \gset
SELECT keyrot.modify_zone_key('revert-zone', test.secret_key(1), client_token => 'revert-token') = :'first' AS repeated;
SELECT xmin = :row_version AS untouched, version FROM keyrot.zone WHERE zone_id = 'revert-zone';
SELECT action, version, retry_of IS NOT NULL AS repetition FROM keyrot.requests WHERE target = 'revert-zone' AND action = 'modify_zone_key' ORDER BY request_id;
