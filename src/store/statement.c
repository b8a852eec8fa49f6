/*
 * statement.c
 *	  Runs the statements of store.c and app_statements.c: prepared once and kept, as the owner of keyrot's
 *	  tables.
 */
#include "store/statement.h"

#include "store/owner.h"

static void
prepare(Statement *statement, int parameter_count)
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
execute(Statement *statement, const Parameters *parameters, RowReader reader, void *reader_state)
{
	int			result;
	uint64		processed;

	if (statement->plan == NULL)
		prepare(statement, parameters->count);
	result = SPI_execute_plan(statement->plan, (Datum *) parameters->values, parameters->nulls, false, 0);
	if (result != statement->success)
		elog(ERROR, "statement ended with %s", SPI_result_code_string(result));
	processed = SPI_processed;
	for (uint64 i = 0; reader != NULL && i < processed; i++)
		reader(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, reader_state);
	return processed;
}

/* Runs a statement as the tables' owner, on PostgreSQL's own search_path, and returns its row count. */
uint64
store_run(Statement *statement, const Parameters *parameters, RowReader reader, void *reader_state)
{
	OwnerSession session;
	volatile uint64 processed = 0;

	owner_begin(&session);
	PG_TRY();
	{
		SPI_connect();
		processed = execute(statement, parameters, reader, reader_state);
		SPI_finish();
	}
	PG_FINALLY();
	{
		owner_end(&session);
	}
	PG_END_TRY();
	return processed;
}
