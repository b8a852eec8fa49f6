-- Signatures are HMACs as everybody computes them: equal to pgcrypto's for messages and secrets of every length,
-- and to the published vectors.  Verifying accepts them, and only them.
\set SHOW_CONTEXT never

-- RFC 4231 (SHA-256) and RFC 2202 (SHA-1), all test cases.  Their keys have other lengths than a SecretKey's 32
-- to 48 bytes, but HMAC fills a short key up with zeros, and hashes one that is longer than a block: so each
-- is given in a form of 32 bytes that means the same key.
CREATE TEMP TABLE vector (number serial, algorithm text, test_case text, key bytea, message bytea, hmac bytea);
INSERT INTO vector (algorithm, test_case, key, message, hmac)
SELECT algorithm, test_case, decode(key, 'hex'), message, decode(hmac, 'hex') FROM (VALUES
    ('sha256', '1', repeat('0b', 20), 'Hi There'::bytea,
     'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7'),
    ('sha256', '2', encode('Jefe', 'hex'), 'what do ya want for nothing?',
     '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843'),
    ('sha256', '3', repeat('aa', 20), decode(repeat('dd', 50), 'hex'),
     '773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe'),
    ('sha256', '4', '0102030405060708090a0b0c0d0e0f10111213141516171819', decode(repeat('cd', 50), 'hex'),
     '82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b'),
    ('sha256', '5, truncated', repeat('0c', 20), 'Test With Truncation',
     'a3b6167473100ee06e0c796c2955552b'),
    ('sha256', '6', encode(sha256(decode(repeat('aa', 131), 'hex')), 'hex'),
     'Test Using Larger Than Block-Size Key - Hash Key First',
     '60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54'),
    ('sha256', '7', encode(sha256(decode(repeat('aa', 131), 'hex')), 'hex'),
     'This is a test using a larger than block-size key and a larger than block-size data. '
     'The key needs to be hashed before being used by the HMAC algorithm.',
     '9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2'),
    ('sha1', '1', repeat('0b', 20), 'Hi There', 'b617318655057264e28bc0b6fb378c8ef146be00'),
    ('sha1', '2', encode('Jefe', 'hex'), 'what do ya want for nothing?', 'effcdf6ae5eb2fa2d27416d5f184df9c259a7c79'),
    ('sha1', '3', repeat('aa', 20), decode(repeat('dd', 50), 'hex'), '125d7342b9ac11cd91a39af48aa17b4f63f175d3'),
    ('sha1', '4', '0102030405060708090a0b0c0d0e0f10111213141516171819', decode(repeat('cd', 50), 'hex'),
     '4c9007f4026250c6bc8414f9bf50c86c2d7235da'),
    ('sha1', '5', repeat('0c', 20), 'Test With Truncation', '4c1a03424b55e07fe7f27be1d58bb9324a9a5a04'),
    ('sha1', '6', encode(digest(decode(repeat('aa', 80), 'hex'), 'sha1'), 'hex'),
     'Test Using Larger Than Block-Size Key - Hash Key First', 'aa4ae5e15272d00e95705637ce8a3b55ed402112'),
    ('sha1', '7', encode(digest(decode(repeat('aa', 80), 'hex'), 'sha1'), 'hex'),
     'Test Using Larger Than Block-Size Key and Larger Than One Block-Size Data',
     'e8e99d0f45237d786d6bbaa7965c7808bbff1a91')) AS v (algorithm, test_case, key, message, hmac);
SELECT count(*) AS zones
  FROM vector, LATERAL (SELECT key || decode(repeat('00', 32 - length(key)), 'hex') AS filled) AS f,
       LATERAL keyrot.create_zone_key('rfc-' || number, encode(filled, 'base64'));
SELECT algorithm, test_case, substr(keyrot.sign_for_zone(zone, message, algorithm), 1, length(hmac)) = hmac AS signs,
       keyrot.verify_zone_signature(zone, message, hmac, algorithm) AS verifies,
       keyrot.verify_zone_signature(zone, message || '.', hmac, algorithm) AS another_message,
       keyrot.verify_zone_signature(zone, message, hmac, CASE algorithm WHEN 'sha1' THEN 'sha256' ELSE 'sha1' END)
       AS another_hash
  FROM vector, LATERAL (SELECT 'rfc-' || number AS zone) AS z ORDER BY number;

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
SELECT 'zone', 'sig-zone-' || n, keyrot.create_zone_key('sig-zone-' || n, encode(key, 'base64')) IS NOT NULL, key
  FROM generate_series(32, 48) AS n, LATERAL (SELECT gen_random_bytes(n) AS key) AS k;
SELECT kind, count(*) AS secrets, min(length(key)) AS shortest, max(length(key)) AS longest
  FROM secret GROUP BY 1 ORDER BY 1;
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
