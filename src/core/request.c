/*
 * request.c
 *	  The life of a request: it is given an id and a time, its caller is determined, and it is recorded.
 *
 * Every function that is documented as a request runs inside request_run(). The id is in the CONTEXT of every
 * error that leaves it, no matter where it was raised; the record is written in the caller's own transaction,
 * so that neither it nor the change exists without the other.  An action that answers its failures runs in a
 * subtransaction: its changes are undone, and the failure is recorded in the caller's transaction.  Other
 * failures, and requests that are rolled back later, are recorded by ledger.c.
 *
 * A FATAL error is not caught by PG_CATCH: it ends the session, which then aborts the transaction.  This is
 * why there is a chain of active requests, and why the error context callback notes the SQLSTATE.
 */
#include "core/request.h"

#include "access/xact.h"
#include "common/int.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "core/announce.h"
#include "core/limit.h"
#include "record/ledger.h"
#include "store/tables.h"
#include "base/errors.h"
#include "base/settings.h"
#include "crypto/uuid7.h"

#define UNIX_TO_POSTGRES_EPOCH_USECS \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

static Request *under_way = NULL;	/* the innermost one */

/* Adds the RequestId to the CONTEXT of everything that is reported while the request runs. */
static void
tell_request(void *arg)
{
	Request    *request = arg;
	char		id[UUID7_TEXT];

	request->sqlstate = geterrcode();
	uuid7_to_text(request->id.data, id);
	errcontext("keyrot request %s: %s", id, request->action->name);
}

/* Microseconds since 1970, as RequestIds count; times long before that count as 1970. */
int64
request_unix_time(TimestampTz time)
{
	int64		result;

	return pg_add_s64_overflow(time, UNIX_TO_POSTGRES_EPOCH_USECS, &result) ? 0 : Max(result, 0);
}

/* Makes a RequestId of the request's time. */
void
request_give_id(Request *request, pg_uuid_t *id)
{
	CryptoStatus status = uuid7_make(request_unix_time(request->started_at), &request->draw, id->data);

	if (status != CRYPTO_OK)
		error_crypto(status);
}

/*
 * A role as recorded in the log.  It may have been named in a database with another encoding; if its name is
 * not valid in this one it is omitted, because it would make every dump unrestorable, and the request is
 * refused later.
 */
static LoggedRole
logged_role(Request *request, Oid role)
{
	LoggedRole	result = {.oid = role};
	char	   *name = GetUserNameFromId(role, true);

	if (name == NULL)
		return result;
	if (pg_verifymbstr(name, (int) strlen(name), true))
		strlcpy(result.name, name, sizeof(result.name));
	else
		request->misnamed = role;
	pfree(name);
	return result;
}

/* The client's address, as returned by inet_client_addr(); determined once per session. */
static const int32 *
client_address(void)
{
	static int32 address[lengthof(((RequestRow *) NULL)->client_addr)];
	static bool known = false;

	if (!known)
	{
		LOCAL_FCINFO(fcinfo, 0);
		Datum		value;

		InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
		value = inet_client_addr(fcinfo);
		if (!fcinfo->isnull && VARSIZE_ANY(DatumGetPointer(value)) <= sizeof(address))
			memcpy(address, DatumGetPointer(value), VARSIZE_ANY(DatumGetPointer(value)));
		known = true;
	}
	return address;
}

/* Looks up everything about the caller that is recorded, because nothing can be looked up after an error. */
static void
identify_caller(Request *request)
{
	(void) ledger_place();
	(void) client_address();
	request->logged_caller = logged_role(request, request->caller);
	request->logged_session_user = logged_role(request, GetSessionUserId());
}

/*
 * Refuses a function if nothing can be written (25006; 25000 in a parallel worker), and in a
 * security-restricted operation (42501).
 */
void
request_require_writable(const char *function)
{
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
	if (InSecurityRestrictedOperation())
		error_restricted(function);
}

/* How often per second the caller may call this function; 0: no limit. */
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
		case REQUEST_OF_MANY:
			break;
	}
	return 0;
}

/* What the log says of a request that came to this. */
void
request_make_row(const Request *request, const char *outcome, RequestRow *row)
{
	memset(row, 0, sizeof(*row));
	row->id = request->id;
	row->requested_at = request->started_at;
	strlcpy(row->action, request->action->name, sizeof(row->action));
	row->caller = request->logged_caller;
	row->session_user = request->logged_session_user;
	memcpy(row->client_addr, client_address(), sizeof(row->client_addr));
	row->pid = MyProcPid;
	strlcpy(row->outcome, outcome, sizeof(row->outcome));
	strlcpy(row->target, request->target, sizeof(row->target));
}

/* Forgets the version that was made for the request, because it was not written. */
void
request_forget_version(Request *request)
{
	request->version = 0;
	request->changed = 0;
	request->rotated = false;
}

/* Records a request in the caller's transaction, and prepares for a rollback of that. */
static LedgerEntry *
write_record(const Request *request, const char *outcome)
{
	RequestRow	row;

	request_make_row(request, outcome, &row);
	row.version = request->version;
	row.is_repetition = request->is_repetition;
	row.retry_of = request->retry_of;
	row.changed = request->changed;
	rows_insert_request(&row);
	if (request->rotated)
		announce_rotation(&row);
	return ledger_prepare(&row);
}

