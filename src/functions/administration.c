/*
 * administration.c
 *	  Owners made whole again, the request log pruned, the state of keyrot, and the views' question whose
 *	  rows a reader may see.
 */
#include "base/compat.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "functions/reseal.h"
#include "core/argument.h"
#include "core/limit.h"
#include "core/request.h"
#include "core/rights.h"
#include "record/ledger.h"
#include "record/queue.h"
#include "keys/keyring.h"
#include "keys/master_cache.h"
#include "keys/master_file.h"
#include "store/credential_statements.h"
#include "store/request_statements.h"
#include "store/retry_statements.h"
#include "store/rows.h"
#include "store/tables.h"
#include "log/redact.h"
#include "base/errors.h"
#include "base/settings.h"
#include "crypto/uuid7.h"
#include "crypto/arena.h"

PG_FUNCTION_INFO_V1(keyrot_has_rights_of);
PG_FUNCTION_INFO_V1(keyrot_prune_requests);
PG_FUNCTION_INFO_V1(keyrot_rebind_owners);
PG_FUNCTION_INFO_V1(keyrot_status);

#define STATUS_COLUMNS 16
#define MAX_DEGRADED 14

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
	request->arguments.age = argument_age(request->fcinfo, 0);
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

/* Adds a sentence to what is degraded. */
static void
degrade(Datum *degraded, int *count, const char *sentence)
{
	if (*count < MAX_DEGRADED)
		degraded[(*count)++] = CStringGetTextDatum(sentence);
}

/*
 * Whether the worker's last run failed.  One that found no database or no extension may be older than they are,
 * and whoever asks is in that database: so the launcher is told, who then tries again, and only what waits in
 * spite of that is a failure.
 */
static bool
worker_failed(const QueueView *view)
{
	switch (view->worker)
	{
		case WORKER_DONE:
		case WORKER_GAVE_WAY:
			return false;
		case WORKER_NOT_INSTALLED:
			queue_show_life();
			return false;
		case WORKER_STARTED:
			queue_show_life();
			return view->waiting > 0 && !view->life_since_run;
		case WORKER_CONNECTED:
		case WORKER_NO_SLOT:
			break;
	}
	return true;
}

/* What is not recorded of failed requests, and of those that are rolled back. */
static void
degrade_ledger(Datum *degraded, int *count)
{
	static const char *const reasons[] = {
		[LEDGER_NOT_PRELOADED] = "failed requests are in the server log only: keyrot is not in shared_preload_libraries",
		[LEDGER_NO_DATABASE] = "failed requests are in the server log only: keyrot.database is not set",
		[LEDGER_OTHER_DATABASE] = "failed requests of this database are in the server log only: keyrot.database names another",
	};
	LedgerPlace place = ledger_place();
	QueueView	view;

	if (place != LEDGER_RECORDS)
	{
		degrade(degraded, count, reasons[place]);
		return;
	}
	if (RecoveryInProgress())
		degrade(degraded, count, "failed requests are in the server log only, until the server has left recovery");
	queue_look(&view);
	if (!view.launcher && view.waiting > 0 && !RecoveryInProgress())
		degrade(degraded, count,
				"failed requests wait to be recorded: keyrot's launcher does not run; max_worker_processes may be too low");
	if (worker_failed(&view))
		degrade(degraded, count, "failed requests wait to be recorded: the background worker failed, see the server log");
	if (view.lost > 0)
		degrade(degraded, count, "failed requests were lost: the queue, or their caller's share of it, was full");
}

/* The three columns on the queue, NULL where there is none. */
static void
tell_queue(Datum *values, bool *nulls)
{
	QueueView	view;

	memset(nulls, !queue_exists(), 3 * sizeof(bool));
	if (!queue_exists())
		return;
	queue_look(&view);
	values[0] = Int32GetDatum(view.waiting);
	values[1] = Int64GetDatum(view.lost);
	values[2] = Int64GetDatum(view.omitted);
}

