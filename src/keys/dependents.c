/*
 * dependents.c
 *	  Whether any database of the cluster depends on a master key, before the first one is made.
 *
 * Leaves to master.c when that is asked, and that nobody else of the cluster makes a key meanwhile.
 *
 * Why not rely on the marker file?  Neither WAL nor pg_upgrade carries it.  A standby that was made before the
 * first key, or an upgraded cluster, has data keys but no marker.  A note in a shared catalog would not do:
 * pg_upgrade leaves out what dumps leave out, and in a dump it would come along to clusters that it is not of.
 *
 * A session sees its own database only.  So a background worker is started for each of the others, one at a
 * time, which reads the data keys' rows and leaves.  It runs no SQL, and waits for nobody who may wait for the
 * caller: it takes AccessShareLock, which makers of a key do not conflict with, and gives up soon.  Whatever
 * it could not look into counts as a database that may depend on a key.
 */
#include "keys/dependents.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "keys/key_marker.h"
#include "store/rows.h"
#include "store/tables.h"

#define LOOK_MS 10000			/* for a worker to start, look and leave */
#define LOCK_TIMEOUT "2s"		/* in the worker: DROP DATABASE waits for it for five */
#define SLOT_MS 2000			/* for a worker's slot to become free */
#define SLOT_PAUSE_MS 20
#define INVALID_DATABASE (-2)	/* its connection limit, where DROP DATABASE did not come to its end */

#define HINT_BY_HAND "Put the file back if there was one. If no database depends on it, write a new one:" \
	" one line of 64 hex digits, as openssl rand -hex 32 prints them, with mode 0600."

/* What there is to know of a database; a worker's lies in shared memory. */
typedef struct Look
{
	Oid			database;
	bool		complete;		/* there is nothing more to know */
	int			count;			/* of master keys, each once; those beyond the room are left out */
	uint8_t		masters[MASTER_TEXT_MAX_KEYS][MASTER_TEXT_FINGERPRINT_BYTES];
} Look;


/*
 * In the database that is looked into
 */

static void
add_master(Look *look, const uint8_t fingerprint[MASTER_TEXT_FINGERPRINT_BYTES])
{
	for (int i = 0; i < look->count; i++)
		if (memcmp(look->masters[i], fingerprint, MASTER_TEXT_FINGERPRINT_BYTES) == 0)
			return;
	if (look->count < MASTER_TEXT_MAX_KEYS)
		memcpy(look->masters[look->count++], fingerprint, MASTER_TEXT_FINGERPRINT_BYTES);
}

/*
 * Looks into the database of this process.  What a transaction has not committed counts, too: one that is
 * prepared may have made a data key before the server was moved.
 */
static void
look_here(Look *look)
{
	DataKeyRow *rows;
	SnapshotData snapshot;
	int			count;

	/* An extension whose tables are not where they belong may have keys in them all the same. */
	look->complete = tables_find() != NULL || !OidIsValid(get_extension_oid("keyrot", true));
	if (tables_find() == NULL)
		return;
	InitDirtySnapshot(snapshot);
	count = rows_read_data_keys(&snapshot, &rows);
	for (int i = 0; i < count; i++)
		add_master(look, rows[i].master_key);
	pfree(rows);
}

/* The worker: looks, tells and leaves.  An error ends it, and what it told is not complete. */
void
keyrot_dependents_main(Datum argument)
{
	dsm_segment *segment;
	Look	   *told;
	Look		look = {0};

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	segment = dsm_attach(DatumGetUInt32(argument));
	if (segment == NULL)
		proc_exit(0);			/* nobody waits any more */
	told = dsm_segment_address(segment);
	look.database = told->database;
	BackgroundWorkerInitializeConnectionByOid(look.database, InvalidOid, BGWORKER_BYPASS_ALLOWCONN);
	SetConfigOption("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_isolation", "read committed", PGC_SUSET, PGC_S_OVERRIDE);

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	look_here(&look);
	PopActiveSnapshot();
	CommitTransactionCommand();
	*told = look;
	proc_exit(0);
}


/*
 * In the session that needs to know
 */

/* Sleeps until the latch is set, this long at most; false where the deadline has passed. */
static bool
pause_before(TimestampTz deadline, long longest)
{
	long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

	if (left <= 0)
		return false;
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Min(left, longest), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return true;
}

/* Ends the worker if it still runs, whether we had its answer, gave up, or were cancelled. */
static void
end_worker(dsm_segment *segment pg_attribute_unused(), Datum handle)
{
	TerminateBackgroundWorker((BackgroundWorkerHandle *) DatumGetPointer(handle));
}

