-- disable and enable: nothing verifies or signs by a disabled credential, also by an old AppKey in grace; all else
-- goes on, and leaves it disabled.
\set SHOW_CONTEXT never
SELECT app_id FROM keyrot.create_app('Switch', 'switch.app', 'switch-secret-number-1') \gset
SELECT keyrot.create_zone_key('switch-zone', test.secret_key(1)) IS NOT NULL AS created;
SELECT keyrot.add_gateway('switch-zone', 'switch-gateway') IS NOT NULL AS added;
SELECT test.app_accepts('switch.app', 'switch-secret-number-1') AS app, test.zone_accepts('switch-zone', test.secret_key(1)) AS zone,
       test.gateway_accepts('switch-zone', 'switch-gateway', test.secret_key(1)) AS gateway;

SELECT test.is_uuid7(keyrot.disable_app('switch.app')) AS app, test.is_uuid7(keyrot.disable_zone('switch-zone')) AS zone;
SELECT test.app_accepts('switch.app', 'switch-secret-number-1') AS app, test.zone_accepts('switch-zone', test.secret_key(1)) AS zone,
       test.gateway_accepts('switch-zone', 'switch-gateway', test.secret_key(1)) AS gateway;
SELECT keyrot.sign_for_app('switch.app', 'message');
SELECT keyrot.sign_for_zone('switch-zone', 'message');
SELECT keyrot.sign_string_for_app('switch.app', 'message');
SELECT id, state, version FROM keyrot.credentials WHERE id LIKE 'switch%' ORDER BY id;
SELECT app_key, disabled FROM keyrot.list_apps(app_name => 'Switch');
-- Repeating it succeeds and changes nothing.
SELECT xmin AS row_version FROM keyrot.app WHERE app_key = 'switch.app' \gset
SELECT keyrot.disable_app('switch.app') IS NOT NULL AS repeated;
SELECT xmin = :row_version AS untouched FROM keyrot.app WHERE app_key = 'switch.app';
-- Describing and rotating go on; it stays disabled.
SELECT app_secret, version FROM keyrot.describe_app_security('switch.app');
SELECT keyrot.reset_app_secret('switch.app', new_app_secret => 'switch-secret-number-2', grace_period => '1 hour') IS NOT NULL AS reset;
SELECT keyrot.modify_app('switch.app', app_name => 'Switched') IS NOT NULL AS modified;
SELECT keyrot.modify_zone_key('switch-zone', test.secret_key(2), '1 hour') IS NOT NULL AS modified;
SELECT test.app_accepts('switch.app', 'switch-secret-number-1') AS previous, test.app_accepts('switch.app', 'switch-secret-number-2') AS current,
       test.zone_accepts('switch-zone', test.secret_key(1)) AS previous_key, test.zone_accepts('switch-zone', test.secret_key(2)) AS current_key;
-- Enabled, both versions verify again: the grace period went on.
SELECT keyrot.enable_app('switch.app') IS NOT NULL AS app, keyrot.enable_zone('switch-zone') IS NOT NULL AS zone;
SELECT test.app_accepts('switch.app', 'switch-secret-number-1') AS previous, test.app_accepts('switch.app', 'switch-secret-number-2') AS current,
       test.zone_accepts('switch-zone', test.secret_key(1)) AS previous_key, test.zone_accepts('switch-zone', test.secret_key(2)) AS current_key;
SELECT keyrot.enable_app('switch.app') IS NOT NULL AS repeated;
SELECT id, state FROM keyrot.credentials WHERE id LIKE 'switch%' ORDER BY id;

-- An old AppKey in grace is the app's, too.
SELECT keyrot.reset_app_secret('switch.app', 'switch.new', 'switch-secret-number-3', '1 hour') IS NOT NULL AS renamed;
SELECT test.app_accepts('switch.app', 'switch-secret-number-2') AS old, test.app_accepts('switch.new', 'switch-secret-number-3') AS new;
SELECT keyrot.disable_app('switch.new') IS NOT NULL AS disabled;
SELECT test.app_accepts('switch.app', 'switch-secret-number-2') AS old, test.app_accepts('switch.new', 'switch-secret-number-3') AS new;
SELECT id, state FROM keyrot.credentials WHERE id LIKE 'switch.%' ORDER BY id;
SELECT keyrot.disable_app('switch.app');
SELECT keyrot.enable_app('switch.new') IS NOT NULL AS enabled;
SELECT test.app_accepts('switch.app', 'switch-secret-number-2') AS old, test.app_accepts('switch.new', 'switch-secret-number-3') AS new;
-- A disabled app gets a new AppKey: the switch goes along.
SELECT keyrot.disable_app('switch.new') IS NOT NULL AS disabled;
SELECT keyrot.reset_app_secret('switch.new', 'switch.newer', 'switch-secret-number-4', '1 hour') IS NOT NULL AS renamed;
SELECT test.app_accepts('switch.new', 'switch-secret-number-3') AS old, test.app_accepts('switch.newer', 'switch-secret-number-4') AS new;
SELECT keyrot.enable_app('switch.newer') IS NOT NULL AS enabled;
SELECT test.app_accepts('switch.new', 'switch-secret-number-3') AS old, test.app_accepts('switch.newer', 'switch-secret-number-4') AS new;
-- A zone that is made again is not disabled.
SELECT keyrot.disable_zone('switch-zone') IS NOT NULL AS disabled, keyrot.delete_zone_key('switch-zone') IS NOT NULL AS deleted;
SELECT keyrot.create_zone_key('switch-zone', test.secret_key(3)) IS NOT NULL AS created;
SELECT test.zone_accepts('switch-zone', test.secret_key(3)) AS verifies;