static ArrayType *
list_masters(const KeyringStatus *keys)
{
	Datum	   *masters = palloc(keys->masters_count * sizeof(Datum) + 1);
	char		digits[MASTER_TEXT_FINGERPRINT_DIGITS + 1];

	for (int i = 0; i < keys->masters_count; i++)
	{
		master_text_format_fingerprint(keys->masters[i], digits);
		masters[i] = CStringGetTextDatum(digits);
	}
	return construct_array(masters, keys->masters_count, TEXTOID, -1, false, TYPALIGN_INT);
}

/* The three columns on a reseal, NULL where none runs. */
static void
tell_reseal_state(ResealState state, const ResealRow *row, Datum *values, bool *nulls)
{
	Interval   *left;

	memset(nulls, state != RESEAL_RUNS, 3 * sizeof(bool));
	if (state != RESEAL_RUNS)
		return;
	values[0] = Int64GetDatum(row->done);
	values[1] = Int64GetDatum(row->total);
	left = palloc0(sizeof(Interval));
	left->time = reseal_time_left(row);
	values[2] = IntervalPGetDatum(left);
	nulls[2] = row->done == 0;
}

/* Whether no key can be swapped out, neither of this session's nor of those that the sessions share. */
static bool
keys_are_locked(void)
{
	return arena_is_locked() && master_cache_is_locked();
}

static ArrayType *
list_degraded(const KeyringStatus *keys, ResealState reseal)
{
	Datum		degraded[MAX_DEGRADED];
	int			count = 0;

	if (keys->has_problem)
		degrade(degraded, &count, keys->problem.message);
	if (keys->needs_rewrap)
		degrade(degraded, &count, "data keys are wrapped by older master keys than the current one: call keyrot.rewrap_data_keys()");
	if (reseal == RESEAL_STOPPED)
		degrade(degraded, &count, "a reseal was stopped before its end: call keyrot.reseal() again");
	if (master_file_is_in_data_directory())
		degrade(degraded, &count, "the master key file is in the data directory: base backups hold it, and pg_rewind, a delta restore or a new copy of the data directory can take it away");
	if (!keys_are_locked())
		degrade(degraded, &count, "keys are in memory that may be swapped out: the limit on locked memory is too low");
	if (redact_problem() != NULL)
		degrade(degraded, &count, redact_problem());
	if (!settings_preloaded())
		degrade(degraded, &count, "rate limits hold per session: keyrot is not preloaded");
	degrade_ledger(degraded, &count);
	return construct_array(degraded, count, TEXTOID, -1, false, TYPALIGN_INT);
}

/* status(OUT version, OUT openssl, OUT preloaded, OUT locked_memory, OUT master_key, OUT data_key, ...) */
Datum
keyrot_status(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[STATUS_COLUMNS] = {0};
	bool		nulls[STATUS_COLUMNS] = {false};
	KeyringStatus keys;
	ResealState reseal;
	ResealRow	progress;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != STATUS_COLUMNS)
		elog(ERROR, "status() does not return a row of %d columns", STATUS_COLUMNS);
	tables_lock_access_share();
	keyring_examine(&keys);
	reseal = reseal_look(&progress);

	values[0] = CStringGetTextDatum(KEYROT_VERSION);
	values[1] = CStringGetTextDatum(crypto_library_version());
	values[2] = BoolGetDatum(settings_preloaded());
	values[3] = BoolGetDatum(keys_are_locked());
	nulls[4] = keys.master_key[0] == '\0';
	if (!nulls[4])
		values[4] = CStringGetTextDatum(keys.master_key);
	nulls[5] = keys.current == 0;
	values[5] = Int32GetDatum(keys.current);
	values[6] = Int32GetDatum(keys.data_keys);
	values[7] = Int64GetDatum(limit_overflows());
	tell_queue(&values[8], &nulls[8]);
	values[11] = PointerGetDatum(list_masters(&keys));
	tell_reseal_state(reseal, &progress, &values[12], &nulls[12]);
	values[15] = PointerGetDatum(list_degraded(&keys, reseal));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
