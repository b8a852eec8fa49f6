/*
 * reseal.c
 *	  The procedure that moves every secret to the current data key, and then drops unused data keys.
 *
 * Credentials are moved in batches, each in a transaction of its own, in the order of their identifiers.  A
 * credential that is being rotated is skipped: the rotation seals with the current key anyway, and if it does
 * not, or is rolled back, another pass finds the credential.  A committed batch stays moved, so the procedure
 * can be stopped, or crash, at any time, and be called again.
 *
 * When may a data key be dropped?  No committed row uses it; but a transaction that is still open may have
 * sealed with it, and one that is about to seal may already have chosen it.  Both hold a lock for writing on
 * the credentials' table, taken before the key was chosen (rows_lock_row_exclusive), and a transaction that
 * takes that lock after the current key was committed chooses that one.  So: wait for the holders of the
 * lock, check again, and drop.  There is no need to wait for readers: a snapshot that still sees the old
 * secret also sees its key's row (keyring_find).
 *
 * It is a single request, no matter how often it commits.  Its row is written in the transaction of its last
 * change, which is committed by CALL; if it is stopped before that, what it has moved stays moved, but the
 * request has failed.
 *
 * Two database-wide locks show whether a reseal is running.  The first excludes a second reseal; the second
 * is only tested, by status(), which must not prevent a reseal from getting the first.
 */
#include "functions/reseal.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "functions/function.h"
#include "functions/procedure.h"
#include "core/argument.h"
#include "core/credential.h"
#include "record/progress.h"
#include "keys/keyring.h"
#include "store/tables.h"
#include "base/errors.h"
#include "base/notices.h"


#define EXCLUDES 0x6f740002		/* "ot", lock 2 */
#define INDICATES 0x6f740003	/* "ot", lock 3 */

/* A reseal under way. */
typedef struct Reseal
{
	ResealRow	progress;
	int			batch_size;
	int64		unreadable;		/* credentials of this pass with a secret that does not open */
	TimestampTz told_at;
	MemoryContext context;		/* of one transaction */
	MemoryContext one;			/* of one credential */
} Reseal;

static void
set_lock_tag(LOCKTAG *tag, uint32 purpose)
{
	const uint32 name_high = 0x6b657972;	/* "keyr" */
	const uint16 neither_sql_form = 3;

	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, name_high, purpose, neither_sql_form);
}

static Progress
progress_of(const ResealRow *row)
{
	return (Progress) {
		.action = PROGRESS_RESEAL, .done = row->done, .total = row->total, .started_at = row->started_at
	};
}

/* Estimates the remaining time in microseconds; 0: not known yet. */
int64
reseal_time_left(const ResealRow *row)
{
	const Progress progress = progress_of(row);

	return Max(progress_time_left(&progress, row->updated_at), 0);
}

/* For the view keyrot.progress. */
static void
show_progress(const ResealRow *row)
{
	const Progress progress = progress_of(row);

	progress_show(&progress);
}

static void
tell_progress(Reseal *reseal)
{
	show_progress(&reseal->progress);
	if (TimestampDifferenceExceeds(reseal->told_at, reseal->progress.updated_at, 1000))
	{
		tell_reseal(reseal->progress.done, reseal->progress.total, reseal_time_left(&reseal->progress));
		reseal->told_at = reseal->progress.updated_at;
	}
}

/*
 * Determines the data key to move secrets to, and the number of credentials with secrets; false if there is no data
 * key.
 */
static bool
prepare_work(Reseal *reseal)
{
	ResealRow  *progress = &reseal->progress;
	bool		any;

	procedure_begin_work("reseal", reseal->context);
	any = keyring_lock_share_row_exclusive();
	if (any)
	{
		(void) keyring_current(&progress->data_key);
		progress->started_at = GetCurrentTimestamp();
		progress->updated_at = progress->started_at;
		progress->ended_at = NO_TIME;
		progress->total = key_statements_count_sealed_before(progress->data_key);
		key_statements_note_reseal(progress);
		show_progress(progress);
	}
	procedure_commit_work(reseal->context);
	return any;
}

/* Moves a credential; if it cannot be opened, leaves it unchanged, with a warning. */
static void
move_credential(Reseal *reseal, CredentialKind kind, const char *identifier)
{
	Credential	credential;

	if (!credential_lock_any(kind, identifier, &credential))
		return;
	if (credential_reseal(&credential))
	{
		reseal->progress.done++;
		return;
	}
	reseal->unreadable++;
	warn_does_not_open(kind, identifier);
}

/* Moves the credentials of a batch, using no more memory than one of them needs. */
static void
move_each(Reseal *reseal, CredentialKind kind, char (*identifiers)[SEAL_MAX_IDENTIFIER + 1], int count)
{
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(reseal->one);
		move_credential(reseal, kind, identifiers[i]);
		MemoryContextSwitchTo(reseal->context);
		MemoryContextReset(reseal->one);
	}
}

/*
 * Raises 55000 if the data key that secrets are moved to no longer exists in this database: the extension was
 * dropped and re-created, or its tables were restored.  Then nothing could ever be moved.
 */
static void
require_destination(const Reseal *reseal)
{
	if (keyring_newest_id() < reseal->progress.data_key)
		error_data_key_gone(reseal->progress.data_key);
}

