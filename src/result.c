/*
 * result.c
 *	  Builds what SQL functions return.
 *
 * A returned secret is PostgreSQL's from then on; the copy that went into the row is ours, and wiped.
 */
#include "result.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/builtins.h"

/* The RequestId, in the current memory context. */
Datum
result_request_id(const Request *request)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	*id = request->id;
	return UUIDPGetDatum(id);
}

/* A row without NULLs, of the type that the function was declared with. */
Datum
result_row(FunctionCallInfo fcinfo, Datum *values, int count)
{
	TupleDesc	desc;
	bool	   *nulls = palloc0(count * sizeof(bool));

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != count)
		elog(ERROR, "function does not return a row of %d columns", count);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* A secret as a text for a row; to be wiped by result_wipe_text() once the row is formed. */
Datum
result_secret_text(const char *text, size_t length)
{
	return PointerGetDatum(cstring_to_text_with_len(text, (int) length));
}

/* Wipes a text that result_secret_text() made. */
void
result_wipe_text(Datum text)
{
	struct varlena *copy = (struct varlena *) DatumGetPointer(text);

	crypto_wipe(copy, VARSIZE_ANY(copy));
}
