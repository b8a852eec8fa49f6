-- A failed action of api() is undone and nothing else is: the caller's transaction goes on, before and after
-- it, with the request's row in it; rolled back with it, too.  In a read-only transaction, and where a call
-- can have no answer, api() raises.
\set SHOW_CONTEXT never
CREATE FUNCTION test.api_answer(action text, params jsonb) RETURNS text LANGUAGE sql VOLATILE AS
$$ SELECT concat_ws(' ', http_status, coalesce(body ->> 'Code', body #>> '{Response,Error,Code}', 'ok')) FROM keyrot.api(action, params) $$;
CREATE TEMP TABLE work (what text);
CREATE TEMP VIEW now AS
SELECT id, version, state, (SELECT string_agg(r.action || ' ' || outcome, ', ' ORDER BY r.request_id) FROM keyrot.request AS r WHERE target = id) AS log,
       (SELECT count(*) FROM work) AS work_done FROM keyrot.credentials WHERE id LIKE 'apitx%' ORDER BY id;
SELECT app_key FROM keyrot.create_app('Transactions', 'apitx.app', 'apitx-secret-number-1');
SELECT app_key FROM keyrot.create_app('Transactions', 'apitx.taken', 'apitx-secret-number-1');

BEGIN;
INSERT INTO work VALUES ('before');
SELECT test.api_answer('ResetAppSecret', '{"AppKey": "apitx.app", "NewAppSecret": "apitx-secret-number-2"}') AS answer;
-- Fails after a new version was sealed.
SELECT test.api_answer('ResetAppSecret', '{"AppKey": "apitx.app", "NewAppKey": "apitx.taken"}') AS answer;
SELECT test.api_answer('ResetAppSecret', '{"AppKey": "apitx.unknown"}') AS answer;
INSERT INTO work VALUES ('after');
SELECT * FROM now;
COMMIT;
SELECT * FROM now;
SELECT test.app_accepts('apitx.app', 'apitx-secret-number-2') AS accepted;

-- Rolled back: the caller's transaction takes the rows of what failed in it along.
BEGIN;
SELECT test.api_answer('ResetAppSecret', '{"AppKey": "apitx.app"}') AS answer;
SELECT test.api_answer('DeleteApp', '{"AppKey": "apitx.app", "AppId": "x"}') AS answer;
SAVEPOINT s;
SELECT test.api_answer('DeleteApp', '{"AppKey": "apitx.app"}') AS answer;
ROLLBACK TO s;
SELECT * FROM now;
ROLLBACK;
SELECT * FROM now;

-- What an action did before it failed is undone: here the row of the new AppKey, and a trigger's own work.
CREATE FUNCTION test.api_late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO work VALUES ('by the trigger');
    IF NEW.secret IS NULL THEN
        RAISE EXCEPTION 'late';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER late AFTER UPDATE ON keyrot.app FOR EACH ROW EXECUTE FUNCTION test.api_late();
BEGIN;
SELECT test.api_answer('ResetAppSecret', '{"AppKey": "apitx.app", "NewAppKey": "apitx.new"}') AS answer;
SELECT test.api_answer('DeleteApp', '{"AppKey": "apitx.taken"}') AS answer;
SELECT * FROM now;
SELECT test.api_answer('ResetAppSecret', '{"AppKey": "apitx.app"}') AS answer;
COMMIT;
SELECT * FROM now;
DROP TRIGGER late ON keyrot.app;
SELECT test.api_answer('CreateApp', '{"AppName": "Transactions", "AppKey": "apitx.new"}') AS free_still;

-- Inside a statement of keyrot's own, which runs as another role: the session's role and path are as they were.
CREATE FUNCTION test.api_never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'never'; END $$;
CREATE TRIGGER early BEFORE INSERT ON keyrot.app FOR EACH ROW EXECUTE FUNCTION test.api_never();
SELECT test.api_answer('CreateApp', '{"AppName": "Transactions"}') AS answer;
DROP TRIGGER early ON keyrot.app;
SELECT current_user = session_user AS same_user, current_setting('search_path') AS search_path;

-- A request that can't be recorded as done is not done.
CREATE FUNCTION test.api_unrecorded() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF NEW.outcome = 'ok' THEN RAISE EXCEPTION 'no room'; END IF; RETURN NEW; END $$;
CREATE TRIGGER unrecorded BEFORE INSERT ON keyrot.request FOR EACH ROW EXECUTE FUNCTION test.api_unrecorded();
SELECT test.api_answer('DeleteApp', '{"AppKey": "apitx.new"}') AS answer;
DROP TRIGGER unrecorded ON keyrot.request;
SELECT * FROM now WHERE id = 'apitx.new';

-- Many in one statement, in PL/pgSQL, in exception blocks; the session's own state is as it was.
SELECT n, test.api_answer('ResetAppSecret', CASE n % 2 WHEN 0 THEN '{"AppKey": "apitx.new"}' ELSE '{"AppKey": "apitx.gone"}' END::jsonb) AS answer
  FROM generate_series(1, 4) AS n;
DO $$
BEGIN
    PERFORM keyrot.api('ResetAppSecret', '{"AppKey": "apitx.new"}');
    PERFORM keyrot.api('ResetAppSecret', '{"AppKey": "apitx.gone"}');
    BEGIN
        PERFORM keyrot.api('ResetAppSecret', '{"AppKey": "apitx.new"}');
        PERFORM keyrot.api('ResetAppSecret', '{"AppKey": "apitx.gone"}');
        RAISE EXCEPTION 'undo';
    EXCEPTION WHEN raise_exception THEN
        PERFORM keyrot.api('ResetAppSecret', '{}');
    END;
END $$;
SELECT version, log FROM now WHERE id = 'apitx.new';
SELECT count(*) AS gone FROM keyrot.request WHERE target = 'apitx.gone' AND outcome = 'P0002' AND version IS NULL;
SELECT current_user = session_user AS same_user, current_setting('search_path') AS search_path;

-- Read-only: raised at once, with the RequestId, whatever is wrong with the call besides; nothing is answered.
BEGIN READ ONLY;
SELECT t.state, t.message, t.context ~ 'keyrot request [-0-9a-f]{36}: ' AS has_request_id
  FROM (VALUES ($$'DescribeAppSecurity', '{"AppKey": "apitx.app"}'$$), ($$'ResetAppSecret', '{}'$$), ($$NULL$$)) AS v (arguments),
       test.try('api', arguments, NULL) AS t;
COMMIT;

-- Cancelled while it waits: raised, and nothing is done.
CREATE FUNCTION test.api_slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(300); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE UPDATE ON keyrot.app FOR EACH ROW EXECUTE FUNCTION test.api_slow();
SET statement_timeout = '100ms';
SELECT keyrot.api('ResetAppSecret', '{"AppKey": "apitx.app"}');
RESET statement_timeout;
DROP TRIGGER slow ON keyrot.app;
SELECT * FROM now WHERE id = 'apitx.app';

-- A key that cannot be used is an InternalError that says what to do, and leaves all as it was.
CREATE TABLE test.api_data_key AS SELECT id, master_key FROM keyrot.data_key;
UPDATE keyrot.data_key SET master_key = '\x0000000000000000';
\c -
SELECT http_status, body ->> 'Code' AS code, body ->> 'Message' ~ 'wrapped by master key 0000000000000000;.*Add the line' AS says_what_to_do
  FROM keyrot.api('DescribeAppSecurity', '{"AppKey": "apitx.app"}');
SELECT body #>> '{Response,Error,Code}' AS code FROM keyrot.api('CreateMultiPathGatewaySecretKey', '{"ZoneId": "apitx-zone"}');
UPDATE keyrot.data_key AS d SET master_key = k.master_key FROM test.api_data_key AS k WHERE k.id = d.id;
DROP TABLE test.api_data_key;
\c -
SELECT test.api_answer('DescribeAppSecurity', '{"AppKey": "apitx.app"}') AS answer;
SELECT target, action, outcome FROM keyrot.request WHERE outcome = '55000' AND target LIKE 'apitx%' ORDER BY request_id;

DROP FUNCTION test.api_answer(text, jsonb), test.api_late(), test.api_never(), test.api_unrecorded(), test.api_slow();
