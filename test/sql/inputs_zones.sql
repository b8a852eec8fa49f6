-- Bad input to every function on zones and gateways: its SQLSTATE, a message that names the parameter, the
-- RequestId in the CONTEXT, nothing stored, and no malformed value repeated, since it may be a secret in the
-- wrong place.  Beside each bound stands the value that is still accepted.  test.judge() holds each outcome
-- against this.
\set SHOW_CONTEXT never
SELECT keyrot.create_zone_key('inputs-zone', test.secret_key(21)) IS NOT NULL AS done;
SELECT gateway_id FROM keyrot.add_gateway('inputs-zone', 'inputs-gateway');
SELECT keyrot.create_zone_key('inputs-deleted') IS NOT NULL AS done;
SELECT keyrot.delete_zone_key('inputs-deleted') IS NOT NULL AS done;

-- The forms of each value.
CREATE TEMP TABLE form (kind text, what text, value text, well_formed boolean);
INSERT INTO form
SELECT 'id', what, value, well_formed FROM (VALUES
    ('empty', '', false),
    ('one character', 'z', true),
    ('one digit', '0', true),
    ('64 characters', repeat('zone', 16), true),
    ('65 characters', repeat('zone', 16) || 'z', false),
    ('every mark', 'z_-', true),
    ('64 hex digits', repeat('0123456789abcdef', 4), false),
    ('only a blank', ' ', false),
    ('blank at the start', ' inputs-zone', false),
    ('blank at the end', 'inputs-zone ', false),
    ('blank inside', 'inputs zone', false),
    ('newline at the end', E'inputs-zone\n', false),
    ('first a hyphen', '-inputs-zone', false),
    ('first an underscore', '_inputs-zone', false),
    ('a dot', 'inputs.zone', false),
    ('a slash', 'inputs/zone', false),
    ('a quote', 'inputs''zone', false),
    ('a per cent sign', 'inputs%szone', false),
    ('a letter outside ASCII', 'inputs-' || chr(233), false),
    ('a SecretKey', test.secret_key(1), false),
    ('an AppSecret', 'inputs!secret/inputs', false),
    ('1 MB', repeat('z', 1048576), false)
) AS v (what, value, well_formed);
-- 32 bytes whose base64 uses "+" and "/"; the last character before the padding carries two bits of nothing.
INSERT INTO form
SELECT 'secret_key', what, value, well_formed FROM (VALUES
    ('empty', '', false),
    ('32 bytes', encode(decode(repeat('fb', 32), 'hex'), 'base64'), true),
    ('33 bytes', encode(decode(repeat('fb', 33), 'hex'), 'base64'), true),
    ('34 bytes', encode(decode(repeat('fb', 34), 'hex'), 'base64'), true),
    ('48 bytes', encode(decode(repeat('fb', 48), 'hex'), 'base64'), true),
    ('31 bytes', encode(decode(repeat('fb', 31), 'hex'), 'base64'), false),
    ('49 bytes', replace(encode(decode(repeat('fb', 49), 'hex'), 'base64'), E'\n', ''), false),
    ('all zeros', encode(decode(repeat('00', 32), 'hex'), 'base64'), true),
    ('base64 of the URL alphabet', translate(encode(decode(repeat('fb', 32), 'hex'), 'base64'), '+/', '-_'), false),
    ('without padding', rtrim(test.secret_key(1), '='), false),
    ('too much padding', test.secret_key(1) || '=', false),
    ('four of padding', test.secret_key(1) || '====', false),
    ('padding in the middle', left(test.secret_key(1), 20) || '=' || right(test.secret_key(1), 23), false),
    ('bits after the last byte', overlay(repeat('A', 43) || '=' PLACING 'B' FROM 43 FOR 1), false),
    ('four bits after the last byte', repeat('A', 45) || 'B==', false),
    ('blank at the start', ' ' || test.secret_key(1), false),
    ('blank at the end', test.secret_key(1) || ' ', false),
    ('newline at the end', test.secret_key(1) || E'\n', false),
    ('newline inside', left(test.secret_key(1), 22) || E'\n' || right(test.secret_key(1), 22), false),
    ('four characters of no alphabet', left(test.secret_key(1), 20) || '!!!!' || right(test.secret_key(1), 20), false),
    ('a letter outside ASCII', left(test.secret_key(1), 20) || chr(233) || right(test.secret_key(1), 22), false),
    ('64 hex digits, base64 of 48 bytes by chance', repeat('0123456789abcdef', 4), true),
    ('an AppSecret', 'inputs!secret/inputs', false),
    ('1 MB', repeat('A', 1048576), false)
) AS v (what, value, well_formed);
INSERT INTO form
SELECT 'grace_period', value, value, well_formed FROM (VALUES
    ('0', true), ('1 microsecond', true), ('30 days', true), ('1 month', true), ('-1 day 25 hours', true),
    ('30 days 1 microsecond', false), ('-1 microsecond', false), ('1 day -25 hours', false),
    ('1 month -31 days', false), ('178000000 years', false), ('-178000000 years', false),
    ('2147483647 months 2147483647 days 2562047788 hours', false)
) AS v (value, well_formed);

