/*
 * result.c
 *	  Builds what SQL functions return.
 *
 * A returned secret belongs to PostgreSQL from then on; the copy that was put into the row is keyrot's, and
 * is wiped when the request ends.
 */
#include "core/result.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/*
 * The RequestId to return, in the current memory context: that of the first call if this one repeats it.  It
 * is the complete result of most requests.
 */
Datum
result_request_id(Request *request)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	*id = request->is_repetition ? request->retry_of : request->id;
	return UUIDPGetDatum(id);
}

/* The row types of functions called before; looking one up takes as long as forming the row. */
#define KNOWN_ROWS 8
static struct
{
	Oid			function;
	TupleDesc	desc;
}			known_rows[KNOWN_ROWS];

/* The row type with which the function was declared, with this number of columns; valid for the session. */
static TupleDesc
row_type(FunctionCallInfo fcinfo, int count)
{
	static int	oldest = 0;
	Oid			function = fcinfo->flinfo->fn_oid;
	TupleDesc	desc;
	MemoryContext caller;

	for (int i = 0; i < KNOWN_ROWS; i++)
		if (known_rows[i].function == function && known_rows[i].desc->natts == count)
			return known_rows[i].desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != count)
		elog(ERROR, "function does not return a row of %d columns", count);
	caller = MemoryContextSwitchTo(TopMemoryContext);
	desc = BlessTupleDesc(CreateTupleDescCopy(desc));
	MemoryContextSwitchTo(caller);
	if (known_rows[oldest].desc != NULL)
		FreeTupleDesc(known_rows[oldest].desc);
	known_rows[oldest].function = function;
	known_rows[oldest].desc = desc;
	oldest = (oldest + 1) % KNOWN_ROWS;
	return desc;
}

/* A row of the type with which the function was declared; if nulls is NULL, no column is null. */
Datum
result_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls, int count)
{
	if (nulls == NULL)
		nulls = palloc0(count * sizeof(bool));
	return HeapTupleGetDatum(heap_form_tuple(row_type(fcinfo, count), values, nulls));
}

/* The request's secret as text, which the request wipes when it ends. */
Datum
result_secret(Request *request)
{
	const Secret *secret = &request->secret;

	request->result_text = cstring_to_text_with_len((const char *) secret->bytes, (int) secret->length);
	request->disclosed = true;
	return PointerGetDatum(request->result_text);
}
