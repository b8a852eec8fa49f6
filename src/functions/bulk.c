/*
 * bulk.c
 *	  Many credentials rotated by one call: those that are due, in the caller's transaction; and those of an owner, of a
 *	  list, or all, in batches that are committed one by one.
 *
 * Those procedures go through the identifiers in their order, so that a batch begins where the one before it ended, and
 * two of them never wait for each other in a circle.  What is not to be rotated twice is told by the time of its last
 * rotation: all that this call, or one that it resumes, has rotated is younger than rotated_before.
 */
#include "functions/function.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/acl.h"
#include "utils/timestamp.h"

#include "functions/procedure.h"
#include "core/argument.h"
#include "core/batch.h"
#include "core/credential.h"
#include "core/lifetime.h"
#include "core/rights.h"
#include "record/progress.h"
#include "store/bulk_statements.h"
#include "store/key_statements.h"
#include "base/errors.h"
#include "base/notices.h"
#include "base/settings.h"


/* Number of due credentials that are locked and written by one statement. */
#define DUE_AT_ONCE 1000

/* Positions of the procedures' arguments. */
enum
{
	BULK_OWNER,
	BULK_GRACE_PERIOD,
	BULK_BATCH_SIZE,
	BULK_ALL_OWNERS,
	BULK_LIST,
	BULK_ROTATED_BEFORE
};

/* A bulk operation in progress. */
typedef struct Bulk
{
	Request    *request;
	BulkFilter	filter;
	bool		is_list;
	char	  **list;			/* in order, none twice */
	int			list_length;
	int			list_done;
	char		after[SEAL_MAX_IDENTIFIER + 1];	/* the last identifier that was looked at */
	int			batch_size;
	int64		grace;
	Progress	progress;
	TimestampTz told_at;
	Batch		batch;
	bool		found_any;		/* in this batch */
	MemoryContext context;		/* of one batch */
} Bulk;

/* What is due */

static void
read_rotate_due(Request *request)
{
	FunctionCallInfo fcinfo = request->fcinfo;
	Arguments  *arguments = &request->arguments;

	arguments->max_age.isnull = PG_ARGISNULL(0);
	if (!PG_ARGISNULL(0))
		arguments->max_age.value = Int64GetDatum(argument_age(fcinfo, 0, PARAM_MAX_AGE));
	arguments->grace = argument_grace(fcinfo, 1);
	arguments->max_count = argument_positive(fcinfo, 2, PARAM_MAX_COUNT);
}

/* The due credentials of both kinds. */
typedef struct Due
{
	Batch		batches[2];
	Batch	   *filling;
	int64		grace;			/* of those without a policy */
} Due;

/* A policy may have been set when keyrot.max_grace was higher. */
static void
add_due(const Rotation *rotation, void *reader_state)
{
	Due		   *due = reader_state;
	const Policy *policy = &rotation->credential.policy;
	int64		longest = (int64) keyrot_max_grace * USECS_PER_SEC;

	batch_add(due->filling, rotation,
			  lifetime_is_period(&policy->rotate_after) ? Min(policy->grace, longest) : due->grace);
}

/*
 * Which of the two batches has the credential that is due next, given how many of each have been taken; -1 if none is
 * left.
 */
static int
earlier_batch(const Due *due, const int taken[2])
{
	bool		apps_left = taken[0] < due->batches[0].count;
	bool		zones_left = taken[1] < due->batches[1].count;

	if (!apps_left || !zones_left)
		return apps_left ? 0 : zones_left ? 1 : -1;
	return due->batches[0].rotations[taken[0]].due_at <= due->batches[1].rotations[taken[1]].due_at ? 0 : 1;
}

/* Keeps the earliest credentials of both batches, up to a total of "count". */
static void
keep_earliest(Due *due, int limit)
{
	int			taken[2] = {0, 0};
	int			which;

	while (taken[0] + taken[1] < limit && (which = earlier_batch(due, taken)) >= 0)
		taken[which]++;
	due->batches[0].count = taken[0];
	due->batches[1].count = taken[1];
}

