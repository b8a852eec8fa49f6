-- Where PostgreSQL runs somebody's code under another role's name (a materialized view, an index expression),
-- nothing of keyrot's can be done, read or signed: 42501.  Only verifying, which tells nothing, works there.
\set SHOW_CONTEXT never
CREATE ROLE regress_victim;
CREATE ROLE regress_trapper;
CREATE SCHEMA regress_trap AUTHORIZATION regress_trapper;
GRANT USAGE ON SCHEMA keyrot, regress_trap TO regress_victim, regress_trapper;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA keyrot TO regress_victim, regress_trapper;
SET ROLE regress_trapper;
SELECT app_key FROM keyrot.create_app('Restricted', 'restricted.app', 'restricted-secret-1');
SELECT keyrot.create_zone_key('restricted-zone', test.secret_key(1)) IS NOT NULL AS done;
RESET ROLE;
SELECT test.stored() AS before \gset

-- A materialized view of the trapper's, refreshed by a superuser, and by its owner.
SET ROLE regress_trapper;
CREATE TABLE regress_trap.input (n int);
INSERT INTO regress_trap.input VALUES (1);
CREATE MATERIALIZED VIEW regress_trap.resets AS
SELECT keyrot.reset_app_secret('restricted.app') FROM regress_trap.input WITH NO DATA;
CREATE MATERIALIZED VIEW regress_trap.reads AS
SELECT app_secret FROM keyrot.describe_app_security('restricted.app') WITH NO DATA;
CREATE MATERIALIZED VIEW regress_trap.signs AS
SELECT keyrot.sign_for_app('restricted.app', 'message') FROM regress_trap.input WITH NO DATA;
CREATE MATERIALIZED VIEW regress_trap.verifies AS
SELECT test.app_accepts('restricted.app', 'restricted-secret-1') AS accepted WITH NO DATA;
REFRESH MATERIALIZED VIEW regress_trap.resets;
RESET ROLE;
REFRESH MATERIALIZED VIEW regress_trap.resets;
REFRESH MATERIALIZED VIEW regress_trap.reads;
REFRESH MATERIALIZED VIEW regress_trap.signs;
REFRESH MATERIALIZED VIEW regress_trap.verifies;
SELECT * FROM regress_trap.verifies;

-- An expression index whose function lies about what it does.
SET ROLE regress_trapper;
CREATE FUNCTION regress_trap.lie(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
$$ BEGIN PERFORM keyrot.refresh_zone_key('restricted-zone'); RETURN n; END $$;
CREATE INDEX ON regress_trap.input (regress_trap.lie(n));
RESET ROLE;
CREATE INDEX ON regress_trap.input (regress_trap.lie(n));

-- Every function, by way of one that is called while the view is refreshed.
SET ROLE regress_trapper;
CREATE FUNCTION regress_trap.attempt(function text, arguments text, OUT state text, OUT has_request_id boolean)
    LANGUAGE plpgsql AS $$
DECLARE
    context text;
BEGIN
    EXECUTE format('SELECT FROM keyrot.%I(%s)', function, arguments);
    state := 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state := RETURNED_SQLSTATE, context := PG_EXCEPTION_CONTEXT;
    has_request_id := context ~ ('keyrot request [-0-9a-f]{36}: ' || function);
END $$;
CREATE MATERIALIZED VIEW regress_trap.everything AS
SELECT function, a.*
  FROM (VALUES ('create_app', $$'Restricted'$$), ('reset_app_secret', $$'restricted.app'$$),
               ('describe_app_security', $$'restricted.app'$$), ('modify_app', $$'restricted.app', 'Name'$$),
               ('set_app_owner', $$'restricted.app', 'regress_trapper'$$), ('delete_app', $$'restricted.app'$$),
               ('end_app_grace', $$'restricted.app'$$), ('list_apps', ''), ('create_zone_key', $$'restricted-new'$$),
               ('refresh_zone_key', $$'restricted-zone'$$), ('describe_zone_key', $$'restricted-zone'$$),
               ('modify_zone_key', $$'restricted-zone', test.secret_key(2)$$),
               ('set_zone_owner', $$'restricted-zone', 'regress_trapper'$$),
               ('delete_zone_key', $$'restricted-zone'$$), ('end_zone_grace', $$'restricted-zone'$$),
               ('add_gateway', $$'restricted-zone'$$), ('remove_gateway', $$'restricted-zone', 'x'$$),
               ('rebind_owners', ''), ('prune_requests', $$'1000 years'$$), ('sign_for_app', $$'restricted.app', ''$$),
               ('sign_string_for_app', $$'restricted.app', ''$$), ('sign_for_zone', $$'restricted-zone', ''$$),
               ('sign_string_for_zone', $$'restricted-zone', ''$$),
               ('sign_string_with_all_for_app', $$'restricted.app', ''$$),
               ('sign_string_with_all_for_zone', $$'restricted-zone', ''$$),
               ('sign_token_for_zone', $$'restricted-zone', '{}'$$), ('check_app_string', $$'restricted.app', '', ''$$),
               ('verify_gateway_token', $$'restricted-zone', '', ''$$), ('verify_app_string', $$'restricted.app', '', ''$$),
               ('verify_zone_string', $$'restricted-zone', '', ''$$)) AS v (function, arguments),
       LATERAL regress_trap.attempt(function, arguments) AS a WITH NO DATA;
RESET ROLE;
REFRESH MATERIALIZED VIEW regress_trap.everything;
SELECT state, has_request_id, string_agg(function, ' ' ORDER BY function COLLATE "C") AS functions
  FROM regress_trap.everything GROUP BY 1, 2 ORDER BY 1, 2;
SELECT test.stored() = :'before' AS nothing_changed;

-- A trigger or a rule of somebody's is no such operation: it runs as whoever sets it off, as ever.
SET ROLE regress_trapper;
CREATE FUNCTION regress_trap.pull() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM keyrot.delete_app('restricted.app'); RETURN NEW; END $$;
CREATE TRIGGER pull BEFORE INSERT ON regress_trap.input FOR EACH ROW EXECUTE FUNCTION regress_trap.pull();
GRANT INSERT ON regress_trap.input TO regress_victim;
SET ROLE regress_victim;
INSERT INTO regress_trap.input VALUES (2);
RESET ROLE;
SELECT test.app_accepts('restricted.app', 'restricted-secret-1') AS accepted;

DROP OWNED BY regress_victim, regress_trapper;
DROP ROLE regress_victim, regress_trapper;
