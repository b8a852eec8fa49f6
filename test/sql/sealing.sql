-- A sealed secret is bound to its row: kind, identifier and version.  Swapped, replayed or changed in any bit, it
-- is refused with XX001, by reading, signing and verifying alike; so is a data key, with 55000.  A sealed secret
-- never contains the secret, and looks different whenever it is made.
\set SHOW_CONTEXT never
SELECT app_key FROM keyrot.create_app('Sealing', 'sealed-1', 'sealing-secret-number-1');
SELECT app_key FROM keyrot.create_app('Sealing', 'sealed-2', 'sealing-secret-number-2');
SELECT app_key FROM keyrot.create_app('Sealing', 'sealed-3', repeat('sealing!', 16));
SELECT keyrot.create_zone_key('sealed-1', test.secret_key(1)) IS NOT NULL AS done;
SELECT keyrot.create_zone_key('sealed-2', test.secret_key(2)) IS NOT NULL AS done;
SELECT gateway_id FROM keyrot.add_gateway('sealed-1', 'gateway');

-- The format: 1, the data key's id, a nonce of 24 bytes, as many bytes as the secret has, a tag of 16.
SELECT kind, id, length(secret) - 45 AS secret_bytes, get_byte(secret, 0) AS format,
       ('x' || encode(substr(secret, 2, 4), 'hex'))::bit(32)::int IN (SELECT k.id FROM keyrot.data_key AS k) AS data_key
  FROM (SELECT 'app' AS kind, app_key AS id, secret FROM keyrot.app
        UNION ALL SELECT 'zone', zone_id, secret FROM keyrot.zone) AS s
 WHERE id LIKE 'sealed-_' ORDER BY kind, id;
-- One of two secrets sealed many times is never the same, and never there to be seen.
CREATE TEMP TABLE sealing (n int, sealed bytea);
DO $$
BEGIN
    FOR n IN 1 .. 100 LOOP
        PERFORM keyrot.reset_app_secret('sealed-3', NULL, 'sealing-one-secret-' || n % 2);
        INSERT INTO sealing SELECT n, secret FROM keyrot.app WHERE app_key = 'sealed-3';
    END LOOP;
END $$;
SELECT count(DISTINCT substr(sealed, 6, 24)) AS nonces, count(DISTINCT substr(sealed, 30)) AS ciphertexts,
       count(DISTINCT length(sealed)) AS lengths, count(*) FILTER (WHERE position('seal' IN sealed) > 0) AS in_clear
  FROM sealing;

-- What reading, signing and verifying come to, for an app and for a zone of that name; the last ones with a
-- signature that nobody made.
CREATE FUNCTION test.outcomes(id text, OUT app text, OUT zone text) LANGUAGE plpgsql AS $$
BEGIN
    app := concat_ws(' ', (test.try('describe_app_security', '$1', id)).state,
                     (test.try('sign_for_app', '$1, ''m''', id)).state,
                     (test.try('verify_app_string', '$1, ''m'', ''''', id)).state);
    zone := concat_ws(' ', (test.try('describe_zone_key', '$1', id)).state,
                      (test.try('sign_for_zone', '$1, ''m''', id)).state,
                      (test.try('verify_zone_string', '$1, ''m'', ''''', id)).state,
                      (test.try('verify_gateway_string', '$1, ''gateway'', ''m'', ''''', id)).state);