-- Periods of a policy: above 0, without a part below, and with an end that a timestamptz can hold.
INSERT INTO form (kind, what, value, well_formed)
SELECT 'period', value, value, well_formed FROM (VALUES
    ('1 microsecond', true), ('1 day', true), ('1 month', true), ('100 years', true), ('1000 years', true),
    ('0', false), ('-1 microsecond', false), ('-1 day', false), ('-1 month', false), ('1 month -1 day', false),
    ('1 day -1 microsecond', false), ('-1 month 40 days', false), ('300000 years', false), ('178000000 years', false),
    ('2147483647 days', false), ('2147483647 months 2147483647 days 2562047788 hours', false)
) AS v (value, well_formed);

-- Every place where such a value may come in, and what a well formed one comes to.
CREATE TEMP TABLE place (function text, parameter text, kind text, arguments text, otherwise text);
INSERT INTO place VALUES
    ('create_zone_key', 'zone_id', 'id', '$1', 'ok'),
    ('create_zone_key', 'secret_key', 'secret_key', $$'inputs-new', $1$$, 'ok'),
    ('refresh_zone_key', 'zone_id', 'id', '$1', 'P0002'),
    ('refresh_zone_key', 'grace_period', 'grace_period', $$'inputs-zone', $1::interval$$, 'ok'),
    ('modify_zone_key', 'zone_id', 'id', '$1, test.secret_key(22)', 'P0002'),
    ('modify_zone_key', 'secret_key', 'secret_key', $$'inputs-zone', $1$$, 'ok'),
    ('modify_zone_key', 'grace_period', 'grace_period', $$'inputs-zone', test.secret_key(22), $1::interval$$, 'ok'),
    ('describe_zone_key', 'zone_id', 'id', '$1', 'P0002'),
    ('set_zone_owner', 'zone_id', 'id', '$1, current_user::regrole', 'P0002'),
    ('delete_zone_key', 'zone_id', 'id', '$1', 'P0002'),
    ('end_zone_grace', 'zone_id', 'id', '$1', 'P0002'),
    ('revert_zone_key', 'zone_id', 'id', '$1', 'P0002'),
    ('disable_zone', 'zone_id', 'id', '$1', 'P0002'),
    ('enable_zone', 'zone_id', 'id', '$1', 'P0002'),
    ('set_zone_policy', 'zone_id', 'id', '$1', 'P0002'),
    ('set_zone_policy', 'rotate_after', 'period', $$'inputs-zone', rotate_after => $1::interval$$, 'ok'),
    ('set_zone_policy', 'lifetime', 'period', $$'inputs-zone', lifetime => $1::interval$$, 'ok'),
    ('set_zone_policy', 'grace_period', 'grace_period', $$'inputs-zone', grace_period => $1::interval$$, 'ok'),
    ('add_gateway', 'zone_id', 'id', $$$1, 'inputs-gateway'$$, 'P0002'),
    ('add_gateway', 'gateway_id', 'id', $$'inputs-zone', $1$$, 'ok'),
    ('remove_gateway', 'zone_id', 'id', $$$1, 'inputs-gateway'$$, 'P0002'),
    ('remove_gateway', 'gateway_id', 'id', $$'inputs-zone', $1$$, 'P0002');
SELECT test.stored() AS before \gset
CREATE TEMP TABLE judged AS
SELECT p.*, f.what, o.outcome,
       test.judge(o.outcome, function, parameter, value, CASE WHEN well_formed THEN otherwise ELSE '22023' END,
                  :'before', NOT well_formed AND length(value) > 3) AS verdict
  FROM place AS p JOIN form AS f USING (kind),
       LATERAL (SELECT test.try(function, arguments, value) AS outcome) AS o;
SELECT kind, well_formed, count(*) FROM form GROUP BY 1, 2 ORDER BY 1, 2;
SELECT function, parameter, count(*) AS cases,
       string_agg(what || ': ' || verdict, E'\n') FILTER (WHERE verdict <> 'as promised') AS wrong
  FROM judged GROUP BY function, parameter ORDER BY function, parameter;
\pset format unaligned
SELECT DISTINCT parameter, (outcome).message FROM judged WHERE (outcome).state = '22023' ORDER BY 1, 2;
\pset format aligned

