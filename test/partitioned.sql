-- Has every CREATE EXTENSION keyrot in this database end with keyrot.app and keyrot.zone partitioned by hash and
-- keyrot.request by RequestId, so that the tests run on partitioned tables.
SET client_min_messages = warning;
CREATE SCHEMA parts;

CREATE FUNCTION parts.partition(name text, key text, method text, make_parts text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    plain text := name || '_plain';
    comment text := obj_description(format('keyrot.%I', name)::regclass);
BEGIN
    EXECUTE format('ALTER EXTENSION keyrot DROP TABLE keyrot.%I', name);
    EXECUTE format('ALTER TABLE keyrot.%I RENAME TO %I', name, plain);
    EXECUTE format('ALTER TABLE keyrot.%I RENAME CONSTRAINT %I TO %I', plain, name || '_pkey', plain || '_pkey');
    EXECUTE format('CREATE TABLE keyrot.%1$I (LIKE keyrot.%2$I, CONSTRAINT %3$I PRIMARY KEY (%4$s)) PARTITION BY %5$s',
                   name, plain, name || '_pkey', key, method);
    EXECUTE format('COMMENT ON TABLE keyrot.%I IS %L', name, comment);
    EXECUTE format('REVOKE ALL ON TABLE keyrot.%I FROM PUBLIC', name);
    EXECUTE make_parts;
    EXECUTE format('INSERT INTO keyrot.%I SELECT * FROM keyrot.%I', name, plain);
    EXECUTE format('ALTER EXTENSION keyrot ADD TABLE keyrot.%I', name);
END $$;

CREATE FUNCTION parts.hashed(name text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('CREATE TABLE parts.%I PARTITION OF keyrot.%I FOR VALUES WITH (MODULUS 3, REMAINDER %s);',
                             name || '_' || i, name, i), ' ')
      FROM generate_series(0, 2) AS i
$$;

-- The past, this hour, and the rest of time.
CREATE FUNCTION parts.by_time() RETURNS text LANGUAGE sql AS $$
    WITH bound AS (
        SELECT lpad(to_hex((extract(epoch FROM date_trunc('hour', now())) * 1000)::bigint), 12, '0') AS start,
               lpad(to_hex((extract(epoch FROM date_trunc('hour', now())) * 1000)::bigint + 3600000), 12, '0') AS stop
    ), id AS (
        SELECT left(start, 8) || '-' || right(start, 4) || '-7000-8000-000000000000' AS start,
               left(stop, 8) || '-' || right(stop, 4) || '-7000-8000-000000000000' AS stop FROM bound
    )
    SELECT format('CREATE TABLE parts.request_past PARTITION OF keyrot.request FOR VALUES FROM (MINVALUE) TO (%1$L);'
                  'CREATE TABLE parts.request_now PARTITION OF keyrot.request FOR VALUES FROM (%1$L) TO (%2$L);'
                  'CREATE TABLE parts.request_future PARTITION OF keyrot.request FOR VALUES FROM (%2$L) TO (MAXVALUE)',
                  start, stop) FROM id
$$;

CREATE FUNCTION parts.partition_keyrot() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE
    view record;
    views text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_event_trigger_ddl_commands()
                    WHERE object_type = 'extension' AND object_identity = 'keyrot') THEN
        RETURN;
    END IF;
    -- They are bound to the tables, not to their names.
    SELECT string_agg(format('CREATE OR REPLACE VIEW %s WITH (security_barrier) AS %s', oid::regclass,
                             pg_get_viewdef(oid)), ' ' ORDER BY oid)
      INTO views FROM pg_class WHERE relnamespace = 'keyrot'::regnamespace AND relkind = 'v';
    PERFORM parts.partition('app', 'app_key', 'HASH (app_key)', parts.hashed('app'));
    PERFORM parts.partition('zone', 'zone_id', 'HASH (zone_id)', parts.hashed('zone'));
    PERFORM parts.partition('request', 'request_id, target', 'RANGE (request_id)', parts.by_time());
    EXECUTE views;
    DROP TABLE keyrot.app_plain, keyrot.zone_plain, keyrot.request_plain;
END $$;
CREATE EVENT TRIGGER partition_keyrot ON ddl_command_end WHEN TAG IN ('CREATE EXTENSION')
    EXECUTE FUNCTION parts.partition_keyrot();
