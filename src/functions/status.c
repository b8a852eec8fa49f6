/*
 * status.c
 *	  The state of keyrot as rows: what it is, how it stands, and what is wrong with it.
 *
 * Each row judges its own item, so that nothing is wrong of which no row tells.  A text too long for a window
 * of 100 columns is broken into lines, since psql leaves wide rows to the terminal.
 */
#include "functions/status.h"

#include "access/xlog.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/limit.h"
#include "record/ledger.h"
#include "record/queue.h"
#include "record/usage.h"
#include "keys/master_cache.h"
#include "keys/master_file.h"
#include "store/distribution.h"
#include "store/tables.h"
#include "log/redact.h"
#include "base/settings.h"
#include "crypto/arena.h"

PG_FUNCTION_INFO_V1(keyrot_status);

#define STATUS_COLUMNS 3
#define ROWS_BESIDE_MASTERS 21
#define VALUE_WIDTH 26
#define PROBLEM_WIDTH 49

/* Adds a row. value and problem are not copied, and may be NULL. */
static void
put_item(Status *status, const char *item, const char *value, const char *problem)
{
	status->rows[status->count++] = (StatusRow) {.item = item, .value = value, .problem = problem};
}

static const char *
yes_or_no(bool answer)
{
	return answer ? "yes" : "no";
}

static char *
number(int64 value)
{
	return psprintf("%lld", (long long) value);
}

static void
tell_library(Status *status)
{
	put_item(status, "version", KEYROT_VERSION, NULL);
	put_item(status, "openssl", crypto_library_version(), NULL);
	put_item(status, "preloaded", yes_or_no(settings_preloaded()), NULL);
	put_item(status, "clean_logs", yes_or_no(redact_problem() == NULL), redact_problem());
}

static void
tell_limits(Status *status)
{
	const char *uses = psprintf("%d of %d", usage_entries_in_use(), keyrot_usage_entries);
	int64		overflows = limit_overflows();

	put_item(status, "rate_limits", settings_preloaded() ? "of all sessions" : "of each session",
		 settings_preloaded() ? NULL : "rate limits hold per session: keyrot is not preloaded");
	put_item(status, "limit_overflows", number(overflows),
		 overflows == 0 ? NULL : "calls were refused for lack of room: raise keyrot.rate_limit_entries");
	put_item(status, "usage_entries", usage_exists() ? uses : "none", NULL);
}

/* Whether no key can be swapped out, whether it is this session's or shared by sessions. */
static bool
keys_are_locked(void)
{
	return arena_is_locked() && master_cache_is_locked();
}

static const char *
key_problem(const KeyringStatus *keys)
{
	if (!keys->has_problem)
		return NULL;
	if (keys->problem.hint[0] == '\0')
		return keys->problem.message;
	return psprintf("%s. %s", keys->problem.message, keys->problem.hint);
}

static void
tell_master_keys(Status *status)
{
	const KeyringStatus *keys = &status->keys;
	const char *exposed = "the master key file is in the data directory: base backups hold it, and pg_rewind, a delta "
		"restore or a new copy of the data directory can take it away";

	put_item(status, "master_key", keys->master_key[0] == '\0' ? NULL : keys->master_key, key_problem(keys));
	put_item(status, "master_key_source", keyrot_master_key_command[0] == '\0' ? "file" : "command",
		 master_file_is_in_data_directory() ? exposed : NULL);
	for (int i = 0; i < keys->masters_count; i++)
	{
		char	   *digits = palloc(MASTER_TEXT_FINGERPRINT_DIGITS + 1);

		master_text_format_fingerprint(keys->masters[i], digits);
		put_item(status, "master_key_in_use", digits, NULL);
	}
	put_item(status, "locked_memory", yes_or_no(keys_are_locked()),
		 keys_are_locked() ? NULL : "keys are in memory that may be swapped out: the limit on locked memory is too low");
}

/*
 * The progress of a reseal, and about how long it still takes; not as an interval, whose format depends on the
 * session.
 */
static char *
reseal_progress(const ResealRow *row)
{
	int64		left = reseal_time_left(row) / USECS_PER_SEC;
	char	   *moved = psprintf("%lld of %lld", (long long) row->done, (long long) row->total);

	if (row->done == 0)
		return moved;
	return psprintf("%s, %lld:%02d:%02d left", moved, (long long) (left / SECS_PER_HOUR),
					(int) (left / SECS_PER_MINUTE % MINS_PER_HOUR), (int) (left % SECS_PER_MINUTE));
}

static void
tell_data_keys(Status *status)
{
	const KeyringStatus *keys = &status->keys;

	put_item(status, "data_key", keys->current == 0 ? NULL : number(keys->current), NULL);
	put_item(status, "data_keys", number(keys->data_keys),
		 !keys->needs_rewrap ? NULL :
		 "data keys are wrapped by older master keys than the current one: call keyrot.rewrap_data_keys()");
	put_item(status, "reseal", status->reseal_state == RESEAL_RUNS ? reseal_progress(&status->reseal) : NULL,
		 status->reseal_state != RESEAL_STOPPED ? NULL : "a reseal was stopped before its end: call keyrot.reseal() again");
}

