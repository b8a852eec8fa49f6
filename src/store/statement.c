/*
 * statement.c
 *	  How keyrot's SQL is run: constant text, typed parameters, plans that are kept, as the owner of keyrot's
 *	  tables, so that callers need no rights on them.
 *
 * The role and the search_path must be changed together.  With the role alone, a saved plan that is analyzed
 * again, or a trigger, would look up operators and functions on the caller's search_path and run them as the
 * owner.  So statements run with a search_path of PostgreSQL's own schemas, and write every operator as
 * OPERATOR(pg_catalog.=), without constructs that use one implicitly.
 *
 * The statements are in the files *_statements.c, by their tables; only this room uses SPI. No parameter ever
 * contains a plaintext secret.  Rights are not checked here.
 */
#include "store/statement.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

#include "store/tables.h"
#include "base/errors.h"

/* The caller's role and settings, to be restored. */
typedef struct OwnerSession
{
	Oid			user;
	int			security_context;
	int			nest_level;
} OwnerSession;

static void
set_for_now(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Switches to the tables' owner and to a search_path of PostgreSQL's own schemas, after checking the tables
 * once more, until leave_owner(). If an error occurs in between, the abort of the (sub)transaction
 * also undoes this.
 */
static void
become_owner(OwnerSession *session)
{
	Oid			owner;

	AcceptInvalidationMessages();
	owner = tables_get()->owner;
	GetUserIdAndSecContext(&session->user, &session->security_context);
	session->nest_level = NewGUCNestLevel();
	SetUserIdAndSecContext(owner, session->security_context | SECURITY_LOCAL_USERID_CHANGE);
	set_for_now("search_path", "pg_catalog, pg_temp");
	if (!tables_are_distributed())
		return;
	/* Values are sent to other nodes as text, whose sessions must read the same dates. */
	set_for_now("DateStyle", "ISO, MDY");
	set_for_now("IntervalStyle", "iso_8601");
}

/* Restores what become_owner() changed. */
static void
leave_owner(const OwnerSession *session)
{
	AtEOXact_GUC(false, session->nest_level);
	SetUserIdAndSecContext(session->user, session->security_context);
}

/* Adds a NULL. */
void
parameters_add_null(Parameters *parameters)
{
	parameters_add_nullable(parameters, (Datum) 0, true);
}

/* Adds a time; NULL for NO_TIME. */
void
parameters_add_time(Parameters *parameters, TimestampTz value)
{
	parameters_add_nullable(parameters, TimestampTzGetDatum(value), value == NO_TIME);
}

/* Adds a text. */
void
parameters_add_text(Parameters *parameters, const char *value)
{
	parameters_add(parameters, CStringGetTextDatum(value));
}

/* Adds a bytea. */
void
parameters_add_bytes(Parameters *parameters, const void *bytes, size_t length)
{
	bytea	   *value = palloc(VARHDRSZ + length);

	SET_VARSIZE(value, VARHDRSZ + length);
	memcpy(VARDATA(value), bytes, length);
	parameters_add(parameters, PointerGetDatum(value));
}

/* Adds a text; NULL for the empty string. */
void
parameters_add_text_or_null(Parameters *parameters, const char *value)
{
	if (value[0] == '\0')
		parameters_add_null(parameters);
	else
		parameters_add_text(parameters, value);
}

/* Adds an array of values of this type; if nulls is NULL, none of them is null. */
void
parameters_add_array(Parameters *parameters, Datum *values, bool *nulls, int count, Oid type)
{
	int			lower_bound = 1;
	int16		length;
	bool		by_value;
	char		alignment;

	get_typlenbyvalalign(type, &length, &by_value, &alignment);
	parameters_add(parameters, PointerGetDatum(construct_md_array(values, nulls, 1, &count, &lower_bound, type,
																  length, by_value, alignment)));
}

/* Adds a sealed secret, or NULL if there is none. */
void
parameters_add_sealed(Parameters *parameters, const Sealed *sealed)
{
	if (sealed->length == 0)
		parameters_add_null(parameters);
	else
		parameters_add_bytes(parameters, sealed->bytes, sealed->length);
}

static void
add_interval(Parameters *parameters, const Interval *interval)
{
	if (interval->month == 0 && interval->day == 0 && interval->time == 0)
		parameters_add_null(parameters);
	else
		parameters_add(parameters, IntervalPGetDatum(interval));
}

/* Adds a credential's rotate_after, lifetime, policy_grace and grace_after_use. */
void
parameters_add_policy(Parameters *parameters, const Credential *credential)
{
	add_interval(parameters, &credential->policy.rotate_after);
	add_interval(parameters, &credential->policy.lifetime);
	if (credential->policy.grace == 0)
		parameters_add_null(parameters);
	else
		parameters_add(parameters, Int64GetDatum(credential->policy.grace));
	if (credential->grace_after_use == NO_GRACE_AFTER_USE)
		parameters_add_null(parameters);
	else
		parameters_add(parameters, Int64GetDatum(credential->grace_after_use));
}

/*
 * Prepares a statement that has no plan, or whose plan is older than the latest change of the tables. The server does
 * not replan in every case: a plan that a rule has rewritten no longer depends on the table, and would outlive the
 * rule. Citus can plan some statements only with their parameters, and must not be asked to plan them without.
 */
static void
prepare_plan(Statement *statement, int parameter_count)
{
	int			options = 0;
	SPIPlanPtr	plan;

	if (statement->plan != NULL && (statement->depth > 1 || statement->generation == tables_generation()))
		return;
	if (tables_are_distributed())
		options = CURSOR_OPT_CUSTOM_PLAN;
	else if (!statement->custom_plans)
		options = CURSOR_OPT_GENERIC_PLAN;
	plan = SPI_prepare_cursor(statement->text, parameter_count, statement->types, options);
	if (plan == NULL)
		elog(ERROR, "could not prepare statement: %s", SPI_result_code_string(SPI_result));
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "could not keep plan");
	if (statement->plan != NULL)
		(void) SPI_freeplan(statement->plan);
	statement->plan = plan;
	statement->generation = tables_generation();
}

