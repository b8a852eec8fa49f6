-- api() answers what the contract's table of errors lists, in the words of either cloud, and records it.
-- Each call below is refused: nothing is changed but the log, which has the SQLSTATE and, where it was
-- given, the target.
\set SHOW_CONTEXT never
CREATE TABLE test.api_call (number serial, action text, params text);
-- The status, the code, the request's row, and "sound" for an answer that is just as it should be.
CREATE FUNCTION test.api_refused(action text, params jsonb, OUT status int, OUT code text, OUT logged text,
                                 OUT sound text, OUT message text) LANGUAGE plpgsql AS $$
DECLARE
    body jsonb;
    id text;
BEGIN
    SELECT a.http_status, a.body INTO status, body FROM keyrot.api(action, params) AS a;
    IF body ? 'Response' THEN
        id := body #>> '{Response,RequestId}';
        code := body #>> '{Response,Error,Code}';
        message := body #>> '{Response,Error,Message}';
        sound := CASE WHEN body = jsonb_build_object('Response', jsonb_build_object('RequestId', lower(id),
                          'Error', jsonb_build_object('Code', code, 'Message', message))) THEN 'tencent' END;
    ELSE
        id := body ->> 'RequestId';
        code := body ->> 'Code';
        message := body ->> 'Message';
        sound := CASE WHEN body = jsonb_build_object('RequestId', upper(id), 'HostId', 'keyrot', 'Code', code,
                                                     'Message', message) THEN 'alibaba' END;
    END IF;
    SELECT concat_ws(' ', r.action, nullif(r.target, ''), r.outcome, r.version) INTO logged
      FROM keyrot.request AS r WHERE r.request_id = id::uuid AND test.is_uuid7(r.request_id);
END $$;
-- Puts in what differs from one database to the next.
CREATE FUNCTION test.api_params(params text, app text, deleted text) RETURNS jsonb LANGUAGE sql AS
$$ SELECT replace(replace(replace(replace(params, '@app@', app), '@deleted@', deleted), '@key1@', test.secret_key(1)),
                  '@key2@', test.secret_key(2))::jsonb $$;
-- What is stored beside the log.
CREATE FUNCTION test.api_stored() RETURNS text LANGUAGE sql VOLATILE AS
$$ SELECT md5(concat_ws('/', (SELECT string_agg(t::text, ',' ORDER BY t::text) FROM keyrot.app AS t),
                             (SELECT string_agg(t::text, ',' ORDER BY t::text) FROM keyrot.zone AS t))) $$;

SELECT app_id, app_key FROM keyrot.create_app('Errors', 'apierr.app', 'apierr-secret-number-1') \gset
SELECT app_id AS other FROM keyrot.create_app('Errors', 'apierr.other') \gset
SELECT app_id AS deleted FROM keyrot.create_app('Errors', 'apierr.deleted') \gset
SELECT keyrot.delete_app('apierr.deleted') IS NOT NULL AS done;
SELECT keyrot.create_zone_key('apierr-zone', test.secret_key(1)) IS NOT NULL AS done;
SELECT keyrot.create_zone_key('apierr-gone') IS NOT NULL AND keyrot.delete_zone_key('apierr-gone') IS NOT NULL AS done;

