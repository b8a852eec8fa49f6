-- Bad input to verifying and signing.  Verification tells nothing: unknown, malformed, NULL and bad base64
-- are false.  Only an algorithm that is unknown or NULL is an error (22023), whatever else was given.
-- Signing says what is wrong, as the other functions do, and never repeats what is malformed.
\set SHOW_CONTEXT never
SELECT app_key FROM keyrot.create_app('Inputs', 'inputs.signer', 'inputs-signer-secret');
SELECT app_key FROM keyrot.create_app('Inputs', 'inputs.unsigner');
SELECT keyrot.delete_app('inputs.unsigner') IS NOT NULL AS done;
SELECT keyrot.create_zone_key('inputs-signer', test.secret_key(31)) IS NOT NULL AS done;
SELECT gateway_id FROM keyrot.add_gateway('inputs-signer', 'inputs-gateway');
SELECT keyrot.create_zone_key('inputs-other-zone', test.secret_key(31)) IS NOT NULL AS done;
SELECT gateway_id FROM keyrot.add_gateway('inputs-other-zone', 'other-gateway');

-- What is right, for each way to verify: (app_key or zone_id, gateway_id, message, signature, algorithm).
CREATE TEMP TABLE rightly AS
SELECT 'message'::text AS message, hmac('message', 'inputs-signer-secret', 'sha256') AS app_signature,
       hmac('message'::bytea, test.secret_key(31)::bytea, 'sha256') AS zone_signature;
-- One function for all of them, so that each can be called with one thing wrong.
CREATE FUNCTION pg_temp.verified(function text, id text, gateway_id text, message text, signature bytea,
                                 algorithm text DEFAULT 'sha256') RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT CASE function
        WHEN 'verify_app_signature' THEN keyrot.verify_app_signature(id, message::bytea, signature, algorithm)
        WHEN 'verify_app_string' THEN keyrot.verify_app_string(id, message, encode(signature, 'base64'), algorithm)
        WHEN 'verify_zone_signature' THEN keyrot.verify_zone_signature(id, message::bytea, signature, algorithm)
        WHEN 'verify_zone_string' THEN keyrot.verify_zone_string(id, message, encode(signature, 'base64'), algorithm)
        WHEN 'verify_gateway_signature' THEN
            keyrot.verify_gateway_signature(id, gateway_id, message::bytea, signature, algorithm)
        WHEN 'verify_gateway_string' THEN
            keyrot.verify_gateway_string(id, gateway_id, message, encode(signature, 'base64'), algorithm)
    END $$;
CREATE TEMP TABLE way AS
SELECT function, id, 'inputs-gateway'::text AS gateway_id, message,
       CASE WHEN id LIKE '%.%' THEN app_signature ELSE zone_signature END AS signature
  FROM rightly, (VALUES ('verify_app_signature', 'inputs.signer'), ('verify_app_string', 'inputs.signer'),
                        ('verify_zone_signature', 'inputs-signer'), ('verify_zone_string', 'inputs-signer'),
                        ('verify_gateway_signature', 'inputs-signer'), ('verify_gateway_string', 'inputs-signer'))
       AS v (function, id);
-- All right; then each with one thing wrong, which is false and not an error.
SELECT function, pg_temp.verified(function, id, gateway_id, message, signature) AS verified FROM way ORDER BY 1;
SELECT function, count(*) AS ids, count(verified) AS answers, bool_or(verified) AS any_verified
  FROM way, LATERAL (SELECT pg_temp.verified(function, wrong, gateway_id, message, signature) AS verified
                       FROM (VALUES (NULL), (''), ('x'), ('unknown'), ('inputs.unsigner'), (upper(id)), (id || ' '),
                                    (' ' || id), (id || E'\n'), (id || chr(233)), (repeat('0123456789abcdef', 4)),
                                    (repeat('x', 129)), (repeat('x', 1048576))) AS v (wrong)) AS w
 GROUP BY 1 ORDER BY 1;
