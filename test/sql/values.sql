-- What keyrot makes: AppKeys, AppSecrets, SecretKeys, GatewayIds and RequestIds have the promised form, are
-- all different, and use every character of their alphabet.  Identifiers are text and case-sensitive.
\set SHOW_CONTEXT never
CREATE TEMP TABLE app AS
SELECT n, c.app_id, c.app_key, d.app_secret, c.request_id
  FROM generate_series(1, 300) AS n, keyrot.create_app('Values ' || n) AS c,
       keyrot.describe_app_security(c.app_key) AS d;
SELECT bool_and(app_key ~ '^ak[0-9a-z]{20}$') AS keys, count(DISTINCT app_key) AS different_keys,
       bool_and(app_secret ~ '^[0-9a-f]{64}$') AS secrets, count(DISTINCT app_secret) AS different_secrets,
       count(DISTINCT app_id) AS different_numbers
  FROM app;
-- Of 6000 characters, one of 36 is missing with a probability of less than 1 in 10^70.
SELECT string_agg(DISTINCT c, '' ORDER BY c) AS characters_of_keys
  FROM app, unnest(string_to_array(substr(app_key, 3), NULL)) AS c;
SELECT string_agg(DISTINCT c, '' ORDER BY c) AS characters_of_secrets
  FROM app, unnest(string_to_array(app_secret, NULL)) AS c;

CREATE TEMP TABLE refreshed AS
SELECT n, r.secret_key, r.request_id
  FROM (SELECT keyrot.create_zone_key('values-zone') AS created) AS z,
       generate_series(1, 300) AS n, keyrot.refresh_zone_key(left('values-zone', 100 + n)) AS r;
SELECT version FROM keyrot.credentials WHERE id = 'values-zone';
SELECT bool_and(secret_key ~ '^[A-Za-z0-9+/]{43}=$') AS keys,
       bool_and(length(decode(secret_key, 'base64')) = 32) AS bytes,
       bool_and(encode(decode(secret_key, 'base64'), 'base64') = secret_key) AS canonical,
       count(DISTINCT secret_key) AS different_keys
  FROM refreshed;
SELECT count(DISTINCT c) AS different_characters_of_keys
  FROM refreshed, unnest(string_to_array(left(secret_key, 42), NULL)) AS c;
SELECT bool_and(gateway_id ~ '^mpgw-[0-9a-z]{10}$') AS ids, count(DISTINCT gateway_id) AS different_ids
  FROM generate_series(1, 300) AS n, keyrot.add_gateway(left('values-zone', 100 + n));
SELECT count(*) AS gateways FROM keyrot.gateways WHERE zone_id = 'values-zone';
SELECT string_agg(DISTINCT c, '' ORDER BY c) AS characters_of_ids
  FROM keyrot.gateways, unnest(string_to_array(substr(gateway_id, 6), NULL)) AS c WHERE zone_id = 'values-zone';

-- RequestIds: version 7 of RFC 9562, in the order of the requests also within a millisecond, with the time
-- at which the request was made.
CREATE TEMP TABLE request AS
SELECT request_id, requested_at FROM keyrot.requests WHERE request_id IN (SELECT request_id FROM app)
    OR request_id IN (SELECT request_id FROM refreshed);
SELECT count(*) AS requests, count(DISTINCT request_id) AS different, bool_and(test.is_uuid7(request_id)) AS uuid7,
       bool_and(substr(request_id::text, 15, 1) = '7') AS version,
       bool_and(substr(request_id::text, 20, 1) IN ('8', '9', 'a', 'b')) AS variant,
       bool_and(requested_at - test.time_of(request_id) BETWEEN interval '-10 ms' AND interval '10 ms') AS time
  FROM request;
SELECT count(*) AS out_of_order
  FROM (SELECT request_id < lag(request_id) OVER (ORDER BY n) AS earlier FROM app) AS o WHERE earlier;
SELECT count(*) AS out_of_order
  FROM (SELECT request_id < lag(request_id) OVER (ORDER BY n) AS earlier FROM refreshed) AS o WHERE earlier;
SELECT count(DISTINCT right(request_id::text, 12)) AS different_random_ends FROM request;

-- AppKeys and ZoneIds are text: leading zeros stay, and case matters.
SELECT app_key FROM keyrot.create_app('Zeros', '0042', 'values-secret-0042');
SELECT app_key FROM keyrot.create_app('Zeros', '00042', 'values-secret-00042');
SELECT app_key FROM keyrot.create_app('Case', 'valuesCase', 'values-secret-case');
SELECT app_key FROM keyrot.create_app('Case', 'valuescase', 'values-secret-lower');
SELECT k.app_key, d.app_key AS described, d.app_secret
  FROM (VALUES ('0042'), ('00042'), ('valuesCase'), ('valuescase')) AS k (app_key),
       keyrot.describe_app_security(k.app_key) AS d;
SELECT k.app_key, s.app_secret, test.app_accepts(k.app_key, s.app_secret)
  FROM (VALUES ('0042'), ('00042'), ('VALUESCASE'), ('valuesCase'), ('valuescase')) AS k (app_key),
       (VALUES ('values-secret-0042'), ('values-secret-case'), ('VALUES-SECRET-CASE')) AS s (app_secret)
 WHERE test.app_accepts(k.app_key, s.app_secret);
SELECT * FROM keyrot.describe_app_security('042');
SELECT keyrot.create_zone_key('valuesZone') IS NOT NULL AS done;
SELECT * FROM keyrot.describe_zone_key('valueszone');
SELECT gateway_id FROM keyrot.add_gateway('valuesZone', 'Gateway');
SELECT gateway_id FROM keyrot.add_gateway('valuesZone', 'gateway');
-- Every form that may be given comes back as it was given, and signs so.
SELECT count(*) AS given, count(*) FILTER (WHERE d.app_secret = g.given) AS came_back,
       count(*) FILTER (WHERE keyrot.sign_for_app(c.app_key, 'message')
                              = hmac('message', convert_to(g.given, 'SQL_ASCII'), 'sha256')) AS signs
  FROM (SELECT repeat('s', 16) AS given UNION ALL SELECT repeat('S!', 64) UNION ALL SELECT repeat('0', 64)
        UNION ALL SELECT string_agg(chr(c), '') FROM generate_series(33, 126) AS c
        UNION ALL SELECT '$1%s''"{}[]()<>;--/**/') AS g,
       LATERAL keyrot.create_app('Given', app_secret => g.given) AS c,
       LATERAL keyrot.describe_app_security(c.app_key) AS d;