/* Moves a batch of credentials after a given one; returns false if there are no more, otherwise the last one. */
static bool
move_batch(Reseal *reseal, CredentialKind kind, char after[SEAL_MAX_IDENTIFIER + 1])
{
	char		(*identifiers)[SEAL_MAX_IDENTIFIER + 1];
	int			count;

	procedure_begin_work("reseal", reseal->context);
	identifiers = palloc((Size) reseal->batch_size * sizeof(identifiers[0]));
	rows_lock_row_exclusive(kind);
	require_destination(reseal);
	count = key_statements_lock_sealed_before(kind, reseal->progress.data_key, after, reseal->batch_size, identifiers);
	move_each(reseal, kind, identifiers, count);
	if (count > 0)
	{
		strlcpy(after, identifiers[count - 1], SEAL_MAX_IDENTIFIER + 1);
		reseal->progress.updated_at = GetCurrentTimestamp();
		key_statements_note_reseal(&reseal->progress);
	}
	procedure_commit_work(reseal->context);
	if (count > 0)
		tell_progress(reseal);
	return count > 0;
}

/* Moves all credentials whose rows can be locked without waiting. */
static void
move_all_free(Reseal *reseal)
{
	static const CredentialKind kinds[] = {CREDENTIAL_APP, CREDENTIAL_ZONE};

	reseal->unreadable = 0;
	for (int i = 0; i < (int) lengthof(kinds); i++)
	{
		char		after[SEAL_MAX_IDENTIFIER + 1] = "";

		while (move_batch(reseal, kinds[i], after))
			continue;
	}
}

/*
 * Waits for transactions that may have sealed with an older key; returns whether everything that can be opened is
 * moved after that.
 */
static bool
all_moved(Reseal *reseal)
{
	int64		left;

	tables_await_writers();
	key_statements_commit();
	procedure_begin_work("reseal", reseal->context);
	left = key_statements_count_sealed_before(reseal->progress.data_key);
	procedure_commit_work(reseal->context);
	return left <= reseal->unreadable;
}

/* The last change; its transaction is ended by the caller. */
static void
drop_old_keys(Reseal *reseal)
{
	ResealRow  *progress = &reseal->progress;
	int			dropped;

	procedure_begin_work("reseal", reseal->context);
	dropped = keyring_drop_unused(progress->data_key);
	progress->updated_at = GetCurrentTimestamp();
	progress->ended_at = progress->updated_at;
	key_statements_note_reseal(progress);
	procedure_end_work(reseal->context);
	tell_reseal_end(progress->data_key, progress->done, reseal->unreadable, dropped);
}

/* Moves everything, and sets the data key as the request's target, which remains empty if there is none. */
static void
move_everything(Request *request)
{
	Reseal		reseal = {.batch_size = request->arguments.batch_size};

	reseal.context = AllocSetContextCreate(CurrentMemoryContext, "keyrot reseal", ALLOCSET_DEFAULT_SIZES);
	reseal.one = AllocSetContextCreate(CurrentMemoryContext, "keyrot reseal of a credential", ALLOCSET_DEFAULT_SIZES);
	key_statements_commit();
	if (!prepare_work(&reseal))
		tell_nothing_to_reseal();
	else
	{
		pg_ltoa(reseal.progress.data_key, request->target);
		do
			move_all_free(&reseal);
		while (!all_moved(&reseal));
		drop_old_keys(&reseal);
		progress_end();
	}
	MemoryContextDelete(reseal.one);
	MemoryContextDelete(reseal.context);
}

static void
read_reseal(Request *request)
{
	request->arguments.batch_size = argument_batch_size(request->fcinfo, 0);
	procedure_require_top_level(request->fcinfo, "reseal");
}

/* The transaction also takes the session's locks, so that they last until the last change is committed. */
static void
hold_until_commit(const LOCKTAG *excludes, const LOCKTAG *indicates)
{
	(void) LockAcquire(excludes, ExclusiveLock, false, false);
	(void) LockAcquire(indicates, ExclusiveLock, false, false);
}

static void
reseal_all(Request *request)
{
	LOCKTAG		excludes;
	LOCKTAG		indicates;
	volatile bool indicated = false;

	set_lock_tag(&excludes, EXCLUDES);
	set_lock_tag(&indicates, INDICATES);
	if (LockAcquire(&excludes, ExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
		error_reseal_runs();
	PG_TRY();
	{
		(void) LockAcquire(&indicates, ExclusiveLock, true, false);
		indicated = true;
		move_everything(request);
		hold_until_commit(&excludes, &indicates);
	}
	PG_FINALLY();
	{
		if (indicated)
			LockRelease(&indicates, ExclusiveLock, true);
		LockRelease(&excludes, ExclusiveLock, true);
	}
	PG_END_TRY();

	/* Recording the request needs a snapshot, as there would be without the commits. */
	tables_lock_access_share();
	EnsurePortalSnapshotExists();
}

/* reseal(batch_size) */
REQUEST_FUNCTION(reseal, REQUEST_OF_ADMINISTRATION, read_reseal, reseal_all, NULL);

/*
 * Returns whether a reseal is running or was stopped, and its progress.  A standby cannot determine this,
 * because it does not know the locks of its primary.
 */
ResealState
reseal_look(ResealRow *row)
{
	LOCKTAG		indicates;
	LockAcquireResult result;

	if (RecoveryInProgress())
		return RESEAL_NONE;
	set_lock_tag(&indicates, INDICATES);
	result = LockAcquire(&indicates, ShareLock, false, true);
	if (result != LOCKACQUIRE_NOT_AVAIL)
		LockRelease(&indicates, ShareLock, false);
	if (!key_statements_find_reseal(row))
		return RESEAL_NONE;
	if (result == LOCKACQUIRE_NOT_AVAIL)
		return RESEAL_RUNS;
	return row->ended_at == NO_TIME ? RESEAL_STOPPED : RESEAL_NONE;
}
