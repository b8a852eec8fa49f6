-- A reseal whose rows something keeps from being written ends with an error; nothing is tried for ever.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SELECT keyrot.create_zone_key('withheld-zone') IS NOT NULL AS done;
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
SELECT keyrot.rotate_data_key() > 0 AS done;
SET statement_timeout = '20s';
SET client_min_messages = error;
CREATE TRIGGER swallow BEFORE UPDATE ON keyrot.zone FOR EACH ROW EXECUTE FUNCTION swallow();
CALL keyrot.reseal();
DROP TRIGGER swallow ON keyrot.zone;
SELECT app_key FROM keyrot.create_app('Withheld', 'withheld.app');
SELECT keyrot.rotate_data_key() > 0 AS done;
CREATE TRIGGER swallow BEFORE UPDATE ON keyrot.app FOR EACH ROW EXECUTE FUNCTION swallow();
CALL keyrot.reseal();
DROP FUNCTION swallow() CASCADE;

-- One that raises makes its error the call's, in bulk rotation, too, and what is there stays as it is.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused' USING ERRCODE = 'P0099'; END $$;
CREATE TRIGGER refuse AFTER UPDATE ON keyrot.zone FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER refuse AFTER UPDATE ON keyrot.app FOR EACH ROW EXECUTE FUNCTION refuse();
CALL keyrot.reseal();
CALL keyrot.refresh_zones(zone_ids => '{withheld-zone}');
CALL keyrot.reset_apps(app_keys => '{withheld.app}');
SELECT id, version FROM keyrot.credentials WHERE id ~ '^withheld' ORDER BY id;
DROP FUNCTION refuse() CASCADE;

-- What harms nothing leaves them as they are: additions of all kinds to their tables at once.
CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN coalesce(NEW, OLD); END $$;
CREATE FUNCTION count_rows() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM count(*) FROM rows; RETURN NULL; END $$;
CREATE TEMP TABLE added (name text);
INSERT INTO added VALUES ('app'), ('zone'), ('request'), ('reseal'), ('data_key');
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT a.name FROM added AS a LOOP
        EXECUTE format('CREATE TRIGGER a BEFORE INSERT OR UPDATE OR DELETE ON keyrot.%1$I FOR EACH ROW EXECUTE FUNCTION pass();'
                       'CREATE TRIGGER b AFTER INSERT OR UPDATE OR DELETE ON keyrot.%1$I FOR EACH ROW EXECUTE FUNCTION pass();'
                       'CREATE TRIGGER c BEFORE INSERT OR UPDATE OR DELETE ON keyrot.%1$I EXECUTE FUNCTION pass();'
                       'CREATE TRIGGER d AFTER UPDATE ON keyrot.%1$I REFERENCING NEW TABLE AS rows EXECUTE FUNCTION count_rows();'
                       'CREATE TRIGGER e AFTER INSERT ON keyrot.%1$I REFERENCING NEW TABLE AS rows EXECUTE FUNCTION count_rows()', name);
        EXECUTE format('ALTER TABLE keyrot.%1$I ADD COLUMN added text NOT NULL DEFAULT ''x'', ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY,'
                       ' ADD COLUMN twice text GENERATED ALWAYS AS (''x'') STORED, ADD CHECK (added <> ''''), REPLICA IDENTITY FULL,'
                       ' ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;'
                       'CREATE INDEX ON keyrot.%1$I ((added || ''!'')) WHERE added <> ''y''', name);
    END LOOP;
END $$;
CALL keyrot.reseal();
CALL keyrot.refresh_zones(zone_ids => '{withheld-zone}', grace_period => '1 hour');
CALL keyrot.reset_apps(app_keys => '{withheld.app}', grace_period => '1 hour');
SELECT keyrot.rotate_data_key() > 0 AS done;
CALL keyrot.reseal();
SELECT version, test.app_accepts('withheld.app', test.secret_of('withheld.app')) AS works FROM keyrot.credentials WHERE id = 'withheld.app';
SELECT version, test.zone_accepts('withheld-zone', test.key_of('withheld-zone')) AS works FROM keyrot.credentials WHERE id = 'withheld-zone';
SELECT keyrot.revert_zone_key('withheld-zone') IS NOT NULL AS done;
SELECT test.zone_accepts('withheld-zone', test.key_of('withheld-zone')) AS works;
SELECT keyrot.prune_requests('1 year') >= 0 AS pruned;
DROP FUNCTION pass() CASCADE;
DROP FUNCTION count_rows() CASCADE;
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT a.name FROM added AS a LOOP
        EXECUTE format('ALTER TABLE keyrot.%I DROP COLUMN added CASCADE, DROP COLUMN number, DROP COLUMN twice, REPLICA IDENTITY DEFAULT,'
                       ' DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', name);
    END LOOP;
END $$;
DROP TABLE added;
DELETE FROM keyrot.app WHERE app_key = 'withheld.app';
RESET client_min_messages;
RESET statement_timeout;
