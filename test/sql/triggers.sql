-- A trigger that a superuser puts on one of keyrot's tables runs as the tables' owner, on PostgreSQL's own
-- search_path, whichever way the row is written, and leaves nothing open behind it.
\set VERBOSITY terse
\set SHOW_CONTEXT never

SELECT app_key FROM keyrot.create_app('watched', app_key => 'watched-app');
SELECT keyrot.create_zone_key('watched-zone') IS NOT NULL AS created;

CREATE ROLE regress_watched;
GRANT USAGE ON SCHEMA keyrot TO regress_watched;
GRANT EXECUTE ON FUNCTION keyrot.reset_app_secret, keyrot.modify_app, keyrot.refresh_zone_key TO regress_watched;
SELECT keyrot.set_app_owner('watched-app', 'regress_watched') IS NOT NULL AS given;
SELECT keyrot.set_zone_owner('watched-zone', 'regress_watched') IS NOT NULL AS given;

CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE '% % on %: the owner: %, search_path: %', TG_WHEN, TG_OP, TG_TABLE_NAME,
        current_user = (SELECT pg_catalog.pg_get_userbyid(relowner) FROM pg_catalog.pg_class WHERE oid = TG_RELID),
        pg_catalog.current_setting('search_path');
    RETURN NEW;
END $$;
CREATE TRIGGER watch_before BEFORE INSERT OR UPDATE ON keyrot.app FOR EACH ROW EXECUTE FUNCTION watch();
CREATE TRIGGER watch_after AFTER INSERT OR UPDATE ON keyrot.app FOR EACH ROW EXECUTE FUNCTION watch();
CREATE TRIGGER watch_after AFTER INSERT OR UPDATE ON keyrot.zone FOR EACH ROW EXECUTE FUNCTION watch();
CREATE TRIGGER watch_after AFTER INSERT OR UPDATE ON keyrot.request FOR EACH ROW EXECUTE FUNCTION watch();

SET ROLE regress_watched;
SET search_path = public;
-- Written without SQL.
SELECT keyrot.reset_app_secret('watched-app') IS NOT NULL AS reset;
SELECT secret_key IS NOT NULL AS refreshed FROM keyrot.refresh_zone_key('watched-zone');
-- Written by a statement.
SELECT keyrot.modify_app('watched-app', description => 'still watched') IS NOT NULL AS modified;
-- The caller is who it was, on the path that it had.
SELECT current_user, current_setting('search_path');
RESET ROLE;
RESET search_path;

-- What a trigger refuses does not happen.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON keyrot.zone FOR EACH ROW EXECUTE FUNCTION refuse();
SELECT * FROM keyrot.refresh_zone_key('watched-zone');
SELECT version FROM keyrot.credentials WHERE id = 'watched-zone';
SELECT current_user = session_user AS as_before;

DROP FUNCTION watch() CASCADE;
DROP FUNCTION refuse() CASCADE;
DROP OWNED BY regress_watched;
DROP ROLE regress_watched;
