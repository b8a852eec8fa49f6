/*
 * administration.c
 *	  Owners made whole again, the request log pruned, and the views' question whose rows a reader may see.
 */
#include "base/compat.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/argument.h"
#include "core/request.h"
#include "core/rights.h"
#include "store/credential_statements.h"
#include "store/request_statements.h"
#include "store/retry_statements.h"
#include "base/errors.h"
#include "crypto/uuid7.h"
#include "crypto/arena.h"

PG_FUNCTION_INFO_V1(keyrot_has_rights_of);
PG_FUNCTION_INFO_V1(keyrot_prune_requests);
PG_FUNCTION_INFO_V1(keyrot_rebind_owners);

/* has_rights_of(role_id, role_name): NULL for a NULL, as SQL's functions answer */
Datum
keyrot_has_rights_of(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	PG_RETURN_BOOL(rights_over(GetUserId(), PG_GETARG_OID(0), TextDatumGetCString(PG_GETARG_DATUM(1))) ==
				   RIGHTS_GRANTED);
}

static void
read_nothing(Request *request pg_attribute_unused())
{
}

static void
rebind_owners(Request *request)
{
	if (!superuser_arg(request->caller))
		error_superuser_only(request->action->name);
	request->rows = credential_statements_rebind_owners() + retry_statements_rebind();
}

static Datum
answer_rows(Request *request)
{
	return Int64GetDatum(request->rows);
}

/* rebind_owners() */
Datum
keyrot_rebind_owners(PG_FUNCTION_ARGS)
{
	static const Action action = {
		"rebind_owners", REQUEST_OF_ADMINISTRATION, read_nothing, rebind_owners, answer_rows
	};

	return request_run(fcinfo, &action);
}

static void
read_prune_requests(Request *request)
{
	request->arguments.age = argument_age(request->fcinfo, 0, PARAM_OLDER_THAN);
}

/*
 * A RequestId is never older than its request, so that all with a lesser one are old enough.  What
 * client_tokens were used for goes as well, but is kept for a day, so that retries stay safe.
 */
static void
prune_requests(Request *request)
{
	TimestampTz before = request->started_at - request->arguments.age;
	pg_uuid_t	first_kept;

	uuid7_floor(request_unix_time(before), first_kept.data);
	request->rows = request_statements_prune(&first_kept);
	retry_statements_prune(request->started_at - Max(request->arguments.age, USECS_PER_DAY));
}

/* prune_requests(older_than) */
Datum
keyrot_prune_requests(PG_FUNCTION_ARGS)
{
	static const Action action = {
		"prune_requests", REQUEST_OF_ADMINISTRATION, read_prune_requests, prune_requests, answer_rows
	};

	return request_run(fcinfo, &action);
}
