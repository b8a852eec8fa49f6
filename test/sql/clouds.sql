-- The two clouds' own examples: what their APIs promise of ResetAppSecret and of
-- RefreshMultiPathGatewaySecretKey, kept by the functions that stand for them.
\set SHOW_CONTEXT never

-- ResetAppSecret of app 60030986: a new AppKey and a new AppSecret.
SELECT app_id, app_key, request_id AS created_by
  FROM keyrot.create_app('Reset me', app_key => '60030986', app_secret => 'the-first-AppSecret') \gset
SELECT :'app_key' AS app_key, :app_id > 0 AS has_number, test.is_uuid7(:'created_by') AS request_id_is_uuid7;
SELECT * FROM keyrot.reset_app_secret('60030986', new_app_key => 'testAppKey',
                                      new_app_secret => 'the-second-AppSecret') AS request_id \gset
-- The answer is the RequestId and nothing else.
SELECT test.is_uuid7(:'request_id') AS request_id_is_uuid7, pg_get_function_result('keyrot.reset_app_secret'::regproc);
-- The secret is read with a function of its own.
SELECT app_id = :app_id AS same_app, app_key, app_secret, version, created_at < modified_at AS was_modified,
       test.is_uuid7(request_id) AS request_id_is_uuid7
  FROM keyrot.describe_app_security('testAppKey');
-- The old pair is refused, and so are the two crosswise.
SELECT test.app_accepts('testAppKey', 'the-second-AppSecret') AS new_pair,
       test.app_accepts('60030986', 'the-first-AppSecret') AS old_pair,
       test.app_accepts('testAppKey', 'the-first-AppSecret') AS new_key_old_secret,
       test.app_accepts('60030986', 'the-second-AppSecret') AS old_key_new_secret;
SELECT * FROM keyrot.describe_app_security('60030986');
SELECT keyrot.reset_app_secret('60030986');
-- Only AppKey is required: NewAppSecret is generated when absent, and the AppKey stays.
SELECT test.is_uuid7(keyrot.reset_app_secret('testAppKey')) AS request_id_is_uuid7;
SELECT app_key, app_secret ~ '^[0-9a-f]{64}$' AS secret_is_generated, version
  FROM keyrot.describe_app_security('testAppKey');
SELECT test.app_accepts('testAppKey', test.secret_of('testAppKey')) AS new_secret,
       test.app_accepts('testAppKey', 'the-second-AppSecret') AS old_secret;
-- NewAppKey must be globally unique.
SELECT state, message, constraint_name FROM test.try('create_app', $$'Another', app_key => 'testAppKey'$$, NULL);
SELECT state, message, constraint_name
  FROM test.try('reset_app_secret', $$'testAppKey', new_app_key => '60030986'$$, NULL);

-- RefreshMultiPathGatewaySecretKey of zone-27q0p0bal192, whose one key all its gateways share.
SELECT test.is_uuid7(keyrot.create_zone_key('zone-27q0p0bal192')) AS request_id_is_uuid7;
SELECT gateway_id, test.is_uuid7(request_id) AS request_id_is_uuid7
  FROM keyrot.add_gateway('zone-27q0p0bal192', 'mpgw-lbxuhk1oh0');
SELECT gateway_id AS made_gateway FROM keyrot.add_gateway('zone-27q0p0bal192') \gset
SELECT :'made_gateway' ~ '^mpgw-[0-9a-z]{10}$' AS gateway_id_is_generated;
SELECT secret_key AS old_key, version FROM keyrot.describe_zone_key('zone-27q0p0bal192') \gset
SELECT secret_key AS new_key, request_id FROM keyrot.refresh_zone_key('zone-27q0p0bal192') \gset
-- SecretKey and RequestId come back.
SELECT :'new_key' ~ '^[A-Za-z0-9+/]{43}=$' AS key_is_base64_of_32_bytes, :'new_key' <> :'old_key' AS key_is_new,
       test.is_uuid7(:'request_id') AS request_id_is_uuid7;
SELECT secret_key = :'new_key' AS same_key, :version + 1 AS wanted, version
  FROM keyrot.describe_zone_key('zone-27q0p0bal192');
-- The old key is invalid at once, for the zone and for both gateways.
SELECT test.zone_accepts('zone-27q0p0bal192', :'new_key') AS new_key,
       test.zone_accepts('zone-27q0p0bal192', :'old_key') AS old_key;
SELECT g.gateway_id = :'made_gateway' AS made, test.gateway_accepts(zone_id, gateway_id, :'new_key') AS new_key,
       test.gateway_accepts(zone_id, gateway_id, :'old_key') AS old_key
  FROM keyrot.gateways AS g WHERE zone_id = 'zone-27q0p0bal192' ORDER BY made;
-- A zone has exactly one key.
SELECT state, message, constraint_name FROM test.try('create_zone_key', $$'zone-27q0p0bal192'$$, NULL);
SELECT count(*) FROM keyrot.zone WHERE zone_id = 'zone-27q0p0bal192';
-- A zone that does not exist.
SELECT * FROM keyrot.refresh_zone_key('zone-unknown');
SELECT keyrot.modify_zone_key('zone-27q0p0bal192', test.secret_key(1)) IS NOT NULL AS modified;
SELECT test.zone_accepts('zone-27q0p0bal192', test.secret_key(1)) AS given_key,
       test.zone_accepts('zone-27q0p0bal192', :'new_key') AS old_key;

-- Every request has its row, which says what came of it.
SELECT action, target, outcome, version FROM keyrot.requests
 WHERE target IN ('60030986', 'testAppKey', 'zone-27q0p0bal192') ORDER BY request_id;
