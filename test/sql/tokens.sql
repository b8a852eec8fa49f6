-- Tokens: JWTs by HS256 under a zone's key.  Whatever is in one, the answer is true or false, never an error; and a
-- token that is not one by the letter of the RFCs is malformed, however it was signed.
\set SHOW_CONTEXT never
SELECT keyrot.create_zone_key('token-zone', test.secret_key(1)) IS NOT NULL AS done;
SELECT keyrot.create_zone_key('token-other', test.secret_key(2)) IS NOT NULL AS done;
SELECT gateway_id FROM keyrot.add_gateway('token-zone', 'gate');

-- Tokens as others make them: pgcrypto signs any header and payload, also ones that are no JSON.
CREATE FUNCTION test.base64url(bytes bytea) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT translate(encode(bytes, 'base64'), E'+/=\n', '-_') $$;
CREATE FUNCTION test.signed(compact text, secret_key text DEFAULT test.secret_key(1)) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT compact || '.' || test.base64url(public.hmac(compact, secret_key, 'sha256')) $$;
CREATE FUNCTION test.token(header bytea, payload bytea, secret_key text DEFAULT test.secret_key(1)) RETURNS text
    LANGUAGE sql IMMUTABLE AS
$$ SELECT test.signed(test.base64url(header) || '.' || test.base64url(payload), secret_key) $$;
\set header {"alg":"HS256","typ":"JWT"}

-- What a client sends, and what comes of it.
SELECT test.token(:'header', '{"deviceName":"device-1","exp":4102444800}') AS token \gset
SELECT :'token' AS token;
SELECT keyrot.verify_gateway_token('token-zone', 'gate', :'token') AS verified;
SELECT keyrot.verify_gateway_token(zone_id => 'token-zone', gateway_id => 'gate', token => :'token') AS by_name;
SELECT * FROM keyrot.check_gateway_token('token-zone', 'gate', :'token');
SELECT who, keyrot.verify_gateway_token(zone_id, gateway_id, token) AS verified, c.*
  FROM (VALUES ('another gateway', 'token-zone', 'gate-2', :'token'),
               ('the gateway of another zone', 'token-other', 'gate', :'token'),
               ('another key', 'token-zone', 'gate', test.token(:'header', '{}', test.secret_key(2))),
               ('an unknown zone', 'token-none', 'gate', :'token'),
               ('a malformed zone', '-', 'gate', :'token'), ('a malformed gateway', 'token-zone', '-', :'token'),
               ('no zone', NULL, 'gate', :'token'), ('no gateway', 'token-zone', NULL, :'token'),
               ('no token', 'token-zone', 'gate', NULL)) AS v (who, zone_id, gateway_id, token),
       LATERAL keyrot.check_gateway_token(zone_id, gateway_id, token) AS c;
-- A key is its text, for tokens as for strings.
SELECT c.reason FROM test.base64url(hmac(convert_to(regexp_replace(:'token', '\.[^.]*$', ''), 'UTF8'),
                                         decode(test.secret_key(1), 'base64'), 'sha256')) AS mac,
       LATERAL keyrot.check_gateway_token('token-zone', 'gate', regexp_replace(:'token', '[^.]*$', mac)) AS c;

