/*
 * master_key.c
 *	  The master keys: read from their source on need, made on first need.
 *
 * The source is the cluster's, while data keys are each database's.  A lock that spans the databases
 * therefore guards it; a heavyweight lock, so that a slow source stalls only those who wait for it, and
 * they can be cancelled.
 *
 * What is wrong with the source is returned as a sentence, not thrown: status() tells it, too.  Nothing
 * here throws while key material or a file is open.
 */
#include "master_key.h"

#include "storage/lock.h"

#include "key_file.h"
#include "key_marker.h"

/* The cluster-wide lock on the key file and its marker. */
static void
set_lock_tag(LOCKTAG *tag)
{
	const uint32 name_high = 0x6b657972;	/* "keyr" */
	const uint32 name_low = 0x6f740001; /* "ot", lock 1 */
	const uint16 neither_sql_form = 3;

	SET_LOCKTAG_ADVISORY(*tag, InvalidOid, name_high, name_low, neither_sql_form);
}

/* Where the keys are, for a sentence that goes on with "holds", in the current memory context. */
char *
master_key_source(void)
{
	char	   *path = key_file_path();
	char	   *source = psprintf("master key file \"%s\"", path);

	pfree(path);
	return source;
}

static bool
read(const char *path, MasterKeys *keys, KeyProblem *problem)
{
	return key_file_read(path, keys, problem) == KEY_FILE_READ;
}

static bool
read_or_make(const char *path, MasterKeys *keys, KeyProblem *problem)
{
	KeyFileStatus status;

	key_file_tidy(path);
	status = key_file_read(path, keys, problem);
	if (status == KEY_FILE_MISSING && !key_marker_exists() && key_file_make(path, problem))
		status = key_file_read(path, keys, problem);
	if (status != KEY_FILE_READ)
		return false;
	if (key_marker_has(keys->keys[0].fingerprint))
		return true;
	return key_file_settle(path, problem) && key_marker_add(keys->keys[0].fingerprint, problem);
}

static bool
add(const char *path, MasterKeys *keys, KeyProblem *problem)
{
	bool		good = key_file_add_key(path, problem) ||
		(problem->missing && !key_marker_exists() && key_file_make(path, problem));

	return good && read(path, keys, problem);
}

/* Runs one of the readers above under the cluster-wide lock, on keys in locked memory. */
static MasterKeys *
with_lock(bool (*reader) (const char *, MasterKeys *, KeyProblem *), LOCKMODE mode, KeyProblem *problem)
{
	char	   *path = key_file_path();
	LOCKTAG		tag;
	MasterKeys *keys;

	set_lock_tag(&tag);
	(void) LockAcquire(&tag, mode, false, false);
	keys = crypto_locked_alloc(sizeof(MasterKeys));
	if (keys == NULL)
		problem_set(problem, "Close other sessions or add memory.", "out of memory while reading master key file \"%s\"", path);
	else if (!reader(path, keys, problem))
	{
		master_key_free(keys);
		keys = NULL;
	}
	(void) LockRelease(&tag, mode, false);
	pfree(path);
	return keys;
}

/*
 * Reads the master keys.  Returns them in locked memory, to be freed by master_key_free() before
 * anything can throw, or NULL with what is wrong and what to do.  Throws only while it waits for the
 * lock.
 */
MasterKeys *
master_key_read(KeyProblem *problem)
{
	return with_lock(read, ShareLock, problem);
}

/*
 * As master_key_read, for wrapping data keys: makes the key file where this cluster never had one, and
 * notes the current key's fingerprint as in use.
 */
MasterKeys *
master_key_read_or_make(KeyProblem *problem)
{
	return with_lock(read_or_make, ExclusiveLock, problem);
}

/*
 * Makes a new current key, durably, and keeps the others; where the cluster never had one, makes its first.
 * Returns all of them as master_key_read does.  Nothing depends on the new one yet.
 */
MasterKeys *
master_key_add(KeyProblem *problem)
{
	return with_lock(add, ExclusiveLock, problem);
}

/*
 * Notes that a data key of this cluster depends on a master key, where that is not noted yet: after a
 * restore, the key file may have been put there by hand.  Where the note can't be written, the log has
 * it, and what depends on the key goes on.
 */
void
master_key_note_in_use(const uint8_t fingerprint[KEYFILE_FINGERPRINT_BYTES])
{
	KeyProblem	problem;
	LOCKTAG		tag;
	char	   *path;

	if (key_marker_has(fingerprint))
		return;
	path = key_file_path();
	set_lock_tag(&tag);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	if (!key_file_settle(path, &problem) || !key_marker_add(fingerprint, &problem))
		ereport(LOG, (errmsg("%s", problem.message), errhint("%s", problem.hint)));
	(void) LockRelease(&tag, ExclusiveLock, false);
	pfree(path);
}

/* Wipes and frees master keys; NULL is none. */
void
master_key_free(MasterKeys *keys)
{
	if (keys != NULL)
		crypto_locked_free(keys, sizeof(MasterKeys));
}
