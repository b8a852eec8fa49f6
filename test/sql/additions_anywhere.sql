-- Each kind of addition to each of keyrot's tables: what harms nothing leaves every call as it is, and what refuses a
-- row refuses the calls that write one there, and no others.  What triggers see, and what a rule leaves behind, is
-- tested in additions.
\set VERBOSITY terse
\set SHOW_CONTEXT never
CREATE ROLE regress_anywhere;
SELECT app_id > 0 AS done FROM keyrot.create_app('Anywhere', 'any.app', 'anywhere-secret-number-one');
SELECT keyrot.reset_app_secret('any.app', grace_period => '1 hour') IS NOT NULL AS done;
SELECT keyrot.set_app_policy('any.app', '1 day') IS NOT NULL AS done;
UPDATE keyrot.app SET due_at = now() WHERE app_key = 'any.app';
SELECT keyrot.create_zone_key('any-zone', test.secret_key(1)) IS NOT NULL AS done;
SELECT request_id IS NOT NULL AS done FROM keyrot.refresh_zone_key('any-zone', '1 hour');
SELECT gateway_id FROM keyrot.add_gateway('any-zone', 'any-gateway');
SELECT keyrot.rotate_master_key(rewrap => false) IS NOT NULL AS done;

CREATE FUNCTION test.pass() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN coalesce(NEW, OLD); END $$;
CREATE FUNCTION test.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused' USING ERRCODE = 'P0099'; END $$;
CREATE FUNCTION test.refuse_rows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM rows) THEN
        RAISE 'refused' USING ERRCODE = 'P0099';
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION test.count_rows() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM count(*) FROM rows; RETURN NULL; END $$;
CREATE DOMAIN test.ticket AS text DEFAULT 'none' CHECK (VALUE <> '');