SELECT function, count(*) AS gateways, count(verified) AS answers, bool_or(verified) AS any_verified
  FROM way, LATERAL (SELECT pg_temp.verified(function, id, wrong, message, signature) AS verified
                       FROM (VALUES (NULL), (''), ('unknown'), ('other-gateway'), ('INPUTS-GATEWAY'),
                                    ('inputs-gateway '), ('inputs.gateway'), (repeat('x', 65)),
                                    (repeat('x', 1048576))) AS v (wrong)) AS w
 WHERE function LIKE '%gateway%' GROUP BY 1 ORDER BY 1;
SELECT function, count(*) AS signatures, count(verified) AS answers, bool_or(verified) AS any_verified
  FROM way, LATERAL (SELECT pg_temp.verified(function, id, gateway_id, message, wrong) AS verified
                       FROM (VALUES (NULL), (''), ('\x00'::bytea), (substr(signature, 1, 31)),
                                    (substr(signature, 1, 20)), (signature || '\x00'), (signature || signature),
                                    (decode(repeat('00', 32), 'hex')),
                                    (set_bit(signature, 0, 1 - get_bit(signature, 0))),
                                    (set_bit(signature, 255, 1 - get_bit(signature, 255))),
                                    (decode(repeat('00', 1048576), 'hex'))) AS v (wrong)) AS w
 GROUP BY 1 ORDER BY 1;
SELECT function, count(*) AS messages, count(verified) AS answers, bool_or(verified) AS any_verified
  FROM way, LATERAL (SELECT pg_temp.verified(function, id, gateway_id, wrong, signature) AS verified
                       FROM (VALUES (NULL), (''), ('Message'), ('message '),
                                    (repeat('message', 1000000))) AS v (wrong)) AS w
 GROUP BY 1 ORDER BY 1;
-- A signature of the other algorithm is none.
SELECT function, pg_temp.verified(function, id, gateway_id, message, signature, 'sha1') AS verified FROM way ORDER BY 1;
-- Base64 that only another decoder would take; of a message whose signatures have "+" or "/" in it.
SELECT what, keyrot.verify_app_string('inputs.signer', text, signature) AS app,
       keyrot.verify_zone_string('inputs-signer', text, zone_signature) AS zone,
       keyrot.verify_gateway_string('inputs-signer', 'inputs-gateway', text, zone_signature) AS gateway
  FROM (SELECT * FROM generate_series(1, 100) AS n, LATERAL (
            SELECT n::text AS text, encode(hmac(n::text, 'inputs-signer-secret', 'sha256'), 'base64') AS a,
                   encode(hmac(n::text::bytea, test.secret_key(31)::bytea, 'sha256'), 'base64') AS z) AS s
         WHERE a ~ '[+/]' AND z ~ '[+/]' ORDER BY n LIMIT 1) AS s,
       LATERAL (VALUES
           ('canonical', a, z),
           ('without padding', rtrim(a, '='), rtrim(z, '=')),
           ('more padding', a || '=', z || '='),
           ('padding again', a || '====', z || '===='),
           ('newline at the end', a || E'\n', z || E'\n'),
           ('blank at the start', ' ' || a, ' ' || z),
           ('blank inside', left(a, 20) || ' ' || right(a, 24), left(z, 20) || ' ' || right(z, 24)),
           ('URL alphabet', translate(a, '+/', '-_'), translate(z, '+/', '-_')),
           ('bits after the last byte', overlay(a PLACING chr(ascii(substr(a, 43, 1)) + 1) FROM 43 FOR 1),
            overlay(z PLACING chr(ascii(substr(z, 43, 1)) + 1) FROM 43 FOR 1)),
           ('hex', encode(decode(a, 'base64'), 'hex'), encode(decode(z, 'base64'), 'hex')),
           ('no base64', '!', '!'),
           ('only padding', '====', '===='),
           ('a letter outside ASCII', left(a, 43) || chr(233), left(z, 43) || chr(233)),
           ('empty', '', ''),
           ('NULL', NULL, NULL)) AS v (what, signature, zone_signature);
