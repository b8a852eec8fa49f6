-- api(): every action of both clouds, with every key of its answer.  RequestIds are upper case in
-- Alibaba's shape and lower case in Tencent's, and are those of the request's row.
\set SHOW_CONTEXT never
\pset null '(null)'

-- An answer with its RequestId and times replaced by what is true of them, and the request's row.
CREATE FUNCTION test.api(action text, params jsonb DEFAULT '{}', OUT http_status int, OUT answer jsonb, OUT logged text)
    LANGUAGE plpgsql AS $$
DECLARE
    id text;
    form text;
BEGIN
    SELECT a.http_status, a.body INTO http_status, answer FROM keyrot.api(action, params) AS a;
    id := coalesce(answer ->> 'RequestId', answer #>> '{Response,RequestId}');
    form := CASE WHEN answer ? 'Response' AND id = lower(id) THEN 'lower'
                 WHEN NOT answer ? 'Response' AND id = upper(id) THEN 'upper' ELSE 'of the wrong case' END;
    SELECT concat_ws(' ', r.action, nullif(r.target, ''), r.outcome, r.version) INTO logged
      FROM keyrot.request AS r WHERE r.request_id = id::uuid AND test.is_uuid7(r.request_id);
    answer := replace(answer::text, id, form)::jsonb;
    answer := regexp_replace(answer::text, '"20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-6]\dZ"', '"(time)"', 'g')::jsonb;
END $$;

-- Both clouds' own examples.
SELECT * FROM test.api('CreateApp', '{"AppName": "Reset me", "AppKey": "api.60030986"}') \gset
SELECT :http_status AS http_status, :'answer'::jsonb - 'AppId' AS answer,
       jsonb_typeof(:'answer'::jsonb -> 'AppId') AS app_id, :'logged' AS logged;
SELECT * FROM test.api('ResetAppSecret', '{"AppKey": "api.60030986"}');
SELECT test.api('CreateMultiPathGatewaySecretKey', '{"ZoneId": "api-zone-27q0p0bal192"}');
SELECT http_status, answer #- '{Response,SecretKey}' AS answer, logged, answer #>> '{Response,SecretKey}' AS key
  FROM test.api('RefreshMultiPathGatewaySecretKey', '{"ZoneId": "api-zone-27q0p0bal192"}') \gset
SELECT :http_status AS http_status, :'answer'::jsonb AS answer, :'logged' AS logged,
       :'key' = test.key_of('api-zone-27q0p0bal192') AS is_the_key;

-- Apps, all of a parameter's ways.
SELECT (test.api('CreateApp', '{"AppName": "Apps", "Description": "One", "AppKey": "api.app",
                                "AppSecret": "api-secret-number-1"}')).answer ->> 'AppId' AS id \gset
SELECT :id = app_id AS same_number, name, description FROM keyrot.credentials WHERE id = 'api.app';
SELECT * FROM test.api('DescribeAppSecurity', '{"AppKey": "api.app"}');
SELECT * FROM test.api('DescribeAppSecurity', jsonb_build_object('AppId', :id));
SELECT * FROM test.api('DescribeAppSecurity', jsonb_build_object('AppId', :'id', 'AppKey', 'api.app'));
SELECT * FROM test.api('ResetAppSecret', '{"AppKey": "api.app", "NewAppKey": "api.new", "GracePeriod": 3600,
                                           "NewAppSecret": "api-secret-number-2"}');
SELECT test.app_accepts('api.app', 'api-secret-number-1') AS old_pair, test.app_accepts('api.new', 'api-secret-number-2') AS new_pair;
SELECT previous_valid_until - modified_at AS grace FROM keyrot.credentials WHERE id = 'api.new';
SELECT * FROM test.api('DescribeAppSecurity', jsonb_build_object('AppId', :id));
SELECT * FROM test.api('ModifyApp', jsonb_build_object('AppId', :id, 'AppName', 'Appliances', 'Description', 'Two'));
SELECT name, description FROM keyrot.credentials WHERE id = 'api.new';
SELECT * FROM test.api('ModifyApp', '{"AppKey": "api.new", "Description": "Three"}');
SELECT name, description FROM keyrot.credentials WHERE id = 'api.new';
-- Neither: success, no change.
SELECT * FROM test.api('ModifyApp', '{"AppKey": "api.new"}');
SELECT name, description FROM keyrot.credentials WHERE id = 'api.new';
SELECT * FROM test.api('DescribeAppAttributes', '{"AppKey": "api.new"}') \gset
SELECT :http_status AS http_status, :'answer'::jsonb #- '{Apps,AppAttribute,0,AppId}' AS answer, :'logged' AS logged,
       (:'answer'::jsonb #> '{Apps,AppAttribute,0,AppId}')::int = :id AS same_number;
SELECT * FROM test.api('DeleteApp', jsonb_build_object('AppId', :'id'));
SELECT state FROM keyrot.credentials WHERE id = 'api.new';
SELECT * FROM test.api('DeleteApp', '{"AppKey": "api.60030986"}');

-- Times are UTC, whatever the session's time zone, and whole seconds, not rounded up.
SELECT FROM keyrot.create_app('Timed', 'api.timed');
UPDATE keyrot.app SET created_at = '2016-07-23 10:28:48.999+02', modified_at = '0987-12-31 23:59:59.5+00' WHERE app_key = 'api.timed';
SET TimeZone = 'Asia/Tokyo';
SELECT body ->> 'CreatedTime' AS created, body ->> 'ModifiedTime' AS modified
  FROM keyrot.api('DescribeAppSecurity', '{"AppKey": "api.timed"}');
RESET TimeZone;

-- Lists: pages, newest change first, the count of all on every page; filters that find nothing find nothing.
SELECT FROM generate_series(1, 12) AS n, keyrot.create_app('Paged', 'api.page.' || n, NULL, nullif(repeat('d', n % 3), ''));
SELECT keyrot.reset_app_secret('api.page.4') IS NOT NULL AS reset;
CREATE FUNCTION test.page(params jsonb) RETURNS TABLE (numbers text, count int, apps text) LANGUAGE sql AS $$
SELECT concat_ws('/', a.body -> 'TotalCount', a.body -> 'PageNumber', a.body -> 'PageSize'),
       jsonb_array_length(a.body #> '{Apps,AppAttribute}'),
       (SELECT string_agg(substr(c.id, 10) || ' ' || coalesce(e ->> 'Description', '-'), ', ' ORDER BY o)
          FROM jsonb_array_elements(a.body #> '{Apps,AppAttribute}') WITH ORDINALITY AS x (e, o)
          JOIN keyrot.credentials AS c ON c.app_id = (e -> 'AppId')::bigint)
  FROM keyrot.api('DescribeAppAttributes', params) AS a $$;
SELECT * FROM test.page('{"AppName": "Paged"}');
SELECT * FROM test.page('{"AppName": "Paged", "PageNumber": 2}');
SELECT * FROM test.page('{"AppName": "Paged", "PageNumber": "3", "PageSize": "5"}');
SELECT * FROM test.page('{"AppName": "Paged", "PageNumber": 4, "PageSize": 5}');
SELECT * FROM test.page('{"AppName": "Paged", "PageNumber": 2147483647, "PageSize": 100}');
SELECT * FROM test.page('{"AppName": "Paged", "PageSize": 100}');
SELECT * FROM test.page('{"AppName": "No such name"}');
SELECT * FROM test.page('{"AppKey": "api.page.7"}');
SELECT * FROM test.page('{"AppKey": "api.unknown"}');
SELECT * FROM test.page('{"AppId": 9223372036854775807}');
SELECT p.* FROM keyrot.credentials, test.page(jsonb_build_object('AppId', app_id)) AS p WHERE id = 'api.page.7';
SELECT p.* FROM keyrot.credentials, test.page(jsonb_build_object('AppId', app_id, 'AppKey', 'api.page.8')) AS p WHERE id = 'api.page.7';
-- A description that there is not is null.
SELECT body #> '{Apps,AppAttribute,0,Description}' AS description FROM keyrot.api('DescribeAppAttributes', '{"AppKey": "api.page.3"}');
SELECT count(*) AS keys, count(DISTINCT key) AS different, bool_and(key = ANY (ARRAY['AppId', 'AppName', 'Description', 'CreatedTime', 'ModifiedTime', 'Disabled'])) AS known
  FROM keyrot.api('DescribeAppAttributes', '{"AppKey": "api.page.3"}'), jsonb_object_keys(body #> '{Apps,AppAttribute,0}') AS key;

-- Zones.
SELECT * FROM test.api('CreateMultiPathGatewaySecretKey', jsonb_build_object('ZoneId', 'api-zone', 'SecretKey', test.secret_key(1)));
SELECT test.key_of('api-zone') = test.secret_key(1) AS given;
SELECT * FROM test.api('DescribeMultiPathGatewaySecretKey', '{"ZoneId": "api-zone"}');
SELECT * FROM test.api('ModifyMultiPathGatewaySecretKey', jsonb_build_object('ZoneId', 'api-zone', 'SecretKey', test.secret_key(2), 'GracePeriod', '60'));
SELECT test.zone_accepts('api-zone', test.secret_key(1)) AS in_grace, test.zone_accepts('api-zone', test.secret_key(2)) AS given,
       previous_valid_until - modified_at AS grace FROM keyrot.credentials WHERE id = 'api-zone';
SELECT http_status, answer #>> '{Response,SecretKey}' ~ '^[A-Za-z0-9+/]{43}=$' AS made, logged
  FROM test.api('RefreshMultiPathGatewaySecretKey', '{"ZoneId": "api-zone", "GracePeriod": 0}');
SELECT test.zone_accepts('api-zone', test.secret_key(2)) AS refreshed_away;
-- An empty SecretKey is as none, for a new key only.
SELECT * FROM test.api('CreateMultiPathGatewaySecretKey', '{"ZoneId": "api-zone-empty", "SecretKey": ""}');
SELECT length(test.key_of('api-zone-empty')) AS made;

-- The largest secrets come back whole.
SELECT FROM keyrot.create_app('Large', 'api.large.' || repeat('x', 118), repeat('s', 128));
SELECT body ->> 'AppSecret' = repeat('s', 128) AS whole, body ->> 'AppKey' = 'api.large.' || repeat('x', 118) AS named
  FROM keyrot.api('DescribeAppSecurity', jsonb_build_object('AppKey', 'api.large.' || repeat('x', 118)));
SELECT FROM keyrot.create_zone_key('api-zone-large', encode(decode(repeat('ff', 48), 'hex'), 'base64'));
SELECT body #>> '{Response,SecretKey}' AS whole FROM keyrot.api('DescribeMultiPathGatewaySecretKey', '{"ZoneId": "api-zone-large"}');

-- ClientToken: the repetition answers with the first RequestId, and rotates nothing; in SQL it is the same token.
CREATE FUNCTION test.api_repeated(action text, params jsonb) RETURNS TABLE (code text, same_request boolean, same_key boolean)
    LANGUAGE sql VOLATILE AS $$
SELECT coalesce(b.body ->> 'Code', b.body #>> '{Response,Error,Code}', 'ok'),
       coalesce(a.body ->> 'RequestId', a.body #>> '{Response,RequestId}') = coalesce(b.body ->> 'RequestId', b.body #>> '{Response,RequestId}'),
       a.body #> '{Response,SecretKey}' = b.body #> '{Response,SecretKey}'
  FROM keyrot.api(action, params) AS a, keyrot.api(action, params) AS b $$;
SELECT FROM keyrot.create_app('Tokens', 'api.token');
SELECT * FROM test.api_repeated('ResetAppSecret', '{"AppKey": "api.token", "ClientToken": "api-token-1"}');
SELECT * FROM test.api_repeated('RefreshMultiPathGatewaySecretKey', '{"ZoneId": "api-zone", "ClientToken": "api-token-2", "GracePeriod": "5"}');
SELECT * FROM test.api_repeated('ModifyMultiPathGatewaySecretKey', jsonb_build_object('ZoneId', 'api-zone', 'SecretKey', test.secret_key(3), 'ClientToken', 'api-token-3'));
SELECT id, version FROM keyrot.credentials WHERE id IN ('api.token', 'api-zone') ORDER BY id;
SELECT upper(keyrot.reset_app_secret('api.token', client_token => 'api-token-1')::text) = body ->> 'RequestId' AS same_in_sql
  FROM keyrot.api('ResetAppSecret', '{"AppKey": "api.token", "ClientToken": "api-token-1"}');
SELECT http_status, body ->> 'Code' AS code FROM keyrot.api('ResetAppSecret', '{"AppKey": "api.token", "ClientToken": "api-token-1", "GracePeriod": 1}');
SELECT http_status, body #>> '{Response,Error,Code}' AS code FROM keyrot.api('RefreshMultiPathGatewaySecretKey', '{"ZoneId": "api-zone", "ClientToken": "api-token-3"}');
-- A newer rotation has replaced what it made.
SELECT http_status, body #>> '{Response,Error,Code}' AS code FROM keyrot.api('RefreshMultiPathGatewaySecretKey', '{"ZoneId": "api-zone", "ClientToken": "api-token-2", "GracePeriod": 5}');
SELECT http_status, body ->> 'Code' AS code FROM keyrot.api('ResetAppSecret', '{"AppKey": "api.token", "ClientToken": "has blanks"}');
-- A token whose call failed is free again.
SELECT body ->> 'Code' AS code FROM keyrot.api('ResetAppSecret', '{"AppKey": "api.token", "NewAppKey": "api.token", "ClientToken": "api-token-4"}');
SELECT * FROM test.api_repeated('ResetAppSecret', '{"AppKey": "api.token", "ClientToken": "api-token-4"}');
SELECT action, outcome, version, retry_of IS NOT NULL AS repeated FROM keyrot.request WHERE target = 'api.token' ORDER BY request_id;
DELETE FROM keyrot.retry WHERE client_token LIKE 'api-token-%';
DROP FUNCTION test.api_repeated(text, jsonb);

DROP FUNCTION test.api(text, jsonb), test.page(jsonb);
