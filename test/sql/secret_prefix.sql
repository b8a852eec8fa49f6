-- Generated AppSecrets with keyrot.app_secret_prefix: what a scanner for leaked secrets can recognize, and check
-- from the documentation alone.  The checksum is recomputed here in PL/pgSQL, bit by bit.
\set SHOW_CONTEXT never
CREATE FUNCTION test.crc32(bytes bytea) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    crc bigint := 4294967295;
BEGIN
    FOR i IN 0 .. length(bytes) - 1 LOOP
        crc := crc # get_byte(bytes, i);
        FOR bit IN 1 .. 8 LOOP
            crc := CASE crc & 1 WHEN 1 THEN (crc >> 1) # 3988292384 ELSE crc >> 1 END;
        END LOOP;
    END LOOP;
    RETURN crc # 4294967295;
END $$;
CREATE FUNCTION test.base62(text) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
SELECT sum((position(c IN '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz') - 1) * (62 ^ (length($1) - n))::bigint)::bigint
  FROM string_to_table($1, NULL) WITH ORDINALITY AS s (c, n) $$;
CREATE FUNCTION test.is_checked(secret text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT test.base62(right(secret, 6)) = test.crc32(convert_to(left(secret, -6), 'UTF8')) $$;
-- The check value of this CRC in every catalogue of CRCs.
SELECT to_hex(test.crc32('123456789')) AS crc_of_123456789;

SELECT keyrot.create_app('Prefix', 'prefix.none') IS NOT NULL AS created;
SELECT app_secret ~ '^[0-9a-f]{64}$' AS hex FROM keyrot.describe_app_security('prefix.none');
SET keyrot.app_secret_prefix = 'acme_live_';
SELECT count(keyrot.create_app('Prefix', 'prefix.' || n)) FROM generate_series(1, 200) AS n;
SELECT count(DISTINCT s.app_secret) AS different, bool_and(s.app_secret ~ '^acme_live_[0-9A-Za-z]{49}$') AS well_formed,
       bool_and(test.is_checked(s.app_secret)) AS checked,
       bool_or(test.is_checked(overlay(s.app_secret PLACING CASE right(left(s.app_secret, 20), 1) WHEN 'a' THEN 'b' ELSE 'a' END FROM 20))) AS changed_ones_checked
  FROM generate_series(1, 200) AS n, keyrot.describe_app_security('prefix.' || n) AS s;
-- A reset makes such secrets, too; one that is given is taken as it is.
SELECT keyrot.reset_app_secret('prefix.none') IS NOT NULL AS reset;
SELECT app_secret LIKE 'acme\_live\_%' AND test.is_checked(app_secret) AS checked FROM keyrot.describe_app_security('prefix.none');
SELECT keyrot.reset_app_secret('prefix.none', new_app_secret => 'given-secret-without-prefix') IS NOT NULL AS reset;
SELECT app_secret FROM keyrot.describe_app_security('prefix.none');
-- It is an AppSecret as every other.
SELECT test.app_accepts('prefix.1', app_secret) AS verifies FROM keyrot.describe_app_security('prefix.1');
-- In an AppKey's place it is refused as 64 hex digits are, so that neither message nor log holds it.
CREATE FUNCTION test.refusal(call text, secret text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE call USING secret;
    RETURN 'taken';
EXCEPTION WHEN OTHERS THEN
    RETURN format('%s, told: %s', SQLSTATE, position(secret IN SQLERRM) > 0);
END $$;
SELECT bool_and(test.refusal(call, app_secret) = '22023, told: f') AS refused
  FROM unnest('{prefix.1,prefix.2,prefix.3}'::text[]) AS k, keyrot.describe_app_security(k),
       unnest('{SELECT keyrot.reset_app_secret($1),SELECT keyrot.delete_app($1),SELECT * FROM keyrot.list_apps(app_key => $1),'
              '"SELECT keyrot.create_app(''Wrong'', $1)","SELECT keyrot.reset_app_secret(''prefix.4'', $1)"}'::text[]) AS call;
SELECT test.refusal('SELECT keyrot.delete_app($1)', overlay(app_secret PLACING CASE right(app_secret, 1) WHEN '0' THEN '1' ELSE '0' END FROM length(app_secret)))
       AS with_a_wrong_checksum FROM keyrot.describe_app_security('prefix.1');
-- What a prefix may be.
SET keyrot.app_secret_prefix = '0123456789012345678901234567890123456789';
SELECT keyrot.reset_app_secret('prefix.1') IS NOT NULL AS reset;
SELECT length(app_secret), test.is_checked(app_secret) AS checked FROM keyrot.describe_app_security('prefix.1');
SET keyrot.app_secret_prefix = '01234567890123456789012345678901234567890';
SET keyrot.app_secret_prefix = 'acme-';
SET keyrot.app_secret_prefix = 'acme ';
SET keyrot.app_secret_prefix = U&'\00e4';
RESET keyrot.app_secret_prefix;
SELECT name, context, vartype, boot_val FROM pg_settings WHERE name = 'keyrot.app_secret_prefix';
CREATE ROLE regress_prefix;
SET ROLE regress_prefix;
SET keyrot.app_secret_prefix = 'mine_';
RESET ROLE;
DROP ROLE regress_prefix;
