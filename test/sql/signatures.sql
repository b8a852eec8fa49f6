-- Signatures are HMACs as everybody computes them: equal to pgcrypto's for messages and secrets of every length.
-- Verifying accepts them, and only them.  The published vectors have keys that are no secrets here: test/unit has
-- them.
\set SHOW_CONTEXT never

-- pgcrypto's: every length of message around the blocks of the hashes, and every length of secret.
CREATE TEMP TABLE message AS
SELECT n, CASE WHEN n = 0 THEN ''::bytea ELSE gen_random_bytes(n) END AS message FROM generate_series(0, 300) AS n
UNION ALL SELECT 1, '\x00' UNION ALL SELECT 4, '\x00000000'
UNION ALL SELECT 1048576, convert_to(repeat(encode(gen_random_bytes(512), 'hex'), 1024), 'UTF8');
CREATE TEMP TABLE secret AS
SELECT 'app' AS kind, 'sig.app.' || n AS id, c.app_key IS NOT NULL AS made,
       convert_to(app_secret, 'UTF8') AS key
  FROM generate_series(16, 128) AS n,
       LATERAL (SELECT string_agg(chr(33 + get_byte(b, i) % 94), '') AS app_secret
                  FROM gen_random_bytes(n) AS b, generate_series(0, n - 1) AS i) AS s,
       LATERAL keyrot.create_app('Signatures', 'sig.app.' || n, app_secret) AS c
UNION ALL
SELECT 'zone', 'sig-zone-' || n, keyrot.create_zone_key('sig-zone-' || n, secret_key) IS NOT NULL,
       convert_to(secret_key, 'UTF8')
  FROM generate_series(32, 48) AS n, LATERAL (SELECT encode(gen_random_bytes(n), 'base64') AS secret_key) AS k;
SELECT kind, count(*) AS secrets, min(length(key)) AS shortest, max(length(key)) AS longest
  FROM secret GROUP BY 1 ORDER BY 1;
-- A zone's key is its text, not what that decodes to: the command openssl dgst -sha256 -hmac "MTEx…" says the same.
SELECT keyrot.create_zone_key('sig-zone', 'MTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTE=') IS NOT NULL AS done;
SELECT keyrot.sign_string_for_zone('sig-zone', 'hello') AS signature,
       keyrot.verify_zone_string('sig-zone', 'hello', 'RI4wGeyC7XcYgsHrawOET7+PCkPJxlaZVYLx71aKgrA=') AS by_text,
       keyrot.verify_zone_string('sig-zone', 'hello', 'LTDV6DCX9QnkyHG2CceY0vWbs2xWsZtqkvFMAovi/+E=') AS by_bytes;
-- Every message under the shortest and the longest secrets, and a few messages under every secret.
CREATE TEMP TABLE signed AS
SELECT kind, id, key, message, algorithm, hmac(message, key, algorithm) AS theirs,
       CASE kind WHEN 'app' THEN keyrot.sign_for_app(id, message, algorithm)
                 ELSE keyrot.sign_for_zone(id, message, algorithm) END AS ours
  FROM secret, message, (VALUES ('sha1'), ('sha256')) AS a (algorithm)
 WHERE id IN ('sig.app.16', 'sig.app.65', 'sig.app.128', 'sig-zone-32', 'sig-zone-48') OR n IN (0, 1, 64, 65);
SELECT kind, algorithm, count(*) AS signatures, count(*) FILTER (WHERE ours = theirs) AS equal,
       count(*) FILTER (WHERE CASE kind WHEN 'app' THEN keyrot.verify_app_signature(id, message, theirs, algorithm)
                                   ELSE keyrot.verify_zone_signature(id, message, theirs, algorithm) END) AS verified,
       min(length(ours)) AS bytes
  FROM signed GROUP BY 1, 2 ORDER BY 1, 2;
-- Any bit changed, in the signature or in the message, and it is refused.
SELECT count(*) AS bits, count(*) FILTER (WHERE verified) AS accepted
  FROM signed, generate_series(0, 159) AS bit,
       LATERAL (SELECT keyrot.verify_app_signature(id, message, set_bit(theirs, bit, 1 - get_bit(theirs, bit)),
                                                   algorithm) AS verified) AS v
 WHERE id = 'sig.app.16' AND length(message) = 64;
