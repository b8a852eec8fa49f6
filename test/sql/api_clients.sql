-- What infrastructure tools ask of api(), in their order: how they manage an app, and a zone's key.
\set SHOW_CONTEXT never
\pset null '(null)'
-- The status, the code or "ok", and the body without what varies from call to call.
CREATE FUNCTION test.client_call(action text, params jsonb) RETURNS text LANGUAGE sql VOLATILE AS $$
SELECT concat_ws(' ', http_status, coalesce(body ->> 'Code', body #>> '{Response,Error,Code}', 'ok'),
                 regexp_replace(regexp_replace(coalesce(body -> 'Response', body)::text, '"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"', '"time"', 'g'),
                                '"(RequestId|AppSecret|SecretKey|Message)": "(?:[^"\\]|\\.)*"', '"\1": "..."', 'g'))
  FROM keyrot.api(action, params) $$;

-- An app: create, read (its tags first), update, read, delete, read.
SELECT (body ->> 'AppId')::bigint AS app_id, http_status, test.is_uuid7((body ->> 'RequestId')::uuid) AS has_request_id
  FROM keyrot.api('CreateApp', '{"AppName": "client_app", "AppKey": "client.app", "Description": "made by a tool", "RegionId": "cn-hangzhou"}') \gset client_
SELECT :client_http_status AS status, :'client_has_request_id'::boolean AS has_request_id;
CREATE FUNCTION test.client_app(action text, params jsonb, app_id bigint) RETURNS text LANGUAGE sql VOLATILE AS
$$ SELECT replace(test.client_call(action, params), '"AppId": ' || app_id, '"AppId": N') $$;
SELECT test.client_app('ListTagResources', jsonb_build_object('ResourceType', 'app', 'ResourceId.1', :client_app_id::text), :client_app_id);
SELECT test.client_app('DescribeApp', jsonb_build_object('AppId', :client_app_id::text), :client_app_id);
SELECT test.client_app('DescribeAppSecurities', jsonb_build_object('AppId', :client_app_id::text), :client_app_id);
SELECT test.client_app('ModifyApp', jsonb_build_object('AppId', :client_app_id::text, 'AppName', 'client_app2', 'Description', 'changed'), :client_app_id);
SELECT test.client_app('ListTagResources', '{}', :client_app_id);
SELECT test.client_app('DescribeApp', jsonb_build_object('AppId', :client_app_id), :client_app_id);
SELECT test.client_app('DeleteApp', jsonb_build_object('AppId', :client_app_id::text), :client_app_id);
SELECT test.client_app('DescribeApp', jsonb_build_object('AppId', :client_app_id::text), :client_app_id);
SELECT action, outcome, target, count(*) FROM keyrot.requests WHERE target = 'client.app'
 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;

-- The same name may not be taken again.
SELECT test.client_call('CreateApp', '{"AppName": "client_app", "AppKey": "client.app"}');

-- A zone's key: describe before there is one, create, describe, refresh, modify, modify to the same key again, describe.
SELECT test.client_call('DescribeMultiPathGatewaySecretKey', '{"ZoneId": "client-zone"}');
SELECT test.client_call('CreateMultiPathGatewaySecretKey', '{"ZoneId": "client-zone", "SecretKey": ""}');
SELECT test.client_call('CreateMultiPathGatewaySecretKey', '{"ZoneId": "client-zone"}');
SELECT test.client_call('DescribeMultiPathGatewaySecretKey', '{"ZoneId": "client-zone"}');
SELECT test.client_call('RefreshMultiPathGatewaySecretKey', '{"ZoneId": "client-zone"}');
SELECT test.client_call('ModifyMultiPathGatewaySecretKey', jsonb_build_object('ZoneId', 'client-zone', 'SecretKey', test.secret_key(1)));
SELECT version, secret_key = test.secret_key(1) AS is_the_given_one FROM keyrot.describe_zone_key('client-zone');
SELECT test.client_call('ModifyMultiPathGatewaySecretKey', jsonb_build_object('ZoneId', 'client-zone', 'SecretKey', test.secret_key(1))) AS the_same_again;
SELECT version FROM keyrot.describe_zone_key('client-zone');
SELECT test.client_call('DescribeMultiPathGatewaySecretKey', '{"ZoneId": "client-zone"}');

-- Listed in the order of change, either way.
SELECT keyrot.create_app('client_sorted', 'client.sorted.' || n) IS NOT NULL AS created FROM generate_series(1, 3) AS n;
SELECT keyrot.reset_app_secret('client.sorted.1') IS NOT NULL AS changed;
SELECT app_key FROM keyrot.list_apps(app_name => 'client_sorted');
SELECT app_key FROM keyrot.list_apps(app_name => 'client_sorted', newest_first => false);
CREATE FUNCTION test.client_sorted(params jsonb) RETURNS text LANGUAGE sql VOLATILE AS $$
SELECT string_agg(a.app_key, ' ' ORDER BY n)
  FROM keyrot.api('DescribeAppAttributes', params || '{"AppName": "client_sorted"}'),
       jsonb_array_elements(body #> '{Apps,AppAttribute}') WITH ORDINALITY AS e (app, n)
  JOIN keyrot.credentials AS c ON c.app_id = (app ->> 'AppId')::bigint
  CROSS JOIN LATERAL (SELECT c.id) AS a (app_key) $$;
SELECT test.client_sorted('{}') AS by_default, test.client_sorted('{"Sort": "desc"}') AS newest_first,
       test.client_sorted('{"Sort": "asc"}') AS oldest_first, test.client_sorted('{"Sort": "asc", "PageSize": 1}') AS oldest;

-- An unknown parameter is named where it could be one.
SELECT params, body #>> '{Response,Error,Code}' AS code, split_part(body #>> '{Response,Error,Message}', '. ', 1) AS message
  FROM (VALUES ('{"ZoneID": "client-zone"}'), ('{"Zone-Id": "x"}'), ('{"zoneId": "x"}'), ('{"": "x"}'),
               ('{"A123456789012345678901234567890123456789": 1}'), ('{"A1234567890123456789012345678901234567890": 1}'),
               ('{"Zo\u006ee": "x"}'), ('{"Z\u00f6ne": "x"}'), ('{"ZoneId": "client-zone", "Wrong": null}')) AS v (params),
       keyrot.api('DescribeMultiPathGatewaySecretKey', v.params::jsonb);
