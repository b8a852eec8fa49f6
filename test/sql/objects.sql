-- Every object of the extension: nothing is PUBLIC's but the views' helper and the two functions on RequestIds and
-- time, everything has a comment, belongs to the extension and is dumped with it; functions have the parameters,
-- results, volatility and parallel safety of the contract.
\set SHOW_CONTEXT never

-- The functions: named notation works with these parameters, in this order, with these defaults.
\pset format unaligned
\pset tuples_only on
SELECT p.proname || '(' || pg_get_function_arguments(p.oid) || ') -> ' || coalesce(pg_get_function_result(p.oid), 'procedure')
  FROM pg_proc AS p WHERE p.pronamespace = 'keyrot'::regnamespace ORDER BY p.proname COLLATE "C";
\pset tuples_only off
\pset format aligned
SELECT CASE provolatile WHEN 's' THEN 'stable' WHEN 'v' THEN 'volatile' WHEN 'i' THEN 'immutable' END AS volatility,
       CASE proparallel WHEN 's' THEN 'safe' WHEN 'u' THEN 'unsafe' WHEN 'r' THEN 'restricted' END AS parallel,
       prosecdef AS definer, proleakproof AS leakproof, proisstrict AS strict, prokind AS kind, lanname AS language,
       string_agg(proname, E'\n' ORDER BY proname COLLATE "C") AS functions
  FROM pg_proc JOIN pg_language AS l ON l.oid = prolang WHERE pronamespace = 'keyrot'::regnamespace
 GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 1, 2;

-- Rights: what anybody but the owner has without a GRANT.
SELECT kind, name, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee, privilege_type
  FROM (SELECT 'function', proname, proowner, coalesce(proacl, acldefault('f', proowner))
          FROM pg_proc WHERE pronamespace = 'keyrot'::regnamespace
        UNION ALL
        SELECT 'relation', relname, relowner,
               coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))
          FROM pg_class WHERE relnamespace = 'keyrot'::regnamespace
        UNION ALL
        SELECT 'schema', nspname, nspowner, coalesce(nspacl, acldefault('n', nspowner))
          FROM pg_namespace WHERE nspname = 'keyrot') AS o (kind, name, owner, acl),
       aclexplode(o.acl) AS a WHERE a.grantee <> o.owner ORDER BY 1, 2, 3, 4;
-- All have one owner, and a superuser is it.
SELECT count(DISTINCT owner) AS owners, bool_and(rolsuper) AS superuser
  FROM (SELECT proowner FROM pg_proc WHERE pronamespace = 'keyrot'::regnamespace
        UNION ALL SELECT relowner FROM pg_class WHERE relnamespace = 'keyrot'::regnamespace
        UNION ALL SELECT nspowner FROM pg_namespace WHERE nspname = 'keyrot'
        UNION ALL SELECT extowner FROM pg_extension WHERE extname = 'keyrot') AS o (owner)
  JOIN pg_roles AS r ON r.oid = owner;

-- What there is, and whether it has a comment and belongs to the extension.
CREATE TEMP TABLE object AS
SELECT 'function' AS kind, 'pg_proc'::regclass AS class, oid, proname AS name
  FROM pg_proc WHERE pronamespace = 'keyrot'::regnamespace
UNION ALL
SELECT CASE relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' WHEN 'i' THEN 'index'
                    ELSE relkind::text END, 'pg_class'::regclass, oid, relname
  FROM pg_class WHERE relnamespace = 'keyrot'::regnamespace
UNION ALL
SELECT 'schema', 'pg_namespace'::regclass, oid, nspname FROM pg_namespace WHERE nspname = 'keyrot';
SELECT kind, count(*), count(*) FILTER (WHERE obj_description(oid, class::text::name) ~ '^\S.{10,}') AS with_comment,
       count(*) FILTER (WHERE EXISTS (SELECT FROM pg_depend AS d
                                       WHERE d.classid = class AND d.objid = o.oid AND d.deptype = 'e'
                                         AND d.refclassid = 'pg_extension'::regclass)) AS members
  FROM object AS o GROUP BY kind ORDER BY kind;
SELECT kind, name FROM object WHERE kind NOT IN ('function', 'index') ORDER BY kind, name;
-- So has every column of the views.
SELECT count(*) AS columns, count(*) FILTER (WHERE col_description(attrelid, attnum) ~ '^\S.{7,}') AS with_comment
  FROM pg_attribute WHERE attrelid IN (SELECT oid FROM object WHERE kind = 'view') AND attnum > 0;
-- Operators, types of their own, triggers, rules and policies: none.
SELECT (SELECT count(*) FROM pg_operator WHERE oprnamespace = 'keyrot'::regnamespace) AS operators,
       (SELECT count(*) FROM pg_type
         WHERE typnamespace = 'keyrot'::regnamespace AND typtype <> 'c' AND typcategory <> 'A') AS types,
       (SELECT count(*) FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM object) AND NOT tgisinternal) AS triggers,
       (SELECT count(*) FROM pg_rewrite WHERE ev_class IN (SELECT oid FROM object WHERE kind = 'table')) AS rules,
       (SELECT count(*) FROM pg_policy WHERE polrelid IN (SELECT oid FROM object)) AS policies;
-- Nothing of it stands outside its schema.
SELECT pg_describe_object(classid, objid, objsubid) AS outside
  FROM pg_depend AS d WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
   AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'keyrot') AND d.objid NOT IN (SELECT oid FROM object)
   -- Later versions count a table's row type as a member, too.
   AND d.objid NOT IN (SELECT oid FROM pg_type WHERE typnamespace = 'keyrot'::regnamespace);

-- Every table and sequence is dumped, whole.
SELECT o.kind, o.name, array_position(e.extconfig, o.oid) IS NOT NULL AS dumped,
       e.extcondition[array_position(e.extconfig, o.oid)] AS condition
  FROM object AS o, pg_extension AS e WHERE e.extname = 'keyrot' AND o.kind IN ('table', 'sequence') ORDER BY 1, 2;
SELECT extrelocatable AS relocatable, cardinality(extconfig) AS dumped FROM pg_extension WHERE extname = 'keyrot';
