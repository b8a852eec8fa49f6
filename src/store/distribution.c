/*
 * distribution.c
 *	  keyrot's tables spread over a Citus cluster: whether they are, what forbids it, and how it is done.
 *
 * Citus is not linked to: it is asked by its functions and its catalog, which stand in pg_catalog, where nobody but a
 * superuser can put another of that name.  The extension's tables are on every node, made there by its script; Citus
 * takes those that it finds for its own.
 */
#include "store/distribution.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "store/statement.h"
#include "store/tables.h"
#include "base/errors.h"

/* Whether Citus stores this table on other nodes, or on all of them. */
bool
distribution_has(Oid table)
{
	Oid			catalog = get_relname_relid("pg_dist_partition", PG_CATALOG_NAMESPACE);
	AttrNumber	column = OidIsValid(catalog) ? get_attnum(catalog, "logicalrelid") : InvalidAttrNumber;
	Relation	relation;
	SysScanDesc scan;
	ScanKeyData key;
	bool		found;

	if (column == InvalidAttrNumber)
		return false;
	relation = table_open(catalog, AccessShareLock);
	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(table));
	scan = systable_beginscan(relation, InvalidOid, false, NULL, 1, &key);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return found;
}

static void
read_number(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	bool		is_null;

	*(int32 *) reader_state = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &is_null));
}

static int32
read_one_number(Statement *statement)
{
	Parameters	none = {0};
	int32		number = 0;

	(void) statement_run(statement, &none, read_number, &number);
	return number;
}

/* The major version of Citus in this database; 0: there is none. */
int
distribution_citus_version(void)
{
	static Statement select = {
		.text = "SELECT pg_catalog.int4(pg_catalog.split_part(extversion, '.', 1)) FROM pg_catalog.pg_extension"
		" WHERE extname OPERATOR(pg_catalog.=) 'citus'",
		.success = SPI_OK_SELECT,
	};

	return read_one_number(&select);
}

/* The number of this node in the cluster; 0 is the coordinator. */
int32
distribution_group(void)
{
	static Statement select = {
		.text = "SELECT groupid FROM pg_catalog.pg_dist_local_group",
		.success = SPI_OK_SELECT,
	};

	return read_one_number(&select);
}

typedef struct Obstacle
{
	const char **table;
	const char *text;
	MemoryContext context;
} Obstacle;

static void
read_obstacle(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	Obstacle   *obstacle = reader_state;

	*obstacle->table = MemoryContextStrdup(obstacle->context, SPI_getvalue(tuple, desc, 1));
	obstacle->text = MemoryContextStrdup(obstacle->context, SPI_getvalue(tuple, desc, 2));
}

/*
 * The reason why the tables cannot be distributed, such as "has a trigger", and the table that it applies to, both in
 * the current memory context; NULL if there is none.
 */
const char *
distribution_obstacle(const char **table)
{
	static Statement select = {
		.text = "SELECT c.relname, o.obstacle"
		"  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_depend AS d ON d.objid OPERATOR(pg_catalog.=) c.oid"
		"   AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass"
		"   AND d.deptype OPERATOR(pg_catalog.=) 'e'"
		"  JOIN pg_catalog.pg_extension AS e ON e.oid OPERATOR(pg_catalog.=) d.refobjid"
		"   AND e.extname OPERATOR(pg_catalog.=) 'keyrot', LATERAL (SELECT"
		"  CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'p' THEN 'is partitioned'"
		"  WHEN EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhparent OPERATOR(pg_catalog.=) c.oid"
		"                OR i.inhrelid OPERATOR(pg_catalog.=) c.oid) THEN 'inherits, or is inherited'"
		"  WHEN EXISTS (SELECT FROM pg_catalog.pg_constraint AS f WHERE f.contype OPERATOR(pg_catalog.=) 'f'"
		"                AND (f.conrelid OPERATOR(pg_catalog.=) c.oid OR f.confrelid OPERATOR(pg_catalog.=) c.oid))"
		"       THEN 'has a foreign key'"
		"  WHEN EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid OPERATOR(pg_catalog.=) c.oid)"
		"       THEN 'has a trigger'"
		"  WHEN EXISTS (SELECT FROM pg_catalog.pg_rewrite AS r WHERE r.ev_class OPERATOR(pg_catalog.=) c.oid)"
		"       THEN 'has a rule'"
		"  WHEN c.relrowsecurity THEN 'has row security'"
		"  WHEN EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid OPERATOR(pg_catalog.=) c.oid"
		"                AND (i.indisexclusion OR (i.indisunique AND NOT i.indisprimary"
		"                AND NOT (c.relname OPERATOR(pg_catalog.=) 'app' AND EXISTS (SELECT FROM pg_catalog.pg_constraint AS u"
		"                     WHERE u.conindid OPERATOR(pg_catalog.=) i.indexrelid"
		"                       AND u.conname OPERATOR(pg_catalog.=) 'app_app_id_key')))))"
		"       THEN 'has a unique index or exclusion constraint that is not the extension''s'"
		"  WHEN EXISTS (SELECT FROM pg_catalog.pg_attribute AS a WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid"
		"                AND (a.attidentity OPERATOR(pg_catalog.<>) '' OR a.attgenerated OPERATOR(pg_catalog.<>) '')"
		"                AND NOT a.attisdropped) THEN 'has an identity or generated column' END) AS o (obstacle)"
		" WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p']::\"char\"[]) AND o.obstacle IS NOT NULL"
		" ORDER BY c.relname LIMIT 1",
		.success = SPI_OK_SELECT,
	};
	Obstacle	obstacle = {.table = table,.context = CurrentMemoryContext};
	Parameters	none = {0};

	(void) statement_run(&select, &none, read_obstacle, &obstacle);
	return obstacle.text;
}