SELECT count(*) AS bits, count(*) FILTER (WHERE verified) AS accepted
  FROM signed, generate_series(0, 511) AS bit,
       LATERAL (SELECT keyrot.verify_zone_signature(id, set_bit(message, bit, 1 - get_bit(message, bit)), theirs,
                                                    algorithm) AS verified) AS v
 WHERE id = 'sig-zone-32' AND length(message) = 64;
-- No secret signs for another.
SELECT count(*) AS pairs,
       count(*) FILTER (WHERE keyrot.verify_app_signature(b.id, a.message, a.theirs, a.algorithm)) AS accepted
  FROM signed AS a, secret AS b
 WHERE a.kind = 'app' AND b.id LIKE 'sig.app.1%' AND a.id <> b.id AND length(a.message) = 64 AND a.algorithm = 'sha256';

-- sha256 is the default of all, and all parameters can be named.
SELECT gateway_id FROM keyrot.add_gateway('sig-zone-32', 'gateway');
SELECT a.algorithm,
       keyrot.verify_app_signature(app_key => 'sig.app.16', message => 'm', signature => app,
                                   algorithm => a.algorithm) AS app,
       keyrot.verify_app_string(app_key => 'sig.app.16', string_to_sign => 'm', signature => app_string,
                                algorithm => a.algorithm) AS app_string,
       keyrot.verify_zone_signature(zone_id => 'sig-zone-32', message => 'm', signature => zone,
                                    algorithm => a.algorithm) AS zone,
       keyrot.verify_zone_string(zone_id => 'sig-zone-32', string_to_sign => 'm', signature => zone_string,
                                 algorithm => a.algorithm) AS zone_string,
       keyrot.verify_gateway_signature(zone_id => 'sig-zone-32', gateway_id => 'gateway', message => 'm',
                                       signature => zone, algorithm => a.algorithm) AS gateway,
       keyrot.verify_gateway_string(zone_id => 'sig-zone-32', gateway_id => 'gateway', string_to_sign => 'm',
                                    signature => zone_string, algorithm => a.algorithm) AS gateway_string,
       keyrot.verify_app_signature('sig.app.16', 'm', app) AND keyrot.verify_app_string('sig.app.16', 'm', app_string)
       AND keyrot.verify_zone_signature('sig-zone-32', 'm', zone)
       AND keyrot.verify_zone_string('sig-zone-32', 'm', zone_string)
       AND keyrot.verify_gateway_signature('sig-zone-32', 'gateway', 'm', zone)
       AND keyrot.verify_gateway_string('sig-zone-32', 'gateway', 'm', zone_string) AS verified_by_default,
       app = keyrot.sign_for_app('sig.app.16', 'm') AND app_string = keyrot.sign_string_for_app('sig.app.16', 'm')
       AND zone = keyrot.sign_for_zone('sig-zone-32', 'm')
       AND zone_string = keyrot.sign_string_for_zone('sig-zone-32', 'm') AS signed_by_default
  FROM (VALUES ('sha1'), ('sha256')) AS a (algorithm),
       LATERAL (SELECT keyrot.sign_for_app(app_key => 'sig.app.16', message => 'm', algorithm => a.algorithm),
                       keyrot.sign_string_for_app(app_key => 'sig.app.16', string_to_sign => 'm',
                                                  algorithm => a.algorithm),
                       keyrot.sign_for_zone(zone_id => 'sig-zone-32', message => 'm', algorithm => a.algorithm),
                       keyrot.sign_string_for_zone(zone_id => 'sig-zone-32', string_to_sign => 'm',
                                                   algorithm => a.algorithm)) AS s (app, app_string, zone, zone_string);

-- In a parallel worker, verifying comes to the same, also for what the transaction has just done.
BEGIN;
SELECT keyrot.reset_app_secret('sig.app.16', NULL, 'signature-in-parallel') IS NOT NULL AS done;
SELECT hmac('message', 'signature-in-parallel', 'sha256') AS new, hmac(message, key, 'sha256') AS old, message
  FROM signed WHERE id = 'sig.app.16' LIMIT 1 \gset
SELECT set_config(name, 'on', true) AS forced
  FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
EXPLAIN (COSTS OFF) SELECT keyrot.verify_app_signature('sig.app.16', 'message', :'new');
SELECT keyrot.verify_app_signature('sig.app.16', 'message', :'new') AS new;
SELECT keyrot.verify_app_signature('sig.app.16', :'message', :'old') AS old;
SELECT count(*) > 100 AS seen FROM keyrot.credentials WHERE name = 'Signatures';
ROLLBACK;