-- The one error of verifying, whatever the identifier, the message and the signature.
SELECT function, count(*) AS algorithms, string_agg(DISTINCT state, ', ') AS states
  FROM way, (VALUES ('NULL'), (''''''), ('''SHA256'''), ('''Sha1'''), ('''sha-256'''), ('''sha256 '''), ('''sha512'''),
                    ('''md5'''), ('repeat(''sha256'', 100000)')) AS v (wrong),
       (VALUES ('NULL'), (quote_literal('unknown')), ('id')) AS i (id),
       LATERAL (SELECT test.state_of(format('SELECT pg_temp.verified(%L, %s, %L, %s, %L, %s)', function,
                    CASE i.id WHEN 'id' THEN quote_literal(way.id) ELSE i.id END, gateway_id,
                    CASE i.id WHEN 'NULL' THEN 'NULL' ELSE quote_literal(message) END, signature, wrong)) AS state) AS s
 GROUP BY 1 ORDER BY 1;
SELECT state, message, detail, hint, context LIKE '%keyrot request%' AS is_request
  FROM test.try('verify_app_string', $$'inputs.signer', 'message', NULL, 'md5'$$, NULL);

-- The same of tokens and of what tells the reason: every wrong identifier, signature and token is an answer.
SELECT function, count(*) AS calls, count(valid) AS answers, bool_or(valid) AS any_valid, string_agg(DISTINCT reason, ', ') AS reasons
  FROM (VALUES (NULL), (''), ('x'), ('unknown'), ('inputs-none'), ('INPUTS-SIGNER'), ('inputs-signer '), (' inputs-signer'),
               (E'inputs-signer\n'), (repeat('0123456789abcdef', 4)), (repeat('x', 65)), (repeat('x', 129)),
               (repeat('x', 1048576))) AS i (wrong),
       LATERAL (SELECT 'check_app_string', * FROM keyrot.check_app_string(wrong, 'message', repeat('A', 43) || '=')
                UNION ALL SELECT 'check_zone_string', * FROM keyrot.check_zone_string(wrong, 'message', repeat('A', 43) || '=')
                UNION ALL SELECT 'check_gateway_string', * FROM keyrot.check_gateway_string(wrong, wrong, 'message', repeat('A', 43) || '=')
                UNION ALL SELECT 'check_gateway_token', valid, reason, version, previous
                            FROM keyrot.check_gateway_token(wrong, wrong, keyrot.sign_token_for_zone('inputs-signer', '{}'))
                UNION ALL SELECT 'check_gateway_token, gateway', valid, reason, version, previous
                            FROM keyrot.check_gateway_token('inputs-signer', wrong, keyrot.sign_token_for_zone('inputs-signer', '{}'))
                UNION ALL SELECT 'check_gateway_token, token', valid, reason, version, previous
                            FROM keyrot.check_gateway_token('inputs-signer', 'inputs-gateway', wrong)
                UNION ALL SELECT 'verify_gateway_token', keyrot.verify_gateway_token(wrong, wrong, wrong), NULL, NULL, NULL)
       AS c (function, valid, reason, version, previous) GROUP BY 1 ORDER BY 1;

-- Signing.
CREATE TEMP TABLE bad_input (number serial, function text, parameter text, arguments text, expected text, value text);
INSERT INTO bad_input (function, parameter, arguments, expected, value)
SELECT function, parameter, replace(arguments, 'ID', quote_literal(id)), expected, value
  FROM (VALUES ('sign_for_app', 'app_key', 'inputs.signer', 'inputs.unsigner', 'message'),
               ('sign_string_for_app', 'app_key', 'inputs.signer', 'inputs.unsigner', 'string_to_sign'),
               ('sign_for_zone', 'zone_id', 'inputs-signer', 'inputs-unknown', 'message'),
               ('sign_string_for_zone', 'zone_id', 'inputs-signer', 'inputs-unknown', 'string_to_sign'),
               ('sign_string_with_all_for_app', 'app_key', 'inputs.signer', 'inputs.unsigner', 'string_to_sign'),
               ('sign_string_with_all_for_zone', 'zone_id', 'inputs-signer', 'inputs-unknown', 'string_to_sign'))
       AS f (function, id_name, id, retired, message_name),
       LATERAL (VALUES
           (id_name, $$NULL, ''$$, '22004', NULL),
           (id_name, $$'', ''$$, '22023', NULL),
           (id_name, $$' ' || ID, ''$$, '22023', NULL),
           (id_name, $$ID || E'\n', ''$$, '22023', NULL),
           (id_name, $$$1, ''$$, '22023', test.secret_key(1)),
           (id_name, $$$1, ''$$, '22023', 'inputs!secret/inputs'),
           (id_name, format('%L, %L', retired, ''), 'P0002', NULL),
           (id_name, $$upper(ID), ''$$, 'P0002', NULL),
           (message_name, $$ID, NULL$$, '22004', NULL),
           ('algorithm', $$ID, '', NULL$$, '22023', NULL),
           ('algorithm', $$ID, '', ''$$, '22023', NULL),
           ('algorithm', $$ID, '', 'SHA256'$$, '22023', NULL),
           ('algorithm', $$ID, '', $1$$, '22023', 'inputs!secret/inputs'),
           (id_name, $$ID, 'message'$$, 'ok', NULL)) AS v (parameter, arguments, expected, value);