static void
put_rotated(Request *request, const Rotation *rotation)
{
	ReturnSetInfo *result = (ReturnSetInfo *) request->fcinfo->resultinfo;
	const Credential *credential = &rotation->credential;
	Datum		row[] = {
		CStringGetTextDatum(credential->kind == CREDENTIAL_APP ? "app" : "zone"),
		CStringGetTextDatum(credential->identifier),
		Int32GetDatum(credential->version),
		UUIDPGetDatum(&rotation->request_id),
	};
	bool		nulls[lengthof(row)] = {false};

	tuplestore_putvalues(result->setResult, result->setDesc, row, nulls);
}

/* Adds both batches to the result, earliest first. */
static void
put_all(Request *request, const Due *due)
{
	int			taken[2] = {0, 0};
	int			which;

	while ((which = earlier_batch(due, taken)) >= 0)
		put_rotated(request, &due->batches[which].rotations[taken[which]++]);
}

/* Rotates the next due credentials, at most "count"; returns their number. */
static int
rotate_next_due(Request *request, DueFilter *filter, int limit)
{
	static const CredentialKind kinds[] = {CREDENTIAL_APP, CREDENTIAL_ZONE};
	Due			due = {.grace = request->arguments.grace};

	for (int i = 0; i < (int) lengthof(kinds); i++)
	{
		due.filling = &due.batches[i];
		batch_begin(due.filling, kinds[i]);
		filter->kind = kinds[i];
		bulk_statements_lock_due(filter, limit, add_due, &due);
	}
	keep_earliest(&due, limit);
	for (int i = 0; i < (int) lengthof(kinds); i++)
		batch_rotate(request, &due.batches[i], filter->now);
	put_all(request, &due);
	request->arguments.grace = due.grace;
	return due.batches[0].count + due.batches[1].count;
}

/* What was rotated is no longer due, because "now" does not change during the call. */
static void
rotate_due(Request *request)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "keyrot rotate_due", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	int			left = request->arguments.max_count;
	int			count;
	DueFilter	filter = {
		.caller = request->caller,
		.sees_all = rights_is_operator(request->caller),
		.now = request->started_at,
		.max_age = request->arguments.max_age,
	};

	do
	{
		count = rotate_next_due(request, &filter, Min(left, DUE_AT_ONCE));
		left -= count;
		MemoryContextReset(context);
	} while (count > 0 && left > 0);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

/* rotate_due(max_age, grace_period, max_count, OUT kind, OUT id, OUT version, OUT request_id) */
ROWS_FUNCTION(rotate_due, REQUEST_OF_MANY, read_rotate_due, rotate_due);


/* Those of an owner, of a list, or all */