/* Starts a worker that looks for us, or returns NULL where none can be had. */
static BackgroundWorkerHandle *
start_worker(dsm_segment *segment)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SLOT_MS);
	BackgroundWorkerHandle *handle = NULL;
	MemoryContext before;
	bool		started;
	BackgroundWorker worker = {
		.bgw_name = "keyrot look for data keys",
		.bgw_type = "keyrot look for data keys",
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_library_name = "keyrot",
		.bgw_function_name = "keyrot_dependents_main",
		.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(segment)),
		.bgw_notify_pid = MyProcPid,
	};

	do
	{
		/* The handle has to outlive what an abort frees before it detaches the segment. */
		before = MemoryContextSwitchTo(TopTransactionContext);
		started = RegisterDynamicBackgroundWorker(&worker, &handle);
		MemoryContextSwitchTo(before);
	} while (!started && pause_before(deadline, SLOT_PAUSE_MS));
	if (started)
		on_dsm_detach(segment, end_worker, PointerGetDatum(handle));
	return started ? handle : NULL;
}

/* Has a worker look into another database; false where none could be started. */
static bool
look_there(Look *look)
{
	dsm_segment *segment = dsm_create(sizeof(Look), 0);
	Look	   *told = dsm_segment_address(segment);
	BackgroundWorkerHandle *handle;
	TimestampTz deadline;
	pid_t		pid;

	*told = *look;
	handle = start_worker(segment);
	deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOOK_MS);
	while (handle != NULL && GetBackgroundWorkerPid(handle, &pid) != BGWH_STOPPED)
		if (!pause_before(deadline, LOOK_MS))
			break;
	*look = *told;
	dsm_detach(segment);
	if (handle != NULL)
		pfree(handle);
	return handle != NULL;
}

/* Every database but this one; what was left of one that was dropped is none. */
static List *
list_others(void)
{
	Relation	relation = table_open(DatabaseRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, NULL, 0, NULL);
	List	   *others = NIL;
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		if (database->oid != MyDatabaseId && database->datconnlimit != INVALID_DATABASE)
			others = lappend_oid(others, database->oid);
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return others;
}

/* Whether no key was found in a database that was looked into; where one was, the cluster remembers it. */
static bool
is_none(const Look *look, const char *name, const char *key_file, KeyProblem *problem)
{
	char		digits[MASTER_TEXT_FINGERPRINT_DIGITS + 1];

	if (look->count == 0 && look->complete)
		return true;
	if (look->count == 0)
	{
		problem_set(problem, "The server log may tell why; try again. " HINT_BY_HAND,
					"master key file \"%s\" does not exist, and database \"%s\" could not be searched for data keys that depend on one",
					key_file, name);
		return false;
	}
	/* Where that fails, the next call finds them again. */
	for (int i = 0; i < look->count; i++)
		(void) key_marker_add(look->masters[i], problem);
	master_text_format_fingerprint(look->masters[0], digits);
	problem_set(problem, "Put the file back from its backup. keyrot makes no new master key while values may depend on the old one.",
				"master key file \"%s\" does not exist, and database \"%s\" depends on master key %s", key_file, name, digits);
	return false;
}

static bool
check_here(const char *key_file, KeyProblem *problem)
{
	Look		look = {.database = MyDatabaseId};

	look_here(&look);
	return is_none(&look, get_database_name(MyDatabaseId), key_file, problem);
}

/* The same for another database; one that is dropped meanwhile depends on nothing. */
static bool
check_there(Oid database, const char *key_file, KeyProblem *problem)
{
	Look		look = {.database = database};
	bool		looked = look_there(&look);
	char	   *name;

	AcceptInvalidationMessages();
	name = get_database_name(database);
	if (name == NULL)
		return true;
	if (looked)
		return is_none(&look, name, key_file, problem);
	problem_set(problem, "max_worker_processes may be too low; try again. " HINT_BY_HAND,
				"master key file \"%s\" does not exist, and no background worker could be started that searches database \"%s\" for data keys that depend on one",
				key_file, name);
	return false;
}

/*
 * Whether no database of the cluster has a data key, so that a first master key may be made; false with which
 * one has, and then that is noted in the marker file, or could not be searched.  To be called under the
 * cluster's lock, and while no key is open, for waiting may be cancelled.  Takes some milliseconds a database.
 */
bool
dependents_are_none(const char *key_file, KeyProblem *problem)
{
	List	   *others;
	ListCell   *cell;

	if (!check_here(key_file, problem))
		return false;
	if (!IsUnderPostmaster || IsBinaryUpgrade)
	{
		problem_set(problem, HINT_BY_HAND,
					"master key file \"%s\" does not exist, and none is made in single-user mode or during pg_upgrade", key_file);
		return false;
	}
	others = list_others();
	foreach(cell, others)
	{
		if (!check_there(lfirst_oid(cell), key_file, problem))
			return false;
	}
	list_free(others);
	return true;
}