INSERT INTO test.api_call (action, params) VALUES
    -- missing
    ('CreateApp', '{}'),
    ('CreateApp', NULL),
    ('CreateApp', '{"AppName": null}'),
    ('ResetAppSecret', '{"NewAppKey": "apierr.new"}'),
    ('DescribeAppSecurity', '{}'),
    ('ModifyApp', '{"AppName": "Errors"}'),
    ('DeleteApp', '{"AppId": null, "AppKey": null}'),
    ('CreateMultiPathGatewaySecretKey', '{}'),
    ('DescribeMultiPathGatewaySecretKey', '{"ZoneId": null}'),
    ('RefreshMultiPathGatewaySecretKey', '{"GracePeriod": 5}'),
    ('ModifyMultiPathGatewaySecretKey', '{"ZoneId": "apierr-zone"}'),
    -- malformed; empty, too
    ('CreateApp', '{"AppName": ""}'),
    ('CreateApp', '{"AppName": "x", "AppKey": "a"}'),
    ('CreateApp', '{"AppName": "x", "AppKey": "apierr.new", "AppSecret": "too-short"}'),
    ('CreateApp', '{"AppName": "x", "Description": " x"}'),
    ('ResetAppSecret', '{"AppKey": ""}'),
    ('ResetAppSecret', '{"AppKey": "apierr.app", "NewAppKey": " "}'),
    ('ResetAppSecret', '{"AppKey": "apierr.app", "NewAppSecret": "has blanks, that is what is wrong"}'),
    ('ResetAppSecret', '{"AppKey": "apierr.app", "NewAppSecret": "apierr-secret-number-1"}'),
    ('ResetAppSecret', '{"AppKey": "apierr.app", "GracePeriod": -1}'),
    ('ResetAppSecret', '{"AppKey": "apierr.app", "GracePeriod": "1 day"}'),
    ('ResetAppSecret', '{"AppKey": "apierr.app", "GracePeriod": 2592001}'),
    ('DescribeAppSecurity', '{"AppId": 0}'),
    ('DescribeAppSecurity', '{"AppId": "-1"}'),
    ('DescribeAppSecurity', '{"AppId": 1.5}'),
    ('DescribeAppSecurity', '{"AppId": "9223372036854775808"}'),
    ('DescribeAppSecurity', '{"AppId": @app@, "AppKey": "apierr.other"}'),
    ('DeleteApp', '{"AppId": @app@, "AppKey": "apierr.unknown"}'),
    ('ModifyApp', '{"AppKey": "apierr.app", "AppName": "x\ny"}'),
    ('ModifyApp', '{"AppKey": "apierr.app", "Description": ""}'),
    ('DescribeAppAttributes', '{"PageNumber": 0}'),
    ('DescribeAppAttributes', '{"PageNumber": 2147483648}'),
    ('DescribeAppAttributes', '{"PageSize": 101}'),
    ('DescribeAppAttributes', '{"Sort": "DESC"}'),
    ('DescribeAppAttributes', '{"Sort": ""}'),
    ('DescribeAppAttributes', '{"Sort": true}'),
    ('DescribeApp', '{}'),
    ('DescribeApp', '{"AppKey": "apierr.app"}'),
    ('DescribeApp', '{"AppId": 0}'),
    ('DescribeApp', '{"AppId": "@deleted@"}'),
    ('DescribeAppSecurities', '{}'),
    ('DescribeAppSecurities', '{"AppId": "x"}'),
    ('DescribeAppSecurities', '{"AppId": "@deleted@"}'),
    ('DescribeAppAttributes', '{"PageSize": "0"}'),
    ('DescribeAppAttributes', '{"AppName": ""}'),
    ('CreateMultiPathGatewaySecretKey', '{"ZoneId": "-x"}'),
    ('CreateMultiPathGatewaySecretKey', '{"ZoneId": "apierr-new", "SecretKey": "c2hvcnQ="}'),
    ('RefreshMultiPathGatewaySecretKey', '{"ZoneId": ""}'),
    ('RefreshMultiPathGatewaySecretKey', '{"ZoneId": "apierr-zone", "GracePeriod": "2592001"}'),
    ('ModifyMultiPathGatewaySecretKey', '{"ZoneId": "apierr-zone", "SecretKey": ""}'),
    -- of the wrong JSON type
    ('CreateApp', '{"AppName": 5}'),
    ('ResetAppSecret', '{"AppKey": 60030986}'),
    ('ResetAppSecret', '{"AppKey": "apierr.app", "NewAppSecret": ["apierr-secret-number-2"]}'),
    ('ResetAppSecret', '{"AppKey": "apierr.app", "GracePeriod": true}'),
    ('DescribeAppSecurity', '{"AppId": {}}'),
    ('DescribeAppAttributes', '{"PageSize": [10]}'),
    ('RefreshMultiPathGatewaySecretKey', '{"ZoneId": 5}'),
    ('RefreshMultiPathGatewaySecretKey', '{"ZoneId": "apierr-zone", "GracePeriod": false}'),
    ('ModifyMultiPathGatewaySecretKey', '{"ZoneId": "apierr-zone", "SecretKey": {"a": [1, {"b": 2}]}}'),
    ('CreateApp', '[]'), ('CreateApp', '"AppName"'), ('CreateApp', 'null'), ('CreateApp', '5'), ('CreateApp', '[{"AppName": "x"}]'),
    ('DescribeMultiPathGatewaySecretKey', '[]'), ('DescribeMultiPathGatewaySecretKey', 'true'),
    -- not known to the action
    ('RefreshMultiPathGatewaySecretKey', '{"ZoneId": "apierr-zone", "SecretKey": "x"}'),
    ('RefreshMultiPathGatewaySecretKey', '{"ZoneId": "apierr-zone", "graceperiod": 5}'),
    ('DescribeMultiPathGatewaySecretKey', '{"ZoneId": "apierr-zone", "": {}}'),
    ('DescribeMultiPathGatewaySecretKey', '{"AppKey": "apierr.app"}'),
    -- taken
    ('CreateApp', '{"AppName": "x", "AppKey": "apierr.app"}'),
    ('CreateApp', '{"AppName": "x", "AppKey": "apierr.deleted"}'),
    ('ResetAppSecret', '{"AppKey": "apierr.app", "NewAppKey": "apierr.other"}'),
    ('ResetAppSecret', '{"AppKey": "apierr.app", "NewAppKey": "apierr.app"}'),
    ('CreateMultiPathGatewaySecretKey', '{"ZoneId": "apierr-zone"}'),
    -- not there
    ('ResetAppSecret', '{"AppKey": "apierr.unknown"}'),
    ('DescribeAppSecurity', '{"AppKey": "apierr.deleted"}'),
    ('DescribeAppSecurity', '{"AppId": "@deleted@"}'),
    ('ModifyApp', '{"AppId": 9223372036854775807}'),
    ('DeleteApp', '{"AppId": "9223372036854775807", "AppKey": "apierr.app"}'),
    ('DescribeMultiPathGatewaySecretKey', '{"ZoneId": "apierr-unknown"}'),
    ('RefreshMultiPathGatewaySecretKey', '{"ZoneId": "apierr-gone"}'),
    ('ModifyMultiPathGatewaySecretKey', '{"ZoneId": "apierr-gone", "SecretKey": "@key2@"}'),
    -- unknown actions and versions
    (NULL, '{}'), ('', '{}'), ('resetappsecret', '{"AppKey": "apierr.app"}'), ('reset_app_secret', '{}'), ('ResetAppSecret ', '[]'),
    ('ResetAppSecret', '{"AppKey": "apierr.app", "Version": "2016-07-15"}'),
    ('ResetAppSecret', '{"AppKey": "apierr.app", "Version": "2022-09-01"}'),
    ('ResetAppSecret', '{"AppKey": "apierr.app", "Version": 20160714}'),
    (NULL, '{"Version": "2022-09-01"}'), ('DescribeZones', '{"Version": "2022-09-01", "ZoneId": "apierr-zone"}'),
    ('DescribeApis', '{"Version": "2016-07-14"}'), ('DescribeApis', '{"Version": ["2022-09-01"]}'), ('DescribeApis', '["2022-09-01"]'),
    ('RefreshMultiPathGatewaySecretKey', '{"ZoneId": "apierr-zone", "Version": "2016-07-14"}'),
    ('RefreshMultiPathGatewaySecretKey', '{"ZoneId": "apierr-zone", "Version": ""}');