-- Whom it is not for, and what is not there.
SELECT keyrot.disable_app('switch.unknown');
SELECT keyrot.enable_zone('switch-unknown');
SELECT action, target, outcome, version FROM keyrot.requests WHERE action ~ '^(dis|en)able_' AND target LIKE 'switch%' ORDER BY request_id;

-- api(): Disabled alone stands for disable_app or enable_app, and with other changes for both functions.
SELECT body ->> 'Code' AS code FROM keyrot.api('ModifyApp', '{"AppKey": "switch.newer", "Disabled": true}');
SELECT test.app_accepts('switch.newer', 'switch-secret-number-4') AS verifies;
SELECT body ->> 'Disabled' AS disabled FROM keyrot.api('DescribeApp', jsonb_build_object('AppId', :app_id));
SELECT body #>> '{Apps,AppAttribute,0,Disabled}' AS disabled FROM keyrot.api('DescribeAppAttributes', '{"AppKey": "switch.newer"}');
SELECT body ->> 'Code' AS code FROM keyrot.api('ModifyApp', jsonb_build_object('AppId', :app_id, 'Disabled', 'false', 'AppName', 'Both'));
SELECT body ->> 'Disabled' AS disabled, body ->> 'AppName' AS name FROM keyrot.api('DescribeApp', jsonb_build_object('AppId', :app_id));
SELECT body ->> 'Code' AS code FROM keyrot.api('ModifyApp', '{"AppKey": "switch.newer", "Disabled": null}');
SELECT p AS disabled, body ->> 'Code' AS code, body ->> 'Message' AS message
  FROM (VALUES ('1'), ('"True"'), ('""'), ('[]'), ('{}')) AS v (p), keyrot.api('ModifyApp', ('{"AppKey": "switch.newer", "Disabled": ' || p || '}')::jsonb);
SELECT action, outcome FROM keyrot.requests WHERE target = 'switch.newer' AND action ~ 'able_app|modify_app' ORDER BY request_id;
CREATE ROLE regress_switcher;
GRANT USAGE ON SCHEMA keyrot TO regress_switcher;
GRANT EXECUTE ON FUNCTION keyrot.api, keyrot.disable_app TO regress_switcher;
SELECT keyrot.set_app_owner('switch.newer', 'regress_switcher') IS NOT NULL AS given;
CREATE FUNCTION test.switch_codes() RETURNS text LANGUAGE sql VOLATILE AS $$
SELECT string_agg(coalesce(body ->> 'Code', 'ok'), ' ' ORDER BY n)
  FROM unnest(ARRAY['{"Disabled": true}', '{"Disabled": false}', '{"AppName": "x"}', '{"Disabled": "true", "AppName": "x"}', '{}']::jsonb[])
       WITH ORDINALITY AS v (p, n), keyrot.api('ModifyApp', '{"AppKey": "switch.newer"}' || p) $$;
SET ROLE regress_switcher;
SELECT test.switch_codes() AS with_disable_app;
RESET ROLE;
GRANT EXECUTE ON FUNCTION keyrot.modify_app TO regress_switcher;
SET ROLE regress_switcher;
SELECT test.switch_codes() AS with_modify_app_too;
RESET ROLE;
REVOKE EXECUTE ON FUNCTION keyrot.disable_app FROM regress_switcher;
SET ROLE regress_switcher;
SELECT test.switch_codes() AS with_modify_app;
RESET ROLE;
SELECT keyrot.delete_app('switch.newer') IS NOT NULL AS deleted;
SELECT id, state, valid_until, due_at FROM keyrot.credentials WHERE id LIKE 'switch.%' ORDER BY id;
DROP OWNED BY regress_switcher;
DROP ROLE regress_switcher;
