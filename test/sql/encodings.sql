-- Strings are signed as UTF-8, whatever the database's encoding, and names are counted in characters: in this
-- database, in one of LATIN1 and in one without an encoding.  Signatures as text are base64, canonical and padded.
\set SHOW_CONTEXT never
SELECT current_database() AS main \gset
SELECT app_key FROM keyrot.create_app('Encodings', 'enc.app', 'encodings-secret-1');
SELECT keyrot.create_zone_key('enc-zone', test.secret_key(1)) IS NOT NULL AS done;
-- Strings: ASCII, of two, three and four bytes a character, empty, with every base64 padding in the HMAC.
CREATE TEMP TABLE string AS
SELECT what, string FROM (VALUES ('empty', ''), ('ASCII', 'GET' || E'\n\n' || '/orders/42?a=b&c=d%20e'),
    ('two bytes', chr(252) || chr(1078)), ('three bytes', chr(8364) || chr(12354)), ('four bytes', chr(128273)),
    ('combining', 'e' || chr(769)),
    ('all of LATIN1', (SELECT string_agg(chr(c), '') FROM generate_series(160, 255) AS c)),
    ('long', repeat(chr(8364) || 'uro ', 100000))) AS v (what, string);
SELECT what, octet_length(string) AS bytes,
       keyrot.sign_string_for_app('enc.app', string, a)
           = encode(hmac(convert_to(string, 'UTF8'), 'encodings-secret-1', a), 'base64') AS app,
       keyrot.sign_string_for_zone('enc-zone', string, a)
           = encode(hmac(convert_to(string, 'UTF8'), test.secret_key(1)::bytea, a), 'base64') AS zone,
       keyrot.verify_app_string('enc.app', string, keyrot.sign_string_for_app('enc.app', string, a), a) AS verified,
       keyrot.verify_app_signature('enc.app', convert_to(string, 'UTF8'),
           decode(keyrot.sign_string_for_app('enc.app', string, a), 'base64'), a) AS verified_as_bytes
  FROM string, (VALUES ('sha1'), ('sha256')) AS a (a) ORDER BY a, bytes, what COLLATE "C";
-- Nothing is normalized: what looks the same may be another string.
SELECT keyrot.sign_string_for_app('enc.app', chr(252))
       = keyrot.sign_string_for_app('enc.app', 'u' || chr(776)) AS same_signature;
-- The same string signed in the other databases has to come to this.
SELECT keyrot.sign_string_for_app('enc.app', string) AS app_signature,
       keyrot.sign_string_for_zone('enc-zone', string, 'sha1') AS zone_signature
  FROM string WHERE what = 'all of LATIN1' \gset
SELECT test.secret_key(1) AS key \gset
-- Tokens, too, are the same everywhere; the key is the same, so that one signed here verifies there.
CREATE FUNCTION test.encoded_token(payload text) RETURNS text LANGUAGE sql AS $$
SELECT compact || '.' || translate(encode(public.hmac(compact, test.secret_key(1), 'sha256'), 'base64'), E'+/=\n', '-_')
  FROM concat('eyJhbGciOiJIUzI1NiJ9.', translate(encode(convert_to(payload, 'UTF8'), 'base64'), E'+/=\n', '-_')) AS compact $$;
SELECT gateway_id FROM keyrot.add_gateway('enc-zone', 'gate');
SELECT test.encoded_token('{"a":"é"}') AS e_acute, test.encoded_token('{"\u00e9":"\u00fc"}') AS escaped,
       test.encoded_token('{"a":"€"}') AS euro, test.encoded_token('{"a":"\ud83d\ude00"}') AS emoji \gset
SELECT what, keyrot.verify_gateway_token('enc-zone', 'gate', token) AS verified, c.reason, convert_to(c.claims::text, 'UTF8') AS claims
  FROM (VALUES (1, 'raw', :'e_acute'), (2, 'escaped', :'escaped'), (3, 'euro', :'euro'), (4, 'emoji', :'emoji')) AS v (n, what, token),
       LATERAL keyrot.check_gateway_token('enc-zone', 'gate', token) AS c ORDER BY n;
SELECT keyrot.sign_token_for_zone('enc-zone', jsonb_build_object(chr(233), chr(252))) AS token_signature \gset

CREATE DATABASE regression_keyrot_latin1 TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C';
\c regression_keyrot_latin1
\set SHOW_CONTEXT never
CREATE EXTENSION keyrot;
SHOW server_encoding;
SELECT app_key FROM keyrot.create_app('Encodings', 'enc.app', 'encodings-secret-1');
SELECT keyrot.create_zone_key('enc-zone', :'key') IS NOT NULL AS done;
CREATE TABLE string AS SELECT string_agg(chr(c), '') AS string FROM generate_series(160, 255) AS c;
SELECT octet_length(string) AS bytes, keyrot.sign_string_for_app('enc.app', string) = :'app_signature' AS app,
       keyrot.sign_string_for_zone('enc-zone', string, 'sha1') = :'zone_signature' AS zone,
       keyrot.verify_app_string('enc.app', string, :'app_signature') AS verified,
       keyrot.verify_app_signature('enc.app', string::bytea, decode(:'app_signature', 'base64')) AS bytes_verified,
       keyrot.verify_app_signature('enc.app', convert_to(string, 'UTF8'),
                                   decode(:'app_signature', 'base64')) AS utf8_verified
  FROM string;
