-- The view keyrot.metrics, as a server without keyrot in shared_preload_libraries has it, too; who may read it; and that
-- psql shows it in 100 columns.  What the worker counts is for a TAP test.
\set SHOW_CONTEXT never

-- pg_monitor has it, and needs no other right.
CREATE ROLE regress_monitor IN ROLE pg_monitor;
CREATE ROLE regress_curious;
GRANT USAGE ON SCHEMA keyrot TO regress_curious;
SET ROLE regress_monitor;
SELECT name, labels, value FROM keyrot.metrics WHERE name IN ('keyrot_build_info', 'keyrot_in_recovery', 'keyrot_reseal_left');
SELECT * FROM keyrot.status();
SELECT count(*) FROM keyrot.credentials;
SET ROLE regress_curious;
SELECT * FROM keyrot.metrics;
SELECT * FROM keyrot.read_metrics();
RESET ROLE;
GRANT SELECT ON keyrot.metrics TO regress_curious;
SET ROLE regress_curious;
SELECT * FROM keyrot.metrics;
RESET ROLE;

-- What status() finds wrong is 1 here, item by item.
SELECT labels ->> 'item' AS item, value = 1 AS has_problem FROM keyrot.metrics WHERE name = 'keyrot_status_problem'
EXCEPT
SELECT item, problem IS NOT NULL FROM keyrot.status();
SELECT count(DISTINCT item) - (SELECT count(*) FROM keyrot.metrics WHERE name = 'keyrot_status_problem') AS missing
  FROM keyrot.status();

-- Rows are well formed: names, labels, no row twice; and few.
SELECT name, labels, value, help FROM keyrot.metrics
 WHERE name !~ '^keyrot_[a-z]+_[a-z_]+$' OR jsonb_typeof(labels) <> 'object' OR value IS NULL OR help IS NULL
    OR EXISTS (SELECT FROM jsonb_each(labels) AS l WHERE jsonb_typeof(l.value) <> 'string');
SELECT name, labels FROM keyrot.metrics GROUP BY name, labels HAVING count(*) > 1;
SELECT count(*) BETWEEN 15 AND 400 AS few FROM keyrot.metrics;
-- A row fits into 100 columns: name in 26, labels in 35, value in 10, help in 18.
SELECT name, labels, help FROM keyrot.metrics
 WHERE length(name) > 26 OR length(labels::text) > 35 OR length(value::text) > 10
    OR EXISTS (SELECT FROM string_to_table(help, E'\n') AS line WHERE length(line) > 18);

DROP OWNED BY regress_curious;
DROP ROLE regress_curious, regress_monitor;
