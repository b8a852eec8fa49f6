-- How api() reads its parameters: unknown ones are judged first, then missing, then malformed; a value may be
-- its JSON type or text; null is absent; common parameters are ignored, but for Version; and any JSON,
-- however deep or large, gets an answer.
\set SHOW_CONTEXT never
CREATE FUNCTION test.api_answer(action text, params jsonb) RETURNS text LANGUAGE sql VOLATILE AS
$$ SELECT concat_ws(' ', http_status, coalesce(body ->> 'Code', body #>> '{Response,Error,Code}', 'ok')) FROM keyrot.api(action, params) $$;
SELECT app_id FROM keyrot.create_app('Parameters', 'apipar.app') \gset
SELECT keyrot.create_zone_key('apipar-zone') IS NOT NULL AS done;

-- The order of judgement.  (AppId is that of apipar.app where it is @app@.)
SELECT action, params, test.api_answer(action, replace(params, '@app@', :'app_id')::jsonb) AS answer
  FROM (VALUES
    ('ModifyMultiPathGatewaySecretKey', '{"Other": 1, "ZoneId": "-"}'),
    ('ModifyMultiPathGatewaySecretKey', '{"ZoneId": "-"}'),
    ('ModifyMultiPathGatewaySecretKey', '{"ZoneId": 5, "SecretKey": "-"}'),
    ('ModifyMultiPathGatewaySecretKey', '{"ZoneId": "-", "SecretKey": "-"}'),
    ('ModifyMultiPathGatewaySecretKey', '{"ZoneId": "-", "SecretKey": "-", "Other": null}'),
    ('ModifyMultiPathGatewaySecretKey', '{"Version": "1", "Other": 1}'),
    ('ResetAppSecret', '{"AppKey": null, "NewAppKey": 5}'),
    ('ResetAppSecret', '{"AppKey": "-", "NewAppKey": 5, "Other": 1}'),
    ('CreateApp', '{"AppKey": "-"}'),
    ('ModifyApp', '{"AppId": @app@, "AppKey": "apipar.other", "AppName": ""}'),
    ('ModifyApp', '{"AppId": @app@, "AppKey": "apipar.other"}'),
    ('ModifyApp', '{"AppId": 9223372036854775807, "AppName": ""}'),
    -- AppKeys are case-sensitive text
    ('ModifyApp', '{"AppKey": "APIPAR.app"}'),
    ('ModifyApp', '{"appkey": "apipar.app"}')) AS v (action, params);

-- Types and texts, null, common parameters.
SELECT action, params, test.api_answer(action, replace(params, '@app@', :'app_id')::jsonb) AS answer
  FROM (VALUES
    ('ModifyApp', '{"AppId": @app@}'),
    ('ModifyApp', '{"AppId": "@app@"}'),
    ('ModifyApp', '{"AppId": "000@app@"}'),
    ('ModifyApp', '{"AppId": " @app@"}'),
    ('ModifyApp', '{"AppId": "+@app@"}'),
    ('ModifyApp', '{"AppId": @app@.0}'),
    ('ModifyApp', '{"AppId": "0x1"}'),
    ('ModifyApp', '{"AppId": ""}'),
    ('ModifyApp', '{"AppId": "11111111111111111111"}'),
    ('ModifyApp', '{"AppId": 1e18}'),
    ('ModifyApp', '{"AppId": 1e131000}'),
    ('ModifyApp', '{"AppId": null, "AppKey": "apipar.app", "AppName": null, "Description": null}'),
    ('ModifyApp', '{"AppId": [@app@]}'),
    ('ResetAppSecret', '{"AppKey": "apipar.app", "GracePeriod": "0060", "NewAppKey": null, "NewAppSecret": null}'),
    ('ResetAppSecret', '{"AppKey": "apipar.app", "GracePeriod": null}'),
    ('ResetAppSecret', '{"AppKey": "apipar.app", "GracePeriod": 1.5}'),
    ('ResetAppSecret', '{"AppKey": "apipar.app", "GracePeriod": ""}'),
    ('ResetAppSecret', '{"AppKey": "apipar.app", "GracePeriod": 9223372036854775807}'),
    ('ResetAppSecret', '{"AppKey": "apipar.app", "Action": "DeleteApp", "Version": "2016-07-14", "Format": "JSON",
                         "AccessKeyId": "x", "Signature": 5, "SignatureMethod": {}, "SignatureVersion": "1.0",
                         "SignatureNonce": [], "Timestamp": true, "SecurityToken": "", "RegionId": "x"}'),
    ('ResetAppSecret', '{"AppKey": "apipar.app", "Version": null, "What else": "?"}'),
    ('RefreshMultiPathGatewaySecretKey', '{"ZoneId": "apipar-zone", "Action": "x", "Version": "2022-09-01", "Region": "x",
                         "Timestamp": 5, "Nonce": 1, "SecretId": "x", "Signature": {}, "SignatureMethod": [],
                         "Token": true, "Language": "zh-CN", "RequestClient": "x"}'),
    ('RefreshMultiPathGatewaySecretKey', '{"ZoneId": "apipar-zone", "Version": null, "Other": null}'),
    ('RefreshMultiPathGatewaySecretKey', '{"ZoneId": "apipar-zone", "RegionId": "x"}'),
    ('RefreshMultiPathGatewaySecretKey', '{"ZoneId": "apipar-zone", "GatewayId": "x"}'),
    ('DescribeAppAttributes', '{"AppId": "@app@", "PageNumber": "01", "PageSize": null}'),
    -- What one action takes is unknown to the next.
    ('DescribeMultiPathGatewaySecretKey', '{"ZoneId": "apipar-zone", "GracePeriod": 5}')) AS v (action, params);
-- Text is taken as it is: characters beyond ASCII, escapes, U+FFFF.
SELECT test.api_answer('ModifyApp', '{"AppKey": "apipar.app", "AppName": "\u0041 \"Ä\" \\ 用户 \uffff"}') AS answer;
SELECT name FROM keyrot.credentials WHERE id = 'apipar.app';
SELECT body #>> '{Apps,AppAttribute,0,AppName}' AS name FROM keyrot.api('DescribeAppAttributes', '{"AppKey": "apipar.app"}');
-- The longest that are well formed.
SELECT test.api_answer('ModifyApp', jsonb_build_object('AppKey', 'apipar.app', 'AppName', repeat('😀', 128), 'Description', repeat('😀', 1000))) AS longest,
       test.api_answer('ModifyApp', jsonb_build_object('AppKey', 'apipar.app', 'AppName', repeat('😀', 129))) AS name,
       test.api_answer('ModifyApp', jsonb_build_object('AppKey', 'apipar.app', 'Description', repeat('x', 1001))) AS description;
SELECT length(name) AS name, length(description) AS description FROM keyrot.credentials WHERE id = 'apipar.app';

-- Deep and large.  Values that nobody reads are not looked into.
SELECT action, name, test.api_answer(action, CASE name WHEN 'itself' THEN junk ELSE jsonb_build_object(name, junk) || known END) AS answer
  FROM (VALUES (1, (repeat('[', 5000) || repeat(']', 5000))::jsonb),
               (2, (repeat('{"a":', 2000) || '1' || repeat('}', 2000))::jsonb),
               (3, to_jsonb(repeat('x', 2000000))),
               (4, (SELECT jsonb_agg(n) FROM generate_series(1, 10000) AS n)),
               (5, (SELECT jsonb_object_agg('key' || n, n) FROM generate_series(1, 10000) AS n)),
               (6, to_jsonb((repeat('9', 10000) || '.5')::numeric))) AS j (number, junk),
       (VALUES ('ModifyApp', 'AppName', '{"AppKey": "apipar.app"}'::jsonb), ('ModifyApp', 'Other', '{"AppKey": "apipar.app"}'),
               ('ModifyApp', 'AppId', '{}'), ('ModifyApp', 'Version', '{}'), ('ModifyApp', 'itself', '{}'),
               ('DescribeMultiPathGatewaySecretKey', 'ZoneId', '{}'), ('DescribeMultiPathGatewaySecretKey', 'Other', '{"ZoneId": "apipar-zone"}'),
               ('DescribeMultiPathGatewaySecretKey', 'Token', '{"ZoneId": "apipar-zone"}'),
               ('DescribeMultiPathGatewaySecretKey', 'itself', '{}'), ('Unknown', 'Version', '{}')) AS a (action, name, known)
 ORDER BY number, action, name;
-- An object of many parameters, with the known one among them.
SELECT test.api_answer('DeleteApp', jsonb_object_agg('key' || n, n) || '{"AppKey": "apipar.app"}') AS answer FROM generate_series(1, 100000) AS n;
SELECT state FROM keyrot.credentials WHERE id = 'apipar.app';
-- A name of any length, and one with what no name has.
SELECT test.api_answer(repeat('ResetAppSecret', 100000), '{}') AS long, test.api_answer(E'ResetAppSecret\n', '{}') AS line,
       test.api_answer('用户', '{}') AS other;

-- From a table, compressed and out of line, as from anywhere.
CREATE TABLE test.kept (params jsonb);
INSERT INTO test.kept SELECT jsonb_build_object('ZoneId', 'apipar-kept', 'SecretKey', test.secret_key(7), 'Token', repeat('x', 1000000));
INSERT INTO test.kept SELECT jsonb_build_object('ZoneId', 'apipar-short');
SELECT test.api_answer('CreateMultiPathGatewaySecretKey', params) AS answer, count(*) FROM test.kept GROUP BY 1;
SELECT test.key_of('apipar-kept') = test.secret_key(7) AS given, length(params ->> 'SecretKey') AS kept FROM test.kept LIMIT 1;
DROP TABLE test.kept;
DROP FUNCTION test.api_answer(text, jsonb);
