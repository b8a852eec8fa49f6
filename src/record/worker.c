/*
 * worker.c
 *	  The background worker: records the requests that wait in the queue, writes down when credentials were last used,
 *	  and wipes expired versions.
 *
 * Why two processes?  If a worker stayed connected to keyrot.database, DROP DATABASE and CREATE DATABASE ...
 * TEMPLATE would fail: they wait five seconds for other sessions, and then give up.  So a launcher, which is not
 * connected to any database, starts the worker when there is work, and the worker exits when that is done; before
 * each transaction it checks whether somebody has locked the database for such a command, and if so exits at once.
 * New requests to record come only from sessions in that database, which themselves block those commands.
 *
 * After an error the worker exits, and the launcher starts another one, after a longer pause each time.  Neither
 * starts before recovery has ended, because a standby has nothing to record.
 *
 * To find expired versions it reads both tables from beginning to end, in pieces, each in its own transaction: an
 * index on the end of the grace period would prevent HOT updates in rotations.  queue.c knows when the next grace
 * period ends, so while there is none the tables are read only once an hour.
 *
 * Each transaction runs as the tables' owner, in a security-restricted operation, and uses only relations that are
 * members of the extension and that it has locked.
 */
#include "record/worker.h"

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "record/queue.h"
#include "record/usage.h"
#include "store/credential_statements.h"
#include "store/request_statements.h"
#include "store/tables.h"
#include "store/usage_statements.h"
#include "base/notices.h"
#include "base/settings.h"

#define RESTART_SECONDS 1		/* of a launcher that crashed */
#define BATCH 64				/* requests recorded in one transaction */
#define PIECE 256				/* blocks searched for expired versions in one transaction */
#define GRACES 1024				/* grace periods begun in one transaction */
#define USES 65536				/* last uses written down in one transaction */
#define LINGER_MS 500			/* before a worker that has nothing to do leaves */
#define LOCK_TIMEOUT "5s"

#define PAUSE_MIN_MS 1000		/* before a worker is started again that failed */
#define PAUSE_MAX_MS 30000
#define UNREACHABLE_PAUSE_MAX_MS 300000 /* where there is no database or no extension */
#define IDLE_MS 60000

/* What the launcher knows about the last run that failed. */
typedef struct Retry
{
	int			pause;			/* milliseconds; 0: it did not fail */
	bool		unreachable;
	TimestampTz ended_at;
} Retry;

/* Progress of the search for expired versions. */
typedef struct Sweep
{
	bool		under_way;
	CredentialKind	kind;
	BlockNumber next;			/* block */
	TimestampTz started_at;
	QueueCensus census;
} Sweep;


/*
 * The worker
 */

