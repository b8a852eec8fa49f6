/*
 * master.c
 *	  The master keys: read from their source on need, made on first need.
 *
 * The source is the key file, or the command where one is set; a reload may exchange one for the other.
 *
 * The source is the cluster's, while data keys are each database's.  A lock that spans the databases
 * therefore guards it; a heavyweight lock, so that a slow source stalls only those who wait for it, and
 * they can be cancelled.
 *
 * What is wrong with the source is returned as a sentence, not thrown: status() tells it, too.  Nothing
 * here throws while key material or a file is open.
 */
#include "keys/master.h"

#include "storage/lock.h"

#include "keys/dependents.h"
#include "keys/key_marker.h"
#include "keys/master_cache.h"
#include "keys/master_command.h"
#include "keys/master_file.h"
#include "base/settings.h"

/* The cluster-wide lock on the source and its marker. */
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

/* Where the keys are, for a sentence that goes on with "holds", in the current memory context. */
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

static bool
read_and_note(const char *path, MasterKeys *keys, KeyProblem *problem)
{
	return master_file_read(path, keys, problem) && master_file_settle(path, problem) &&
		key_marker_add(keys->keys[0].fingerprint, problem);
}

static bool
tidy_read_and_note(const char *path, MasterKeys *keys, KeyProblem *problem)
{
	master_file_tidy(path);
	return read_and_note(path, keys, problem);
}

static bool
add(const char *path, MasterKeys *keys, KeyProblem *problem)
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
	keys = crypto_locked_alloc(sizeof(MasterKeys));
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
 * Where a reader found no key file: makes it, if this cluster never had a master key.  To be called under the
 * lock; throws where it is cancelled.
 */
static bool
make_first(KeyProblem *problem)
{
	char	   *path;
	bool		made;

	if (!problem->missing || key_marker_exists())
		return false;
	path = master_file_path();
	made = dependents_are_none(path, problem) && master_file_make(path, problem);
	pfree(path);
	return made;
}

/* Reads the key file, or does to it what the reader does, and makes it where the cluster never had one. */
static MasterKeys *
read_or_make(bool (*reader) (const char *, MasterKeys *, KeyProblem *),
			 bool (*reader_of_first) (const char *, MasterKeys *, KeyProblem *), KeyProblem *problem)
{
	LOCKTAG		tag;
	MasterKeys *keys;

	set_lock_tag(&tag);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	keys = with_lock(reader, ExclusiveLock, problem);
	if (keys == NULL && make_first(problem))
		keys = with_lock(reader_of_first, ExclusiveLock, problem);
	(void) LockRelease(&tag, ExclusiveLock, false);
	return keys;
}

/*
 * Runs the command under the lock, unless a run that suits the need took place while that was waited for.  (The
 * workers of one parallel query are not kept apart by such a lock, so that at worst each of them runs it.)
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

/* The same for wrapping: what the command printed before does not count, and its current key is noted. */
static MasterKeys *
read_command_anew(KeyProblem *problem)
{
	KeyNeed		need = master_cache_need_new();
	LOCKTAG		tag;
	MasterKeys *keys;

	set_lock_tag(&tag);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	keys = run_command(need, problem);
	if (keys != NULL && !key_marker_add(keys->keys[0].fingerprint, problem))
	{
		master_free(keys);
		keys = NULL;
	}
	(void) LockRelease(&tag, ExclusiveLock, false);
	return keys;
}

static MasterKeys *
read_file(KeyProblem *problem)
{
	master_cache_forget();
	return with_lock(master_file_read, ShareLock, problem);
}

/*
 * Reads the master keys.  Returns them in locked memory, to be freed by master_free() before
 * anything can throw, or NULL with what is wrong and what to do.  Throws only while it waits for the
 * lock or the command.
 */
MasterKeys *
master_read(KeyProblem *problem)
{
	return has_command() ? read_command(master_cache_need_any(), problem) : read_file(problem);
}

/*
 * As master_read, for callers who miss a key in what that gave, and have freed it: does without what the
 * command printed before, unless it was run within the last seconds.
 */
MasterKeys *
master_read_again(KeyProblem *problem)
{
	return has_command() ? read_command(master_cache_need_again(), problem) : read_file(problem);
}

/*
 * As master_read, for wrapping data keys: reads the source itself, makes the key file where this cluster
 * never had one, and notes the current key's fingerprint as in use.
 */
MasterKeys *
master_read_or_make(KeyProblem *problem)
{
	return has_command() ? read_command_anew(problem) : read_or_make(tidy_read_and_note, read_and_note, problem);
}

/*
 * Makes a new current key, durably, and keeps the others; where the cluster never had one, makes its first.
 * Returns all of them as master_read does.  Nothing depends on the new one yet.
 */
MasterKeys *
master_add(KeyProblem *problem)
{
	if (!has_command())
		return read_or_make(add, master_file_read, problem);
	problem_set(problem,
				"Let the command print a new line of 64 hex digits before the others, reload the configuration, and call rewrap_data_keys().",
				"the master key comes from keyrot.master_key_command, so that keyrot cannot add a key to it");
	return NULL;
}

/*
 * Notes that a data key of this cluster depends on a master key, where that is not noted yet: after a
 * restore, the key file may have been put there by hand, or be missing.  Where the note can't be written,
 * the log has it, and what depends on the key goes on.
 */
void
master_note_in_use(const uint8_t fingerprint[MASTER_TEXT_FINGERPRINT_BYTES])
{
	KeyProblem	problem;
	LOCKTAG		tag;
	char	   *path;

	if (key_marker_has(fingerprint))
		return;
	path = master_file_path();
	set_lock_tag(&tag);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	if ((!has_command() && !master_file_settle(path, &problem) && !problem.missing) || !key_marker_add(fingerprint, &problem))
		ereport(LOG, (errmsg("%s", problem.message), errhint("%s", problem.hint)));
	(void) LockRelease(&tag, ExclusiveLock, false);
	pfree(path);
}

/* Wipes and frees master keys; NULL is none. */
void
master_free(MasterKeys *keys)
{
	if (keys != NULL)
		crypto_locked_free(keys, sizeof(MasterKeys));
}