/* Executes a statement inside an open SPI connection and passes its rows to the reader. */
static uint64
execute_plan(Statement *statement, const Parameters *parameters, RowReader reader, void *reader_state)
{
	bool		writes = statement->success != SPI_OK_SELECT;
	int			result;
	uint64		processed;

	if (writes)
		tables_refuse_rules();
	/*
	 * If a transaction writes only on other nodes, it gets no transaction ID here, by which keyrot knows that it has
	 * written.
	 */
	if (writes && tables_are_distributed())
		(void) GetCurrentTransactionId();
	if (IsParallelWorker() && tables_are_distributed())
		error_not_distributable("a call in a parallel worker", "Only the session itself has connections to other nodes.");
	prepare_plan(statement, parameters->count);
	result = SPI_execute_plan(statement->plan, (Datum *) parameters->values, parameters->nulls, statement->stable, 0);
	processed = SPI_processed;
	/*
	 * Changes of the tables that were made before they were locked are known by now; columns with other types are not
	 * read.
	 */
	(void) tables_get();
	if (writes)
		tables_refuse_rules();
	if (result != statement->success)
		elog(ERROR, "statement ended with %s", SPI_result_code_string(result));
	for (uint64 i = 0; reader != NULL && i < processed; i++)
		reader(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, reader_state);
	return processed;
}

static int
trigger_depth(void)
{
	return DatumGetInt32(pg_trigger_depth(NULL));
}

/*
 * That the tables' owner may not do something, because of a policy or a missing privilege, says nothing about the
 * caller's rights. An error of a trigger is passed on unchanged.
 */
static void
on_error(void *depth)
{
	if (geterrcode() == ERRCODE_INSUFFICIENT_PRIVILEGE && trigger_depth() == *(int *) depth)
		errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE);
}

/* Runs a statement as the tables' owner, on PostgreSQL's own search_path, and returns its row count. */
uint64
statement_run(Statement *statement, const Parameters *parameters, RowReader reader, void *reader_state)
{
	int			depth = trigger_depth();
	ErrorContextCallback context = {.previous = error_context_stack,.callback = on_error,.arg = &depth};
	OwnerSession session;
	volatile uint64 processed = 0;

	become_owner(&session);
	/*
	 * A small table would be read by a sequential scan, which conflicts with all writers of the table in serializable
	 * transactions.
	 */
	if (statement->by_key)
		set_for_now("enable_seqscan", "off");
	error_context_stack = &context;
	statement->depth++;
	PG_TRY();
	{
		SPI_connect();
		processed = execute_plan(statement, parameters, reader, reader_state);
		SPI_finish();
	}
	PG_FINALLY();
	{
		statement->depth--;
		leave_owner(&session);
	}
	PG_END_TRY();
	error_context_stack = context.previous;
	return processed;
}

static void
read_count(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	bool		is_null;

	*(int64 *) reader_state = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &is_null));
}

/* Runs a statement that returns one bigint, and returns that. */
int64
statement_count(Statement *statement, const Parameters *parameters)
{
	int64		count = 0;

	(void) statement_run(statement, parameters, read_count, &count);
	return count;
}

/* How a written row is compared with the given values, and the result. */
typedef struct Comparison
{
	RowCheck	is_as_given;
	const void *given;
	bool		as_given;
} Comparison;

static void
compare_written(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	Comparison *comparison = reader_state;

	comparison->as_given = comparison->is_as_given(tuple, desc, comparison->given);
}

/*
 * Runs a statement that writes at most one row of this table, and returns what the check compares with the given
 * values. Returns whether it wrote one; raises 55000 if the row differs.
 */
bool
statement_try_write_checked(Statement *statement, const Parameters *parameters, const char *table, RowCheck is_as_given,
							const void *given)
{
	Comparison	comparison = {.is_as_given = is_as_given,.given = given};
	uint64		count = statement_run(statement, parameters, compare_written, &comparison);

	if (count > 0 && !comparison.as_given)
		error_not_written(table);
	return count > 0;
}

static bool
is_true(HeapTuple tuple, TupleDesc desc, const void *given pg_attribute_unused())
{
	bool		is_null;
	Datum		as_given = SPI_getbinval(tuple, desc, 1, &is_null);

	return !is_null && DatumGetBool(as_given);
}

/* The same for a statement that makes the comparison itself, and returns its result. */
bool
statement_try_write(Statement *statement, const Parameters *parameters, const char *table)
{
	return statement_try_write_checked(statement, parameters, table, is_true, NULL);
}

/* As statement_try_write(), but also raises 55000 if no row was written. */
void
statement_write_one(Statement *statement, const Parameters *parameters, const char *table)
{
	if (!statement_try_write(statement, parameters, table))
		error_not_written(table);
}

/* As statement_run_without_rows(), for a statement that must write one row of this table; otherwise raises 55000. */
void
statement_touch_one(Statement *statement, const Parameters *parameters, const char *table)
{
	if (statement_run_without_rows(statement, parameters) != 1)
		error_not_written(table);
}