static int
compare_identifiers(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Sorts the list and removes duplicates. */
static void
sort_list(Bulk *bulk)
{
	int			kept = 0;

	qsort(bulk->list, bulk->list_length, sizeof(char *), compare_identifiers);
	for (int i = 0; i < bulk->list_length; i++)
		if (kept == 0 || strcmp(bulk->list[kept - 1], bulk->list[i]) != 0)
			bulk->list[kept++] = bulk->list[i];
	bulk->list_length = kept;
}

/*
 * Raises 22004 unless the call specifies which credentials are meant, and 22023 if it does so in more than one way.
 */
static void
require_one_choice(FunctionCallInfo fcinfo, bool all_owners, Parameter list)
{
	int			choices = !PG_ARGISNULL(BULK_OWNER) + all_owners + !PG_ARGISNULL(BULK_LIST);

	if (choices == 0)
		error_no_choice(list);
	if (choices > 1)
		error_several_choices(list);
}

/* Reads which credentials are meant; raises 42501 unless the caller may act on them. */
static void
read_owner(Bulk *bulk, bool all_owners)
{
	FunctionCallInfo fcinfo = bulk->request->fcinfo;
	Oid			caller = bulk->request->caller;
	BulkFilter *filter = &bulk->filter;

	if (all_owners && !rights_is_operator(caller))
		error_operator_only(bulk->request->action->name);
	if (PG_ARGISNULL(BULK_OWNER))
		return;
	filter->owner = argument_owner(fcinfo, BULK_OWNER, &filter->owner_name);
	if (!rights_is_operator(caller) && !has_privs_of_role(caller, filter->owner))
		error_not_of_owner(bulk->request->action->name, filter->owner_name);
}

static void
read_list(Bulk *bulk)
{
	FunctionCallInfo fcinfo = bulk->request->fcinfo;

	bulk->is_list = !PG_ARGISNULL(BULK_LIST);
	if (!bulk->is_list)
		return;
	bulk->list = argument_identifiers(fcinfo, BULK_LIST, bulk->filter.kind, &bulk->list_length);
	sort_list(bulk);
}

/* Excludes what was rotated after the call began; a later rotated_before does not change that. */
static TimestampTz
read_rotated_before(const Request *request)
{
	FunctionCallInfo fcinfo = request->fcinfo;

	if (PG_ARGISNULL(BULK_ROTATED_BEFORE))
		return request->started_at;
	return Min(PG_GETARG_TIMESTAMPTZ(BULK_ROTATED_BEFORE), request->started_at);
}

static void
read_bulk(Bulk *bulk)
{
	Request    *request = bulk->request;
	FunctionCallInfo fcinfo = request->fcinfo;
	Parameter	list = bulk->filter.kind == CREDENTIAL_APP ? PARAM_APP_KEYS : PARAM_ZONE_IDS;
	bool		all_owners = argument_boolean(fcinfo, BULK_ALL_OWNERS, PARAM_ALL_OWNERS);

	bulk->grace = argument_grace(fcinfo, BULK_GRACE_PERIOD);
	bulk->batch_size = argument_batch_size(fcinfo, BULK_BATCH_SIZE);
	require_one_choice(fcinfo, all_owners, list);
	read_list(bulk);
	procedure_require_top_level(fcinfo, request->action->name);
	read_owner(bulk, all_owners);
	bulk->filter.rotated_before = read_rotated_before(request);
}

/*
 * Raises P0002 and 42501 for elements of the list that do not exist or belong to others; counts those to be rotated.
 */
static int64
examine_list(Bulk *bulk)
{
	MemoryContext caller = MemoryContextSwitchTo(bulk->context);
	int64		count = 0;

	for (int i = 0; i < bulk->list_length; i++)
	{
		Credential	credential;

		CHECK_FOR_INTERRUPTS();
		credential_find(bulk->request->caller, bulk->filter.kind, bulk->list[i], &credential);
		count += credential.modified_at < bulk->filter.rotated_before;
		MemoryContextReset(bulk->context);
	}
	MemoryContextSwitchTo(caller);
	return count;
}

/* The call that resumes this one, in the current memory context. */
static const char *
resuming_call(const Bulk *bulk)
{
	FunctionCallInfo fcinfo = bulk->request->fcinfo;
	const char *which = "all_owners => true";
	const char *grace = DatumGetCString(DirectFunctionCall1(interval_out, PG_GETARG_DATUM(BULK_GRACE_PERIOD)));

	if (bulk->is_list)
		which = bulk->filter.kind == CREDENTIAL_APP ? "app_keys => (the same list)" : "zone_ids => (the same list)";
	if (OidIsValid(bulk->filter.owner))
		which = psprintf("owner => %s", quote_literal_cstr(quote_identifier(bulk->filter.owner_name)));
	return psprintf("CALL keyrot.%s(%s, grace_period => %s, batch_size => %d, rotated_before => '%s')",
					bulk->request->action->name, which, quote_literal_cstr(grace), bulk->batch_size,
					timestamptz_to_str(bulk->filter.rotated_before));
}

/* Determines what is to be done, reports it, and starts showing progress. */
static void
prepare_bulk(Bulk *bulk)
{
	Progress   *progress = &bulk->progress;

	progress->total = bulk->is_list ? examine_list(bulk) : bulk_statements_count(&bulk->filter);
	progress->action = bulk->filter.kind == CREDENTIAL_APP ? PROGRESS_RESET_APPS : PROGRESS_REFRESH_ZONES;
	progress->started_at = GetCurrentTimestamp();
	bulk->told_at = progress->started_at;
	if (progress->total > 0)
		tell_bulk_begin(bulk->filter.kind, progress->total, resuming_call(bulk));
	progress_show(progress);
}

/* Adds a locked credential to the batch, unless it has reached its last version. */
static void
add_bulk(const Rotation *rotation, void *reader_state)
{
	Bulk	   *bulk = reader_state;
	const Credential *credential = &rotation->credential;

	bulk->found_any = true;
	strlcpy(bulk->after, credential->identifier, sizeof(bulk->after));
	if (credential->version == PG_INT32_MAX)
		warn_last_version(credential->kind, credential->identifier);
	else
		batch_add(&bulk->batch, rotation, bulk->grace);
}

/* Locks the next credentials; false if there are no more. */
static bool
lock_next(Bulk *bulk)
{
	int			count = Min(bulk->batch_size, bulk->list_length - bulk->list_done);

	bulk->found_any = false;
	batch_begin(&bulk->batch, bulk->filter.kind);
	if (!bulk->is_list)
	{
		bulk_statements_lock_next(&bulk->filter, bulk->after, bulk->batch_size, add_bulk, bulk);
		return bulk->found_any;
	}
	if (count == 0)
		return false;
	bulk_statements_lock_listed(&bulk->filter, bulk->list + bulk->list_done, count, add_bulk, bulk);
	bulk->list_done += count;
	return true;
}

static void
tell_progress(Bulk *bulk)
{
	Progress   *progress = &bulk->progress;
	TimestampTz now = GetCurrentTimestamp();

	progress_show(progress);
	if (progress->done == 0 || !TimestampDifferenceExceeds(bulk->told_at, now, 1000))
		return;
	bulk->told_at = now;
	tell_bulk(bulk->filter.kind, progress->done, progress->total,
			  (int64) ((double) progress->done * USECS_PER_SEC / (double) Max(now - progress->started_at, 1)),
			  progress_time_left(progress, now));
}

/* Rotates a batch in a transaction of its own; false if there was nothing left. */
static bool
rotate_next(Bulk *bulk)
{
	bool		any;

	procedure_begin_work(bulk->request->action->name, bulk->context);
	any = lock_next(bulk);
	batch_rotate(bulk->request, &bulk->batch, bulk->filter.rotated_before);
	bulk->progress.done += bulk->batch.count;
	procedure_commit_work(bulk->context);
	return any;
}

/*
 * Nothing is changed before the first commit. The arguments are read here because a list may be long and must be kept
 * for the whole call.
 */
static void
rotate_many(Request *request, CredentialKind kind)
{
	Bulk		bulk = {.request = request, .filter.kind = kind};

	bulk.context = AllocSetContextCreate(CurrentMemoryContext, "keyrot bulk rotation", ALLOCSET_DEFAULT_SIZES);
	read_bulk(&bulk);
	prepare_bulk(&bulk);
	key_statements_commit();
	while (rotate_next(&bulk))
		tell_progress(&bulk);
	progress_end();
	tell_bulk_end(kind, bulk.progress.done);
	MemoryContextDelete(bulk.context);
}

static void
reset_apps(Request *request)
{
	rotate_many(request, CREDENTIAL_APP);
}

static void
refresh_zones(Request *request)
{
	rotate_many(request, CREDENTIAL_ZONE);
}

/* reset_apps(owner, grace_period, batch_size, all_owners, app_keys, rotated_before) */
REQUEST_FUNCTION(reset_apps, REQUEST_OF_MANY, NULL, reset_apps, NULL);

/* refresh_zones(owner, grace_period, batch_size, all_owners, zone_ids, rotated_before) */
REQUEST_FUNCTION(refresh_zones, REQUEST_OF_MANY, NULL, refresh_zones, NULL);
