-- An owner is a role by OID and name.  When the two no longer agree (dropped, re-created, renamed) only
-- operators act, and verification goes on, until rebind_owners() makes them agree again: the role of that name
-- or, where none has it, the role of that OID.
\set SHOW_CONTEXT never
CREATE ROLE regress_rebound;
CREATE ROLE regress_rebound_operator;
GRANT USAGE ON SCHEMA keyrot TO regress_rebound, regress_rebound_operator;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA keyrot TO regress_rebound, regress_rebound_operator;
GRANT SELECT ON keyrot.credentials, keyrot.requests TO regress_rebound, regress_rebound_operator;
SET keyrot.operator_role = 'regress_rebound_operator';
SET ROLE regress_rebound;
SELECT app_key FROM keyrot.create_app('Rebound', 'rebound.old', 'rebound-secret-number-1');
SELECT keyrot.reset_app_secret('rebound.old', 'rebound.app', 'rebound-secret-number-2', '1 day') IS NOT NULL AS done;
SELECT keyrot.create_zone_key('rebound-zone', test.secret_key(1)) IS NOT NULL AS done;
SELECT keyrot.create_zone_key('rebound-deleted') IS NOT NULL AS done;
SELECT keyrot.delete_zone_key('rebound-deleted') IS NOT NULL AS done;
RESET ROLE;
-- What a role may do, what it sees in the views and the list, and what the signatures come to.
CREATE FUNCTION test.rebound_as(role text, OUT describe_app_and_zone_sign_revive text, OUT listed bigint,
                                OUT verifies boolean) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', role, true);
    SELECT string_agg((test.try(function, arguments, NULL)).state, ' ') INTO describe_app_and_zone_sign_revive
      FROM (VALUES ('describe_app_security', '''rebound.app'''), ('describe_zone_key', '''rebound-zone'''),
                   ('sign_for_app', '''rebound.app'', ''message'''), ('create_zone_key', '''rebound-deleted'''))
           AS v (function, arguments);
    listed := (SELECT count(*) FROM keyrot.list_apps(app_name => 'Rebound'));
    verifies := test.app_accepts('rebound.app', 'rebound-secret-number-2')
                AND test.app_accepts('rebound.old', 'rebound-secret-number-1')
                AND test.zone_accepts('rebound-zone', test.secret_key(1));
    PERFORM set_config('role', 'none', true);
END $$;
CREATE FUNCTION test.seen_by(role text) RETURNS TABLE (credentials bigint, requests bigint) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', role, true);
    RETURN QUERY SELECT (SELECT count(*) FROM keyrot.credentials WHERE id LIKE 'rebound%'),
                        (SELECT count(*) FROM keyrot.requests WHERE target LIKE 'rebound%' AND version = 1);
    PERFORM set_config('role', 'none', true);
END $$;
SELECT * FROM test.rebound_as('regress_rebound');
SELECT * FROM test.seen_by('regress_rebound');

-- Renamed: the OID is right, the name is not.
ALTER ROLE regress_rebound RENAME TO regress_rebound_2;
SELECT * FROM test.rebound_as('regress_rebound_2');
SELECT * FROM test.seen_by('regress_rebound_2');
SET ROLE regress_rebound_2;
SELECT state, message, detail, hint FROM test.try('describe_app_security', $$'rebound.app'$$, NULL);
RESET ROLE;
SELECT * FROM test.rebound_as('regress_rebound_operator');
SELECT * FROM test.seen_by('regress_rebound_operator');
-- No role has the name, so the role of the OID is bound: two AppKeys and two zones.
SELECT keyrot.rebind_owners();
SELECT * FROM test.rebound_as('regress_rebound_2');
SELECT DISTINCT owner FROM keyrot.credentials WHERE id LIKE 'rebound%';
SELECT keyrot.rebind_owners() AS nothing_left;

-- Another role gets the old name: the name counts.
ALTER ROLE regress_rebound_2 RENAME TO regress_rebound_3;
CREATE ROLE regress_rebound_2;
GRANT USAGE ON SCHEMA keyrot TO regress_rebound_2;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA keyrot TO regress_rebound_2;
SELECT * FROM test.rebound_as('regress_rebound_2');
SELECT * FROM test.rebound_as('regress_rebound_3');
SELECT keyrot.rebind_owners();
SELECT * FROM test.rebound_as('regress_rebound_2');
SELECT * FROM test.rebound_as('regress_rebound_3');
DROP OWNED BY regress_rebound_3;
DROP ROLE regress_rebound_3;

-- Dropped and made again: a new OID, so it is somebody else, until it is bound.
DROP OWNED BY regress_rebound_2;
DROP ROLE regress_rebound_2;
CREATE ROLE regress_rebound_2;
GRANT USAGE ON SCHEMA keyrot TO regress_rebound_2;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA keyrot TO regress_rebound_2;
SELECT * FROM test.rebound_as('regress_rebound_2');
SELECT * FROM test.rebound_as('regress_rebound_operator');
SELECT keyrot.rebind_owners();
SELECT * FROM test.rebound_as('regress_rebound_2');

-- Dropped for good: there is nothing to bind, and an operator may take over what was left.
DROP OWNED BY regress_rebound_2;
DROP ROLE regress_rebound_2;
SELECT keyrot.rebind_owners() AS nothing_to_bind;
SELECT * FROM test.rebound_as('regress_rebound_operator');
SET ROLE regress_rebound_operator;
SELECT keyrot.set_app_owner('rebound.app', 'regress_rebound_operator') IS NOT NULL AS done,
       keyrot.set_zone_owner('rebound-zone', 'regress_rebound_operator') IS NOT NULL AS done;
RESET ROLE;
RESET keyrot.operator_role;
SELECT * FROM test.rebound_as('regress_rebound_operator');
SELECT id, owner, state FROM keyrot.credentials WHERE id LIKE 'rebound%' ORDER BY id;

DROP FUNCTION test.rebound_as(text), test.seen_by(text);
DROP OWNED BY regress_rebound_operator;
DROP ROLE regress_rebound_operator;