-- The three parts, and their base64url.
CREATE TEMP TABLE form (number serial, what text, token text);
INSERT INTO form (what, token) VALUES
    ('', ''), ('one dot', '.'), ('two dots', '..'), ('three dots', '...'),
    ('two parts', regexp_replace(:'token', '\.[^.]*$', '')), ('no signature', regexp_replace(:'token', '[^.]*$', '')),
    ('a fourth part', :'token' || '.'), ('five parts', :'token' || '.a.b'), ('no header', regexp_replace(:'token', '^[^.]*', '')),
    ('no payload', test.signed(split_part(:'token', '.', 1) || '.')),
    ('a blank before', ' ' || :'token'), ('a blank behind', :'token' || ' '), ('a newline behind', :'token' || E'\n'),
    ('a blank within', overlay(:'token' PLACING ' ' FROM 5 FOR 0)), ('padded', :'token' || '='),
    ('a longer signature', :'token' || 'AA'), ('a shorter signature', left(:'token', -1)),
    ('padded and signed', test.signed(split_part(:'token', '.', 1) || '=.' || split_part(:'token', '.', 2))),
    ('a newline, signed', test.signed(split_part(:'token', '.', 1) || E'\n.' || split_part(:'token', '.', 2))),
    ('"Bearer" before', 'Bearer ' || :'token'), ('not ASCII', 'é' || :'token'),
    ('the alphabet of base64', test.signed(encode('{"alg":"HS256","x":"?>?>"}', 'base64') || '.e30')),
    ('the same in base64url', test.token('{"alg":"HS256","x":"?>?>"}', '{}')),
    ('stray bits, signed', test.signed('eyJhbGciOiJIUzI1NiJ9.e31')),
    ('the same without', test.signed('eyJhbGciOiJIUzI1NiJ9.e30'));
SELECT what, keyrot.verify_gateway_token('token-zone', 'gate', token) AS verified, c.reason, c.claims IS NOT NULL AS claims
  FROM form, LATERAL keyrot.check_gateway_token('token-zone', 'gate', token) AS c ORDER BY number;
-- A signature's last character has four bits of it and two that must be zero.
SELECT count(*) FILTER (WHERE c.reason = 'ok') AS ok, count(*) FILTER (WHERE c.reason = 'malformed') AS malformed,
       count(*) FILTER (WHERE c.reason = 'mismatch') AS mismatch
  FROM regexp_split_to_table('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_', '') AS digit,
       LATERAL keyrot.check_gateway_token('token-zone', 'gate', left(:'token', -1) || digit) AS c;
-- Any other character anywhere, and it is refused.
SELECT count(*) AS changed, count(*) FILTER (WHERE keyrot.verify_gateway_token('token-zone', 'gate', changed)) AS verified
  FROM generate_series(1, length(:'token')) AS at, unnest(ARRAY['A', 'z', '_', '.', '=', ' ']) AS character,
       LATERAL overlay(:'token' PLACING character FROM at FOR 1) AS changed WHERE changed <> :'token';
-- 8192 bytes at most, however they are signed.
SELECT length(token) AS bytes, keyrot.verify_gateway_token('token-zone', 'gate', token) AS verified,
       c.reason, length(c.claims ->> 'x') AS length_of_claim
  FROM (VALUES (6074), (6075), (6076), (100000)) AS v (n),
       LATERAL test.token(:'header', convert_to('{"x":"' || repeat('x', n) || '"}', 'UTF8')) AS token,
       LATERAL keyrot.check_gateway_token('token-zone', 'gate', token) AS c;