-- Tokens: zone_id as in signing strings; claims are a JSON object, and not too long.
INSERT INTO bad_input (function, parameter, arguments, expected, value)
SELECT 'sign_token_for_zone', parameter, arguments, expected, value FROM (VALUES
    ('zone_id', $$NULL, '{}'$$, '22004', NULL), ('zone_id', $$'', '{}'$$, '22023', NULL),
    ('zone_id', $$' inputs-signer', '{}'$$, '22023', NULL), ('zone_id', $$E'inputs-signer\n', '{}'$$, '22023', NULL),
    ('zone_id', $$$1, '{}'$$, '22023', test.secret_key(1)), ('zone_id', $$'inputs-unknown', '{}'$$, 'P0002', NULL),
    ('zone_id', $$'INPUTS-SIGNER', '{}'$$, 'P0002', NULL), ('zone_id', $$repeat('x', 65), '{}'$$, '22023', NULL),
    ('claims', $$'inputs-signer', NULL$$, '22004', NULL), ('claims', $$'inputs-signer', '[]'$$, '22023', NULL),
    ('claims', $$'inputs-signer', '[{}]'$$, '22023', NULL), ('claims', $$'inputs-signer', 'null'$$, '22023', NULL),
    ('claims', $$'inputs-signer', '1'$$, '22023', NULL), ('claims', $$'inputs-signer', 'true'$$, '22023', NULL),
    ('claims', $$'inputs-signer', '"{}"'$$, '22023', NULL),
    ('claims', $$'inputs-signer', to_jsonb($1)$$, '22023', 'inputs!secret/inputs'),
    ('claims', $$'inputs-signer', jsonb_build_object('a', repeat($1, 400))$$, '22023', 'inputs!secret/inputs'),
    ('claims', $$'inputs-signer', '{"exp": "soon"}'$$, 'ok', NULL)) AS v (parameter, arguments, expected, value);
SELECT test.stored() AS before \gset
CREATE TEMP TABLE judged AS
SELECT b.*, o.outcome,
       test.judge(o.outcome, function, parameter, value, expected, :'before', value IS NOT NULL) AS verdict
  FROM bad_input AS b, LATERAL (SELECT test.try(function, arguments, value) AS outcome) AS o;
SELECT function, count(*) AS cases,
       string_agg(arguments || ': ' || verdict, E'\n') FILTER (WHERE verdict <> 'as promised') AS wrong
  FROM judged GROUP BY 1 ORDER BY 1;
SELECT arguments, expected FROM judged WHERE function = 'sign_for_app' ORDER BY number;
\pset format unaligned
SELECT DISTINCT (outcome).state, (outcome).message, (outcome).hint
  FROM judged WHERE (outcome).state <> 'ok' ORDER BY 1, 2;
\pset format aligned
SELECT length(keyrot.sign_for_app('inputs.signer', repeat('message', 10000000)::bytea)) AS of_70_million_bytes;
SELECT test.stored() = :'before' AS nothing_changed;
