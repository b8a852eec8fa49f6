-- The views: a reader sees the credentials and gateways it may act on, and the requests of roles whose rights
-- it has; operators and superusers see all.  No condition of the reader's sees another row, and no view has a
-- secret or a sealed byte.
\set SHOW_CONTEXT never
CREATE ROLE regress_view_a;
CREATE ROLE regress_view_b;
CREATE ROLE regress_view_member IN ROLE regress_view_a;
CREATE ROLE regress_view_noinherit NOINHERIT IN ROLE regress_view_a;
CREATE ROLE regress_view_operator;
CREATE ROLE regress_view_reader;
GRANT USAGE ON SCHEMA keyrot TO regress_view_a, regress_view_b, regress_view_member, regress_view_noinherit,
    regress_view_operator, regress_view_reader;
GRANT SELECT ON keyrot.credentials, keyrot.gateways, keyrot.requests TO regress_view_a, regress_view_b,
    regress_view_member, regress_view_noinherit, regress_view_operator, regress_view_reader;
GRANT EXECUTE ON FUNCTION keyrot.create_app, keyrot.create_zone_key, keyrot.add_gateway
    TO regress_view_a, regress_view_b;
SET keyrot.operator_role = 'regress_view_operator';
SET ROLE regress_view_a;
SELECT app_key FROM keyrot.create_app('Views', 'views.a', 'views-secret-of-a');
SELECT keyrot.create_zone_key('views-a', test.secret_key(1)) IS NOT NULL AS done;
SELECT gateway_id FROM keyrot.add_gateway('views-a', 'views-gateway');
SET ROLE regress_view_b;
SELECT app_key FROM keyrot.create_app('Views', 'views.b', 'views-secret-of-b');
SELECT keyrot.create_zone_key('views-b', test.secret_key(2)) IS NOT NULL AS done;
SELECT gateway_id FROM keyrot.add_gateway('views-b', 'views-gateway');
RESET ROLE;
CREATE FUNCTION test.seen(role text, OUT credentials text[], OUT gateways text[], OUT requests text[])
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', role, true);
    SELECT array_agg(id ORDER BY id) INTO credentials FROM keyrot.credentials WHERE id LIKE 'views%';
    SELECT array_agg(zone_id ORDER BY zone_id) INTO gateways FROM keyrot.gateways WHERE zone_id LIKE 'views%';
    SELECT array_agg(DISTINCT target) INTO requests FROM keyrot.requests WHERE target LIKE 'views%';
    PERFORM set_config('role', 'none', true);
END $$;
SELECT role, s.* FROM unnest(ARRAY['a', 'b', 'member', 'noinherit', 'operator', 'reader']) AS r,
                      format('regress_view_%s', r) AS role, test.seen(role) AS s;
SELECT * FROM test.seen('none');
-- Requests are the caller's, not the owner's: what is done to one's credential by others stays unseen, and
-- a credential that is given away takes no request with it.
SELECT keyrot.modify_app('views.b', 'Renamed by a superuser') IS NOT NULL AS done,
       keyrot.set_app_owner('views.b', 'regress_view_a') IS NOT NULL AS done;
SELECT role, s.credentials, s.requests
  FROM unnest(ARRAY['a', 'b']) AS r, format('regress_view_%s', r) AS role, test.seen(role) AS s;
SET ROLE regress_view_b;
SELECT action, target, requests.session_user <> caller AS through_another FROM keyrot.requests ORDER BY request_id;
RESET ROLE;
SELECT keyrot.set_app_owner('views.b', 'regress_view_b') IS NOT NULL AS done;

-- A reader's function in WHERE sees no other row, however cheap it says it is.
CREATE FUNCTION test.leak(anything text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
$$ BEGIN RAISE NOTICE 'seen: %', anything; RETURN true; END $$;
SET ROLE regress_view_a;
SELECT id, owner FROM keyrot.credentials WHERE test.leak(id || ' of ' || owner) AND id LIKE 'views%' ORDER BY id;
SELECT gateway_id FROM keyrot.gateways WHERE test.leak(zone_id);
SELECT action FROM keyrot.requests WHERE test.leak(target);
-- Nor does an error of a condition tell what another row holds.
SELECT count(*) FROM keyrot.credentials WHERE 1 / (CASE WHEN id = 'views.b' THEN 0 ELSE 1 END) = 1;
SELECT count(*) FROM keyrot.requests WHERE 1 / (CASE WHEN target = 'views.b' THEN 0 ELSE 1 END) = 1;
RESET ROLE;
SELECT relname, reloptions FROM pg_class WHERE relnamespace = 'keyrot'::regnamespace AND relkind = 'v' ORDER BY relname;

-- The columns, in the order of the contract; none is bytes.
SELECT c.relname AS view, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type
  FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
 WHERE c.relnamespace = 'keyrot'::regnamespace AND c.relkind = 'v' ORDER BY c.relname, a.attnum;
-- No secret in any row: not in clear, not as it is stored, not as any bytes.
CREATE TEMP TABLE seen AS
SELECT row::text FROM keyrot.credentials AS row WHERE id LIKE 'views%'
UNION ALL SELECT row::text FROM keyrot.gateways AS row WHERE zone_id LIKE 'views%'
UNION ALL SELECT row::text FROM keyrot.requests AS row WHERE target LIKE 'views%';
SELECT count(*) AS rows, count(*) FILTER (WHERE row LIKE '%\\x%') AS with_bytes,
       count(*) FILTER (WHERE row LIKE '%views-secret-of%' OR row LIKE '%' || test.secret_key(1) || '%') AS in_clear
  FROM seen;
CREATE TEMP TABLE stored AS
SELECT secret FROM keyrot.app WHERE app_key LIKE 'views%' UNION ALL SELECT secret FROM keyrot.zone WHERE zone_id LIKE 'views%'
UNION ALL SELECT wrapped FROM keyrot.data_key;
SELECT count(*) AS seen_as_stored FROM seen, stored
 WHERE row LIKE '%' || encode(secret, 'hex') || '%' OR row LIKE '%' || left(encode(secret, 'base64'), 40) || '%';
-- What is stored is sealed: no plaintext is in it.
SELECT count(*) AS stored, count(*) FILTER (WHERE position(plaintext IN secret) > 0) AS in_clear
  FROM stored, (VALUES ('views-secret-of-a'::bytea), ('views-secret-of-b'),
                       (test.secret_key(1)::bytea)) AS p (plaintext);

-- What is set before the library is loaded, by a role that may not, gains nothing: not in the views, not in
-- the functions.  A new session has not loaded it, unless the server did.
\c -
\set SHOW_CONTEXT never
SET client_min_messages = error;
SET SESSION AUTHORIZATION regress_view_b;
DO $$
BEGIN
    SET keyrot.operator_role = 'regress_view_b';
EXCEPTION WHEN insufficient_privilege THEN
    NULL;
END $$;
SELECT array_agg(id ORDER BY id) AS seen FROM keyrot.credentials WHERE id LIKE 'views%';
SELECT array_agg(DISTINCT target) AS seen FROM keyrot.requests;
SELECT gateway_id FROM keyrot.add_gateway('views-a');
SHOW keyrot.operator_role;
RESET SESSION AUTHORIZATION;
RESET client_min_messages;

DROP FUNCTION test.leak(text), test.seen(text);
DROP OWNED BY regress_view_a, regress_view_b, regress_view_member, regress_view_noinherit, regress_view_operator,
    regress_view_reader;
DROP ROLE regress_view_a, regress_view_b, regress_view_member, regress_view_noinherit, regress_view_operator,
    regress_view_reader;
