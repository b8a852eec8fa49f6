/*
 * master.c
 *	  The master keys: read from their source when needed; creates and extends the key file on request.
 *
 * The source is the key file, or the command if one is set; a reload may switch between them.
 *
 * There is one source for the cluster, but each database has its own data keys.  The source is therefore
 * guarded by a lock that spans all databases; a heavyweight lock, so that a slow source delays only the
 * sessions that wait for it, and they can be cancelled.
 *
 * Problems with the source are returned as a message, not thrown, because status() also reports them.
 * Nothing here throws while key material is in memory or a file is open.
 */
#include "keys/master.h"

#include "storage/lock.h"

#include "keys/master_cache.h"
#include "keys/master_command.h"
#include "keys/master_file.h"
#include "base/settings.h"
#include "crypto/arena.h"

/* The cluster-wide lock on the source. */
static void
set_lock_tag(LOCKTAG *tag)
{
	const uint32 name_high = 0x6b657972;	/* "keyr" */
	const uint32 name_low = 0x6f740001; /* "ot", lock 1 */
	const uint16 neither_sql_form = 3;

	SET_LOCKTAG_ADVISORY(*tag, InvalidOid, name_high, name_low, neither_sql_form);
}

static bool
has_command(void)
{
	return keyrot_master_key_command[0] != '\0';
}

/* The source of the keys, for a message that continues with "contains", in the current memory context. */
char *
master_source(void)
{
	char	   *path;
	char	   *source;

	if (has_command())
		return pstrdup("the output of keyrot.master_key_command");
	path = master_file_path();
	source = psprintf("master key file \"%s\"", path);
	pfree(path);
	return source;
}

/* Reads the file for callers that will depend on it; removes files that a crash may have left in its directory. */
static bool
read_to_depend_on(const char *path, MasterKeys *keys, KeyProblem *problem)
{
	master_file_tidy(path);
	return master_file_read(path, keys, problem) && master_file_settle(path, problem);
}

static bool
add_key_and_read(const char *path, MasterKeys *keys, KeyProblem *problem)
{
	return master_file_add_key(path, problem) && master_file_read(path, keys, problem);
}

/* Runs master_file_read() or one of the readers above under the cluster-wide lock, on keys in locked memory. */
static MasterKeys *
with_lock(bool (*reader) (const char *, MasterKeys *, KeyProblem *), LOCKMODE mode, KeyProblem *problem)
{
	char	   *path = master_file_path();
	LOCKTAG		tag;
	MasterKeys *keys;

	set_lock_tag(&tag);
	(void) LockAcquire(&tag, mode, false, false);
	keys = arena_alloc(sizeof(MasterKeys));
	if (keys == NULL)
		problem_set(problem, "Close other sessions or add memory.", "out of memory while reading master key file \"%s\"", path);
	else if (!reader(path, keys, problem))
	{
		master_free(keys);
		keys = NULL;
	}
	(void) LockRelease(&tag, mode, false);
	pfree(path);
	return keys;
}

/*
 * Runs the command under the lock, unless a suitable run took place while waiting for the lock.  (Such a lock
 * does not exclude the workers of one parallel query from each other, so in the worst case each of them runs
 * the command.)
 */
static MasterKeys *
run_command(KeyNeed need, KeyProblem *problem)
{
	MasterKeys *keys;
	KeyRun		run;

	if (master_cache_answer(need, &keys, problem))
		return keys;
	run = master_cache_begin_run();
	keys = master_command_run(problem);
	master_cache_end_run(run, keys, problem);
	return keys;
}

/* The keys that the command prints, or printed.  Sessions that can't share a run need not wait for each other. */
static MasterKeys *
read_command(KeyNeed need, KeyProblem *problem)
{
	LOCKMODE	mode = master_cache_is_shared() ? ExclusiveLock : ShareLock;
	LOCKTAG		tag;
	MasterKeys *keys;

	if (master_cache_answer(need, &keys, problem))
		return keys;
	set_lock_tag(&tag);
	(void) LockAcquire(&tag, mode, false, false);
	keys = run_command(need, problem);
	(void) LockRelease(&tag, mode, false);
	return keys;
}

static MasterKeys *
read_file(KeyProblem *problem)
{
	master_cache_forget();
	return with_lock(master_file_read, ShareLock, problem);
}

/*
 * Reads the master keys.  Returns them in locked memory, to be freed by master_free() before anything can
 * throw, or NULL with a problem and a hint.  Throws only while it waits for the lock or the command.
 */
MasterKeys *
master_read(KeyProblem *problem)
{
	return has_command() ? read_command(master_cache_need_any(), problem) : read_file(problem);
}

/*
 * Like master_read, for callers that did not find a key in its result, and have freed it: does not use
 * earlier output of the command, unless it was run within the last seconds.
 */
MasterKeys *
master_read_again(KeyProblem *problem)
{
	return has_command() ? read_command(master_cache_need_again(), problem) : read_file(problem);
}

/*
 * Like master_read, for wrapping data keys: reads the source itself, and makes the key file durable before
 * anything depends on it.
 */
MasterKeys *
master_read_for_wrapping(KeyProblem *problem)
{
	return has_command() ? read_command(master_cache_need_new(), problem) : with_lock(read_to_depend_on, ExclusiveLock, problem);
}

/*
 * Creates the key file with a first key, durably, if there is none; *made is set to whether it did.  Returns
 * the keys of the file as master_read does.
 */
MasterKeys *
master_create(bool *made, KeyProblem *problem)
{
	char	   *path = master_file_path();
	LOCKTAG		tag;
	MasterKeys *keys;

	*made = false;
	if (has_command())
	{
		problem_set(problem, "Have the command print a line of 64 hex digits, such as openssl rand -hex 32 generates.",
					"cannot create a master key, because keyrot.master_key_command is set");
		return NULL;
	}
	set_lock_tag(&tag);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	keys = with_lock(master_file_read, ExclusiveLock, problem);
	if (keys == NULL && problem->missing && master_file_make(path, made, problem))
		keys = with_lock(master_file_read, ExclusiveLock, problem);
	(void) LockRelease(&tag, ExclusiveLock, false);
	return keys;
}

/*
 * Creates a new current key, durably, and keeps the others.  Returns all of them as master_read does.
 * Nothing depends on the new one yet.
 */
MasterKeys *
master_add(KeyProblem *problem)
{
	if (!has_command())
		return with_lock(add_key_and_read, ExclusiveLock, problem);
	problem_set(problem,
				"Have the command print a new line of 64 hex digits before the others, reload the configuration, and call rewrap_data_keys().",
				"cannot add a master key, because keyrot.master_key_command is set");
	return NULL;
}

/* Wipes and frees master keys; NULL is allowed. */
void
master_free(MasterKeys *keys)
{
	if (keys != NULL)
		arena_free(keys, sizeof(MasterKeys));
}
