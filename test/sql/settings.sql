-- The settings: defaults, who may set and see them, what a session may do to them before the library is loaded,
-- and what status() tells.
-- A session of its own: where the server has not loaded the library, only a first call does.
\c -
\set SHOW_CONTEXT never
LOAD 'keyrot';
SELECT name, setting, unit, context, vartype, min_val, max_val, short_desc <> '' AS described
  FROM pg_settings WHERE name IN ('keyrot.max_grace', 'keyrot.operator_role') ORDER BY name;
SELECT name, context, boot_val, short_desc <> '' AS described
  FROM pg_settings WHERE name = 'keyrot.master_key_file';
-- The key file is the server's to name.
SET keyrot.master_key_file = 'nowhere';
-- No setting of the name of keyrot's but keyrot's own.
SET keyrot.no_such_setting = 1;
-- An ordinary role sees the others, and sets none.
CREATE ROLE regress_curious;
SET ROLE regress_curious;
SHOW keyrot.max_grace;
SELECT test.state_of('SHOW keyrot.master_key_file') AS show;
SELECT count(*) AS visible FROM pg_settings WHERE name = 'keyrot.master_key_file';
SET keyrot.operator_role = 'regress_curious';
SET keyrot.max_grace = '1d';
SELECT set_config('keyrot.operator_role', 'regress_curious', false);
ALTER ROLE regress_curious SET keyrot.operator_role = 'regress_curious';
RESET ROLE;

-- Before the library is loaded anybody may give the names a value; loading it takes the values away that they
-- had no right to set, so that the rules are the administrator's.
\c -
\set SHOW_CONTEXT never
SET client_min_messages = error;
GRANT USAGE ON SCHEMA keyrot TO regress_curious;
GRANT EXECUTE ON FUNCTION keyrot.list_apps, keyrot.create_app, keyrot.reset_app_secret TO regress_curious;
SELECT app_key FROM keyrot.create_app('Settings', 'settings.app');
\c -
\set SHOW_CONTEXT never
SET client_min_messages = error;
SET SESSION AUTHORIZATION regress_curious;
CREATE FUNCTION pg_temp.try_to_set(name text, value text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config(name, value, false);
EXCEPTION WHEN insufficient_privilege OR cant_change_runtime_param THEN
    NULL;
END $$;
SELECT pg_temp.try_to_set('keyrot.operator_role', 'regress_curious'), pg_temp.try_to_set('keyrot.max_grace', '1000d'),
       pg_temp.try_to_set('keyrot.master_key_file', 'nowhere');
SELECT app_key FROM keyrot.list_apps(app_name => 'Settings');
SELECT app_key FROM keyrot.create_app('Settings', 'settings.curious');
SELECT keyrot.reset_app_secret('settings.curious', grace_period => '31 days');
SELECT app_key FROM keyrot.list_apps(app_name => 'Settings');
RESET SESSION AUTHORIZATION;
SELECT name, setting = boot_val AS is_default FROM pg_settings WHERE name LIKE 'keyrot.%' AND source = 'session';
SHOW keyrot.operator_role;
SHOW keyrot.max_grace;

DROP OWNED BY regress_curious;
DROP ROLE regress_curious;

-- status() tells what is loaded, and which key, by its fingerprint.
SELECT item FROM keyrot.status() WHERE item !~ '^requests|^refusals|^worker';
CREATE TEMP VIEW state AS
    SELECT max(value) FILTER (WHERE item = 'version') AS version, max(value) FILTER (WHERE item = 'openssl') AS openssl,
           max(value) FILTER (WHERE item = 'preloaded') AS preloaded,
           max(value) FILTER (WHERE item = 'locked_memory') AS locked_memory,
           max(value) FILTER (WHERE item = 'master_key') AS master_key,
           max(value) FILTER (WHERE item = 'data_key') AS data_key,
           max(value) FILTER (WHERE item = 'data_keys') AS data_keys,
           string_agg(problem, ' ') AS problems
      FROM keyrot.status();
SELECT version = extversion AS version, openssl ~ '^OpenSSL [3-9]' AS openssl,
       (preloaded = 'yes') = (current_setting('shared_preload_libraries') LIKE '%keyrot%') AS preloaded,
       locked_memory IN ('yes', 'no') AS locked_memory, master_key ~ '^[0-9a-f]{16}$' AS fingerprint,
       master_key = (SELECT encode(k.master_key, 'hex') FROM keyrot.data_key AS k WHERE k.id = data_key::int) AS same_key,
       data_keys::int = (SELECT count(*) FROM keyrot.data_key) AS data_keys,
       coalesce(problems, '') !~ '[0-9a-f]{32}' AS problems
  FROM state, pg_extension WHERE extname = 'keyrot';
-- A row fits into 100 columns, as psql aligns them, where no word is longer: value in 26, problem in 49, item in 17.
SELECT item, value, problem FROM keyrot.status()
 WHERE length(item) > 17
    OR EXISTS (SELECT FROM string_to_table(value, E'\n') AS line WHERE length(line) > 26 AND line ~ ' ')
    OR EXISTS (SELECT FROM string_to_table(problem, E'\n') AS line WHERE length(line) > 49 AND line ~ ' ');
-- EXECUTE is the right to it.
CREATE ROLE regress_curious;
GRANT USAGE ON SCHEMA keyrot TO regress_curious;
SET ROLE regress_curious;
SELECT * FROM keyrot.status();
RESET ROLE;
DROP OWNED BY regress_curious;
DROP ROLE regress_curious;
