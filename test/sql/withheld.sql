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
DROP FUNCTION swallow() CASCADE;
CALL keyrot.reseal();
RESET client_min_messages;
RESET statement_timeout;
