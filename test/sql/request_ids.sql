-- RequestIds and the times that they are of: request_id_at() and request_time(), for a log that is partitioned by time.
\set VERBOSITY terse
SET timezone = 'UTC';
SET datestyle = 'ISO';
-- The smallest RequestId of a moment, to the microsecond.
SELECT keyrot.request_id_at('2022-02-22 19:22:22+00') AS rfc_9562, keyrot.request_id_at('2022-02-22 19:22:22.0005+00') AS half,
       keyrot.request_id_at('2022-02-22 19:22:22.000999+00') AS last;
SELECT keyrot.request_time(keyrot.request_id_at(moment)) AS moment
  FROM (VALUES ('2026-11-28 12:34:56.789012+00'::timestamptz), ('1970-01-01+00'), ('10889-08-02 05:31:50.655999+00'),
               ('1969-12-31 23:59:59.999999+00'), ('4000-01-01 BC')) AS v (moment);
SELECT count(*) AS microseconds, bool_and(keyrot.request_time(keyrot.request_id_at(moment)) = moment) AS told,
       bool_and(keyrot.request_id_at(moment) > keyrot.request_id_at(moment - interval '1 microsecond')) AS in_order
  FROM (SELECT '2026-11-28 12:34:56+00'::timestamptz + s * interval '1 microsecond' FROM generate_series(1, 5000) AS s)
       AS v (moment);
-- It bounds what was requested: no RequestId of that time or later is less, none of a time before is greater.
SELECT clock_timestamp() AS before \gset
SELECT keyrot.create_zone_key('ids-zone') AS id \gset
SELECT clock_timestamp() AS after \gset
SELECT :'id' >= keyrot.request_id_at(:'before') AS not_less, :'id' < keyrot.request_id_at(:'after') AS less,
       keyrot.request_time(:'id') = requested_at AS when_it_was, keyrot.request_id_at(requested_at) <= :'id' AS bounds
  FROM keyrot.requests WHERE request_id = :'id';
-- The smallest of all, the greatest of all, and UUIDs that are no RequestIds.
SELECT keyrot.request_time('00000000-0000-7000-8000-000000000000') AS first,
       keyrot.request_time('ffffffff-ffff-7fff-bfff-ffffffffffff') AS last;
SELECT id, keyrot.request_time(id) IS NULL AS none
  FROM (VALUES ('01a22312-aba6-4898-babd-247f5172de9c'::uuid), ('01a22312-aba6-7898-7abd-247f5172de9c'),
               ('01a22312-aba6-7898-cabd-247f5172de9c'), ('01a22312-aba6-8898-babd-247f5172de9c'),
               ('00000000-0000-0000-0000-000000000000'), ('ffffffff-ffff-ffff-ffff-ffffffffffff')) AS v (id);
SELECT keyrot.request_id_at(NULL) IS NULL AS no_moment, keyrot.request_time(NULL) IS NULL AS no_id;
-- Moments that no RequestId has.
SELECT keyrot.request_id_at('10889-08-02 05:31:50.656+00');
SELECT keyrot.request_id_at('294276-12-31+00');
SELECT keyrot.request_id_at('infinity');
SELECT keyrot.request_id_at('-infinity');
-- As bounds of partitions.
CREATE TEMP TABLE logged (request_id uuid NOT NULL) PARTITION BY RANGE (request_id);
DO $$
BEGIN
    EXECUTE format('CREATE TEMP TABLE logged_2026_11 PARTITION OF logged FOR VALUES FROM (%L) TO (%L)',
                   keyrot.request_id_at('2026-11-01+00'), keyrot.request_id_at('2026-12-01+00'));
END $$;
INSERT INTO logged VALUES (keyrot.request_id_at('2026-11-01+00')), (keyrot.request_id_at('2026-11-30 23:59:59.999999+00'));
SELECT keyrot.request_id_at('2026-12-01+00') AS next \gset
INSERT INTO logged VALUES (:'next');
SELECT keyrot.delete_zone_key('ids-zone') IS NOT NULL AS done;
