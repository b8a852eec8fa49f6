-- The right to api() is not the right to its actions: each needs EXECUTE on the function that it stands for,
-- and the rights on the app or zone that the function needs.
\set SHOW_CONTEXT never
CREATE FUNCTION test.api_answer(action text, params jsonb) RETURNS text LANGUAGE sql VOLATILE AS
$$ SELECT concat_ws(' ', http_status, coalesce(body ->> 'Code', body #>> '{Response,Error,Code}', 'ok')) FROM keyrot.api(action, params) $$;
CREATE ROLE regress_api_caller;
CREATE ROLE regress_api_other;
CREATE ROLE regress_api_wrapper;
GRANT USAGE ON SCHEMA keyrot TO regress_api_caller, regress_api_other, regress_api_wrapper;
SELECT app_id FROM keyrot.create_app('Rights', 'apiright.app', 'apiright-secret-number-1') \gset
SELECT app_id AS other_id FROM keyrot.create_app('Rights', 'apiright.other') \gset
SELECT keyrot.create_zone_key('apiright-zone') IS NOT NULL AND keyrot.create_zone_key('apiright-other') IS NOT NULL AS done;
SELECT keyrot.set_app_owner('apiright.app', 'regress_api_caller') IS NOT NULL AND keyrot.set_zone_owner('apiright-zone', 'regress_api_caller') IS NOT NULL AND
       keyrot.set_app_owner('apiright.other', 'regress_api_other') IS NOT NULL AND keyrot.set_zone_owner('apiright-other', 'regress_api_other') IS NOT NULL AS done;
CREATE TABLE test.api_right (number serial, action text, function text, params jsonb);
GRANT SELECT ON test.api_right TO PUBLIC;
INSERT INTO test.api_right (action, function, params) VALUES
    ('CreateApp', 'create_app', '{"AppName": "Rights"}'),
    ('DescribeAppSecurity', 'describe_app_security', '{"AppKey": "apiright.app"}'),
    ('ResetAppSecret', 'reset_app_secret', '{"AppKey": "apiright.app"}'),
    ('ModifyApp', 'modify_app', '{"AppKey": "apiright.app", "AppName": "Righteous"}'),
    ('DescribeAppAttributes', 'list_apps', '{}'),
    ('DescribeApp', 'list_apps', jsonb_build_object('AppId', :app_id)),
    ('ListTagResources', 'list_apps', '{"ResourceType": "app"}'),
    ('DescribeAppSecurities', 'describe_app_security', jsonb_build_object('AppId', :app_id)),
    ('DeleteApp', 'delete_app', '{"AppKey": "apiright.app"}'),
    ('CreateMultiPathGatewaySecretKey', 'create_zone_key', '{"ZoneId": "apiright-new"}'),
    ('DescribeMultiPathGatewaySecretKey', 'describe_zone_key', '{"ZoneId": "apiright-zone"}'),
    ('RefreshMultiPathGatewaySecretKey', 'refresh_zone_key', '{"ZoneId": "apiright-zone"}'),
    ('ModifyMultiPathGatewaySecretKey', 'modify_zone_key', jsonb_build_object('ZoneId', 'apiright-zone', 'SecretKey', test.secret_key(1)));

-- Without EXECUTE on api() nothing reaches keyrot.
SET ROLE regress_api_caller;
SELECT state, context LIKE '%keyrot request%' AS has_request_id FROM test.try('api', $$'CreateApp', '{"AppName": "x"}'$$, NULL);
RESET ROLE;
-- With it alone, every action is refused, whatever its parameters, and recorded as the caller's.
GRANT EXECUTE ON FUNCTION keyrot.api TO regress_api_caller, regress_api_wrapper;
SELECT count(*) AS before FROM keyrot.request \gset
SET ROLE regress_api_caller;
SELECT action, test.api_answer(action, params) AS answer, test.api_answer(action, '{"Other": 5}') AS any_parameters FROM test.api_right ORDER BY number;
RESET ROLE;
SELECT count(*) - :before AS recorded FROM keyrot.request;
SELECT action, target, outcome, count(*) FROM keyrot.request WHERE caller = 'regress_api_caller' GROUP BY 1, 2, 3 ORDER BY 1, 2;
-- With one function more, its action works and no other does.
CREATE FUNCTION test.api_granted(function text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    EXECUTE format('GRANT EXECUTE ON FUNCTION keyrot.%I TO regress_api_caller', function);
    PERFORM set_config('role', 'regress_api_caller', true);
    SELECT string_agg(action || ' ' || answer, ', ' ORDER BY number) INTO result
      FROM (SELECT number, action, test.api_answer(action, params) AS answer FROM test.api_right ORDER BY number) AS a
     WHERE answer NOT IN ('403 NoPermission', '200 UnauthorizedOperation');
    PERFORM set_config('role', 'none', true);
    EXECUTE format('REVOKE EXECUTE ON FUNCTION keyrot.%I FROM regress_api_caller', function);
    RETURN result;
END $$;
SELECT function, test.api_granted(function) AS works FROM test.api_right WHERE function <> 'delete_app' GROUP BY 1 ORDER BY min(number);
-- Functions of the same name that are not the extension's give no right.
CREATE FUNCTION keyrot.reset_app_secret(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION keyrot.reset_app_secret(text, text, text, text, text, text, text, text) RETURNS text LANGUAGE sql AS 'SELECT $1';
GRANT EXECUTE ON FUNCTION keyrot.reset_app_secret(text), keyrot.reset_app_secret(text, text, text, text, text, text, text, text)
    TO regress_api_caller;
SET ROLE regress_api_caller;
SELECT test.api_answer('ResetAppSecret', '{"AppKey": "apiright.app"}') AS lookalike;
RESET ROLE;
DROP FUNCTION keyrot.reset_app_secret(text), keyrot.reset_app_secret(text, text, text, text, text, text, text, text);

-- With all functions: one's own, and nobody else's.  An app's number does not tell its AppKey.
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA keyrot TO regress_api_caller, regress_api_wrapper;
SET ROLE regress_api_caller;
SELECT action, test.api_answer(action, replace(replace(params::text, 'apiright.app', 'apiright.other'), 'apiright-zone', 'apiright-other')::jsonb) AS others
  FROM test.api_right WHERE params ? 'AppKey' OR params ? 'ZoneId' ORDER BY number;
SELECT test.api_answer('DescribeAppSecurity', jsonb_build_object('AppId', :app_id)) AS own,
       test.api_answer('DescribeAppSecurity', jsonb_build_object('AppId', :other_id)) AS others,
       test.api_answer('DescribeAppSecurity', jsonb_build_object('AppId', :other_id, 'AppKey', 'apiright.other')) AS named,
       test.api_answer('DescribeAppSecurity', jsonb_build_object('AppId', :other_id, 'AppKey', 'apiright.app')) AS mixed;
SELECT position('apiright.other' IN body::text) AS told, replace(body ->> 'Message', :'other_id', 'N') AS message
  FROM keyrot.api('DeleteApp', jsonb_build_object('AppId', :other_id));
SELECT body -> 'TotalCount' AS listed FROM keyrot.api('DescribeAppAttributes', jsonb_build_object('AppId', :other_id));
SELECT body -> 'TotalCount' AS listed FROM keyrot.api('DescribeAppAttributes', '{"AppName": "Righteous", "PageNumber": 50}');
RESET ROLE;
SELECT target, outcome FROM keyrot.request WHERE caller = 'regress_api_caller' AND action = 'delete_app' AND outcome = '42501' ORDER BY request_id DESC LIMIT 1;
-- An owner that was renamed: only operators act, by number too.
ALTER ROLE regress_api_caller RENAME TO regress_api_renamed;
SET ROLE regress_api_renamed;
SELECT test.api_answer('DescribeAppSecurity', jsonb_build_object('AppId', :app_id)) AS by_number,
       test.api_answer('DescribeAppSecurity', '{"AppKey": "apiright.app"}') AS by_key;
RESET ROLE;
ALTER ROLE regress_api_renamed RENAME TO regress_api_caller;

-- Inside a SECURITY DEFINER function its owner is the caller.
CREATE FUNCTION test.api_wrapped(action text, params jsonb) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$ SELECT http_status || coalesce(' ' || (body ->> 'Code'), '') FROM keyrot.api(action, params) $$;
ALTER FUNCTION test.api_wrapped(text, jsonb) OWNER TO regress_api_wrapper;
SET ROLE regress_api_other;
SELECT test.api_wrapped('ResetAppSecret', '{"AppKey": "apiright.other"}') AS not_the_wrapper_s;
RESET ROLE;
GRANT regress_api_other TO regress_api_wrapper;
SET ROLE regress_api_other;
SELECT test.api_wrapped('ResetAppSecret', '{"AppKey": "apiright.other"}') AS wrapper_s,
       test.api_wrapped('ResetAppSecret', '{"AppKey": "apiright.app"}') AS neither_s;
SELECT (test.try('api', $$'ResetAppSecret', '{"AppKey": "apiright.other"}'$$, NULL)).state AS without_the_wrapper;
RESET ROLE;
SELECT target, outcome, caller FROM keyrot.request WHERE caller = 'regress_api_wrapper' ORDER BY request_id;
-- Where PostgreSQL runs somebody's code under another name, there is no caller to answer.
CREATE TABLE test.api_indexed (v text);
INSERT INTO test.api_indexed VALUES ('x');
CREATE FUNCTION test.api_index(v text) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT http_status::text FROM keyrot.api('DeleteApp', '{"AppKey": "apiright.app"}') $$;
SELECT test.state_of('CREATE INDEX ON test.api_indexed (test.api_index(v))') AS restricted;
SELECT state FROM keyrot.credentials WHERE id = 'apiright.app';

DROP FUNCTION test.api_wrapped(text, jsonb), test.api_index(text), test.api_answer(text, jsonb), test.api_granted(text);
DROP TABLE test.api_indexed, test.api_right;
SELECT keyrot.delete_app('apiright.app') IS NOT NULL AND keyrot.delete_app('apiright.other') IS NOT NULL AS done;
DROP OWNED BY regress_api_caller, regress_api_other, regress_api_wrapper;
DROP ROLE regress_api_caller, regress_api_other, regress_api_wrapper;