SELECT test.api_stored() AS before \gset
CREATE TEMP TABLE refused AS
SELECT c.*, r.* FROM test.api_call AS c, test.api_refused(c.action, test.api_params(c.params, :'app_id', :'deleted')) AS r ORDER BY number;
SELECT test.api_stored() = :'before' AS nothing_changed;
\pset null '(null)'
SELECT action, params, status, code, logged, sound FROM refused ORDER BY number;
\pset null ''
-- What is said, each message once.  No secret is in any, nor the name of what is not known.
\pset format unaligned
SELECT DISTINCT regexp_replace(message, 'AppId \d+ ', 'AppId N ') AS message FROM refused ORDER BY 1;
\pset format aligned
SELECT count(*) FILTER (WHERE message ~* 'secret-number|has blanks|c2hvcnQ|graceperiod"|resetappsecret ') AS telling,
       count(*) FILTER (WHERE position(test.secret_key(1) IN message) > 0 OR position(test.secret_key(2) IN message) > 0) AS secrets FROM refused;

-- Whatever else is raised under an action is answered by its SQLSTATE; its own words are the caller's to read.
CREATE FUNCTION test.api_fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING MESSAGE = 'params fail', ERRCODE = current_setting('test.api_fail'), HINT = 'wait';
END $$;
CREATE TRIGGER fail BEFORE UPDATE ON keyrot.app FOR EACH ROW EXECUTE FUNCTION test.api_fail();
CREATE TRIGGER fail BEFORE UPDATE ON keyrot.zone FOR EACH ROW EXECUTE FUNCTION test.api_fail();
CREATE FUNCTION test.api_failing(sqlstate text, action text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    r record;
BEGIN
    PERFORM set_config('test.api_fail', sqlstate, false);
    SELECT * INTO r FROM test.api_refused(action, CASE action WHEN 'ResetAppSecret' THEN '{"AppKey": "apierr.app"}'
                                                              ELSE '{"ZoneId": "apierr-zone"}' END::jsonb);
    RETURN concat_ws(' | ', r.status, r.code, r.logged, r.message);
EXCEPTION WHEN query_canceled OR OTHERS THEN
    RETURN 'raised ' || SQLSTATE;
END $$;
\pset format unaligned
SELECT s, test.api_failing(s, 'ResetAppSecret'), test.api_failing(s, 'RefreshMultiPathGatewaySecretKey')
  FROM unnest('{55P03,40001,40P01,53400,42501,55000,22023,22004,23505,P0002,0A000,XX000,XX001,53100,P0001,22P02}'::text[]) AS s;
-- What can be no answer is raised still, and has its RequestId: cancelled, shut down, no memory, read-only.
SELECT s, test.api_failing(s, 'ResetAppSecret'), test.api_failing(s, 'RefreshMultiPathGatewaySecretKey')
  FROM unnest('{57014,57P01,57P02,57P03,53200,25006}'::text[]) AS s;
\pset format aligned
SELECT test.api_stored() = :'before' AS nothing_changed;
SELECT count(*) AS rows_of_raised FROM keyrot.request WHERE outcome IN ('57014', '57P01', '57P02', '57P03', '53200', '25006');
SET test.api_fail = '53200';
SELECT state, context ~ '\nkeyrot request [-0-9a-f]{36}: reset_app_secret\n' AS has_request_id
  FROM test.try('api', $$'ResetAppSecret', '{"AppKey": "apierr.app"}'$$, NULL);
DROP TRIGGER fail ON keyrot.app;
DROP TRIGGER fail ON keyrot.zone;
SELECT body ? 'Code' AS refused FROM keyrot.api('ResetAppSecret', '{"AppKey": "apierr.app"}');

-- The rate limit, with the wait; what is malformed takes no room in it.
SET keyrot.app_rate_limit = 1;
SET keyrot.zone_rate_limit = 1;
SELECT action, r.status, r.code, r.logged, count(*) > 0 AS some, bool_and(r.message ~ 'Try again in [0-9.]+ ms\.$') AS tells_the_wait
  FROM generate_series(1, 50) AS n,
       (VALUES ('ModifyApp', '{"AppKey": ""}'), ('ModifyApp', '{"AppKey": "apierr.app"}'),
               ('DescribeMultiPathGatewaySecretKey', '{"ZoneId": "apierr-zone"}')) AS v (action, params),
       test.api_refused(action, left(params, 1000 + n)::jsonb) AS r
 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3;
RESET keyrot.app_rate_limit;
RESET keyrot.zone_rate_limit;

DROP TABLE test.api_call;
DROP FUNCTION test.api_refused(text, jsonb), test.api_stored(), test.api_params(text, text, text), test.api_fail(), test.api_failing(text, text);
