-- Bad input to every function on apps: its SQLSTATE, a message that names the parameter, the RequestId in
-- the CONTEXT, nothing stored, and no malformed value repeated, since it may be a secret in the wrong place.
-- Beside each bound stands the value that is still accepted.  test.judge() holds each outcome against this.
\set SHOW_CONTEXT never
SELECT app_key FROM keyrot.create_app('Inputs', 'inputs.app', 'inputs-current-secret');
SELECT app_key FROM keyrot.create_app('Inputs', 'inputs.deleted');
SELECT keyrot.delete_app('inputs.deleted') IS NOT NULL AS done;
SELECT app_key FROM keyrot.create_app('Inputs', 'inputs.replaced');
SELECT keyrot.reset_app_secret('inputs.replaced', 'inputs.replaced.2') IS NOT NULL AS done;
SELECT app_key FROM keyrot.create_app('Inputs', 'inputs.in-grace');
SELECT keyrot.reset_app_secret('inputs.in-grace', 'inputs.in-grace.2', grace_period => '1 day') IS NOT NULL AS done;

-- The forms of each value.
CREATE TEMP TABLE form (kind text, what text, value text, well_formed boolean);
INSERT INTO form
SELECT 'app_key', what, value, well_formed FROM (VALUES
    ('empty', '', false),
    ('3 characters', 'a_1', false),
    ('4 characters', 'a_1-', true),
    ('128 characters', repeat('key.', 32), true),
    ('129 characters', repeat('key.', 32) || 'k', false),
    ('leading zeros', '000042', true),
    ('every mark', 'a_.-', true),
    ('blanks only', '    ', false),
    ('blank at the start', ' inputs.app', false),
    ('blank at the end', 'inputs.app ', false),
    ('blank inside', 'inputs app', false),
    ('newline at the end', E'inputs.app\n', false),
    ('tab inside', E'inputs\tapp', false),
    ('first a hyphen', '-inputs.app', false),
    ('first an underscore', '_inputs.app', false),
    ('first a dot', '.inputs.app', false),
    ('a slash', 'inputs/app', false),
    ('a quote', 'inputs''app', false),
    ('a per cent sign', 'inputs%sapp', false),
    ('a letter outside ASCII', 'inputs.' || chr(233), false),
    ('a digit outside ASCII', 'inputs.' || chr(65297), false),
    ('64 hex digits', repeat('0123456789abcdef', 4), false),
    ('64 hex digits in upper case', repeat('0123456789ABCDEF', 4), false),
    ('63 hex digits', left(repeat('0123456789abcdef', 4), 63), true),
    ('65 hex digits', repeat('0123456789abcdef', 4) || '0', true),
    ('64 characters, one no hex digit', left(repeat('0123456789abcdef', 4), 63) || 'g', true),
    ('a SecretKey', test.secret_key(1), false),
    ('1 MB', repeat('k', 1048576), false)
) AS v (what, value, well_formed);
INSERT INTO form
SELECT 'secret', what, value, well_formed FROM (VALUES
    ('empty', '', false),
    ('15 characters', 'secret-secret-s', false),
    ('16 characters', 'secret-secret-se', true),
    ('128 characters', repeat('secret!?', 16), true),
    ('129 characters', repeat('secret!?', 16) || 's', false),
    ('every printable character', (SELECT string_agg(chr(c), '') FROM generate_series(33, 126) AS c), true),
    ('blank at the start', ' secret-secret-secret', false),
    ('blank at the end', 'secret-secret-secret ', false),
    ('blank inside', 'secret-secret secret', false),
    ('tab', E'secret-secret\tsecret', false),
    ('newline', E'secret-secret-secret\n', false),
    ('control character', 'secret-secret-' || chr(1), false),
    ('delete', 'secret-secret-' || chr(127), false),
    ('a no-break space', 'secret-secret-' || chr(160), false),
    ('a letter outside ASCII', 'secret-secret-' || chr(233), false),
    ('1 MB', repeat('secret-x', 131072), false)
) AS v (what, value, well_formed);
INSERT INTO form
SELECT kind, what, value, well_formed FROM (VALUES ('app_name', 128), ('description', 1000)) AS t (kind, longest),
LATERAL (VALUES
    ('empty', '', false),
    ('one character', 'x', true),
    ('the longest', repeat('x', longest), true),
    ('one more', repeat('x', longest + 1), false),
    ('the longest of 2 bytes each', repeat(chr(233), longest), true),
    ('the longest of 4 bytes each', repeat(chr(128273), longest), true),
    ('one more of 4 bytes', repeat(chr(128273), longest + 1), false),
    ('blank inside', 'in two', true),
    ('blank at the start', ' inputs', false),
    ('blank at the end', 'inputs ', false),
    ('only a blank', ' ', false),
    ('newline', E'in\ntwo', false),
    ('newline at the end', E'inputs\n', false),
    ('tab', E'in\ttwo', false),
    ('control character', 'in' || chr(1) || 'two', false),
    ('delete', 'in' || chr(127) || 'two', false),
    ('first of the C1 controls', 'in' || chr(128) || 'two', false),
    ('next line', 'in' || chr(133) || 'two', false),
    ('last of the C1 controls', 'in' || chr(159), false),
    ('after the C1 controls', 'in' || chr(160) || 'two', true),
    ('a character that ends like a C1 control', 'in' || chr(192 + 5) || chr(1024 + 5) || 'two', true),
    ('1 MB', repeat('x', 1048576), false)
) AS v (what, value, well_formed);
INSERT INTO form
SELECT 'grace_period', value, value, well_formed FROM (VALUES
    ('0', true), ('1 microsecond', true), ('30 days', true), ('720 hours', true), ('1 month', true),
    ('1 month -1 microsecond', true), ('-1 day 25 hours', true), ('1 month -30 days', true), ('-1 month 31 days', true),
    ('30 days 1 microsecond', false), ('1 month 1 microsecond', false), ('31 days', false),
    ('720 hours 0.000001 seconds', false), ('-1 microsecond', false), ('-1 day', false), ('1 day -25 hours', false),
    ('1 month -31 days', false), ('1 month -30 days -1 microsecond', false), ('178000000 years', false),
    ('-178000000 years', false), ('2147483647 days', false), ('-2147483648 days', false),
    ('2562047788 hours', false), ('-2562047788 hours', false),
    ('2147483647 months 2147483647 days 2562047788 hours', false),
    ('2147483647 months -2147483648 days -2562047788 hours', false)
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
    ('create_app', 'app_name', 'app_name', '$1', 'ok'),
    ('create_app', 'app_key', 'app_key', $$'Inputs', app_key => $1$$, 'ok'),
    ('create_app', 'app_secret', 'secret', $$'Inputs', app_secret => $1$$, 'ok'),
    ('create_app', 'description', 'description', $$'Inputs', description => $1$$, 'ok'),
    ('reset_app_secret', 'app_key', 'app_key', '$1', 'P0002'),
    ('reset_app_secret', 'new_app_key', 'app_key', $$'inputs.app', new_app_key => $1$$, 'ok'),
    ('reset_app_secret', 'new_app_secret', 'secret', $$'inputs.app', new_app_secret => $1$$, 'ok'),
    ('reset_app_secret', 'grace_period', 'grace_period', $$'inputs.app', grace_period => $1::interval$$, 'ok'),
    ('describe_app_security', 'app_key', 'app_key', '$1', 'P0002'),
    ('modify_app', 'app_key', 'app_key', '$1', 'P0002'),
    ('modify_app', 'app_name', 'app_name', $$'inputs.app', app_name => $1$$, 'ok'),
    ('modify_app', 'description', 'description', $$'inputs.app', description => $1$$, 'ok'),
    ('set_app_owner', 'app_key', 'app_key', '$1, current_user::regrole', 'P0002'),
    ('delete_app', 'app_key', 'app_key', '$1', 'P0002'),
    ('end_app_grace', 'app_key', 'app_key', '$1', 'P0002'),
    ('revert_app_secret', 'app_key', 'app_key', '$1', 'P0002'),
    ('disable_app', 'app_key', 'app_key', '$1', 'P0002'),
    ('enable_app', 'app_key', 'app_key', '$1', 'P0002'),
    ('set_app_policy', 'app_key', 'app_key', '$1', 'P0002'),
    ('set_app_policy', 'rotate_after', 'period', $$'inputs.app', rotate_after => $1::interval$$, 'ok'),
    ('set_app_policy', 'lifetime', 'period', $$'inputs.app', lifetime => $1::interval$$, 'ok'),
    ('set_app_policy', 'grace_period', 'grace_period', $$'inputs.app', grace_period => $1::interval$$, 'ok'),
    ('list_apps', 'app_key', 'app_key', 'app_key => $1', 'ok'),
    ('list_apps', 'app_name', 'app_name', 'app_name => $1', 'ok');
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

-- What is required and NULL; pages that do not exist; secrets and AppKeys that are in use; apps and roles
-- that are not.
CREATE TEMP TABLE bad_input (number serial, function text, parameter text, arguments text, expected text, value text);
INSERT INTO bad_input (function, parameter, arguments, expected, value) VALUES
    ('create_app', 'app_name', 'NULL', '22004', NULL),
    ('create_app', 'app_key', $$'Inputs', 'inputs.app'$$, '23505', NULL),
    ('create_app', 'app_key', $$'Inputs', 'inputs.deleted'$$, '23505', NULL),
    ('create_app', 'app_key', $$'Inputs', 'inputs.replaced'$$, '23505', NULL),
    ('create_app', 'app_key', $$'Inputs', 'inputs.in-grace'$$, '23505', NULL),
    ('reset_app_secret', 'app_key', 'NULL', '22004', NULL),
    ('reset_app_secret', 'grace_period', $$'inputs.app', grace_period => NULL$$, '22004', NULL),
    ('reset_app_secret', 'new_app_key', $$'inputs.app', 'inputs.app'$$, '23505', NULL),
    ('reset_app_secret', 'new_app_key', $$'inputs.app', 'inputs.deleted'$$, '23505', NULL),
    ('reset_app_secret', 'new_app_key', $$'inputs.replaced.2', 'inputs.replaced'$$, '23505', NULL),
    ('reset_app_secret', 'new_app_key', $$'inputs.in-grace.2', 'inputs.in-grace'$$, '23505', NULL),
    ('reset_app_secret', 'new_app_key', $$'inputs.app', 'inputs.replaced.2', $1$$, '23505', 'inputs-another-secret'),
    ('reset_app_secret', 'new_app_secret', $$'inputs.app', NULL, $1$$, '22023', 'inputs-current-secret'),
    ('reset_app_secret', 'new_app_secret', $$'inputs.app', 'inputs.app.2', $1$$, '22023', 'inputs-current-secret'),
    ('reset_app_secret', 'app_key', $$'inputs.unknown', NULL, $1$$, 'P0002', 'inputs-another-secret'),
    ('reset_app_secret', 'app_key', $$'inputs.deleted'$$, 'P0002', NULL),
    ('reset_app_secret', 'app_key', $$'inputs.replaced'$$, 'P0002', NULL),
    ('reset_app_secret', 'app_key', $$'inputs.in-grace'$$, 'P0002', NULL),
    ('describe_app_security', 'app_key', 'NULL', '22004', NULL),
    ('describe_app_security', 'app_key', $$'inputs.deleted'$$, 'P0002', NULL),
    ('describe_app_security', 'app_key', $$'inputs.in-grace'$$, 'P0002', NULL),
    ('describe_app_security', 'app_key', $$'INPUTS.APP'$$, 'P0002', NULL),
    ('modify_app', 'app_key', 'NULL', '22004', NULL),
    ('modify_app', 'app_key', $$'inputs.deleted', 'Inputs'$$, 'P0002', NULL),
    ('modify_app', 'app_key', $$'inputs.in-grace', 'Inputs'$$, 'P0002', NULL),
    ('set_app_owner', 'app_key', 'NULL, current_user::regrole', '22004', NULL),
    ('set_app_owner', 'app_key', $$'inputs.deleted', current_user::regrole$$, 'P0002', NULL),
    ('set_app_owner', 'app_key', $$'inputs.in-grace', current_user::regrole$$, 'P0002', NULL),
    ('set_app_owner', 'owner', $$'inputs.app', NULL$$, '22004', NULL),
    ('set_app_owner', 'owner', $$'inputs.app', '-'$$, '42704', NULL),
    ('set_app_owner', 'owner', $$'inputs.app', '4294967295'$$, '42704', NULL),
    ('delete_app', 'app_key', 'NULL', '22004', NULL),
    ('delete_app', 'app_key', $$'inputs.deleted'$$, 'P0002', NULL),
    ('delete_app', 'app_key', $$'inputs.in-grace'$$, 'P0002', NULL),
    ('end_app_grace', 'app_key', 'NULL', '22004', NULL),
    ('end_app_grace', 'app_key', $$'inputs.deleted'$$, 'P0002', NULL),
    ('end_app_grace', 'app_key', $$'inputs.in-grace'$$, 'P0002', NULL),
    ('revert_app_secret', 'app_key', 'NULL', '22004', NULL),
    ('revert_app_secret', 'app_key', $$'inputs.deleted'$$, 'P0002', NULL),
    ('disable_app', 'app_key', 'NULL', '22004', NULL),
    ('disable_app', 'app_key', $$'inputs.deleted'$$, 'P0002', NULL),
    ('enable_app', 'app_key', 'NULL', '22004', NULL),
    ('enable_app', 'app_key', $$'inputs.deleted'$$, 'P0002', NULL),
    ('set_app_policy', 'app_key', 'NULL', '22004', NULL),
    ('set_app_policy', 'app_key', $$'inputs.deleted'$$, 'P0002', NULL),
    ('set_app_policy', 'grace_period', $$'inputs.app', grace_period => NULL$$, '22004', NULL),
    ('find_secret', 'secret', 'NULL', '22004', NULL),
    ('list_apps', 'page_number', 'page_number => NULL', '22004', NULL),
    ('list_apps', 'page_number', 'page_number => 0', '22023', NULL),
    ('list_apps', 'page_number', 'page_number => -1', '22023', NULL),
    ('list_apps', 'page_number', 'page_number => -2147483648', '22023', NULL),
    ('list_apps', 'newest_first', 'newest_first => NULL', '22004', NULL),
    ('list_apps', 'page_size', 'page_size => NULL', '22004', NULL),
    ('list_apps', 'page_size', 'page_size => 0', '22023', NULL),
    ('list_apps', 'page_size', 'page_size => -10', '22023', NULL);
CREATE TEMP TABLE judged_too AS
SELECT b.*, o.outcome,
       test.judge(o.outcome, function, parameter, value, expected, :'before', value IS NOT NULL) AS verdict
  FROM bad_input AS b, LATERAL (SELECT test.try(function, arguments, value) AS outcome) AS o;
SELECT function, arguments, expected, verdict, (outcome).constraint_name FROM judged_too ORDER BY number;
\pset format unaligned
SELECT DISTINCT (outcome).state, (outcome).message, (outcome).detail, (outcome).hint FROM judged_too ORDER BY 1, 2;
\pset format aligned

-- No trace of all this: what was stored is what was stored before, and each app works as it did.
SELECT test.stored() = :'before' AS nothing_changed;
SELECT app_secret, version FROM keyrot.describe_app_security('inputs.app');

-- What never reaches keyrot has no RequestId: a wrong type, a name that no role has.
SELECT state, context LIKE '%keyrot request%' AS has_request_id FROM test.try('delete_app', '42', NULL);
SELECT state, context LIKE '%keyrot request%' AS has_request_id
  FROM test.try('set_app_owner', $$'inputs.app', 'regress_no_such_role'$$, NULL);