-- The header: HS256 and nothing else, each name once, nothing critical.
CREATE TEMP TABLE header (number serial, expected text, header text);
INSERT INTO header (expected, header) VALUES
    ('ok', '{"alg":"HS256"}'), ('ok', E'{"typ":"JWT",\r\n "alg":"HS256"}'), ('ok', '{"alg":"HS256","typ":"at+jwt"}'),
    ('ok', ' { "typ" : 1 , "alg" : "HS256" } '), ('ok', '{"al\u0067":"HS\u003256"}'),
    ('ok', '{"alg":"HS256","kid":"\u00e9\ud83d\ude00é"}'), ('ok', '{"jwk":{"alg":"none","crit":[]},"alg":"HS256"}'),
    ('ok', '{"x":[{"alg":"none"}],"alg":"HS256"}'), ('ok', '{"alg":"HS256","ALG":"none","b64":false,"zip":"DEF"}'),
    ('malformed', '{"alg":"none"}'), ('malformed', '{"alg":"None"}'), ('malformed', '{"alg":"RS256"}'),
    ('malformed', '{"alg":"HS512"}'), ('malformed', '{"alg":"ES256"}'), ('malformed', '{"alg":"hs256"}'),
    ('malformed', '{"alg":"HS256 "}'), ('malformed', '{"alg":"HS2567"}'), ('malformed', '{"alg":""}'),
    ('malformed', '{"alg":null}'), ('malformed', '{"alg":256}'), ('malformed', '{"alg":["HS256"]}'),
    ('malformed', '{"alg":{"alg":"HS256"}}'), ('malformed', '{"typ":"JWT"}'), ('malformed', '{"ALG":"HS256"}'), ('malformed', '{}'),
    ('malformed', '{"alg":"HS256","crit":["exp"]}'), ('malformed', '{"crit":[],"alg":"HS256"}'),
    ('malformed', '{"crit":null,"alg":"HS256"}'), ('malformed', '{"cri\u0074":[],"alg":"HS256"}'),
    ('malformed', '{"alg":"HS256","alg":"HS256"}'), ('malformed', '{"alg":"none","al\u0067":"HS256"}'),
    ('malformed', '{"alg":"HS256","kid":1,"typ":2,"kid":1}'), ('malformed', '{"":1,"alg":"HS256","":2}'),
    ('malformed', '[]'), ('malformed', '["alg","HS256"]'), ('malformed', '"HS256"'), ('malformed', 'null'), ('malformed', '1'),
    ('malformed', '[{"alg":"HS256"}]'), ('malformed', 'HS256'), ('malformed', '{alg:"HS256"}'), ('malformed', '{''alg'':''HS256''}'),
    ('malformed', '{"alg":"HS256"'), ('malformed', '{"alg":"HS256"}}'), ('malformed', '{"alg":"HS256"}{}'),
    ('malformed', '{"alg":"HS256",}'), ('malformed', '{"alg":"HS256"/**/}'), ('malformed', U&'\FEFF{"alg":"HS256"}'),
    ('malformed', '{"alg":"HS256","x":"\u0000"}'), ('malformed', '{"alg":"HS256","x":"\ud800"}'),
    ('malformed', '{"alg":"HS256","x":"\q"}'), ('malformed', '{"alg":"HS256","x":"\u00g0"}'),
    ('malformed', E'{"alg":"HS256","x":"\n"}'), ('malformed', '{"alg":"HS256","x":1e1000000}'),
    ('malformed', '{"alg":"HS256","x":' || repeat('[', 200) || repeat(']', 200) || '}');
SELECT expected, count(*) AS headers, string_agg(header || ': ' || c.reason, E'\n' ORDER BY number)
                                      FILTER (WHERE c.reason <> expected OR v <> (expected = 'ok')) AS wrong
  FROM header, LATERAL test.token(convert_to(header, 'UTF8'), '{}') AS token,
       LATERAL keyrot.check_gateway_token('token-zone', 'gate', token) AS c,
       LATERAL keyrot.verify_gateway_token('token-zone', 'gate', token) AS v GROUP BY 1 ORDER BY 1;