-- What is required and NULL; keys and gateways that are there already; zones, gateways and roles that are not.
CREATE TEMP TABLE bad_input (number serial, function text, parameter text, arguments text, expected text, value text);
INSERT INTO bad_input (function, parameter, arguments, expected, value) VALUES
    ('create_zone_key', 'zone_id', 'NULL', '22004', NULL),
    ('create_zone_key', 'zone', $$'inputs-zone'$$, '23505', NULL),
    ('create_zone_key', 'zone', $$'inputs-zone', $1$$, '23505', test.secret_key(23)),
    ('create_zone_key', 'zone', $$'inputs-zone', $1$$, '23505', test.secret_key(21)),
    ('refresh_zone_key', 'zone_id', 'NULL', '22004', NULL),
    ('refresh_zone_key', 'grace_period', $$'inputs-zone', NULL$$, '22004', NULL),
    ('refresh_zone_key', 'zone_id', $$'inputs-deleted'$$, 'P0002', NULL),
    ('refresh_zone_key', 'zone_id', $$'INPUTS-ZONE'$$, 'P0002', NULL),
    ('modify_zone_key', 'zone_id', 'NULL, $1', '22004', test.secret_key(23)),
    ('modify_zone_key', 'secret_key', $$'inputs-zone', NULL$$, '22004', NULL),
    ('modify_zone_key', 'grace_period', $$'inputs-zone', $1, NULL$$, '22004', test.secret_key(23)),
    ('modify_zone_key', 'zone_id', $$'inputs-deleted', $1$$, 'P0002', test.secret_key(23)),
    ('describe_zone_key', 'zone_id', 'NULL', '22004', NULL),
    ('describe_zone_key', 'zone_id', $$'inputs-deleted'$$, 'P0002', NULL),
    ('set_zone_owner', 'zone_id', 'NULL, current_user::regrole', '22004', NULL),
    ('set_zone_owner', 'zone_id', $$'inputs-deleted', current_user::regrole$$, 'P0002', NULL),
    ('set_zone_owner', 'owner', $$'inputs-zone', NULL$$, '22004', NULL),
    ('set_zone_owner', 'owner', $$'inputs-zone', '-'$$, '42704', NULL),
    ('set_zone_owner', 'owner', $$'inputs-zone', '4294967295'$$, '42704', NULL),
    ('delete_zone_key', 'zone_id', 'NULL', '22004', NULL),
    ('delete_zone_key', 'zone_id', $$'inputs-deleted'$$, 'P0002', NULL),
    ('end_zone_grace', 'zone_id', 'NULL', '22004', NULL),
    ('end_zone_grace', 'zone_id', $$'inputs-deleted'$$, 'P0002', NULL),
    ('revert_zone_key', 'zone_id', 'NULL', '22004', NULL),
    ('revert_zone_key', 'zone_id', $$'inputs-deleted'$$, 'P0002', NULL),
    ('disable_zone', 'zone_id', 'NULL', '22004', NULL),
    ('disable_zone', 'zone_id', $$'inputs-deleted'$$, 'P0002', NULL),
    ('enable_zone', 'zone_id', 'NULL', '22004', NULL),
    ('enable_zone', 'zone_id', $$'inputs-deleted'$$, 'P0002', NULL),
    ('set_zone_policy', 'zone_id', 'NULL', '22004', NULL),
    ('set_zone_policy', 'zone_id', $$'inputs-deleted'$$, 'P0002', NULL),
    ('set_zone_policy', 'grace_period', $$'inputs-zone', grace_period => NULL$$, '22004', NULL),
    ('add_gateway', 'zone_id', 'NULL', '22004', NULL),
    ('add_gateway', 'gateway', $$'inputs-zone', 'inputs-gateway'$$, '23505', NULL),
    ('add_gateway', 'zone_id', $$'inputs-deleted'$$, 'P0002', NULL),
    ('remove_gateway', 'zone_id', $$NULL, 'inputs-gateway'$$, '22004', NULL),
    ('remove_gateway', 'gateway_id', $$'inputs-zone', NULL$$, '22004', NULL),
    ('remove_gateway', 'gateway_id', $$'inputs-zone', 'INPUTS-GATEWAY'$$, 'P0002', NULL),
    ('remove_gateway', 'zone_id', $$'inputs-deleted', 'inputs-gateway'$$, 'P0002', NULL);
CREATE TEMP TABLE judged_too AS
SELECT b.*, o.outcome,
       test.judge(o.outcome, function, parameter, value, expected, :'before', value IS NOT NULL) AS verdict
  FROM bad_input AS b, LATERAL (SELECT test.try(function, arguments, value) AS outcome) AS o;
SELECT function, arguments, expected, verdict, (outcome).constraint_name FROM judged_too ORDER BY number;
\pset format unaligned
SELECT DISTINCT (outcome).state, (outcome).message, (outcome).detail, (outcome).hint FROM judged_too ORDER BY 1, 2;
\pset format aligned

-- No trace of all this: what was stored is what was stored before, and the zone works as it did.
SELECT test.stored() = :'before' AS nothing_changed;
SELECT secret_key = test.secret_key(21) AS same_key, version FROM keyrot.describe_zone_key('inputs-zone');
SELECT test.gateway_accepts('inputs-zone', 'inputs-gateway', test.secret_key(21)) AS accepted;
