-- What all tests need: the extension, pgcrypto as an independent maker of HMACs, and the helpers in the
-- schema "test".  The tests share this database, so each uses AppKeys and ZoneIds of its own.
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pgcrypto;
CREATE EXTENSION keyrot;
-- The server may have its master key from an earlier run.
SELECT length(keyrot.create_master_key()) AS digits;
-- They also call more often than they may; test/sql/limit.sql has limits of its own.
ALTER DATABASE :"DBNAME" SET keyrot.zone_rate_limit = 0;
SELECT extname, extversion FROM pg_extension WHERE extname = 'keyrot';

CREATE SCHEMA test;
GRANT USAGE ON SCHEMA test TO PUBLIC;

-- Whether a signature that pgcrypto makes with this secret is accepted.
CREATE FUNCTION test.app_accepts(app_key text, app_secret text) RETURNS boolean LANGUAGE sql VOLATILE AS
$$ SELECT keyrot.verify_app_signature(app_key, 'message',
                                      public.hmac('message', convert_to(app_secret, 'SQL_ASCII'), 'sha256')) $$;
CREATE FUNCTION test.zone_accepts(zone_id text, secret_key text) RETURNS boolean LANGUAGE sql VOLATILE AS
$$ SELECT keyrot.verify_zone_signature(zone_id, 'message',
                                       public.hmac('message', secret_key, 'sha256')) $$;
CREATE FUNCTION test.gateway_accepts(zone_id text, gateway_id text, secret_key text) RETURNS boolean
    LANGUAGE sql VOLATILE AS
$$ SELECT keyrot.verify_gateway_signature(zone_id, gateway_id, 'message',
                                          public.hmac('message', secret_key, 'sha256')) $$;

-- The current secrets.
CREATE FUNCTION test.secret_of(app_key text) RETURNS text LANGUAGE sql VOLATILE AS
$$ SELECT d.app_secret FROM keyrot.describe_app_security(app_key) AS d $$;
CREATE FUNCTION test.key_of(zone_id text) RETURNS text LANGUAGE sql VOLATILE AS
$$ SELECT d.secret_key FROM keyrot.describe_zone_key(zone_id) AS d $$;

-- The base64 of 32 bytes, the same for the same number: SecretKeys to give.
CREATE FUNCTION test.secret_key(number integer) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT encode(sha256(number::text::bytea), 'base64') $$;

-- Whether a UUID is one of version 7, and its time to the millisecond.
CREATE FUNCTION test.is_uuid7(id uuid) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT id::text ~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' $$;
CREATE FUNCTION test.time_of(id uuid) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
$$ SELECT to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0) $$;

-- All that keyrot has stored, as one hash.
CREATE FUNCTION test.stored() RETURNS text LANGUAGE sql VOLATILE AS
$$ SELECT md5(concat_ws('/',
       (SELECT string_agg(t::text, ',' ORDER BY t::text) FROM keyrot.app AS t),
       (SELECT string_agg(t::text, ',' ORDER BY t::text) FROM keyrot.zone AS t),
       (SELECT string_agg(t::text, ',' ORDER BY t::text) FROM keyrot.gateway AS t),
       (SELECT string_agg(t::text, ',' ORDER BY t::text) FROM keyrot.data_key AS t),
       (SELECT string_agg(t::text, ',' ORDER BY t::text) FROM keyrot.request AS t))) $$;

-- The SQLSTATE of a statement, "ok" where it succeeds.
CREATE FUNCTION test.state_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;

-- What a call of a keyrot function comes to, all of it undone afterwards.  The arguments may use $1, the
-- value under test: given as a parameter, it stands in no text that PostgreSQL adds to an error.
CREATE TYPE test.outcome AS (state text, message text, detail text, hint text, context text, constraint_name text);
CREATE FUNCTION test.try(function text, arguments text, value text) RETURNS test.outcome LANGUAGE plpgsql AS $$
DECLARE
    result test.outcome;
BEGIN
    BEGIN
        EXECUTE format('SELECT * FROM keyrot.%I(%s)', function, arguments) USING value;
        RAISE SQLSTATE 'UNDO0';
    EXCEPTION
        WHEN SQLSTATE 'UNDO0' THEN
            result.state := 'ok';
        WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS
                result.state := RETURNED_SQLSTATE,
                result.message := MESSAGE_TEXT,
                result.detail := PG_EXCEPTION_DETAIL,
                result.hint := PG_EXCEPTION_HINT,
                result.context := PG_EXCEPTION_CONTEXT,
                result.constraint_name := CONSTRAINT_NAME;
    END;
    RETURN result;
END $$;

-- What it comes to for another role.
CREATE FUNCTION test.state_as(role text, function text, arguments text, value text DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    PERFORM set_config('role', role, true);
    result := (test.try(function, arguments, value)).state;
    PERFORM set_config('role', 'none', true);
    RETURN result;
END $$;

-- Holds an outcome against the contract, and returns "as promised" or what is wrong.  A request's error
-- names its RequestId; verifying and signing are no requests.
CREATE FUNCTION test.judge(outcome test.outcome, function text, parameter text, value text, expected text,
                           before text, secret boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    wrong text[] := '{}';
BEGIN
    IF outcome.state <> expected THEN
        wrong := wrong || format('SQLSTATE is %s: %s', outcome.state, outcome.message);
    ELSIF expected <> 'ok' THEN
        IF outcome.message !~ ('\m' || parameter || '\M') THEN
            wrong := wrong || format('message does not name %s: %s', parameter, outcome.message);
        END IF;
        IF (outcome.context ~ ('^keyrot request [0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}'
                               '-[0-9a-f]{12}: ' || function || '\n')) <> (function !~ '^(verify|sign|check)_') THEN
            wrong := wrong || format('context is %s', outcome.context);
        END IF;
        IF secret AND position(value IN concat_ws('|', outcome.message, outcome.detail, outcome.hint,
                                                  outcome.context)) > 0 THEN
            wrong := wrong || 'the value is shown'::text;
        END IF;
    END IF;
    IF before <> test.stored() THEN
        wrong := wrong || 'something was stored'::text;
    END IF;
    RETURN coalesce(nullif(array_to_string(wrong, '; '), ''), 'as promised');
END $$;
