-- Whatever somebody adds to keyrot's tables counts as it does for SQL statements of the tables' owner, or is refused;
-- and a function that returns has done what it says.
\set VERBOSITY terse
\set SHOW_CONTEXT never
CREATE ROLE regress_adder;
SELECT app_id > 0 AS done FROM keyrot.create_app('Added', 'added.app', 'added-secret-number-one');
SELECT keyrot.reset_app_secret('added.app', new_app_secret => 'added-secret-number-two', grace_period => '1 hour') IS NOT NULL AS done;
SELECT keyrot.create_zone_key('added-zone', test.secret_key(1)) IS NOT NULL AS done;
SELECT keyrot.create_zone_key('added-gone', test.secret_key(2)) IS NOT NULL AS done;
SELECT keyrot.delete_zone_key('added-gone') IS NOT NULL AS done;
SELECT gateway_id FROM keyrot.add_gateway('added-zone', 'added-gateway');

CREATE FUNCTION test.swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE FUNCTION test.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused' USING ERRCODE = 'P0099'; END $$;
CREATE FUNCTION test.keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := CASE WHEN TG_OP = 'UPDATE' THEN OLD.version ELSE 77 END;
    RETURN NEW;
END $$;
CREATE FUNCTION test.replace() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.secret := '\x00'; RETURN NEW; END $$;