/* Whether some previous version's grace period begins with the first use of the version after it. */
bool
distribution_awaits_first_use(void)
{
	static Statement select = {
		.text = "SELECT FROM keyrot.app WHERE grace_after_use IS NOT NULL"
		" UNION ALL SELECT FROM keyrot.zone WHERE grace_after_use IS NOT NULL LIMIT 1",
		.success = SPI_OK_SELECT,
	};
	Parameters	none = {0};

	return statement_run_without_rows(&select, &none) > 0;
}

static void
spread_by(Oid table, const char *column, const char *with, int shard_count)
{
	static Statement spread = {
		.text = "SELECT pg_catalog.create_distributed_table(table_name => $1, distribution_column => $2,"
		" colocate_with => $3, shard_count => $4)",
		.success = SPI_OK_SELECT,
		.types = {REGCLASSOID, TEXTOID, TEXTOID, INT4OID},
	};
	Parameters	parameters = {0};

	parameters_add(&parameters, ObjectIdGetDatum(table));
	parameters_add_text(&parameters, column);
	parameters_add_text(&parameters, with);
	if (shard_count > 0)
		parameters_add(&parameters, Int32GetDatum(shard_count));
	else
		parameters_add_null(&parameters);
	(void) statement_run(&spread, &parameters, NULL, NULL);
}

/* The same on every node. */
static void
keep_everywhere(Oid table)
{
	static Statement keep = {
		.text = "SELECT pg_catalog.create_reference_table(table_name => $1)",
		.success = SPI_OK_SELECT,
		.types = {REGCLASSOID},
	};
	Parameters	parameters = {0};

	parameters_add(&parameters, ObjectIdGetDatum(table));
	(void) statement_run(&keep, &parameters, NULL, NULL);
}

/*
 * The rows were copied. What remains of them here is neither seen nor changed by anyone any more, and contains sealed
 * secrets.
 */
static void
remove_local_rows(Oid table)
{
	static Statement truncate = {
		.text = "SELECT pg_catalog.truncate_local_data_after_distributing_table(function_name => $1)",
		.success = SPI_OK_SELECT,
		.types = {REGCLASSOID},
	};
	Parameters	parameters = {0};

	parameters_add(&parameters, ObjectIdGetDatum(table));
	(void) statement_run(&truncate, &parameters, NULL, NULL);
}

/*
 * A unique index must include the distribution column. From now on, the way in which numbers are drawn ensures that
 * an app_id belongs to one app, and the lock on its row that an AppKey has one successor.
 */
static void
replace_unique_index(void)
{
	static Statement drop = {
		.text = "ALTER TABLE keyrot.app DROP CONSTRAINT IF EXISTS app_app_id_key",
		.success = SPI_OK_UTILITY,
	};
	static Statement create = {
		.text = "CREATE INDEX app_app_id ON keyrot.app (app_id)",
		.success = SPI_OK_UTILITY,
	};
	Parameters	none = {0};

	(void) statement_run(&drop, &none, NULL, NULL);
	(void) statement_run(&create, &none, NULL, NULL);
}