-- The claims: a JSON object that jsonb can hold here, exp and nbf at most once, and numbers.
CREATE TEMP TABLE written (number serial, expected text, payload text);
INSERT INTO written (expected, payload) VALUES
    ('ok', '{}'), ('ok', ' { } '), ('ok', '{"exp":4102444800}'), ('ok', '{"exp":4.1024448e9,"nbf":0}'),
    ('ok', '{"exp":41024448000e-1,"nbf":-0}'), ('ok', '{"exp":4102444800.000001}'), ('ok', '{"exp":1e131071}'),
    ('ok', '{"exp":9.9E+1000,"nbf":-1E1000}'), ('ok', '{"nbf":1e-16383}'), ('ok', '{"nbf":-1e131071}'),
    ('ok', '{"nbf":1700000000.5}'), ('ok', '{"a":{"exp":"x","nbf":[]}}'), ('ok', '{"EXP":"x","exp ":null}'),
    ('ok', '{"a":1,"a":"2"}'), ('ok', '{"":"","\u0001":"\u001f\u007f\u0080"}'), ('ok', '{"a":"\\u0000 \\\" \/"}'),
    ('ok', '{"é":"\u00e9","\ud83d\ude00":"😀"}'), ('ok', '{"a":"\ud7ff\ue000\uffff\udbff\udfff"}'),
    ('ok', '{"e\u0078p":4102444800}'), ('ok', '{"a":0e1073741822,"b":0e-16383,"c":-0.0}'),
    ('ok', '{"a":' || repeat('[', 99) || repeat(']', 99) || '}'),
    ('ok', '{"a":"' || repeat('[{', 1000) || '"}'),
    ('token expired', '{"exp":0}'), ('token expired', '{"exp":-1}'), ('token expired', '{"exp":1700000000}'),
    ('token expired', '{"exp":-1e131071}'), ('token expired', '{"exp":1e-16383}'), ('token expired', '{"exp":1.7e9,"nbf":4e9}'),
    ('token expired', '{"e\u0078p":1}'), ('token expired', '{"exp":0e5}'),
    ('token not yet valid', '{"nbf":4102444800}'), ('token not yet valid', '{"nbf":1e131071}'),
    ('token not yet valid', '{"exp":5e9,"nbf":4e9}'), ('token not yet valid', '{"n\u0062f":41.024448e8}');