-- What a call comes to after a change; both are undone.
CREATE FUNCTION test.after(change text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text := 'done';
BEGIN
    BEGIN
        EXECUTE change;
        EXECUTE call;
        SET CONSTRAINTS ALL IMMEDIATE;
    EXCEPTION WHEN OTHERS THEN
        result := SQLSTATE;
    END;
    RAISE SQLSTATE 'UNDO0' USING MESSAGE = result;
EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
    RETURN SQLERRM;
END $$;

CREATE TEMP TABLE call (place serial, name text, text text, writes text, reads text DEFAULT '');
INSERT INTO call (name, writes, text) VALUES
    ('create_app', 'app request', $$SELECT * FROM keyrot.create_app('n')$$),
    ('reset_app_secret', 'app request', $$SELECT keyrot.reset_app_secret('any.app')$$),
    ('with a NewAppKey', 'app request', $$SELECT keyrot.reset_app_secret('any.app', 'any.new', grace_period => '1 hour')$$),
    ('with a client_token', 'app request retry', $$SELECT keyrot.reset_app_secret('any.app', client_token => 'any')$$),
    ('repeated', 'app request retry', $$SELECT keyrot.reset_app_secret('any.app', client_token => 'any'), keyrot.reset_app_secret('any.app', client_token => 'any')$$),
    ('revert_app_secret', 'app request', $$SELECT keyrot.revert_app_secret('any.app')$$),
    ('rotate_due', 'app request', $$SELECT 1 / count(*) FROM keyrot.rotate_due()$$),
    ('modify_app', 'app request', $$SELECT keyrot.modify_app('any.app', 'm')$$),
    ('set_app_owner', 'app request', $$SELECT keyrot.set_app_owner('any.app', 'regress_anywhere')$$),
    ('disable_app', 'app request', $$SELECT keyrot.disable_app('any.app')$$),
    ('delete_app', 'app request', $$SELECT keyrot.delete_app('any.app')$$),
    ('create_zone_key', 'zone request', $$SELECT keyrot.create_zone_key('any-new')$$),
    ('refresh_zone_key', 'zone request', $$SELECT * FROM keyrot.refresh_zone_key('any-zone')$$),
    ('end_zone_grace', 'zone request', $$SELECT keyrot.end_zone_grace('any-zone')$$),
    ('delete_zone_key', 'zone gateway request', $$SELECT keyrot.delete_zone_key('any-zone')$$),
    ('add_gateway', 'zone gateway request', $$SELECT * FROM keyrot.add_gateway('any-zone')$$),
    ('remove_gateway', 'gateway request', $$SELECT keyrot.remove_gateway('any-zone', 'any-gateway')$$),
    ('describe_app_security', 'request', $$SELECT * FROM keyrot.describe_app_security('any.app')$$),
    ('rotate_data_key', 'data_key request', $$SELECT keyrot.rotate_data_key()$$),
    ('rewrap_data_keys', 'data_key request', $$SELECT keyrot.rewrap_data_keys()$$),
    ('verify_app_string', '', $$SELECT keyrot.verify_app_string('any.app', 'm', 's')$$),
    ('changes', '', $$SELECT * FROM keyrot.changes()$$);
UPDATE call SET reads = CASE name WHEN 'verify_app_string' THEN 'app data_key' ELSE 'request' END WHERE writes = '';
CREATE TEMP TABLE "table" (name text, key text);
INSERT INTO "table" VALUES ('app', 'app_key'), ('zone', 'zone_id'), ('gateway', 'zone_id'), ('request', 'target'),
    ('retry', 'client_token'), ('data_key', 'id');

-- What harms nothing.
CREATE TEMP TABLE addition (kind text, command text);
INSERT INTO addition VALUES
    ('nothing', ''),
    ('trigger before', 'CREATE TRIGGER added BEFORE INSERT OR UPDATE OR DELETE ON keyrot.%1$I FOR EACH ROW EXECUTE FUNCTION test.pass()'),
    ('trigger after', 'CREATE TRIGGER added AFTER INSERT OR UPDATE OR DELETE ON keyrot.%1$I FOR EACH ROW EXECUTE FUNCTION test.pass()'),
    ('trigger before statement', 'CREATE TRIGGER added BEFORE INSERT OR UPDATE OR DELETE ON keyrot.%1$I EXECUTE FUNCTION test.pass()'),
    ('trigger after statement', 'CREATE TRIGGER added AFTER INSERT OR UPDATE OR DELETE ON keyrot.%1$I EXECUTE FUNCTION test.pass()'),
    ('trigger of a column', 'CREATE TRIGGER added BEFORE UPDATE OF %2$I ON keyrot.%1$I FOR EACH ROW EXECUTE FUNCTION test.refuse()'),
    ('trigger of truncation', 'CREATE TRIGGER added BEFORE TRUNCATE ON keyrot.%1$I EXECUTE FUNCTION test.refuse()'),
    ('transition tables', 'CREATE TRIGGER added_i AFTER INSERT ON keyrot.%1$I REFERENCING NEW TABLE AS rows EXECUTE FUNCTION test.count_rows();'
        'CREATE TRIGGER added_u AFTER UPDATE ON keyrot.%1$I REFERENCING NEW TABLE AS rows OLD TABLE AS old EXECUTE FUNCTION test.count_rows();'
        'CREATE TRIGGER added_d AFTER DELETE ON keyrot.%1$I REFERENCING OLD TABLE AS rows EXECUTE FUNCTION test.count_rows()'),
    ('constraint trigger', 'CREATE CONSTRAINT TRIGGER added AFTER INSERT OR UPDATE ON keyrot.%1$I INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION test.pass()'),
    ('check', 'ALTER TABLE keyrot.%1$I ADD CHECK (%2$I::text <> '''')'),
    ('domain', 'ALTER TABLE keyrot.%1$I ADD COLUMN added test.ticket'),
    ('not null default', 'ALTER TABLE keyrot.%1$I ADD COLUMN added text NOT NULL DEFAULT ''x'''),
    ('generated', 'ALTER TABLE keyrot.%1$I ADD COLUMN added text GENERATED ALWAYS AS (%2$I::text || ''!'') STORED'),
    ('identity', 'ALTER TABLE keyrot.%1$I ADD COLUMN added bigint GENERATED ALWAYS AS IDENTITY'),
    ('expression index', 'CREATE INDEX ON keyrot.%1$I ((%2$I::text || ''!''))'),
    ('partial index', 'CREATE INDEX ON keyrot.%1$I (%2$I) WHERE %2$I::text > ''m'''),
    ('row security', 'ALTER TABLE keyrot.%1$I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY'),
    ('replica identity', 'ALTER TABLE keyrot.%1$I REPLICA IDENTITY FULL; SET LOCAL client_min_messages = error;'
        'CREATE PUBLICATION regress_added FOR TABLE keyrot.%1$I'),
    ('access method', 'CREATE ACCESS METHOD regress_heap TYPE TABLE HANDLER heap_tableam_handler; ALTER TABLE keyrot.%1$I SET ACCESS METHOD regress_heap'),
    ('unlogged', 'ALTER TABLE keyrot.%1$I SET UNLOGGED'),
    ('column that went', 'ALTER TABLE keyrot.%1$I ADD COLUMN added text DEFAULT ''x''; ALTER TABLE keyrot.%1$I DROP COLUMN added'),
    ('table that inherits', 'CREATE TABLE test.child () INHERITS (keyrot.%1$I)');
SELECT kind, count(*) AS calls, coalesce(string_agg(DISTINCT format('%s: %s of %s', result, c.name, t.name), ', ') FILTER (WHERE result <> 'done'), '') AS wrong
  FROM addition AS a, "table" AS t JOIN call AS c ON writes || reads ~ ('\m' || t.name || '\M'),
       LATERAL test.after(format(command, t.name, key), text) AS result
 GROUP BY kind ORDER BY kind;

-- In another tablespace; not undone with each call, for PostgreSQL 15 mistakes what is left of a table that was moved and
-- moved back by a rollback.
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE regress_added LOCATION '';
SELECT format('ALTER TABLE keyrot.%I SET TABLESPACE regress_added', name) FROM "table" \gexec
SELECT result, count(*) AS calls FROM call, LATERAL test.after('', text) AS result GROUP BY result;
SELECT format('ALTER TABLE keyrot.%I SET TABLESPACE pg_default', name) FROM "table" \gexec
DROP TABLESPACE regress_added;

-- What refuses rows: the error is the addition's own, wherever a row is written, and nowhere else.
TRUNCATE addition;
INSERT INTO addition VALUES
    ('P0099 before', 'CREATE TRIGGER added BEFORE INSERT OR UPDATE OR DELETE ON keyrot.%1$I FOR EACH ROW EXECUTE FUNCTION test.refuse()'),
    ('P0099 after', 'CREATE TRIGGER added AFTER INSERT OR UPDATE OR DELETE ON keyrot.%1$I FOR EACH ROW EXECUTE FUNCTION test.refuse()'),
    ('P0099 transition tables', 'CREATE TRIGGER added_i AFTER INSERT ON keyrot.%1$I REFERENCING NEW TABLE AS rows EXECUTE FUNCTION test.refuse_rows();'
        'CREATE TRIGGER added_u AFTER UPDATE ON keyrot.%1$I REFERENCING NEW TABLE AS rows EXECUTE FUNCTION test.refuse_rows();'
        'CREATE TRIGGER added_d AFTER DELETE ON keyrot.%1$I REFERENCING OLD TABLE AS rows EXECUTE FUNCTION test.refuse_rows()'),
    ('P0099 constraint trigger', 'CREATE CONSTRAINT TRIGGER added AFTER INSERT OR UPDATE OR DELETE ON keyrot.%1$I INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION test.refuse()');
SELECT kind, count(*) AS calls, coalesce(string_agg(format('%s: %s of %s', result, c.name, t.name), ', ' ORDER BY place, t.name)
           FILTER (WHERE result <> CASE WHEN writes ~ ('\m' || t.name || '\M') THEN left(kind, 5) ELSE 'done' END), '') AS wrong
  FROM addition AS a, "table" AS t, call AS c, LATERAL test.after(format(command, t.name, key), text) AS result
 GROUP BY kind ORDER BY kind;

-- Rules are refused: where a row is written, and by whatever else runs statements that write.
TRUNCATE addition;
INSERT INTO addition VALUES
    ('instead', 'CREATE RULE i AS ON INSERT TO keyrot.%1$I DO INSTEAD NOTHING; CREATE RULE u AS ON UPDATE TO keyrot.%1$I DO INSTEAD NOTHING;'
        'CREATE RULE d AS ON DELETE TO keyrot.%1$I DO INSTEAD NOTHING'),
    ('also', 'CREATE RULE i AS ON INSERT TO keyrot.%1$I DO ALSO NOTIFY added; CREATE RULE u AS ON UPDATE TO keyrot.%1$I DO ALSO NOTIFY added;'
        'CREATE RULE d AS ON DELETE TO keyrot.%1$I DO ALSO NOTIFY added');
SELECT kind, count(*) AS calls, coalesce(string_agg(format('%s: %s of %s', result, c.name, t.name), ', ' ORDER BY place, t.name)
           FILTER (WHERE result NOT IN ('55000', '0A000') AND (result <> 'done' OR writes ~ ('\m' || t.name || '\M'))), '') AS wrong
  FROM addition AS a, "table" AS t, call AS c, LATERAL test.after(format(command, t.name, key), text) AS result
 GROUP BY kind ORDER BY kind;

-- Row security that is forced on an owner who is no superuser.
GRANT ALL ON SCHEMA keyrot, test TO regress_anywhere;
CREATE FUNCTION test.secured("table" text, policy text) RETURNS text LANGUAGE sql AS $$
SELECT 'ALTER SEQUENCE keyrot.app_id OWNER TO regress_anywhere;' || string_agg(format('ALTER TABLE keyrot.%I OWNER TO regress_anywhere', name), ';') ||
       format(';ALTER TABLE keyrot.%1$I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY p ON keyrot.%1$I USING (true) WITH CHECK (%2$s)',
              "table", policy) FROM "table" AS t (name) $$;
SELECT policy, count(*) AS calls, coalesce(string_agg(format('%s: %s of %s', result, c.name, t.name), ', ' ORDER BY place, t.name)
           FILTER (WHERE result <> CASE WHEN policy = 'true' OR t.name || c.name ~ 'gateway(remove|delete)' THEN 'done' ELSE '55000' END), '') AS wrong
  FROM (VALUES ('true'), ('false')) AS p (policy), "table" AS t JOIN call AS c ON writes ~ ('\m' || t.name || '\M'),
       LATERAL test.after(test.secured(t.name, policy), text) AS result
 GROUP BY policy ORDER BY policy;

DROP FUNCTION test.secured(text, text);
REVOKE ALL ON SCHEMA keyrot, test FROM regress_anywhere;
DROP TABLE call, "table", addition;
DROP FUNCTION test.after(text, text), test.pass(), test.refuse(), test.refuse_rows(), test.count_rows();
DROP DOMAIN test.ticket;
SELECT keyrot.rewrap_data_keys() > 0 AS done;
DELETE FROM keyrot.gateway WHERE zone_id ~ '^any';
DELETE FROM keyrot.zone WHERE zone_id ~ '^any';
DELETE FROM keyrot.app WHERE app_key ~ '^any';
DROP ROLE regress_anywhere;
