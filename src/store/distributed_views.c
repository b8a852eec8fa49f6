/*
 * distributed_views.c
 *	  What the views show where the tables are distributed.
 *
 * Citus asks its nodes as the role that asks, which has no rights on the tables, and evaluates a view's functions on
 * them, where the asker's settings and rights are others.  So the views come to read what a function has read as the
 * tables' owner, with the rights judged here, by the owners' names.  Last uses are those that were written down.
 */
#include "store/distributed_views.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "store/distribution.h"
#include "store/statement.h"
#include "base/errors.h"

/* What the view credentials shows of one kind; the parameters are sees_all, the roles, and now. */
#define CREDENTIALS(kind, table, identifier, app_columns) { \
	.text = "SELECT " kind "::pg_catalog.text, id, " app_columns ", owner_name," \
	" CASE WHEN NOT live AND NOT grace THEN 'retired' WHEN disabled_at IS NOT NULL THEN 'disabled'" \
	"      WHEN NOT live THEN 'retiring' WHEN valid_until OPERATOR(pg_catalog.<=) $3 THEN 'expired'" \
	"      ELSE 'current' END," \
	" version, created_at, modified_at, $3 OPERATOR(pg_catalog.-) modified_at," \
	" CASE WHEN grace THEN previous_valid_until END, valid_until, due_at," \
	" CASE WHEN live AND used_version OPERATOR(pg_catalog.=) version THEN last_used_at END," \
	" CASE WHEN used_version OPERATOR(pg_catalog.=) previous_version THEN last_used_at" \
	"      WHEN (used_version OPERATOR(pg_catalog.-) 1) OPERATOR(pg_catalog.=) previous_version THEN earlier_last_used_at END" \
	" FROM (SELECT c.*, c." identifier " AS id, c.secret IS NOT NULL AS live," \
	"              (c.previous_valid_until OPERATOR(pg_catalog.>) $3) IS TRUE AS grace," \
	"              c.version OPERATOR(pg_catalog.-) CASE WHEN c.secret IS NULL THEN 0 ELSE 1 END AS previous_version," \
	"              u.version AS used_version, u.last_used_at, u.earlier_last_used_at" \
	"         FROM keyrot." table " AS c LEFT JOIN keyrot.credential_use AS u" \
	"           ON u.kind OPERATOR(pg_catalog.=) " kind " AND u.id OPERATOR(pg_catalog.=) c." identifier \
	"        WHERE $1 OR " MAY_ACT_FOR_OWNER_NAME("$2") ") AS credential", \
	.success = SPI_OK_SELECT, \
	.types = {BOOLOID, TEXTARRAYOID, TIMESTAMPTZOID}, \
}

/* The statements that return the rows of a view. */
static struct
{
	const char *view;
	Statement	statement;
}			sources[] = {
	{"credentials", CREDENTIALS("'app'", "app", "app_key", "app_id, app_name, description")},
	{"credentials", CREDENTIALS("'zone'", "zone", "zone_id",
								"NULL::pg_catalog.int8, NULL::pg_catalog.text, NULL::pg_catalog.text")},
	{"gateways", {
		.text = "SELECT g.zone_id, g.gateway_id, g.added_at FROM keyrot.gateway AS g JOIN keyrot.zone AS z"
		" ON z.zone_id OPERATOR(pg_catalog.=) g.zone_id WHERE $1 OR z." MAY_ACT_FOR_OWNER_NAME("$2"),
		.success = SPI_OK_SELECT,
		.types = {BOOLOID, TEXTARRAYOID, TIMESTAMPTZOID},
	}},
	{"requests", {
		.text = "SELECT request_id, target, requested_at, action, caller, caller_oid, r.session_user, session_user_oid,"
		" client_addr, pid, outcome, version, retry_of FROM keyrot.request AS r"
		" WHERE $1 OR caller OPERATOR(pg_catalog.=) ANY ($2)",
		.success = SPI_OK_SELECT,
		.types = {BOOLOID, TEXTARRAYOID, TIMESTAMPTZOID},
	}},
};

typedef struct Answer
{
	TupleDesc	expected;
	Tuplestorestate *rows;
} Answer;

/* The caller has specified the types of the rows. */
static void
require_types(TupleDesc expected, TupleDesc given)
{
	bool		same = expected->natts == given->natts;

	for (int i = 0; same && i < given->natts; i++)
		same = TupleDescAttr(expected, i)->atttypid == TupleDescAttr(given, i)->atttypid;
	if (!same)
		error_columns_of_view();
}