/* Notes a request that did not succeed. The last report may have been less than an error. */
static void
note_failure(const Request *request, int sqlstate)
{
	int			category = ERRCODE_TO_CATEGORY(sqlstate);
	bool		is_error = category != ERRCODE_SUCCESSFUL_COMPLETION && category != ERRCODE_WARNING;
	RequestRow	row;

	request_make_row(request, is_error ? unpack_sql_state(sqlstate) : "rolled back", &row);
	ledger_note(&row);
}

/* Notes the requests that were active when the session was terminated. */
static void
on_transaction(XactEvent event, void *arg pg_attribute_unused())
{
	if (event != XACT_EVENT_ABORT || !proc_exit_inprogress)
		return;
	for (; under_way != NULL; under_way = under_way->outer)
		note_failure(under_way, under_way->sqlstate);
}

/* Registers a callback for the end of the session; called once, when the library is loaded. */
void
request_init(void)
{
	RegisterXactCallback(on_transaction, NULL);
}

static void
perform(Request *request)
{
	const Action *action = request->action;

	tables_lock_access_share();
	if (OidIsValid(request->misnamed))
		error_role_name(request->misnamed);
	if (action->read != NULL)
		action->read(request);
	limit_admit(request->caller, action->name, rate_limit_of(action));
	action->act(request);
}

static bool
has_written(void)
{
	return TransactionIdIsValid(GetCurrentTransactionIdIfAny());
}

/*
 * Performs the request in a subtransaction; returns the error that aborted it, or NULL. A request that has
 * written is recorded in the subtransaction, so that it is undone if it cannot be recorded.  The caller must
 * record a request that has only read: a subtransaction that writes has a transaction ID, and if a
 * transaction has more than 64 of them, the snapshots of all other sessions become slower.
 */
static ErrorData *
attempt(Request *request, LedgerEntry **entry)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	conditions_begin();
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		perform(request);
		if (has_written())
			*entry = write_record(request, "ok");
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

static Datum
answer(Request *request)
{
	return request->action->answer == NULL ? (Datum) 0 : request->action->answer(request);
}

/* Performs the request and answers it; without a refusal function its failures are raised. */
static Datum
respond(Request *request, Refusal refuse, LedgerEntry **entry)
{
	ErrorData  *error;

	if (refuse == NULL)
	{
		perform(request);
		if (request->action->family != REQUEST_OF_MANY)
			*entry = write_record(request, "ok");
		return answer(request);
	}
	error = attempt(request, entry);
	if (error == NULL)
	{
		if (*entry == NULL)
			*entry = write_record(request, "ok");
		return answer(request);
	}
	if (conditions_must_be_raised(error))
		ReThrowError(error);
	request_forget_version(request);
	request->is_repetition = false;
	*entry = write_record(request, unpack_sql_state(error->sqlerrcode));
	return refuse(request, error);
}

/* Wipes the secrets of the request, on every exit. */
static void
forget_secrets(Request *request)
{
	secret_wipe(&request->secret);
	secret_wipe(&request->current);
	crypto_wipe(&request->draw, sizeof(request->draw));
	if (request->result_text != NULL)
		crypto_wipe(request->result_text, VARSIZE_ANY(request->result_text));
}

/*
 * Runs an SQL function as a request: reads, is admitted, acts, records, answers.  The answer, which may hold
 * a secret, comes last, so that nothing can fail once it is formed; it is in the memory context of the call.
 * Raises what the action raises, 53400 for a call above the limit, 25006 if nothing can be written, 42501
 * inside a security-restricted operation, and 22021 for a caller whose name is not valid in the database's
 * encoding.
 *
 * With a refusal function, an error of the action is undone, recorded with its SQLSTATE in the caller's transaction, and
 * answered by that function; errors for which conditions_must_be_raised() are still raised.
 */
Datum
request_run_answering(FunctionCallInfo fcinfo, const Action *action, Refusal refuse)
{
	Request		request;
	ErrorContextCallback context;
	LedgerEntry *entry = NULL;
	Datum		result;

	memset(&request, 0, sizeof(request));
	request.action = action;
	request.fcinfo = fcinfo;
	request.started_at = GetCurrentTimestamp();
	request.caller = GetUserId();
	request_give_id(&request, &request.id);

	context.callback = tell_request;
	context.arg = &request;
	context.previous = error_context_stack;
	error_context_stack = &context;
	request.outer = under_way;
	under_way = &request;
	PG_TRY();
	{
		identify_caller(&request);
		request_require_writable(action->name);
		result = respond(&request, refuse, &entry);
	}
	PG_CATCH();
	{
		under_way = request.outer;
		forget_secrets(&request);
		note_failure(&request, geterrcode());
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (entry != NULL)
		ledger_remember(entry, request.disclosed);
	under_way = request.outer;
	error_context_stack = context.previous;
	forget_secrets(&request);
	return result;
}
