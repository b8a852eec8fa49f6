-- What the benchmark measures on: keyrot's own tables, and a copy of them for each peer.
--
-- A peer's tables have the columns, constraints, indexes and fillfactor of keyrot's, and the same rows, so
-- that both write the same bytes into the same kind of page.  What keyrot has beyond that (rights, RequestIds in
-- errors) is keyrot's cost and not the peer's.

CREATE EXTENSION keyrot;
SELECT keyrot.create_master_key();
CREATE EXTENSION pgcrypto;

-- What is measured is the work; the default limit of 20 a second would be measured otherwise.
SET keyrot.zone_rate_limit = 0;
ALTER DATABASE keyrot_bench SET keyrot.zone_rate_limit = 0;

-- AppKeys and ZoneIds are plain digits, so that pgbench's random number is the key itself.
DO $$
BEGIN
    PERFORM keyrot.create_app('app of the benchmark', k::text) FROM generate_series(60000001, 60010000) AS k;
    PERFORM keyrot.create_zone_key(k::text) FROM generate_series(60000001, 60010000) AS k;
END
$$;

-- Apps to verify for.  They have one secret, so that one signature is right for all of them.
DO $$
BEGIN
    PERFORM keyrot.create_app('app of the benchmark', k::text, repeat('0123456789abcdef', 4))
       FROM generate_series(70000001, 70010000) AS k;
END
$$;

CREATE SCHEMA peer;

-- The peer that does no cryptography: one UPDATE and one INSERT of the same bytes.
CREATE TABLE peer.app (LIKE keyrot.app INCLUDING ALL) WITH (fillfactor = 90);
CREATE TABLE peer.zone (LIKE keyrot.zone INCLUDING ALL) WITH (fillfactor = 90);
CREATE TABLE peer.request (LIKE keyrot.request INCLUDING ALL);
INSERT INTO peer.app SELECT * FROM keyrot.app;
INSERT INTO peer.zone SELECT * FROM keyrot.zone;

-- The peers that one would write today: PL/pgSQL and pgcrypto, the key in a setting of the database.  Which role's
-- OID they log is no matter here: 10 costs them no look-up.
CREATE TABLE peer.cbc_app (LIKE keyrot.app INCLUDING ALL) WITH (fillfactor = 90);
CREATE TABLE peer.cbc_request (LIKE keyrot.request INCLUDING ALL);
CREATE TABLE peer.pgp_app (LIKE keyrot.app INCLUDING ALL) WITH (fillfactor = 90);
CREATE TABLE peer.pgp_request (LIKE keyrot.request INCLUDING ALL);
INSERT INTO peer.cbc_app SELECT * FROM keyrot.app;
INSERT INTO peer.pgp_app SELECT * FROM keyrot.app;

ALTER DATABASE keyrot_bench SET peer.master_key = '603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4';

CREATE FUNCTION peer.reset_cbc(key text) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    id uuid := gen_random_uuid();
    iv bytea := gen_random_bytes(16);
    new_secret text := encode(gen_random_bytes(32), 'hex');
    new_version integer;
BEGIN
    UPDATE peer.cbc_app
       SET version = version + 1,
           secret = iv || encrypt_iv(new_secret::bytea, decode(current_setting('peer.master_key'), 'hex'), iv,
                                     'aes-cbc/pad:pkcs'),
           previous_secret = NULL, previous_valid_until = NULL, modified_at = now()
     WHERE app_key = key
    RETURNING version INTO new_version;
    IF NOT FOUND THEN
        RAISE no_data_found;
    END IF;
    INSERT INTO peer.cbc_request (request_id, target, requested_at, action, caller, caller_oid,
                                  "session_user", session_user_oid, client_addr, pid, outcome, version,
                                  changed_kind, changed_in)
    VALUES (id, key, now(), 'reset_app_secret', current_user, 10, session_user, 10,
            inet_client_addr(), pg_backend_pid(), 'ok', new_version, 'app', pg_current_xact_id());
    RETURN id;
END
$$;

CREATE FUNCTION peer.reset_pgp(key text) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    id uuid := gen_random_uuid();
    new_secret text := encode(gen_random_bytes(32), 'hex');
    new_version integer;
BEGIN
    UPDATE peer.pgp_app
       SET version = version + 1,
           secret = pgp_sym_encrypt(new_secret, current_setting('peer.master_key')),
           previous_secret = NULL, previous_valid_until = NULL, modified_at = now()
     WHERE app_key = key
    RETURNING version INTO new_version;
    IF NOT FOUND THEN
        RAISE no_data_found;
    END IF;
    INSERT INTO peer.pgp_request (request_id, target, requested_at, action, caller, caller_oid,
                                  "session_user", session_user_oid, client_addr, pid, outcome, version,
                                  changed_kind, changed_in)
    VALUES (id, key, now(), 'reset_app_secret', current_user, 10, session_user, 10,
            inet_client_addr(), pg_backend_pid(), 'ok', new_version, 'app', pg_current_xact_id());
    RETURN id;
END
$$;

-- What is verified in one statement: 100 000 messages of 110 bytes, signed by those apps in turn.
CREATE TABLE peer.delivery AS
    SELECT (70000001 + n * 7919 % 10000)::text COLLATE "C" AS app_key, convert_to(rpad(n::text, 110, '.'), 'UTF8') AS message,
           NULL::bytea AS signature
      FROM generate_series(1, 100000) AS n;
UPDATE peer.delivery SET signature = keyrot.sign_for_app('70000001', message);
VACUUM FULL peer.delivery;

-- Microseconds a call of a statement that makes so many.
CREATE FUNCTION peer.microseconds(statement text, calls integer) RETURNS double precision LANGUAGE plpgsql AS $$
DECLARE
    started_at timestamptz := clock_timestamp();
BEGIN
    EXECUTE statement;
    RETURN extract(epoch FROM clock_timestamp() - started_at) * 1e6 / calls;
END
$$;

-- Autovacuum would visit one contender's tables while another is timed.  Nobody has it.
DO $$
DECLARE
    name regclass;
BEGIN
    FOR name IN SELECT oid FROM pg_class
                 WHERE relkind = 'r' AND relnamespace IN ('keyrot'::regnamespace, 'peer'::regnamespace) LOOP
        EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', name);
    END LOOP;
END
$$;
VACUUM ANALYZE;