/* Settings that an administrator made for the database's sessions do not apply to the worker. */
static void
set_settings(void)
{
	static const char *const settings[][2] = {
		{"lock_timeout", LOCK_TIMEOUT},
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"synchronous_commit", "local"},
		{"jit", "off"},			/* each piece of a search would be compiled anew */
	};

	for (int i = 0; i < (int) lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

KEYROT_NORETURN static void
leave(WorkerState state)
{
	queue_set_worker(state);
	pgstat_report_stat(true);
	proc_exit(0);
}

/* Whether nobody waits for exclusive use of the database. A command that starts later waits until our transaction ends. */
static bool
lock_database(void)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, MyDatabaseId, 0);
	return LockAcquire(&tag, RowExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

/* Locks keyrot's tables, so that they cannot change, and returns their owner; InvalidOid if there are none. */
static Oid
lock_tables(void)
{
	const Tables *found = tables_find();
	Tables		before;

	if (found == NULL)
		return InvalidOid;
	before = *found;
	LockRelationOid(before.app, RowExclusiveLock);
	LockRelationOid(before.zone, RowExclusiveLock);
	LockRelationOid(before.request, RowExclusiveLock);
	LockRelationOid(before.credential_use, RowExclusiveLock);
	found = tables_find();
	if (found == NULL || memcmp(found, &before, sizeof(before)) != 0)
		return InvalidOid;
	return before.owner;
}

/* Begins a transaction in which keyrot's tables can be written; exits if that is not possible. */
static void
begin_work(const char *what)
{
	Oid			owner;

	CHECK_FOR_INTERRUPTS();
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	pgstat_report_activity(STATE_RUNNING, what);
	if (!lock_database())
	{
		AbortCurrentTransaction();
		leave(WORKER_GAVE_WAY);
	}
	owner = lock_tables();
	if (!OidIsValid(owner))
	{
		AbortCurrentTransaction();
		leave(WORKER_NOT_INSTALLED);
	}
	SetUserIdAndSecContext(owner, SECURITY_RESTRICTED_OPERATION | SECURITY_LOCAL_USERID_CHANGE);
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
commit_work(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	/* The rights are restored only after the commit, because deferred triggers run in it. */
	SetUserIdAndSecContext(GetSessionUserId(), 0);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* Records some of the waiting requests; false if there were none. */
static bool
record_some(void)
{
	static RequestRow rows[BATCH];
	int			count = queue_copy_oldest(rows, BATCH);
	int			lost = 0;

	if (count == 0)
		return false;
	begin_work("recording requests");
	for (int i = 0; i < count; i++)
		if (!request_statements_record(&rows[i]))
			lost++;
	commit_work();
	queue_remove_oldest(count, lost);
	return true;
}

/* Writes the beginning of grace periods to rows of one kind; false if some remain to be written. */
static bool
begin_graces_of(CredentialKind kind)
{
	FirstUse   *graces = MemoryContextAlloc(TopMemoryContext, GRACES * sizeof(FirstUse));
	TimestampTz end = DT_NOEND;
	int			count;
	bool		all;

	begin_work("beginning grace periods");
	count = usage_copy_graces(kind, graces, GRACES);
	if (count > 0)
		end = usage_statements_begin_graces(kind, graces, count);
	commit_work();
	queue_expect_expiry(end);
	all = usage_forget_graces(kind, graces, count) && count < GRACES;
	pfree(graces);
	return all;
}

/* Writes the beginning of grace periods whose first use has occurred; false if it had no reason to look for any. */
static bool
begin_graces(void)
{
	uint64		begun;
	bool		all_apps;
	bool		all_zones;

	if (!usage_begin_graces(&begun))
		return false;
	all_apps = begin_graces_of(CREDENTIAL_APP);
	all_zones = begin_graces_of(CREDENTIAL_ZONE);
	if (all_apps && all_zones)
		usage_end_graces(begun);
	return true;
}

/* Writes last uses to their table, if a minute has passed since the last time; false if not. */
static bool
write_uses(void)
{
	UseRow	   *rows;
	int			count;

	if (!usage_begin_writing())
		return false;
	rows = MemoryContextAlloc(TopMemoryContext, USES * sizeof(UseRow));
	begin_work("writing down last uses");
	count = usage_copy_changed(rows, USES);
	if (count > 0)
		usage_statements_write(rows, count);
	commit_work();
	usage_end_writing(rows, count);
	pfree(rows);
	return true;
}

/* Wipes expired versions in the next piece of a table; false if the search has ended. */
static bool
sweep_some(Sweep *sweep)
{
	BlockNumber first = sweep->next;
	BlockNumber blocks;

	if (!sweep->under_way)
	{
		if (!queue_begin_sweep())
			return false;
		*sweep = (Sweep) {.under_way = true,.kind = CREDENTIAL_APP,.started_at = GetCurrentTimestamp()};
		credential_statements_begin_census(&sweep->census.apps);
		credential_statements_begin_census(&sweep->census.zones);
		return true;
	}

	begin_work("wiping expired secrets");
	blocks = rows_count_blocks(sweep->kind);
	sweep->next = Min(blocks, first + PIECE);
	if (first < blocks)
	{
		TimestampTz now = GetCurrentTimestamp();

		credential_statements_wipe_expired(sweep->kind, first, sweep->next, now);
		credential_statements_count(sweep->kind, first, sweep->next, now,
									sweep->kind == CREDENTIAL_APP ? &sweep->census.apps : &sweep->census.zones);
	}
	commit_work();
	if (sweep->next < blocks)
		return true;
	sweep->next = 0;
	sweep->under_way = sweep->kind == CREDENTIAL_APP;
	sweep->kind = CREDENTIAL_ZONE;
	if (!sweep->under_way)
	{
		sweep->census.counted_at = sweep->started_at;
		queue_end_sweep(&sweep->census, GetCurrentTimestamp() - sweep->started_at);
	}
	return true;
}

/* The worker: does all work that there is, and exits. Requests have priority over the search. */
void
keyrot_worker_main(Datum argument pg_attribute_unused())
{
	Sweep		sweep = {0};

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(keyrot_database, NULL, 0);
	set_settings();
	queue_attach_worker();

	for (;;)
	{
		static uint32 wait_event = 0;
		int			events;

		if (record_some() || begin_graces() || write_uses() || sweep_some(&sweep))
			continue;
		events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LINGER_MS,
						   KEYROT_WAIT_EVENT(&wait_event, "KeyrotWorkerMain"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if ((events & WL_TIMEOUT) != 0 && queue_worker_may_leave())
			leave(WORKER_DONE);
	}
}


/*
 * The launcher
 */

/* Milliseconds until there is work for a worker, up to a maximum. */
static long
time_to_work(const Retry *retry)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz due;
	int			pause = retry->pause;
	QueueView	view;

	queue_look(&view);
	due = view.waiting > 0 ? now : Min(view.sweep_at, usage_due_at());
	if (retry->unreachable && view.life_since_run)
		pause = Min(pause, PAUSE_MIN_MS);
	if (pause > 0)
		due = Max(due, TimestampTzPlusMilliseconds(retry->ended_at, pause));
	return Min(TimestampDifferenceMilliseconds(now, due), IDLE_MS);
}

static bool
start_worker(BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker = {
		.bgw_name = "keyrot worker",
		.bgw_type = "keyrot worker",
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_library_name = "keyrot",
		.bgw_function_name = "keyrot_worker_main",
		.bgw_notify_pid = MyProcPid,
	};

	queue_start_worker();
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

/* No worker could be started; this is logged only once, however often it is tried. */
static void
note_no_slot(const QueueView *view)
{
	queue_set_worker(WORKER_NO_SLOT);
	if (view->worker != WORKER_NO_SLOT)
		log_no_worker_slot();
}

/* Starts a worker, waits for its end, and decides when the next one may start. */
static void
run_worker(Retry *retry)
{
	BackgroundWorkerHandle *handle;
	WorkerState state;
	int			longest;
	QueueView	view;

	queue_look(&view);
	if (start_worker(&handle))
	{
		(void) WaitForBackgroundWorkerShutdown(handle);
		pfree(handle);
	}
	else
		note_no_slot(&view);
	state = queue_end_worker();
	retry->unreachable = state == WORKER_STARTED || state == WORKER_NOT_INSTALLED;
	retry->ended_at = GetCurrentTimestamp();
	longest = retry->unreachable ? UNREACHABLE_PAUSE_MAX_MS : PAUSE_MAX_MS;
	if (state == WORKER_DONE)
		retry->pause = 0;
	else if (state == WORKER_GAVE_WAY || state == WORKER_NO_SLOT)
		retry->pause = PAUSE_MIN_MS;
	else
		retry->pause = Min(Max(2 * retry->pause, PAUSE_MIN_MS), longest);
}

/* The launcher: waits until there is work, and starts one worker at a time. */
void
keyrot_launcher_main(Datum argument pg_attribute_unused())
{
	static uint32 wait_event = 0;
	Retry		retry = {0};

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGUSR1, procsignal_sigusr1_handler);
	BackgroundWorkerUnblockSignals();
	queue_attach_launcher();

	while (!ShutdownRequestPending)
	{
		long		pause = time_to_work(&retry);

		if (pause <= 0)
		{
			run_worker(&retry);
			continue;
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, pause,
						 KEYROT_WAIT_EVENT(&wait_event, "KeyrotLauncherMain"));
		ResetLatch(MyLatch);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
	/* The postmaster restarts the launcher only after a failure, so report one if only this process is terminated. */
	proc_exit(1);
}

/* Registers the launcher, if there will be a queue. */
void
worker_init(void)
{
	BackgroundWorker launcher = {
		.bgw_name = "keyrot launcher",
		.bgw_type = "keyrot launcher",
		.bgw_flags = BGWORKER_SHMEM_ACCESS,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = RESTART_SECONDS,
		.bgw_library_name = "keyrot",
		.bgw_function_name = "keyrot_launcher_main",
	};

	/* Nothing may be written during pg_upgrade. */
	if (settings_preloaded() && keyrot_database[0] != '\0' && !IsBinaryUpgrade)
		RegisterBackgroundWorker(&launcher);
}
