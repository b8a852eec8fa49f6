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

#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/inval.h"

#include "store/tables.h"

/*
 * Switches to the tables' owner and to a search_path of PostgreSQL's own schemas, after checking the tables
 * once more, until statement_leave_owner(). If an error occurs in between, the abort of the (sub)transaction
 * also undoes this.
 */
void
statement_become_owner(OwnerSession *session)
{
	Oid			owner;

	AcceptInvalidationMessages();
	owner = tables_get()->owner;
	GetUserIdAndSecContext(&session->user, &session->security_context);
	session->nest_level = NewGUCNestLevel();
	SetUserIdAndSecContext(owner, session->security_context | SECURITY_LOCAL_USERID_CHANGE);
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/* Restores what statement_become_owner() changed. */
void
statement_leave_owner(const OwnerSession *session)
{
	AtEOXact_GUC(false, session->nest_level);
	SetUserIdAndSecContext(session->user, session->security_context);
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

/* Adds a sealed secret, or NULL where there is none. */
void
parameters_add_sealed(Parameters *parameters, const Sealed *sealed)
{
	if (sealed->length == 0)
		parameters_add_null(parameters);
	else
		parameters_add_bytes(parameters, sealed->bytes, sealed->length);
}

static void
prepare_plan(Statement *statement, int parameter_count)
{
	SPIPlanPtr	plan = SPI_prepare_cursor(statement->text, parameter_count, statement->types,
										  statement->custom_plans ? 0 : CURSOR_OPT_GENERIC_PLAN);

	if (plan == NULL)
		elog(ERROR, "could not prepare statement: %s", SPI_result_code_string(SPI_result));
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "could not keep plan");
	statement->plan = plan;
}

/* Executes a statement inside an open SPI connection and hands its rows to the reader. */
static uint64
execute_plan(Statement *statement, const Parameters *parameters, RowReader reader, void *reader_state)
{
	int			result;
	uint64		processed;

	if (statement->plan == NULL)
		prepare_plan(statement, parameters->count);
	result = SPI_execute_plan(statement->plan, (Datum *) parameters->values, parameters->nulls,
							  statement->stable, 0);
	if (result != statement->success)
		elog(ERROR, "statement ended with %s", SPI_result_code_string(result));
	processed = SPI_processed;
	/* Who altered a table before we had it locked is known by now; columns of other types are not read. */
	(void) tables_get();
	for (uint64 i = 0; reader != NULL && i < processed; i++)
		reader(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, reader_state);
	return processed;
}

/* Runs a statement as the tables' owner, on PostgreSQL's own search_path, and returns its row count. */
uint64
statement_run(Statement *statement, const Parameters *parameters, RowReader reader, void *reader_state)
{
	OwnerSession session;
	volatile uint64 processed = 0;

	statement_become_owner(&session);
	PG_TRY();
	{
		SPI_connect();
		processed = execute_plan(statement, parameters, reader, reader_state);
		SPI_finish();
	}
	PG_FINALLY();
	{
		statement_leave_owner(&session);
	}
	PG_END_TRY();
	return processed;
}
