-- Whose credentials a role may act on: its own and those of roles whose rights it has; operators and
-- superusers on all.  Verifying needs no ownership, signing does.  "The caller" is current_user at the call:
-- after SET ROLE the role set, in a SECURITY DEFINER function that function's owner.
\set SHOW_CONTEXT never
CREATE ROLE regress_owner;
CREATE ROLE regress_stranger;
CREATE ROLE regress_member IN ROLE regress_owner;
CREATE ROLE regress_member_of_member IN ROLE regress_member;
CREATE ROLE regress_noinherit NOINHERIT IN ROLE regress_owner;
CREATE ROLE regress_operators;
CREATE ROLE regress_operator IN ROLE regress_operators;
CREATE ROLE regress_operator_noinherit NOINHERIT IN ROLE regress_operators;
-- Everybody may do everything here, by rights of their own: to act on what is the question.
GRANT USAGE ON SCHEMA keyrot TO regress_owner, regress_stranger, regress_member,
    regress_member_of_member, regress_noinherit, regress_operators, regress_operator, regress_operator_noinherit;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA keyrot TO regress_owner, regress_stranger, regress_member,
    regress_member_of_member, regress_noinherit, regress_operators, regress_operator, regress_operator_noinherit;

SET ROLE regress_owner;
SELECT app_key FROM keyrot.create_app('Owners', 'owners.app', 'owners-secret-number-1');
SELECT keyrot.create_zone_key('owners-zone', test.secret_key(1)) IS NOT NULL AS done;
SELECT gateway_id FROM keyrot.add_gateway('owners-zone', 'owners-gateway');
RESET ROLE;
CREATE TABLE test.owned_call (number serial, function text, arguments text);
GRANT SELECT ON test.owned_call TO PUBLIC;
INSERT INTO test.owned_call (function, arguments) VALUES
    ('reset_app_secret', $$'owners.app'$$), ('reset_app_secret', $$'owners.app', 'owners.app.2'$$),
    ('describe_app_security', $$'owners.app'$$), ('modify_app', $$'owners.app', 'Mine'$$),
    ('set_app_owner', $$'owners.app', current_user::regrole$$), ('delete_app', $$'owners.app'$$),
    ('end_app_grace', $$'owners.app'$$), ('refresh_zone_key', $$'owners-zone'$$),
    ('modify_zone_key', $$'owners-zone', test.secret_key(2)$$), ('describe_zone_key', $$'owners-zone'$$),
    ('set_zone_owner', $$'owners-zone', current_user::regrole$$), ('delete_zone_key', $$'owners-zone'$$),
    ('end_zone_grace', $$'owners-zone'$$), ('add_gateway', $$'owners-zone'$$),
    ('remove_gateway', $$'owners-zone', 'owners-gateway'$$), ('sign_for_app', $$'owners.app', 'message'$$),
    ('sign_string_for_app', $$'owners.app', 'message'$$), ('sign_for_zone', $$'owners-zone', 'message'$$),
    ('sign_string_for_zone', $$'owners-zone', 'message'$$),
    ('sign_string_with_all_for_app', $$'owners.app', 'message'$$),
    ('sign_string_with_all_for_zone', $$'owners-zone', 'message'$$), ('sign_token_for_zone', $$'owners-zone', '{}'$$);
-- What comes of all these calls, what is listed, and whether verifying works.
CREATE FUNCTION test.allowed() RETURNS TABLE (state text, calls bigint, listed bigint, verifies boolean)
    LANGUAGE sql VOLATILE AS $$
SELECT (test.try(function, arguments, NULL)).state, count(*),
       (SELECT count(*) FROM keyrot.list_apps(app_name => 'Owners')),
       test.app_accepts('owners.app', 'owners-secret-number-1')
       AND test.gateway_accepts('owners-zone', 'owners-gateway', test.secret_key(1))
  FROM test.owned_call GROUP BY 1 ORDER BY 1 $$;
SET keyrot.operator_role = 'regress_operators';
SET ROLE regress_owner;
SELECT * FROM test.allowed();
SET ROLE regress_stranger;
SELECT * FROM test.allowed();
SELECT DISTINCT o.message, o.detail, o.hint
  FROM test.owned_call, LATERAL test.try(function, arguments, NULL) AS o ORDER BY 1;
-- Members: with the owner's rights, and without, where membership is not inherited.
SET ROLE regress_member;
SELECT * FROM test.allowed();
SET ROLE regress_member_of_member;
SELECT * FROM test.allowed();
SET ROLE regress_noinherit;
SELECT * FROM test.allowed();
-- Operators: the role itself, and members with its rights.
SET ROLE regress_operators;
SELECT * FROM test.allowed();
SET ROLE regress_operator;
SELECT * FROM test.allowed();
SET ROLE regress_operator_noinherit;
SELECT * FROM test.allowed();
RESET ROLE;
-- An operator role that does not exist, or that has no name, counts as none.
SET keyrot.operator_role = 'regress_no_such_role';
SET ROLE regress_operator;
SELECT * FROM test.allowed();
RESET ROLE;
SET keyrot.operator_role = 'public';
SET ROLE regress_stranger;
SELECT * FROM test.allowed();
RESET ROLE;
RESET keyrot.operator_role;
SET ROLE regress_operator;
SELECT * FROM test.allowed();
SET keyrot.operator_role = 'regress_operators';
RESET ROLE;
SHOW keyrot.operator_role;
SELECT * FROM test.allowed();
SET keyrot.operator_role = 'regress_operators';