END $$;
SELECT * FROM test.outcomes('sealed-1');
-- The outcomes after a change to keyrot's tables, which is undone.  TABLE and ID stand for both tables' names.
CREATE FUNCTION test.after(change text, OUT app text, OUT zone text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE replace(replace(replace(change, 'TABLE', 'keyrot.app'), 'ID', 'app_key'), 'OTHER', 'zone');
    EXECUTE replace(replace(replace(change, 'TABLE', 'keyrot.zone'), 'ID', 'zone_id'), 'OTHER', 'app');
    SELECT * INTO app, zone FROM test.outcomes('sealed-1');
    RAISE SQLSTATE 'UNDO1';
EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
    NULL;
END $$;
CREATE TEMP TABLE kept AS
SELECT (SELECT secret FROM keyrot.app WHERE app_key = 'sealed-1') AS app,
       (SELECT secret FROM keyrot.zone WHERE zone_id = 'sealed-1') AS zone;
SELECT what, a.* FROM (VALUES
    ('nothing', $$secret = secret$$),
    ('another one''s', $$secret = (SELECT secret FROM TABLE WHERE ID = 'sealed-2')$$),
    ('the other kind''s of the same name and version', $$secret = (SELECT OTHER FROM kept)$$),
    ('a data key', $$secret = (SELECT wrapped FROM keyrot.data_key LIMIT 1)$$),
    ('another version', $$version = 2$$),
    ('empty', $$secret = ''$$),
    ('one byte', $$secret = '\x01'$$),
    ('45 bytes', $$secret = decode('01' || repeat('00', 44), 'hex')$$),
    ('cut off', $$secret = substr(secret, 1, length(secret) - 1)$$),
    ('without its first byte', $$secret = substr(secret, 2)$$),
    ('a byte more', $$secret = secret || '\x00'$$),
    ('1 MB more', $$secret = secret || decode(repeat('00', 1048576), 'hex')$$),
    ('text', $$secret = 'sealing-secret-number-1'$$)
    ) AS v (what, change), LATERAL test.after(format($$UPDATE TABLE SET %s WHERE ID = 'sealed-1'$$, change)) AS a;
BEGIN;
UPDATE keyrot.app SET app_key = 'sealed-x' WHERE app_key = 'sealed-1';
SELECT app AS under_another_name FROM test.outcomes('sealed-x');
ROLLBACK;

-- Each bit of it flipped, one after the other: what all of them come to.
CREATE FUNCTION test.flipped(change text, original bytea, OUT bits int, OUT app text, OUT zone text)
    LANGUAGE plpgsql AS $$
DECLARE
    a record;
    apps text[] := '{}';
    zones text[] := '{}';
BEGIN
    bits := length(original) * 8;
    FOR n IN 0 .. bits - 1 LOOP
        a := test.after(format(change, set_bit(original, n, 1 - get_bit(original, n))));
        apps := array_append(apps, a.app);
        zones := array_append(zones, a.zone);
    END LOOP;
    app := (SELECT string_agg(DISTINCT o, '; ') FROM unnest(apps) AS o);
    zone := (SELECT string_agg(DISTINCT o, '; ') FROM unnest(zones) AS o);
END $$;
SELECT f.* FROM kept, test.flipped($$UPDATE keyrot.app SET secret = %L WHERE app_key = 'sealed-1'$$, kept.app) AS f;
SELECT f.* FROM kept, test.flipped($$UPDATE keyrot.zone SET secret = %L WHERE zone_id = 'sealed-1'$$, kept.zone) AS f;

-- What it says: the row and the version, never a byte of the secret.
BEGIN;
UPDATE keyrot.app SET secret = set_byte(secret, 40, get_byte(secret, 40) # 255) WHERE app_key = 'sealed-1';
SELECT state, message, detail, context ~ '^keyrot request .*: describe_app_security' AS has_request_id
  FROM test.try('describe_app_security', $$'sealed-1'$$, NULL);
-- A rotation gives it a secret that opens, made or given; there is nothing to keep for a grace period.
SELECT keyrot.reset_app_secret('sealed-1') IS NOT NULL AS done;
SELECT version, test.app_accepts('sealed-1', app_secret) AS accepted FROM keyrot.describe_app_security('sealed-1');
UPDATE keyrot.zone SET secret = set_byte(secret, 40, get_byte(secret, 40) # 255) WHERE zone_id = 'sealed-1';
SELECT keyrot.modify_zone_key('sealed-1', test.secret_key(3), '1 day') IS NOT NULL AS done;
SELECT version, test.zone_accepts('sealed-1', secret_key) AS accepted, secret_key = test.secret_key(3) AS as_given
  FROM keyrot.describe_zone_key('sealed-1');
ROLLBACK;

-- An earlier one, replayed: not as the current one, nor as the previous one.  Only a whole row of yesterday, with
-- its version, is that row again, as after a restore.
SELECT keyrot.reset_app_secret('sealed-1', NULL, 'sealing-secret-number-4', '1 day') IS NOT NULL AS done;
SELECT keyrot.modify_zone_key('sealed-1', test.secret_key(4), '1 day') IS NOT NULL AS done;
SELECT * FROM test.outcomes('sealed-1');
SELECT what, a.* FROM (VALUES
    ('the first one as the current one', $$secret = previous_secret$$),
    ('current and previous one swapped', $$secret = previous_secret, previous_secret = secret$$),
    ('the current one as the previous one', $$previous_secret = secret$$),
    ('another one''s as the previous one', $$previous_secret = (SELECT secret FROM TABLE WHERE ID = 'sealed-2')$$),
    ('the previous one cut off', $$previous_secret = substr(previous_secret, 1, 50)$$),
    ('the first one with its version', $$secret = previous_secret, previous_secret = NULL, version = 1$$)
    ) AS v (what, change), LATERAL test.after(format($$UPDATE TABLE SET %s WHERE ID = 'sealed-1'$$, change)) AS a;
SELECT f.* FROM (SELECT previous_secret FROM keyrot.app WHERE app_key = 'sealed-1') AS a,
       test.flipped($$UPDATE keyrot.app SET previous_secret = %L WHERE app_key = 'sealed-1'$$, previous_secret) AS f;
-- After a NewAppKey, the secret of the old AppKey is not the new one's.
SELECT keyrot.reset_app_secret('sealed-1', 'sealed-new', 'sealing-secret-number-5', '1 day') IS NOT NULL AS done;
BEGIN;
UPDATE keyrot.app SET secret = (SELECT previous_secret FROM keyrot.app WHERE app_key = 'sealed-1')
 WHERE app_key = 'sealed-new';
SELECT app FROM test.outcomes('sealed-new');
ROLLBACK;

-- A data key that was changed: nothing can be opened by a session that has not opened it yet, whichever the
-- AppKey, known or not; and it is as it was once the row is.
CREATE TABLE test.kept_key AS SELECT * FROM keyrot.data_key;
UPDATE keyrot.data_key SET wrapped = set_byte(wrapped, 40, get_byte(wrapped, 40) # 1);
\c -
\set SHOW_CONTEXT never
SELECT * FROM test.outcomes('sealed-2');
SELECT app AS of_an_unknown_one FROM test.outcomes('sealed-unknown');
SELECT state, message, hint FROM test.try('describe_app_security', $$'sealed-2'$$, NULL);
SELECT state FROM test.try('create_app', $$'Sealing'$$, NULL);
SELECT problem FROM keyrot.status() WHERE problem LIKE '%data key 1%';
UPDATE keyrot.data_key AS k SET wrapped = kept.wrapped, check_value = '\x0000000000000000'
  FROM test.kept_key AS kept WHERE kept.id = k.id;
\c -
\set SHOW_CONTEXT never
SELECT * FROM test.outcomes('sealed-2');
UPDATE keyrot.data_key AS k SET check_value = kept.check_value, master_key = '\x0123456789abcdef'
  FROM test.kept_key AS kept WHERE kept.id = k.id;
\c -
\set SHOW_CONTEXT never
SELECT * FROM test.outcomes('sealed-2');
SELECT state, regexp_replace(regexp_replace(message, '"[^"]+"', 'FILE'), 'contains .+', 'contains FINGERPRINT') AS message, hint
  FROM test.try('verify_app_string', $$'sealed-unknown', '', ''$$, NULL);
UPDATE keyrot.data_key AS k SET master_key = kept.master_key FROM test.kept_key AS kept WHERE kept.id = k.id;
SELECT * FROM test.outcomes('sealed-2');
SELECT problem FROM keyrot.status() WHERE problem LIKE '%data key 1%';

DROP TABLE test.kept_key;
DROP FUNCTION test.outcomes(text), test.after(text), test.flipped(text, bytea);