static void
read_row(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	const Answer *answer = reader_state;
	Datum	   *values = palloc(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc(desc->natts * sizeof(bool));

	require_types(answer->expected, desc);
	heap_deform_tuple(tuple, desc, values, nulls);
	tuplestore_putvalues(answer->rows, answer->expected, values, nulls);
	pfree(values);
	pfree(nulls);
}

/* Whether a view is one of those whose rows are read here. */
bool
distributed_views_has(const char *view)
{
	for (int i = 0; i < (int) lengthof(sources); i++)
	{
		if (strcmp(sources[i].view, view) == 0)
			return true;
	}
	return false;
}

/*
 * Reads the rows of one of these views that belong to roles whose privileges the caller has, by their names, or all of
 * them. Raises 42804 if the caller expects other columns.
 */
void
distributed_views_read(const char *view, Oid caller, bool sees_all, TupleDesc expected, Tuplestorestate *result)
{
	Answer		answer = {expected, result};

	for (int i = 0; i < (int) lengthof(sources); i++)
	{
		Parameters	parameters = {0};

		if (strcmp(sources[i].view, view) != 0)
			continue;
		parameters_add(&parameters, BoolGetDatum(sees_all));
		parameters_add(&parameters, distribution_roles_of(caller));
		parameters_add_time(&parameters, GetCurrentTimestamp());
		(void) statement_run(&sources[i].statement, &parameters, read_row, &answer);
	}
}

static void
read_text(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	*(char **) reader_state = MemoryContextStrdup(TopTransactionContext, SPI_getvalue(tuple, desc, 1));
}

/* Runs the statements that are the result of another statement, which has one parameter. */
static void
run_made(Statement *make, const char *parameter)
{
	Parameters	parameters = {0};
	char	   *made = NULL;
	Statement	statement = {.success = SPI_OK_UTILITY};

	if (parameter != NULL)
		parameters_add_text(&parameters, parameter);
	(void) statement_run(make, &parameters, read_text, &made);
	statement.text = made;
	parameters.count = 0;
	(void) statement_run(&statement, &parameters, NULL, NULL);
	(void) SPI_freeplan(statement.plan);
}

/* A parallel worker has no connections to other nodes, so functions that read tables must not run in one. */
static void
forbid_parallel_workers(void)
{
	static Statement describe = {
		.text = "SELECT pg_catalog.string_agg(pg_catalog.format('ALTER FUNCTION keyrot.%I(%s) PARALLEL UNSAFE', p.proname,"
		"  pg_catalog.pg_get_function_identity_arguments(p.oid)), '; ')"
		"  FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_depend AS d ON d.objid OPERATOR(pg_catalog.=) p.oid"
		"   AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass"
		"   AND d.deptype OPERATOR(pg_catalog.=) 'e'"
		"  JOIN pg_catalog.pg_extension AS e ON e.oid OPERATOR(pg_catalog.=) d.refobjid"
		"   AND e.extname OPERATOR(pg_catalog.=) 'keyrot'"
		" WHERE p.proparallel OPERATOR(pg_catalog.=) 's' AND p.provolatile OPERATOR(pg_catalog.<>) 'i'",
		.success = SPI_OK_SELECT,
	};

	run_made(&describe, NULL);
}

/* Makes the views read from the function, with their columns unchanged, in the session itself. */
void
distributed_views_define(void)
{
	static const char *const views[] = {"credentials", "gateways", "requests"};
	static Statement describe = {
		.text = "SELECT pg_catalog.format('CREATE OR REPLACE VIEW keyrot.%I WITH (security_barrier) AS"
		" SELECT * FROM keyrot.read_distributed(%L) AS t (%s)', $1, $1, pg_catalog.string_agg(pg_catalog.concat("
		"  pg_catalog.quote_ident(attname), ' ', pg_catalog.format_type(atttypid, atttypmod),"
		"  CASE WHEN attcollation OPERATOR(pg_catalog.=) 950 THEN ' COLLATE \"C\"' END), ', ' ORDER BY attnum))"
		"  FROM pg_catalog.pg_attribute"
		" WHERE attrelid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(pg_catalog.concat('keyrot.', $1))"
		"   AND attnum OPERATOR(pg_catalog.>) 0",
		.success = SPI_OK_SELECT,
		.types = {TEXTOID},
	};

	forbid_parallel_workers();
	for (int i = 0; i < (int) lengthof(views); i++)
		run_made(&describe, views[i]);
}