INSERT INTO written (expected, payload)
SELECT 'malformed', payload FROM (VALUES
    ('{"exp":"4102444800"}'), ('{"exp":null}'), ('{"exp":true}'), ('{"exp":[4102444800]}'), ('{"exp":{}}'), ('{"exp":[]}'),
    ('{"nbf":"0"}'), ('{"nbf":null}'), ('{"nbf":false}'), ('{"nbf":{"a":1}}'),
    ('{"exp":4102444800,"exp":4102444800}'), ('{"exp":1,"e\u0078p":4102444800}'), ('{"nbf":0,"a":1,"nbf":0}'),
    ('{"exp":{"a":1},"exp":4102444800}'),
    ('{"exp":1e131072}'), ('{"exp":1e999999999999999999999}'), ('{"nbf":1e-16384}'), ('{"nbf":-1e131072}'),
    ('{"exp":0e1073741823}'), ('{"a":1e131072}'), ('{"a":[1e-16384]}'), ('{"a":{"b":1e9999999}}'), ('{"a":0e-99999}'),
    ('{"exp":04102444800}'), ('{"exp":+4102444800}'), ('{"exp":4102444800.}'), ('{"exp":.5e10}'), ('{"exp":0x7fffffff}'),
    ('{"exp":4e}'), ('{"exp":NaN}'), ('{"exp":Infinity}'), ('{"exp":4_102_444_800}'),
    ('{"a":"\u0000"}'), ('{"\u0000":1}'), ('{"a":"\ud800"}'), ('{"a":"\ud800x"}'), ('{"a":"\ud800\n"}'),
    ('{"a":"\ud800\ud800"}'), ('{"a":"\udc00"}'), ('{"a":"\udfff\ud800"}'), ('{"a":"\u00"}'), ('{"a":"\u 0e9"}'), ('{"a":"\'),
    ('{"a":"\u'), ('{"a":"\ud83d\ude0'), ('{\u0022a":1}'), ('\u007b}'),
    ('\x7b2261223a22ff227d'), ('\x7b2261223a22c0af227d'), ('\x7b2261223a22eda080227d'), ('\x7b2261223a22e9227d'),
    ('\x7b2261223a22f4908080227d'), ('\x7b2261223a2200227d'), ('\x7b7d00'), ('\xefbbbf7b7d'), ('\xff'), ('\xe2'),
    ('[]'), ('[{}]'), ('"exp"'), ('1'), ('null'), ('true'), (''), (' '), ('{'), ('}'), ('{]'), ('{"a"}'), ('{"a":}'), ('{"a":1,}'),
    ('{,}'), ('{"a":1}x'), ('{} {}'), ('{a:1}'), ('{"a":''x''}'), ('{"a":tru}'), ('{"a":1 2}'), (E'{"a":"\t"}'), ('{"a":"\x41"}'),
    ('{"a":' || repeat('[', 100) || repeat(']', 100) || '}'), (repeat('[', 6000)),
    (repeat('{"a":', 1200)), (repeat('{"":', 1000) || '1' || repeat('}', 1000)),
    ('{"a":"\"[[[","b":' || repeat('{"c":', 100) || '1' || repeat('}', 101))) AS v (payload);
-- Those that are no UTF-8 are written in hexadecimal.
CREATE TEMP TABLE payload AS
SELECT number, expected, CASE WHEN payload LIKE '\\x%' THEN payload::bytea ELSE convert_to(payload, 'UTF8') END AS payload
  FROM written;
SELECT expected, count(*) AS payloads,
       string_agg(encode(payload, 'escape') || ': ' || c.reason, E'\n' ORDER BY number)
       FILTER (WHERE c.reason <> expected OR v <> (expected = 'ok') OR (c.claims IS NULL) <> (expected = 'malformed')) AS wrong
  FROM payload, LATERAL test.token(:'header', payload) AS token,
       LATERAL keyrot.check_gateway_token('token-zone', 'gate', token) AS c,
       LATERAL keyrot.verify_gateway_token('token-zone', 'gate', token) AS v GROUP BY 1 ORDER BY 1;
-- The claims come as jsonb makes them of the same text.
SELECT count(*) AS compared, count(*) FILTER (WHERE c.claims = convert_from(payload, 'UTF8')::jsonb) AS equal
  FROM payload, LATERAL keyrot.check_gateway_token('token-zone', 'gate', test.token(:'header', payload)) AS c
 WHERE expected <> 'malformed';
-- What is signed wrong is a mismatch, whatever its times, and gives no claims.
SELECT expected, count(*) AS payloads, min(c.reason) AS reason, max(c.reason) AS reason, count(c.claims) AS claims, count(c.version) AS versions
  FROM payload, LATERAL keyrot.check_gateway_token('token-zone', 'gate', test.token(:'header', payload, test.secret_key(2))) AS c
 GROUP BY 1 ORDER BY 1;

-- Times are exact: from the microsecond of exp on a token has expired, and from that of nbf on it is valid.
CREATE FUNCTION test.crossed(claim text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    at timestamptz := clock_timestamp() + '50 ms';
    token text := test.token('{"alg":"HS256"}', convert_to(format('{"%s":%s}', claim, extract(epoch FROM at)), 'UTF8'));
    before timestamptz;
    verified boolean;
    earlier int := 0;
    later int := 0;
    wrong int := 0;
BEGIN
    LOOP
        before := clock_timestamp();
        verified := keyrot.verify_gateway_token('token-zone', 'gate', token);
        IF clock_timestamp() < at THEN
            earlier := earlier + 1;
            wrong := wrong + (verified <> (claim = 'exp'))::int;
        ELSIF before >= at THEN
            later := later + 1;
            wrong := wrong + (verified <> (claim = 'nbf'))::int;
        END IF;
        EXIT WHEN later >= 10;
    END LOOP;
    RETURN format('before: %s, after: %s, wrong: %s', earlier > 0, later > 0, wrong);
END $$;
SELECT test.crossed('exp') AS exp, test.crossed('nbf') AS nbf;
-- A token of a version in grace.
SELECT keyrot.modify_zone_key('token-zone', test.secret_key(3), '1 day') IS NOT NULL AS done;
SELECT c.* FROM unnest(ARRAY[test.token(:'header', '{"exp":0}'), :'token', test.token(:'header', '{"nbf":1e10}'),
                             test.token(:'header', '{"exp":1e10}', test.secret_key(3)), test.token(:'header', '{"exp":{}}'),
                             test.token(:'header', '{}', test.secret_key(2))]) WITH ORDINALITY AS t (token, n),
       LATERAL keyrot.check_gateway_token('token-zone', 'gate', token) AS c ORDER BY n;
SELECT keyrot.modify_zone_key('token-zone', test.secret_key(1)) IS NOT NULL AS done;

-- Signing: the header is what the clients send, and what was signed verifies.
SELECT keyrot.sign_token_for_zone('token-zone', '{"exp": 4102444800, "deviceName": "device-1"}') AS signed \gset
SELECT convert_from(decode(rpad(split_part(:'signed', '.', 1), 36, '='), 'base64'), 'UTF8') AS header,
       :'signed' = test.token(:'header', convert_to('{"exp": 4102444800, "deviceName": "device-1"}'::jsonb::text, 'UTF8')) AS as_others_do,
       keyrot.verify_gateway_token('token-zone', 'gate', :'signed') AS verified;
SELECT count(*) AS claims, count(*) FILTER (WHERE c.reason = 'ok' AND c.claims = v.claims) AS come_back
  FROM (VALUES ('{}'::jsonb), ('{"a": null, "b": [true, 1.50, "x"]}'), ('{"é": "😀\u0001"}'), ('{"a": "b.c.d"}'), ('{"a": 1e100}')) AS v (claims),
       LATERAL keyrot.check_gateway_token('token-zone', 'gate', keyrot.sign_token_for_zone(zone_id => 'token-zone', claims => v.claims)) AS c;
-- As long as tokens may be, and one byte longer.
SELECT length(token) AS bytes, keyrot.verify_gateway_token('token-zone', 'gate', token) AS verified
  FROM keyrot.sign_token_for_zone('token-zone', jsonb_build_object('x', repeat('x', 6074))) AS token;
SELECT keyrot.sign_token_for_zone('token-zone', jsonb_build_object('x', repeat('x', 6075)));

-- Thousands of tokens with something wrong in them, each signed well: no error, and both functions say the same.
CREATE FUNCTION test.spoilt(source text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    pieces text[] := ARRAY['{', '}', '[', ']', '"', ',', ':', '\', '\u', '\u0000', '\ud83d', '\ude00', '0', '-', '1e', '99999', '.', 'null', ' ',
                           'é', E'\x01', '"exp":', '"alg":"HS256"', '\"', 'true', '{"a":'];
BEGIN
    FOR i IN 1 .. 1 + (random() * 3)::int LOOP
        source := overlay(source PLACING pieces[1 + (random() * (array_length(pieces, 1) - 1))::int]
                        FROM 1 + (random() * length(source))::int FOR (random() * 3)::int);
    END LOOP;
    RETURN source;
END $$;
SELECT count(*) AS tokens, count(*) FILTER (WHERE c.valid) > 0 AS some_valid,
       count(*) FILTER (WHERE c.reason = 'malformed') > 1000 AS many_malformed,
       count(*) FILTER (WHERE c.valid <> keyrot.verify_gateway_token('token-zone', 'gate', token)) AS differ
  FROM (SELECT test.token(convert_to(CASE WHEN n % 3 = 0 THEN test.spoilt(:'header') ELSE :'header' END, 'UTF8'),
                          convert_to(test.spoilt('{"exp":4102444800,"a":{"b":["\u00e9",1.5e3]},"nbf":0}'), 'UTF8')) AS token
          FROM generate_series(1, 5000) AS n OFFSET 0) AS t,
       LATERAL keyrot.check_gateway_token('token-zone', 'gate', token) AS c;
