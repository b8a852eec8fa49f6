/*
 * request.c
 *	  The life of a request: it gets its id and time, knows its caller, and is recorded.
 *
 * Every function that the contract calls a request runs inside request_run().  The id is in the CONTEXT
 * of every error that leaves it, whoever raised it; the record is written in the caller's own
 * transaction, so that neither it nor the change exists without the other.  An action that answers its
 * failures runs in a subtransaction: what it did is undone, and the failure's record is the caller's.
 */
#include "request.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "errors.h"
#include "limit.h"
#include "settings.h"
#include "tables.h"
#include "uuid7.h"

#define UNIX_TO_POSTGRES_EPOCH_USECS \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* Puts the RequestId into the CONTEXT of whatever is reported while the request runs. */
static void
tell_request(void *arg)
{
	const Request *request = arg;
	const uint8 *b = request->id.data;

	errcontext("keyrot request %02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x: %s",
			   b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7],
			   b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15], request->action->name);
}

static void
give_id(Request *request)
{
	CryptoStatus status = uuid7_make(request->started_at + UNIX_TO_POSTGRES_EPOCH_USECS,
									 &request->draw, request->id.data);

	if (status != CRYPTO_OK)
		error_crypto(status);
}

/* Refuses a request that could not be recorded, or whose caller is not who it seems. */
static void
require_writable(const Request *request)
{
	PreventCommandIfReadOnly(request->action->name);
	PreventCommandIfParallelMode(request->action->name);
	if (InSecurityRestrictedOperation())
		error_restricted(request->action->name);
}

/* How often a second the caller may call this function; 0: as often as it likes. */
static int
rate_limit_of(const Action *action)
{
	switch (action->family)
	{
		case REQUEST_OF_APPS:
			return keyrot_app_rate_limit;
		case REQUEST_OF_ZONES:
			return keyrot_zone_rate_limit;
		case REQUEST_OF_ADMINISTRATION:
			break;
	}
	return 0;
}

static void
record(const Request *request, const char *outcome)
{
	RequestRow	row = {
		.id = &request->id,
		.target = request->target,
		.requested_at = request->started_at,
		.action = request->action->name,
		.caller = request->caller,
		.outcome = outcome,
		.version = request->version,
		.retry_of = request->is_repetition ? &request->retry_of : NULL,
	};

	rows_insert_request(&row);
}

static void
perform(Request *request)
{
	const Action *action = request->action;

	action->read(request);
	limit_admit(request->caller, action->name, rate_limit_of(action));
	action->act(request);
	record(request, "ok");
}

/* Performs the request in a subtransaction; returns the error that undid it, or NULL. */
static ErrorData *
attempt(Request *request)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	errors_begin();
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		perform(request);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

/* Performs the request and answers it; without a refusal its failures are raised. */
static Datum
respond(Request *request, Refusal refuse)
{
	ErrorData  *error;

	if (refuse == NULL)
	{
		perform(request);
		return request->action->answer(request);
	}
	error = attempt(request);
	if (error == NULL)
		return request->action->answer(request);
	if (errors_must_be_raised(error))
		ReThrowError(error);
	request->version = 0;
	request->is_repetition = false;
	record(request, unpack_sql_state(error->sqlerrcode));
	return refuse(request, error);
}

/* Wipes what the request knew, on its way out of every exit. */
static void
forget_secrets(Request *request)
{
	secret_wipe(&request->secret);
	secret_wipe(&request->current);
	crypto_wipe(&request->draw, sizeof(request->draw));
	if (request->result_text != NULL)
		crypto_wipe(request->result_text, VARSIZE_ANY(request->result_text));
}

static Datum
run(FunctionCallInfo fcinfo, const Action *action, Refusal refuse)
{
	Request		request;
	ErrorContextCallback context;
	Datum		result;

	memset(&request, 0, sizeof(request));
	request.action = action;
	request.fcinfo = fcinfo;
	request.started_at = GetCurrentTimestamp();
	request.caller = GetUserId();
	give_id(&request);

	context.callback = tell_request;
	context.arg = &request;
	context.previous = error_context_stack;
	error_context_stack = &context;
	PG_TRY();
	{
		require_writable(&request);
		tables_hold();
		result = respond(&request, refuse);
	}
	PG_FINALLY();
	{
		forget_secrets(&request);
	}
	PG_END_TRY();
	error_context_stack = context.previous;
	return result;
}

/*
 * Runs an SQL function as a request: reads, is admitted, acts, records, answers.  The answer, which may
 * hold a secret, comes last, so that nothing can fail once it is formed; it is in the memory context of the
 * call.  Raises what the action raises, 53400 for a call too many, 25006 where nothing can be written, and
 * 42501 inside a security-restricted operation.
 */
Datum
request_run(FunctionCallInfo fcinfo, const Action *action)
{
	return run(fcinfo, action, NULL);
}

/*
 * As request_run(), but what the action raises is undone, recorded with its SQLSTATE in the caller's
 * transaction, and answered by the refusal; what errors_must_be_raised() is raised still.
 */
Datum
request_run_answering(FunctionCallInfo fcinfo, const Action *action, Refusal refuse)
{
	return run(fcinfo, action, refuse);
}