static void
set_for_now(const char *setting, const char *value)
{
	(void) set_config_option(setting, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Distributes the tables over the cluster, with their rows, in the caller's transaction. Everything that depends on
 * one AppKey, ZoneId, target or client_token is in one shard.
 */
void
distribution_spread(int shard_count)
{
	const Tables known = *tables_get();
	const Oid	everywhere[] = {known.data_key, known.reseal, known.credential_use};
	const Oid	parts[] = {known.app, known.zone, known.gateway, known.request, known.retry};
	int			nest_level = NewGUCNestLevel();

	set_for_now("citus.multi_shard_modify_mode", "sequential");
	set_for_now("client_min_messages", "warning");
	replace_unique_index();
	for (int i = 0; i < (int) lengthof(everywhere); i++)
		keep_everywhere(everywhere[i]);
	spread_by(known.app, "app_key", "none", shard_count);
	spread_by(known.zone, "zone_id", "none", shard_count);
	spread_by(known.gateway, "zone_id", "keyrot.zone", 0);
	spread_by(known.request, "target", "none", shard_count);
	spread_by(known.retry, "client_token", "none", shard_count);
	for (int i = 0; i < (int) lengthof(everywhere); i++)
		remove_local_rows(everywhere[i]);
	for (int i = 0; i < (int) lengthof(parts); i++)
		remove_local_rows(parts[i]);
	AtEOXact_GUC(true, nest_level);
}

static void
read_roles(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	bool		is_null;
	Datum		roles = SPI_getbinval(tuple, desc, 1, &is_null);

	*(Datum *) reader_state = is_null ? PointerGetDatum(construct_empty_array(TEXTOID)) : SPI_datumTransfer(roles, false, -1);
}

/* The names of the roles whose privileges a role has, as a text array; OIDs differ from node to node. */
Datum
distribution_roles_of(Oid caller)
{
	static Statement select = {
		.text = "SELECT pg_catalog.array_agg(pg_catalog.text(rolname)) FROM pg_catalog.pg_roles"
		" WHERE pg_catalog.pg_has_role($1, oid, 'USAGE')",
		.success = SPI_OK_SELECT,
		.types = {OIDOID},
	};
	Parameters	parameters = {0};
	Datum		roles = (Datum) 0;

	parameters_add(&parameters, ObjectIdGetDatum(caller));
	(void) statement_run(&select, &parameters, read_roles, &roles);
	return roles;
}

/*
 * Waits for every transaction that has written credentials, on any node, and prevents others from writing until this
 * transaction ends; there is no weaker lock that covers all nodes.
 */
void
distribution_await_writers(void)
{
	static Statement lock = {
		.text = "LOCK TABLE keyrot.app, keyrot.zone IN SHARE MODE",
		.success = SPI_OK_UTILITY,
	};
	Parameters	none = {0};

	(void) statement_run(&lock, &none, NULL, NULL);
}

/* Prevents others, on any node, from changing the data keys until the transaction ends. */
void
distribution_lock_data_keys(void)
{
	static Statement lock = {
		.text = "LOCK TABLE keyrot.data_key IN SHARE ROW EXCLUSIVE MODE",
		.success = SPI_OK_UTILITY,
	};
	Parameters	none = {0};

	(void) statement_run(&lock, &none, NULL, NULL);
}

typedef struct NodeSink
{
	NodeReader	reader;
	void	   *reader_state;
} NodeSink;

static void
read_node(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	const NodeSink *sink = reader_state;
	bool		is_null;
	const NodeAnswer answer = {
		.node = SPI_getvalue(tuple, desc, 1),
		.success = DatumGetBool(SPI_getbinval(tuple, desc, 2, &is_null)) && !is_null,
		.text = SPI_getvalue(tuple, desc, 3),
	};

	sink->reader(&answer, sink->reader_state);
}

/* Asks every node of the cluster, including this one, for problems with its keys; returns the number of nodes. */
int
distribution_examine_nodes(NodeReader reader, void *reader_state)
{
	static Statement examine = {
		.text = "SELECT pg_catalog.format('%s:%s', n.nodename, n.nodeport), r.success, r.result"
		"  FROM pg_catalog.run_command_on_all_nodes('SELECT keyrot.node_problem()') AS r"
		"  JOIN pg_catalog.pg_dist_node AS n ON n.nodeid OPERATOR(pg_catalog.=) r.nodeid"
		" ORDER BY n.nodename, n.nodeport",
		.success = SPI_OK_SELECT,
	};
	NodeSink	sink = {reader, reader_state};
	Parameters	none = {0};

	return (int) statement_run(&examine, &none, read_node, &sink);
}
