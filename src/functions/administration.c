/*
 * administration.c
 *	  Owners made whole again, the request log pruned, and the views' question whose rows a reader may see.
 */
#include "functions/function.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/argument.h"
#include "core/rights.h"
#include "record/usage.h"
#include "store/credential_statements.h"
#include "store/request_statements.h"
#include "store/retry_statements.h"
#include "store/tables.h"
#include "base/errors.h"
#include "crypto/uuid7.h"

PG_FUNCTION_INFO_V1(keyrot_has_rights_of);

/*
 * Whether this credential belongs to an owner whose privileges the caller has. The owner that was passed proves
 * nothing, because anyone can call the views' helper.
 */
static bool
is_owned_by(CredentialKind kind, const char *id, Oid owner, const char *owner_name)
{
	Credential	credential;

	return rights_is_operator(GetUserId()) ||
		(rows_find_credential(kind, id, GetActiveSnapshot(), &credential) &&
		 credential.owner == owner && strcmp(credential.owner_name, owner_name) == 0);
}

/*
 * The last use of a credential that is known in memory; arguments from the fourth on identify it. NO_TIME: not known.
 */
static TimestampTz
find_use(FunctionCallInfo fcinfo, Oid owner, const char *owner_name)
{
	char	   *use = text_to_cstring(PG_GETARG_TEXT_PP(3));
	char	   *kind_name = text_to_cstring(PG_GETARG_TEXT_PP(4));
	char	   *id = text_to_cstring(PG_GETARG_TEXT_PP(5));
	int32		version = PG_GETARG_INT32(6);
	CredentialKind kind = strcmp(kind_name, "app") == 0 ? CREDENTIAL_APP : CREDENTIAL_ZONE;
	TimestampTz time;

	if (!usage_exists())
		return NO_TIME;
	tables_lock_access_share();
	time = strcmp(use, "first use") == 0 ? usage_first_use(kind, id, version) : usage_last(kind, id, version);
	return time == NO_TIME || !is_owned_by(kind, id, owner, owner_name) ? NO_TIME : time;
}

/*
 * has_rights_of(role_id, role_name, value, use, kind, id, version): returns the value or, if a use is given, the
 * later one of it and the use known in memory. For a caller without the privileges of that role: false or, if the
 * value is not boolean, NULL.
 */
Datum
keyrot_has_rights_of(PG_FUNCTION_ARGS)
{
	Oid			role;
	char	   *name;
	Oid			type;
	TimestampTz time;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	role = PG_GETARG_OID(0);
	name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	type = get_fn_expr_argtype(fcinfo->flinfo, 2);
	if (rights_over(GetUserId(), role, name) != RIGHTS_GRANTED)
	{
		if (type == BOOLOID)
			PG_RETURN_BOOL(false);
		PG_RETURN_NULL();
	}
	if (type == TIMESTAMPTZOID &&
		!PG_ARGISNULL(3) && !PG_ARGISNULL(4) && !PG_ARGISNULL(5) && !PG_ARGISNULL(6))
	{
		time = find_use(fcinfo, role, name);
		if (time != NO_TIME)
			PG_RETURN_TIMESTAMPTZ(PG_ARGISNULL(2) ? time : Max(time, PG_GETARG_TIMESTAMPTZ(2)));
	}
	if (PG_ARGISNULL(2))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(PG_GETARG_DATUM(2));
}

static void
rebind_owners(Request *request)
{
	if (!superuser_arg(request->caller))
		error_superuser_only(request->action->name);
	if (tables_are_distributed())
		error_not_distributable("rebind_owners", "Owners count by their names alone there. Use set_app_owner and set_zone_owner.");
	request->rows = credential_statements_rebind_owners() + retry_statements_rebind();
}

static Datum
answer_rows(Request *request)
{
	return Int64GetDatum(request->rows);
}

/* rebind_owners() */
REQUEST_FUNCTION(rebind_owners, REQUEST_OF_ADMINISTRATION, NULL, rebind_owners, answer_rows);


static void
read_prune_requests(Request *request)
{
	request->arguments.age = argument_age(request->fcinfo, 0, PARAM_OLDER_THAN);
}

/*
 * A RequestId is never older than its request, so all requests with a smaller one are old enough. Records of
 * client_tokens are removed, too, but kept for at least a day, so that retries are safe.
 */
static void
prune_requests(Request *request)
{
	TimestampTz before = request->started_at - request->arguments.age;
	pg_uuid_t	first_kept;

	uuid7_floor(request_unix_time(before), first_kept.data);
	request->rows = request_statements_prune(&first_kept);
	before = request->started_at - Max(request->arguments.age, USECS_PER_DAY);
	retry_statements_prune(Max(before, SetEpochTimestamp()));
}

/* prune_requests(older_than) */
REQUEST_FUNCTION(prune_requests, REQUEST_OF_ADMINISTRATION, read_prune_requests, prune_requests, answer_rows);