SELECT octet_length(keyrot.sign_string_for_app('enc.app', repeat(string, 20000))) AS of_a_long_one FROM string;
-- Tokens: what LATIN1 has not, jsonb cannot hold here.
SELECT gateway_id FROM keyrot.add_gateway('enc-zone', 'gate');
SELECT what, keyrot.verify_gateway_token('enc-zone', 'gate', token) AS verified, c.reason, convert_to(c.claims::text, 'UTF8') AS claims
  FROM (VALUES (1, 'raw', :'e_acute'), (2, 'escaped', :'escaped'), (3, 'euro', :'euro'), (4, 'emoji', :'emoji')) AS v (n, what, token),
       LATERAL keyrot.check_gateway_token('enc-zone', 'gate', token) AS c ORDER BY n;
SELECT keyrot.sign_token_for_zone('enc-zone', jsonb_build_object(chr(233), chr(252))) = :'token_signature' AS same_token;
-- Names: counted in characters; the C1 controls are controls here, too.
SELECT app_key FROM keyrot.create_app(repeat(chr(233), 128), 'enc.name', description => repeat(chr(233), 1000));
SELECT name = repeat(chr(233), 128) AS same_name, description = repeat(chr(233), 1000) AS same_description
  FROM keyrot.credentials WHERE id = 'enc.name';
SELECT count(*) FROM keyrot.create_app(repeat(chr(233), 129));
SELECT count(*) FROM keyrot.create_app('in' || chr(133) || 'two');
SELECT app_key FROM keyrot.create_app('in' || chr(160) || 'two', 'enc.nbsp');
SELECT app_key FROM keyrot.create_app('x', 'enc.app' || chr(233));
SELECT app_key FROM keyrot.create_app('x', app_secret => repeat(chr(233), 16));

CREATE DATABASE regression_keyrot_ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C';
\c regression_keyrot_ascii
\set SHOW_CONTEXT never
CREATE EXTENSION keyrot;
SHOW server_encoding;
SELECT app_key FROM keyrot.create_app('Encodings', 'enc.app', 'encodings-secret-1');
SELECT keyrot.create_zone_key('enc-zone', :'key') IS NOT NULL AS done;
-- Bytes that are UTF-8 are taken as such; others cannot be written in UTF-8, so that nothing was signed so.
CREATE TABLE string AS SELECT what, convert_from(bytes, 'SQL_ASCII') AS string
  FROM (VALUES ('ASCII', '\x4554'::bytea), ('UTF-8', '\xe282acc3bc'), ('LATIN1', '\xfc'), ('cut off', '\xe282'))
       AS v (what, bytes);
SELECT what, keyrot.verify_app_string('enc.app', string, signature) AS verified,
       CASE WHEN what IN ('ASCII', 'UTF-8') THEN keyrot.sign_string_for_app('enc.app', string) = signature END AS same
  FROM string, LATERAL encode(keyrot.sign_for_app('enc.app', convert_to(string, 'SQL_ASCII')), 'base64') AS signature;
SELECT keyrot.sign_string_for_app('enc.app', string) FROM string WHERE what = 'LATIN1';
SELECT keyrot.sign_string_for_zone('enc-zone', string) FROM string WHERE what = 'cut off';
-- Tokens: claims are the bytes of UTF-8 here, and those that are none are not signed.
SELECT gateway_id FROM keyrot.add_gateway('enc-zone', 'gate');
SELECT what, keyrot.verify_gateway_token('enc-zone', 'gate', token) AS verified, c.reason, c.claims::text::bytea AS claims
  FROM (VALUES (1, 'raw', :'e_acute'), (2, 'escaped', :'escaped'), (3, 'euro', :'euro'), (4, 'emoji', :'emoji')) AS v (n, what, token),
       LATERAL keyrot.check_gateway_token('enc-zone', 'gate', token) AS c ORDER BY n;
SELECT what, keyrot.verify_gateway_token('enc-zone', 'gate', keyrot.sign_token_for_zone('enc-zone', jsonb_build_object('a', string))) AS verified
  FROM string WHERE what IN ('ASCII', 'UTF-8');
SELECT keyrot.sign_token_for_zone('enc-zone', jsonb_build_object('a', string)) FROM string WHERE what = 'LATIN1';

\c :main
DROP DATABASE regression_keyrot_latin1;
DROP DATABASE regression_keyrot_ascii;