-- What a call comes to after a change; both are undone.
CREATE FUNCTION test.after(change text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text := 'done';
BEGIN
    BEGIN
        EXECUTE change;
        EXECUTE call;
    EXCEPTION WHEN OTHERS THEN
        result := SQLSTATE;
    END;
    RAISE SQLSTATE 'UNDO0' USING MESSAGE = result;
EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
    RETURN SQLERRM;
END $$;

CREATE TEMP TABLE call (place serial, name text, text text);
INSERT INTO call (name, text) VALUES
    ('create_app', $$SELECT * FROM keyrot.create_app('n')$$),
    ('reset_app_secret', $$SELECT keyrot.reset_app_secret('added.app')$$),
    ('with a NewAppKey', $$SELECT keyrot.reset_app_secret('added.app', 'added.new')$$),
    ('with a client_token', $$SELECT keyrot.reset_app_secret('added.app', client_token => 'added')$$),
    ('revert_app_secret', $$SELECT keyrot.revert_app_secret('added.app')$$),
    ('end_app_grace', $$SELECT keyrot.end_app_grace('added.app')$$),
    ('modify_app', $$SELECT keyrot.modify_app('added.app', 'm')$$),
    ('set_app_owner', $$SELECT keyrot.set_app_owner('added.app', 'regress_adder')$$),
    ('set_app_policy', $$SELECT keyrot.set_app_policy('added.app', '1 day')$$),
    ('disable_app', $$SELECT keyrot.disable_app('added.app')$$),
    ('delete_app', $$SELECT keyrot.delete_app('added.app')$$),
    ('create_zone_key', $$SELECT keyrot.create_zone_key('added-new')$$),
    ('after its deletion', $$SELECT keyrot.create_zone_key('added-gone')$$),
    ('refresh_zone_key', $$SELECT * FROM keyrot.refresh_zone_key('added-zone')$$),
    ('set_zone_owner', $$SELECT keyrot.set_zone_owner('added-zone', 'regress_adder')$$),
    ('delete_zone_key', $$SELECT keyrot.delete_zone_key('added-zone')$$),
    ('add_gateway', $$SELECT * FROM keyrot.add_gateway('added-zone', 'added-other')$$),
    ('with a generated id', $$SELECT * FROM keyrot.add_gateway('added-zone')$$),
    ('remove_gateway', $$SELECT keyrot.remove_gateway('added-zone', 'added-gateway')$$),
    ('describe_zone_key', $$SELECT * FROM keyrot.describe_zone_key('added-zone')$$),
    ('rotate_data_key', $$SELECT keyrot.rotate_data_key()$$),
    ('verify_zone_string', $$SELECT keyrot.verify_zone_string('added-zone', 'm', 's')$$);

-- A trigger that keeps every row of one table from being written: a call that writes one fails.
CREATE FUNCTION test.with_trigger(function text, name text, events text) RETURNS text LANGUAGE sql AS
$$ SELECT format('CREATE TRIGGER added BEFORE %s ON keyrot.%I FOR EACH ROW EXECUTE FUNCTION test.%I()', events, name, function) $$;
SELECT name, app, zone, gateway, request, retry, data_key
  FROM call, LATERAL (SELECT
       test.after(test.with_trigger('swallow', 'app', 'INSERT OR UPDATE OR DELETE'), text) AS app,
       test.after(test.with_trigger('swallow', 'zone', 'INSERT OR UPDATE OR DELETE'), text) AS zone,
       test.after(test.with_trigger('swallow', 'gateway', 'INSERT OR UPDATE OR DELETE'), text) AS gateway,
       test.after(test.with_trigger('swallow', 'request', 'INSERT OR UPDATE OR DELETE'), text) AS request,
       test.after(test.with_trigger('swallow', 'retry', 'INSERT OR UPDATE OR DELETE'), text) AS retry,
       test.after(test.with_trigger('swallow', 'data_key', 'INSERT OR UPDATE OR DELETE'), text) AS data_key) AS after
 ORDER BY place;
-- One that raises: its error is the call's.
SELECT count(*) AS calls, count(*) FILTER (WHERE swallowed = '55000') AS swallowed,
       count(*) FILTER (WHERE refused = 'P0099') AS refused, bool_and((swallowed = 'done') = (refused = 'done')) AS alike
  FROM call, unnest('{app,zone,gateway,request,retry,data_key}'::text[]) AS "table", LATERAL (SELECT
       test.after(test.with_trigger('swallow', "table", 'INSERT OR UPDATE OR DELETE'), text) AS swallowed,
       test.after(test.with_trigger('refuse', "table", 'INSERT OR UPDATE OR DELETE'), text) AS refused) AS after;
-- One that writes another version or secret, which would not open.
SELECT name, kept, replaced FROM call, LATERAL (SELECT
       test.after(test.with_trigger('keep', 'app', 'INSERT OR UPDATE') || ';' ||
                  replace(test.with_trigger('keep', 'zone', 'INSERT OR UPDATE'), 'added', 'added_too'), text) AS kept,
       test.after(test.with_trigger('replace', 'app', 'INSERT OR UPDATE') || ';' ||
                  replace(test.with_trigger('replace', 'zone', 'INSERT OR UPDATE'), 'added', 'added_too'), text) AS replaced) AS after
 WHERE name ~ 'app|zone|Key|token|deletion' ORDER BY place;
SELECT name, test.after(test.with_trigger('keep', 'request', 'INSERT'), text) AS kept FROM call
 WHERE name IN ('create_app', 'reset_app_secret', 'modify_app') ORDER BY place;

-- One that writes the row again afterwards, which no statement returns; where it leaves version and secrets alone, nothing
-- is wrong.
CREATE FUNCTION test.again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('UPDATE keyrot.%I SET %s WHERE %s', TG_TABLE_NAME, TG_ARGV[0],
                   CASE TG_TABLE_NAME WHEN 'app' THEN 'app_key = $1.app_key' ELSE 'zone_id = $1.zone_id' END) USING NEW;
    RETURN NULL;
END $$;
CREATE FUNCTION test.with_again(change text) RETURNS text LANGUAGE sql AS $$
SELECT string_agg(format('CREATE TRIGGER added AFTER INSERT OR UPDATE ON keyrot.%I FOR EACH ROW WHEN (pg_trigger_depth() = 0) '
                         'EXECUTE FUNCTION test.again(%L)', name, change), '; ') FROM unnest('{app,zone}'::text[]) AS name $$;
SELECT name, version, secret, previous, other FROM call, LATERAL (SELECT
       test.after(test.with_again('version = version + 1'), text) AS version,
       test.after(test.with_again($$secret = '\x00'$$), text) AS secret,
       test.after(test.with_again($$previous_secret = '\x00'$$), text) AS previous,
       test.after(test.with_again('created_at = now()'), text) AS other) AS after
 WHERE name ~ 'app|zone|Key|token|deletion' AND name !~ 'owner|modify|verify|describe' ORDER BY place;

-- What changes many rows looks for those that it has not changed.
CREATE ROLE regress_departed;
SELECT app_id > 0 AS done FROM keyrot.create_app('Left behind', 'added.left');
SELECT keyrot.create_zone_key('added-left') IS NOT NULL AS done;
SELECT keyrot.set_app_owner('added.left', 'regress_departed') IS NOT NULL AS done;
SELECT keyrot.set_zone_owner('added-left', 'regress_departed') IS NOT NULL AS done;
INSERT INTO keyrot.retry (caller, caller_oid, client_token, request_id, action, target, grace_period, grace_from, secret_given, created_at)
VALUES ('regress_departed', 'regress_departed'::regrole, 'of the departed', gen_random_uuid(), 'reset_app_secret', 'added.left', 0, 'rotation', false, now());
ALTER ROLE regress_departed RENAME TO regress_returned;
CREATE FUNCTION test.count_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.version := OLD.version + 1; RETURN NEW; END $$;
SELECT function, "table", test.after('SELECT', text) AS untouched,
       test.after(test.with_trigger('swallow', "table", 'UPDATE OR DELETE'), text) AS swallowed,
       test.after(test.with_trigger('count_up', "table", 'UPDATE'), text) AS counted_up
  FROM (VALUES (1, 'rebind_owners', 'app', 'SELECT keyrot.rebind_owners()'),
               (2, 'rebind_owners', 'zone', 'SELECT keyrot.rebind_owners()'),
               (3, 'rebind_owners', 'retry', 'SELECT keyrot.rebind_owners()'),
               (4, 'prune_requests', 'request', $$SELECT keyrot.prune_requests('0')$$)) AS many (place, function, "table", text)
 ORDER BY place;
BEGIN;
SELECT keyrot.rebind_owners() AS rebound;
ROLLBACK;

-- Triggers of each kind fire, as the owner, once for each row or statement.
CREATE TABLE test.seen (place serial, what text);
CREATE FUNCTION test.see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO test.seen (what) VALUES (concat_ws(' ', TG_NAME, TG_WHEN, TG_OP, TG_LEVEL));
    RETURN NEW;
END $$;
CREATE FUNCTION test.see_rows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO test.seen (what) SELECT concat_ws(' ', TG_NAME, n.version, 'for', o.version) FROM n JOIN o USING (zone_id);
    RETURN NULL;
END $$;
BEGIN;
CREATE TRIGGER a_row BEFORE UPDATE ON keyrot.zone FOR EACH ROW EXECUTE FUNCTION test.see();
CREATE TRIGGER b_version BEFORE UPDATE OF version ON keyrot.zone FOR EACH ROW EXECUTE FUNCTION test.see();
CREATE TRIGGER c_owner BEFORE UPDATE OF owner ON keyrot.zone FOR EACH ROW EXECUTE FUNCTION test.see();
CREATE TRIGGER d_when AFTER UPDATE ON keyrot.zone FOR EACH ROW WHEN (NEW.version > OLD.version) EXECUTE FUNCTION test.see();
CREATE TRIGGER e_statement BEFORE UPDATE ON keyrot.zone EXECUTE FUNCTION test.see();
CREATE TRIGGER f_statement AFTER UPDATE ON keyrot.zone EXECUTE FUNCTION test.see();
CREATE TRIGGER g_rows AFTER UPDATE ON keyrot.zone REFERENCING OLD TABLE AS o NEW TABLE AS n
    FOR EACH STATEMENT EXECUTE FUNCTION test.see_rows();
CREATE CONSTRAINT TRIGGER h_deferred AFTER UPDATE ON keyrot.zone INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION test.see();
CREATE TRIGGER i_log AFTER INSERT ON keyrot.request EXECUTE FUNCTION test.see();
SELECT secret_key FROM keyrot.refresh_zone_key('added-zone') \gset
SELECT test.zone_accepts('added-zone', :'secret_key') AS works;
SET CONSTRAINTS ALL IMMEDIATE;
SELECT what FROM test.seen ORDER BY place;
ROLLBACK;

-- A rule is refused wherever something is written, read or not, and leaves nothing behind in the session when it goes.
SELECT kind, name, test.after(rule, text) FROM call, (VALUES
    (1, 'instead nothing', 'CREATE RULE added AS ON UPDATE TO keyrot.zone DO INSTEAD NOTHING'),
    (2, 'conditional', 'CREATE RULE added AS ON UPDATE TO keyrot.zone WHERE NEW.version > 2 DO INSTEAD NOTHING'),
    (3, 'also', 'CREATE RULE added AS ON INSERT TO keyrot.request DO ALSO DELETE FROM test.seen')) AS r (n, kind, rule)
 WHERE name IN ('refresh_zone_key', 'verify_zone_string', 'create_zone_key') ORDER BY n, place;
SELECT request_id IS NOT NULL AS done FROM keyrot.refresh_zone_key('added-zone');
CREATE RULE added AS ON UPDATE TO keyrot.zone DO INSTEAD NOTHING;
\set VERBOSITY default
SELECT request_id IS NOT NULL AS done FROM keyrot.refresh_zone_key('added-zone');
\set VERBOSITY terse
SELECT keyrot.create_zone_key('added-gone') IS NOT NULL AS done;
DROP RULE added ON keyrot.zone;
SELECT request_id IS NOT NULL AS done FROM keyrot.refresh_zone_key('added-zone');
SELECT keyrot.create_zone_key('added-gone') IS NOT NULL AS done;
SELECT version FROM keyrot.describe_zone_key('added-zone');

-- What tables say of their rows: the functions run as the owner, and what they refuse is refused.
CREATE FUNCTION public.check_version(version integer) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RAISE NOTICE 'the owner: %', current_user = (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'keyrot.zone'::regclass);
    RETURN version < 5;
END $$;
GRANT USAGE ON SCHEMA keyrot TO regress_adder;
GRANT EXECUTE ON FUNCTION keyrot.refresh_zone_key TO regress_adder;
SELECT keyrot.set_zone_owner('added-zone', 'regress_adder') IS NOT NULL AS done;
BEGIN;
ALTER TABLE keyrot.zone ADD CONSTRAINT added CHECK (public.check_version(version)) NOT VALID;
SET ROLE regress_adder;
SELECT request_id IS NOT NULL AS done FROM keyrot.refresh_zone_key('added-zone');
SELECT request_id IS NOT NULL AS done FROM keyrot.refresh_zone_key('added-zone');
ROLLBACK;
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE INDEX added ON keyrot.zone (public.check_version(version)) WHERE zone_id = 'added-zone';
RESET client_min_messages;
SET ROLE regress_adder;
SELECT request_id IS NOT NULL AS done FROM keyrot.refresh_zone_key('added-zone');
ROLLBACK;
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE INDEX added ON keyrot.zone (modified_at) WHERE public.check_version(length(zone_id) - 8);
RESET client_min_messages;
SET ROLE regress_adder;
SELECT request_id IS NOT NULL AS done FROM keyrot.refresh_zone_key('added-zone');
ROLLBACK;

-- Columns of somebody's: filled in as in any INSERT.
CREATE DOMAIN test.ticket AS text DEFAULT 'none' CHECK (VALUE <> '');
CREATE DOMAIN test.number AS integer NOT NULL;
BEGIN;
ALTER TABLE keyrot.request ADD COLUMN region text NOT NULL DEFAULT 'here', ADD COLUMN ticket test.ticket,
    ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY, ADD COLUMN day text GENERATED ALWAYS AS (action || '!') STORED;
ALTER TABLE keyrot.zone ADD COLUMN twice integer GENERATED ALWAYS AS (version * 2) STORED;
SELECT secret_key, request_id FROM keyrot.refresh_zone_key('added-zone') \gset
SELECT test.zone_accepts('added-zone', :'secret_key') AS works;
SELECT region, ticket, number > 0 AS numbered, day FROM keyrot.request WHERE request_id = :'request_id';
SELECT version, twice FROM keyrot.zone WHERE zone_id = 'added-zone';
ROLLBACK;
SELECT name, test.after('ALTER TABLE keyrot.retry ADD COLUMN number test.number DEFAULT 1; '
                        'ALTER TABLE keyrot.retry ALTER COLUMN number DROP DEFAULT', text) AS domain,
       test.after('ALTER TABLE keyrot.app ADD COLUMN number integer NOT NULL DEFAULT 1; '
                  'ALTER TABLE keyrot.app ALTER COLUMN number DROP DEFAULT', text) AS not_null,
       test.after('ALTER TABLE keyrot.app ALTER COLUMN app_id ADD GENERATED ALWAYS AS IDENTITY', text) AS identity
  FROM call WHERE name IN ('create_app', 'reset_app_secret', 'with a client_token') ORDER BY place;
-- A column that came and went costs nothing.
BEGIN;
ALTER TABLE keyrot.zone ADD COLUMN passing text;
ALTER TABLE keyrot.zone DROP COLUMN passing;
SELECT secret_key FROM keyrot.refresh_zone_key('added-zone') \gset
SELECT test.zone_accepts('added-zone', :'secret_key') AS works;
ROLLBACK;

-- Row security, where the owner is subject to it.  Its rows are then not there, or not to be written.
CREATE ROLE regress_table_owner;
GRANT ALL ON SCHEMA keyrot, test TO regress_table_owner;
CREATE FUNCTION test.secured(policy text) RETURNS text LANGUAGE sql AS $$
SELECT 'ALTER TABLE keyrot.app OWNER TO regress_table_owner; ALTER TABLE keyrot.zone OWNER TO regress_table_owner;'
       'ALTER TABLE keyrot.request OWNER TO regress_table_owner; ALTER TABLE keyrot.gateway OWNER TO regress_table_owner;'
       'ALTER TABLE keyrot.data_key OWNER TO regress_table_owner; ALTER TABLE keyrot.retry OWNER TO regress_table_owner;'
       'ALTER TABLE keyrot.zone ENABLE ROW LEVEL SECURITY;' || policy $$;
SELECT policy, name, test.after(test.secured(command), text) FROM call, (VALUES
    (1, 'not forced', ''),
    (2, 'forced, none', 'ALTER TABLE keyrot.zone FORCE ROW LEVEL SECURITY'),
    (3, 'forced, all', 'ALTER TABLE keyrot.zone FORCE ROW LEVEL SECURITY; CREATE POLICY p ON keyrot.zone USING (true)'),
    (4, 'forced, to read', 'ALTER TABLE keyrot.zone FORCE ROW LEVEL SECURITY; CREATE POLICY p ON keyrot.zone FOR SELECT USING (true)'),
    (5, 'forced, to be kept', 'ALTER TABLE keyrot.zone FORCE ROW LEVEL SECURITY; CREATE POLICY p ON keyrot.zone USING (true) WITH CHECK (version < 3)'))
    AS p (n, policy, command)
 WHERE name IN ('refresh_zone_key', 'describe_zone_key', 'create_zone_key') ORDER BY n, place;

-- What concerns only how rows are kept changes nothing.
BEGIN;
ALTER TABLE keyrot.zone REPLICA IDENTITY FULL;
SET client_min_messages = error;
CREATE PUBLICATION regress_added FOR TABLE keyrot.zone, keyrot.request;
RESET client_min_messages;
SELECT secret_key FROM keyrot.refresh_zone_key('added-zone') \gset
SELECT test.zone_accepts('added-zone', :'secret_key') AS works;
ALTER TABLE keyrot.zone REPLICA IDENTITY NOTHING;
SAVEPOINT nothing;
SELECT request_id IS NOT NULL AS done FROM keyrot.refresh_zone_key('added-zone');
ROLLBACK;
BEGIN;
CREATE ACCESS METHOD regress_heap TYPE TABLE HANDLER heap_tableam_handler;
ALTER TABLE keyrot.zone SET ACCESS METHOD regress_heap;
ALTER TABLE keyrot.request SET UNLOGGED;
ALTER TABLE keyrot.zone SET TABLESPACE pg_default;
SELECT secret_key FROM keyrot.refresh_zone_key('added-zone') \gset
SELECT test.zone_accepts('added-zone', :'secret_key') AS works;
ROLLBACK;
-- Tables that inherit from it, another key, and a foreign key of somebody's to it.
BEGIN;
CREATE TABLE test.child () INHERITS (keyrot.zone);
SELECT secret_key FROM keyrot.refresh_zone_key('added-zone') \gset
SELECT test.zone_accepts('added-zone', :'secret_key') AS works;
ROLLBACK;
SELECT name, test.after('ALTER TABLE keyrot.zone DROP CONSTRAINT zone_pkey, ADD CONSTRAINT zone_pkey PRIMARY KEY (owner_name, zone_id)', text)
  FROM call WHERE name IN ('refresh_zone_key', 'create_zone_key', 'verify_zone_string') ORDER BY place;
BEGIN;
CREATE TABLE test.site (zone_id text COLLATE "C" REFERENCES keyrot.zone);
INSERT INTO test.site VALUES ('added-zone');
SELECT secret_key FROM keyrot.refresh_zone_key('added-zone') \gset
SELECT test.zone_accepts('added-zone', :'secret_key') AS works;
ROLLBACK;

SELECT request_id IS NOT NULL AS done FROM keyrot.refresh_zone_key('added-zone');
DROP TABLE call, test.seen;
DROP FUNCTION test.after(text, text), test.swallow(), test.refuse(), test.keep(), test.replace(), test.see(), test.see_rows(),
    test.again(), test.with_again(text), test.count_up(), test.with_trigger(text, text, text), test.secured(text), public.check_version(integer);
DROP DOMAIN test.ticket, test.number;
DROP OWNED BY regress_table_owner, regress_adder;
DROP ROLE regress_table_owner;
DELETE FROM keyrot.gateway WHERE zone_id ~ '^added';
DELETE FROM keyrot.zone WHERE zone_id ~ '^added';
DELETE FROM keyrot.app WHERE app_key ~ '^added';
DELETE FROM keyrot.retry WHERE client_token = 'of the departed';
DROP ROLE regress_returned;
DROP ROLE regress_adder;
