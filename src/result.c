/*
 * result.c
 *	  Builds what SQL functions return.
 *
 * A returned secret is PostgreSQL's from then on; the copy that went into the row is ours, and wiped when
 * the request ends.
 */
#include "result.h"

#include "access/htup_details.h"
#include "funcapi.h"

/*
 * The RequestId to answer with, in the current memory context: that of the first call where this one
 * repeats it.  It is the whole answer of most requests.
 */
Datum
result_request_id(Request *request)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	*id = request->is_repetition ? request->retry_of : request->id;
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

/* Room for a secret as text, which the request wipes when it ends. */
static text *
secret_text(Request *request, size_t room)
{
	request->result_text = palloc(VARHDRSZ + room);
	SET_VARSIZE(request->result_text, VARHDRSZ + room);
	return request->result_text;
}

/* The request's secret as the text of an AppSecret. */
Datum
result_app_secret(Request *request)
{
	text	   *result = secret_text(request, request->secret.length);

	memcpy(VARDATA(result), request->secret.bytes, request->secret.length);
	return PointerGetDatum(result);
}

/* The request's secret as the text of a SecretKey. */
Datum
result_secret_key(Request *request)
{
	text	   *result = secret_text(request, SECRET_KEY_MAX_TEXT + 1);
	size_t		length = secret_key_to_text(&request->secret, VARDATA(result));

	SET_VARSIZE(result, VARHDRSZ + length);
	return PointerGetDatum(result);
}
