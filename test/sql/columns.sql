-- keyrot's tables are read by the positions and types of their columns.  Where somebody has altered one, there is an
-- error that names it, and no value is read.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SELECT app_key FROM keyrot.create_app('Columns', 'columns.app', 'columns-secret-one');
SELECT keyrot.create_zone_key('columns-zone', test.secret_key(7)) IS NOT NULL AS done;

-- What a call comes to after a change; both are undone.
CREATE FUNCTION test.after(change text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text := 'ok';
BEGIN
    EXECUTE change;
    BEGIN
        EXECUTE call;
    EXCEPTION WHEN OTHERS THEN
        result := SQLSTATE || ': ' || SQLERRM;
    END;
    RAISE SQLSTATE 'UNDO0' USING MESSAGE = result;
EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
    RETURN SQLERRM;
END $$;
CREATE TEMP TABLE call AS SELECT $$SELECT keyrot.verify_app_string('columns.app', 'm', 's')$$::text AS verify,
    $$SELECT keyrot.reset_app_secret('columns.app')$$::text AS reset;

-- Each column of each table: taken away, renamed, of another type or collation, without its NOT NULL.  The views
-- stand in the way of some, and whoever means it takes them away.
CREATE TEMP TABLE change AS
WITH views AS (
    SELECT string_agg(format('ALTER EXTENSION keyrot DROP VIEW keyrot.%1$I; DROP VIEW keyrot.%1$I;', relname), ' ') AS gone
      FROM pg_class WHERE relnamespace = 'keyrot'::regnamespace AND relkind = 'v'
), columns AS (
    SELECT a.*, relname, format('ALTER TABLE keyrot.%I ', relname) AS alter,
           EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = attrelid AND indisprimary AND attnum = ANY (indkey)) AS is_key
      FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = attrelid
     WHERE relnamespace = 'keyrot'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
)
SELECT kind, relname, attname, gone || ' ' || alter || command AS command FROM columns, views, LATERAL (VALUES
    ('dropped', format('DROP COLUMN %I CASCADE', attname)),
    ('renamed', format('RENAME COLUMN %I TO other', attname)),
    ('retyped', format('ALTER COLUMN %1$I TYPE varchar COLLATE "C" USING %1$I::text', attname)),
    ('collated', CASE WHEN attcollation <> 0 THEN format('ALTER COLUMN %I TYPE text COLLATE "POSIX"', attname) END),
    ('nullable', CASE WHEN attnotnull AND NOT is_key THEN format('ALTER COLUMN %I DROP NOT NULL', attname) END))
    AS v (kind, command)
 WHERE command IS NOT NULL;
SELECT kind, count(*) >= 15 AS many, count(DISTINCT relname) AS tables,
       count(*) FILTER (WHERE answer <> format('55000: column "%s" of table "keyrot.%s" is not as the extension created it',
                                               attname, relname)) AS wrong
  FROM change, call, test.after(command, verify) AS answer GROUP BY kind ORDER BY kind;

-- To the user, and for any function; verifying and signing are no requests.
BEGIN;
ALTER TABLE keyrot.zone ALTER COLUMN version DROP NOT NULL;
UPDATE keyrot.zone SET version = NULL WHERE zone_id = 'columns-zone';
\set VERBOSITY default
SELECT secret_key FROM keyrot.describe_zone_key('columns-zone');
\set VERBOSITY terse
ROLLBACK;
SELECT version FROM keyrot.describe_zone_key('columns-zone');
SELECT test.after('ALTER TABLE keyrot.retry ALTER COLUMN version TYPE bigint', reset) FROM call;
SELECT test.after('ALTER TABLE keyrot.retry ALTER COLUMN version TYPE bigint',
                  $$SELECT keyrot.sign_for_app('columns.app', 'm')$$);

-- A column more is its owner's.
BEGIN;
ALTER TABLE keyrot.app ADD COLUMN ticket text;
UPDATE keyrot.app SET ticket = 'T-1' WHERE app_key = 'columns.app';
SELECT keyrot.reset_app_secret('columns.app', new_app_secret => 'columns-secret-two') IS NOT NULL AS done;
SELECT app_secret, ticket FROM keyrot.describe_app_security('columns.app') JOIN keyrot.app USING (app_key);
ROLLBACK;
SELECT app_secret, version FROM keyrot.describe_app_security('columns.app');

DROP FUNCTION test.after(text, text);
DROP TABLE call, change;
