/*
 * request_ids.c
 *	  RequestIds and the times that they are of, for whoever partitions or searches the request log by time.
 *
 * Why not answer an infinite time with the least or greatest UUID?  A partition bounded by it would take what is
 * no RequestId; SQL has MINVALUE and MAXVALUE for that.
 */
#include "base/compat.h"

#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "core/request.h"
#include "base/errors.h"
#include "crypto/uuid7.h"

PG_FUNCTION_INFO_V1(keyrot_request_id_at);
PG_FUNCTION_INFO_V1(keyrot_request_time);

#define UNIX_EPOCH (((TimestampTz) UNIX_EPOCH_JDATE - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY)

/* request_id_at(moment); a moment before 1970 has the smallest RequestId of all */
Datum
keyrot_request_id_at(PG_FUNCTION_ARGS)
{
	TimestampTz moment = PG_GETARG_TIMESTAMPTZ(0);
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	if (TIMESTAMP_NOT_FINITE(moment) || moment >= UUID7_END * 1000 + UNIX_EPOCH)
		error_malformed(PARAM_MOMENT);
	uuid7_floor(request_unix_time(moment), id->data);
	PG_RETURN_UUID_P(id);
}

/* request_time(request_id) */
Datum
keyrot_request_time(PG_FUNCTION_ARGS)
{
	int64		unix_time = uuid7_time(PG_GETARG_UUID_P(0)->data);

	if (unix_time < 0)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(unix_time + UNIX_EPOCH);
}
