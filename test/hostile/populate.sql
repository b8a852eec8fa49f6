-- Credentials of every kind, for the hostile tests: several owners, names and descriptions, versions in grace,
-- AppKeys replaced and deleted, zones deleted and made again, gateways, tokens, requests that failed; and a
-- table of values, from which callers take what they hand over.
--
-- Every secret begins with "KRhostileSECRET", so that it is known wherever it turns up.
SET client_min_messages = error;
CREATE EXTENSION keyrot;
SELECT keyrot.create_master_key();
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
CREATE EXTENSION IF NOT EXISTS amcheck;

DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'regress_hostile_a') THEN
		CREATE ROLE regress_hostile_a LOGIN;
		CREATE ROLE regress_hostile_b LOGIN;
		CREATE ROLE regress_hostile_operator LOGIN;
		GRANT regress_hostile_b TO regress_hostile_a;
	END IF;
END $$;
GRANT USAGE ON SCHEMA keyrot TO regress_hostile_a, regress_hostile_b, regress_hostile_operator;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA keyrot TO regress_hostile_a, regress_hostile_b, regress_hostile_operator;
GRANT SELECT ON keyrot.credentials, keyrot.gateways, keyrot.requests
   TO regress_hostile_a, regress_hostile_b, regress_hostile_operator;

CREATE SCHEMA hostile;
GRANT USAGE ON SCHEMA hostile TO PUBLIC;

-- SecretKeys are base64 of 32 bytes.
CREATE FUNCTION hostile.app_secret(n text) RETURNS text IMMUTABLE LANGUAGE sql
	RETURN 'KRhostileSECRETapp' || n;
CREATE FUNCTION hostile.secret_key(n int) RETURNS text IMMUTABLE LANGUAGE sql
	RETURN 'KRhostileSECRET' || lpad(n::text, 27, '0') || 'A=';

DO $$
DECLARE
	letter text;
BEGIN
	FOREACH letter IN ARRAY ARRAY['a', 'b'] LOOP
		EXECUTE 'SET LOCAL ROLE regress_hostile_' || letter;
		FOR i IN 1..10 LOOP
			PERFORM keyrot.create_app('App ' || i, 'app-' || letter || '-' || i, hostile.app_secret(letter || i),
									  CASE WHEN i % 2 = 0 THEN 'describes ' || i END);
		END LOOP;
		PERFORM keyrot.reset_app_secret('app-' || letter || '-2', grace_period => '1 day');
		PERFORM keyrot.reset_app_secret('app-' || letter || '-3', 'app-' || letter || '-3x', hostile.app_secret('new' || letter), '1 day');
		PERFORM keyrot.reset_app_secret('app-' || letter || '-4', 'app-' || letter || '-4x');
		PERFORM keyrot.reset_app_secret('app-' || letter || '-5', client_token => 'token-' || letter);
		PERFORM keyrot.reset_app_secret('app-' || letter || '-5', client_token => 'token-' || letter);
		PERFORM keyrot.delete_app('app-' || letter || '-6');
		FOR i IN 1..6 LOOP
			PERFORM keyrot.create_zone_key('zone-' || letter || '-' || i, hostile.secret_key(i));
			PERFORM keyrot.add_gateway('zone-' || letter || '-' || i, 'gate-' || i);
			PERFORM keyrot.add_gateway('zone-' || letter || '-' || i);
		END LOOP;
		PERFORM keyrot.refresh_zone_key('zone-' || letter || '-2', '1 day');
		PERFORM keyrot.modify_zone_key('zone-' || letter || '-3', hostile.secret_key(1003), '1 day', 'zone-token-' || letter);
		PERFORM keyrot.delete_zone_key('zone-' || letter || '-4');
		PERFORM keyrot.delete_zone_key('zone-' || letter || '-5');
		PERFORM keyrot.create_zone_key('zone-' || letter || '-5');
		BEGIN
			PERFORM keyrot.delete_app('no-such-app');
		EXCEPTION WHEN OTHERS THEN
			NULL;
		END;
		RESET ROLE;
	END LOOP;
END $$;

CREATE TABLE hostile.pool AS
	SELECT (ARRAY['app-a-1', 'app-a-2', 'app-a-3', 'app-a-3x', 'app-b-1', 'app-b-6', 'app-b-7', 'no-such-app', '', 'x y'])[i] AS app_key,
		   (ARRAY['zone-a-1', 'zone-a-2', 'zone-a-3', 'zone-b-1', 'zone-b-4', 'zone-a-5', 'none', '-', NULL, 'zone-a-6'])[i] AS zone_id,
		   (ARRAY['gate-1', 'gate-2', 'gate-3', 'gate-4', 'x', '', NULL, 'gate-5', 'gate-6', 'gate-1'])[i] AS gateway_id,
		   (ARRAY['sixteen-characters-or-more', 'too short', repeat('y', 128), NULL, repeat('z', 129), repeat('0123456789abcdef', 4)])[1 + i % 6] AS secret,
		   encode(sha256(i::text::bytea), 'base64') AS secret_key,
		   (ARRAY['sha1', 'sha256', NULL, 'md5'])[1 + i % 4] AS algorithm,
		   (ARRAY['00:00', '1 hour', '30 days', '-1 day', NULL, '178000000 years'])[1 + i % 6]::interval AS grace_period,
		   decode(md5(i::text), 'hex') AS message,
		   (ARRAY['{"AppKey": "app-a-1"}', '{"ZoneId": "zone-a-1"}', '[]', '{}', NULL])[1 + i % 5]::jsonb AS params,
		   (ARRAY['ResetAppSecret', 'RefreshMultiPathGatewaySecretKey', 'DescribeAppAttributes', 'x'])[1 + i % 4] AS action,
		   (ARRAY['regress_hostile_a', 'regress_hostile_b', '0'])[1 + i % 3]::regrole AS owner,
		   i AS number,
		   i::bigint AS app_id
	  FROM generate_series(1, 10) AS i;
CREATE TABLE hostile.sink (what text);
CREATE TABLE hostile.calls (call text);
CREATE TABLE hostile.caught (context text);
GRANT SELECT ON hostile.pool TO PUBLIC;
GRANT ALL ON hostile.sink, hostile.calls, hostile.caught TO PUBLIC;

-- Runs a call when a row comes that holds it.
CREATE FUNCTION hostile.fire() RETURNS trigger LANGUAGE plpgsql AS
$$
BEGIN
	EXECUTE 'SELECT count(*) FROM ' || NEW.call;
	RETURN NULL;
END $$;
CREATE TRIGGER fire AFTER INSERT ON hostile.calls FOR EACH ROW EXECUTE FUNCTION hostile.fire();

ANALYZE;
SELECT count(*) FROM keyrot.request;
