-- Versions end where their column does: an error then, and nothing is changed.
\set SHOW_CONTEXT never
SELECT app_key FROM keyrot.create_app('Last', 'last.app');
SELECT app_key FROM keyrot.create_app('Last', 'last.retired');
SELECT keyrot.create_zone_key('last-zone') IS NOT NULL AS done;
SELECT keyrot.create_zone_key('last-deleted') IS NOT NULL AS done;
SELECT keyrot.delete_zone_key('last-deleted') IS NOT NULL AS done;
-- Nobody has rotated that often.
UPDATE keyrot.app SET version = 2147483646 WHERE app_key LIKE 'last.%';
UPDATE keyrot.zone SET version = 2147483646 WHERE zone_id LIKE 'last-%';

-- The last but one is replaced by the last.
SELECT keyrot.reset_app_secret('last.app', new_app_secret => 'last-secret-of-an-app') IS NOT NULL AS done;
SELECT keyrot.reset_app_secret('last.retired', 'last.successor') IS NOT NULL AS done;
SELECT keyrot.modify_zone_key('last-zone', test.secret_key(9)) IS NOT NULL AS done;
SELECT keyrot.create_zone_key('last-deleted') IS NOT NULL AS done;
SELECT keyrot.delete_zone_key('last-deleted') IS NOT NULL AS done;
SELECT id, state, version FROM keyrot.credentials WHERE id LIKE 'last%' ORDER BY id;

-- One that could be reverted, were there a version for it.
SELECT keyrot.create_zone_key('last-reverted') IS NOT NULL AS done;
UPDATE keyrot.zone SET version = 2147483645 WHERE zone_id = 'last-reverted';
SELECT secret_key IS NOT NULL AS done FROM keyrot.refresh_zone_key('last-reverted');
SELECT secret_key IS NOT NULL AS done FROM keyrot.refresh_zone_key('last-reverted', '1 day');

-- The last is not replaced.
CREATE FUNCTION test.last_state() RETURNS text LANGUAGE sql AS
$$ SELECT md5(string_agg(c::text, ' ' ORDER BY app_key)) FROM keyrot.app AS c WHERE app_key LIKE 'last.%' $$;
SELECT test.last_state() AS before, md5(string_agg(z::text, ' ' ORDER BY zone_id)) AS zones_before
  FROM keyrot.zone AS z WHERE zone_id LIKE 'last-%' \gset
SELECT keyrot.reset_app_secret('last.app');
\set VERBOSITY terse
SELECT keyrot.reset_app_secret('last.app', grace_period => '1 day');
SELECT keyrot.reset_app_secret('last.app', 'last.never', client_token => 'last-token');
SELECT * FROM keyrot.refresh_zone_key('last-zone');
SELECT keyrot.modify_zone_key('last-zone', test.secret_key(10));
SELECT keyrot.create_zone_key('last-deleted');
SELECT keyrot.revert_zone_key('last-reverted');
SELECT http_status, body ->> 'Code' AS code, body ->> 'Message' AS message
  FROM keyrot.api('ResetAppSecret', '{"AppKey": "last.app"}');
SELECT http_status, body -> 'Response' -> 'Error' ->> 'Code' AS code
  FROM keyrot.api('RefreshMultiPathGatewaySecretKey', '{"ZoneId": "last-zone"}');
SELECT test.last_state() = :'before' AS apps_unchanged,
       md5(string_agg(z::text, ' ' ORDER BY zone_id)) = :'zones_before' AS zones_unchanged
  FROM keyrot.zone AS z WHERE zone_id LIKE 'last-%';

-- It is as good as any: it verifies, is read, and can be deleted; the AppKey that was refused is free.
SELECT test.app_accepts('last.app', 'last-secret-of-an-app') AS app, test.zone_accepts('last-zone', test.secret_key(9)) AS zone;
SELECT version, app_secret FROM keyrot.describe_app_security('last.app');
SELECT keyrot.delete_app('last.app') IS NOT NULL AS deleted, keyrot.delete_zone_key('last-zone') IS NOT NULL AS deleted;
SELECT app_key FROM keyrot.create_app('Never', 'last.never');
DROP FUNCTION test.last_state();