-- A SECURITY DEFINER function acts as its owner, whoever calls it; another one as its caller.
CREATE FUNCTION test.definer(function text, arguments text) RETURNS text LANGUAGE sql SECURITY DEFINER AS
$$ SELECT (test.try(function, arguments, NULL)).state $$;
ALTER FUNCTION test.definer(text, text) OWNER TO regress_owner;
CREATE FUNCTION test.stranger_definer(function text, arguments text) RETURNS text LANGUAGE sql SECURITY DEFINER AS
$$ SELECT (test.try(function, arguments, NULL)).state $$;
ALTER FUNCTION test.stranger_definer(text, text) OWNER TO regress_stranger;
CREATE FUNCTION test.nested_definer(function text, arguments text) RETURNS text LANGUAGE sql SECURITY DEFINER AS
$$ SELECT test.definer(function, arguments) $$;
ALTER FUNCTION test.nested_definer(text, text) OWNER TO regress_stranger;
CREATE FUNCTION test.invoker(function text, arguments text) RETURNS text LANGUAGE sql AS
$$ SELECT (test.try(function, arguments, NULL)).state $$;
CREATE FUNCTION test.by_way(OUT owners text, OUT strangers text, OUT nested text, OUT invoker text)
    LANGUAGE sql VOLATILE AS $$
SELECT string_agg(DISTINCT test.definer(function, arguments), ', '),
       string_agg(DISTINCT test.stranger_definer(function, arguments), ', '),
       string_agg(DISTINCT test.nested_definer(function, arguments), ', '),
       string_agg(DISTINCT test.invoker(function, arguments), ', ')
  FROM test.owned_call $$;
SET ROLE regress_owner;
SELECT * FROM test.by_way();
SET ROLE regress_stranger;
SELECT * FROM test.by_way();
RESET ROLE;
SELECT * FROM test.by_way();
-- The owner of what such a function creates is the function's owner.
CREATE FUNCTION test.create_by_definer() RETURNS text LANGUAGE sql SECURITY DEFINER AS
$$ SELECT app_key FROM keyrot.create_app('Owners', 'owners.defined') $$;
ALTER FUNCTION test.create_by_definer() OWNER TO regress_owner;
SET ROLE regress_stranger;
SELECT test.create_by_definer();
RESET ROLE;
SELECT id, owner FROM keyrot.credentials WHERE id LIKE 'owners%' AND state = 'current' ORDER BY id;

-- A new owner must be a role whose rights the caller has; operators are no exception, superusers are.
CREATE TEMP TABLE may_give AS
SELECT caller, new_owner, test.state_as(caller, 'set_app_owner', $$'owners.app', $1::regrole$$, new_owner) AS app,
       test.state_as(caller, 'set_zone_owner', $$'owners-zone', $1::regrole$$, new_owner) AS zone
  FROM unnest(ARRAY['owner', 'member', 'member_of_member', 'noinherit', 'operators', 'operator', 'stranger']) AS c,
       unnest(ARRAY['owner', 'member', 'member_of_member', 'noinherit', 'operators', 'operator', 'stranger']) AS n,
       format('regress_%s', c) AS caller, format('regress_%s', n) AS new_owner;
SELECT caller, string_agg(new_owner, ', ' ORDER BY new_owner COLLATE "C") FILTER (WHERE app = 'ok') AS may_give_app_to,
       bool_and(app = zone) AS zone_too, string_agg(DISTINCT app, ', ') FILTER (WHERE app <> 'ok') AS otherwise
  FROM may_give GROUP BY caller ORDER BY caller COLLATE "C";
SET ROLE regress_owner;
SELECT state, message, detail, hint FROM test.try('set_app_owner', $$'owners.app', 'regress_stranger'$$, NULL);
-- Whoever has it acts on it; whoever had it, no longer.
SET ROLE regress_member;
SELECT keyrot.set_app_owner('owners.app', 'regress_member') IS NOT NULL AS taken;
SET ROLE regress_owner;
SELECT (test.try('modify_app', $$'owners.app', 'Mine'$$, NULL)).state;
RESET ROLE;
SELECT keyrot.set_app_owner('owners.app', 'regress_stranger') IS NOT NULL AS done;
SET ROLE regress_member;
SELECT (test.try('modify_app', $$'owners.app', 'Mine'$$, NULL)).state;
SET ROLE regress_stranger;
SELECT (test.try('modify_app', $$'owners.app', 'Mine'$$, NULL)).state;
RESET ROLE;
SELECT test.app_accepts('owners.app', 'owners-secret-number-1') AS verifies;

DROP FUNCTION test.definer, test.stranger_definer, test.nested_definer, test.invoker, test.by_way,
    test.create_by_definer, test.allowed;
DROP TABLE test.owned_call;
RESET keyrot.operator_role;
DROP OWNED BY regress_owner, regress_stranger, regress_member, regress_member_of_member,
    regress_noinherit, regress_operators, regress_operator, regress_operator_noinherit;
DROP ROLE regress_owner, regress_stranger, regress_member, regress_member_of_member,
    regress_noinherit, regress_operators, regress_operator, regress_operator_noinherit;