/* Why failed requests of this session are only in the server log; NULL if they are recorded. */
static const char *
not_recorded(void)
{
	static const char *const reasons[] = {
		[LEDGER_NOT_PRELOADED] = "failed requests are in the server log only: keyrot is not in shared_preload_libraries",
		[LEDGER_NO_DATABASE] = "failed requests are in the server log only: keyrot.database is not set",
		[LEDGER_OTHER_DATABASE] = "failed requests of this database are in the server log only: keyrot.database names another",
	};
	LedgerPlace place = ledger_place();

	if (place != LEDGER_RECORDS)
		return reasons[place];
	if (RecoveryInProgress())
		return "failed requests are in the server log only, until the server has left recovery";
	return NULL;
}

/*
 * Whether the worker's last run failed. If it found no database or no extension, that may have changed since, because
 * whoever calls status() is in that database: so the launcher is told to try again, and it counts as a failure only
 * if requests are still waiting then.
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

static const char *
worker_problem(const QueueView *view)
{
	if (!view->launcher && view->waiting > 0 && !RecoveryInProgress())
		return "failed requests wait to be recorded: keyrot's launcher does not run; max_worker_processes may be too low";
	if (worker_failed(view))
		return "failed requests wait to be recorded: the background worker failed, see the server log";
	return NULL;
}

static void
tell_requests(Status *status)
{
	static const char *const last_runs[] = {
		[WORKER_STARTED] = "did not connect",
		[WORKER_CONNECTED] = "failed",
		[WORKER_NO_SLOT] = "no free slot",
		[WORKER_NOT_INSTALLED] = "no extension there",
		[WORKER_GAVE_WAY] = "gave way",
		[WORKER_DONE] = "done",
	};
	bool		is_ours = ledger_place() == LEDGER_RECORDS;
	QueueView	view;

	put_item(status, "failed_requests", not_recorded() == NULL ? "recorded" : "not recorded", not_recorded());
	if (!queue_exists())
		return;
	queue_look(&view);
	put_item(status, "requests_waiting", number(view.waiting), NULL);
	put_item(status, "requests_lost", number(view.lost),
		 view.lost == 0 || !is_ours ? NULL : "failed requests were lost: the queue, or their caller's share of it, was full, or a trigger was in the way");
	put_item(status, "refusals_omitted", number(view.omitted), NULL);
	put_item(status, "worker", last_runs[view.worker], is_ours ? worker_problem(&view) : NULL);
}

/* Where a node has no key file, or another one, calls on it fail. */
static void
put_node(const NodeAnswer *answer, void *reader_state)
{
	Status	   *status = reader_state;
	MemoryContext caller = MemoryContextSwitchTo(status->context);
	char	   *problem = answer->text == NULL || answer->text[0] == '\0' ? NULL : pstrdup(answer->text);

	if (!answer->success)
		problem = psprintf("the node could not be asked: %s", problem == NULL ? "no answer" : problem);
	status->rows = repalloc(status->rows, (status->count + 1) * sizeof(StatusRow));
	put_item(status, "node", pstrdup(answer->node), problem);
	MemoryContextSwitchTo(caller);
}

/* The nodes of the cluster, and what is wrong with their keys; each has to answer, which takes time. */
static void
tell_nodes(Status *status)
{
	if (tables_are_distributed())
		distribution_examine_nodes(put_node, status);
}

/*
 * Collects the state of keyrot; reads the data keys and the master key again. All results are in the current memory
 * context. Raises an error if keyrot's tables are not as the extension created them; a problem with keys is reported
 * in a row.
 */
void
status_collect(Status *status)
{
	memset(status, 0, sizeof(*status));
	status->context = CurrentMemoryContext;
	tables_lock_access_share();
	keyring_examine(&status->keys);
	status->reseal_state = reseal_look(&status->reseal);
	status->rows = palloc((ROWS_BESIDE_MASTERS + status->keys.masters_count) * sizeof(StatusRow));
	tell_library(status);
	tell_limits(status);
	tell_master_keys(status);
	tell_data_keys(status);
	tell_requests(status);
}

/* Breaks a text into lines of at most this many bytes, except for longer words; NULL for NULL. */
static Datum
broken_into_lines(const char *text, int width)
{
	char	   *lines = pstrdup(text);
	char	   *line = lines;
	char	   *space = NULL;

	for (char *next = lines; *next != '\0'; next++)
	{
		if (*next == ' ')
			space = next;
		if (next - line >= width && space != NULL)
		{
			*space = '\n';
			line = space + 1;
			space = NULL;
		}
	}
	return CStringGetTextDatum(lines);
}

/* status(OUT item, OUT value, OUT problem) */
Datum
keyrot_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Status		status;

	InitMaterializedSRF(fcinfo, 0);
	status_collect(&status);
	tell_nodes(&status);
	for (int i = 0; i < status.count; i++)
	{
		const StatusRow *row = &status.rows[i];
		Datum		values[STATUS_COLUMNS] = {CStringGetTextDatum(row->item)};
		bool		nulls[STATUS_COLUMNS] = {false, row->value == NULL, row->problem == NULL};

		if (row->value != NULL)
			values[1] = broken_into_lines(row->value, VALUE_WIDTH);
		if (row->problem != NULL)
			values[2] = broken_into_lines(row->problem, PROBLEM_WIDTH);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
