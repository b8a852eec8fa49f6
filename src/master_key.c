/*
 * master_key.c
 *	  Where the master key comes from: the cluster's key file, read on need, made on first need.
 *
 * The file is the cluster's, while data keys are each database's.  A lock that spans the databases
 * therefore guards it; a heavyweight lock, so that a slow disk stalls only those who wait for this
 * file, and they can be cancelled.
 *
 * A key that was lost must not be replaced by a new one while values depend on it.  The database at
 * hand cannot tell what the others hold, so a marker file in the data directory keeps the fingerprints
 * in use: marker without key file is an error, never a new key.  The file is published by link(), which
 * does not overwrite, as rename() would.
 *
 * What is wrong with the file is returned as a sentence, not thrown: status() tells it, too.  Nothing
 * here throws while key material or a file is open.
 */
#include "master_key.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/lock.h"

#include "settings.h"

#define MARKER_FILE "keyrot_master_key.marker"
#define MARKER_MAX_BYTES 4096

static const char hint_restore[] =
"Put the file back from its backup. keyrot makes no new master key while values may depend on the old one.";
static const char hint_mode[] =
"It must belong to the server's user with mode 0600, or to root with mode 0640.";
static const char hint_format[] =
"The file holds one key a line, 64 hex digits each, the current key first. Put it back from its backup.";

typedef enum FileStatus
{
	FILE_READ,
	FILE_MISSING,
	FILE_UNUSABLE
} FileStatus;

static void
set_problem(KeyProblem *problem, const char *hint, const char *format,...) pg_attribute_printf(3, 4);

static void
set_problem(KeyProblem *problem, const char *hint, const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	vsnprintf(problem->message, sizeof(problem->message), format, arguments);
	va_end(arguments);
	problem->missing = false;
	strlcpy(problem->hint, hint, sizeof(problem->hint));
}

/* The cluster-wide lock on the key file and its marker. */
static void
set_lock_tag(LOCKTAG *tag)
{
	const uint32 name_high = 0x6b657972;	/* "keyr" */
	const uint32 name_low = 0x6f740001; /* "ot", lock 1 */
	const uint16 neither_sql_form = 3;

	SET_LOCKTAG_ADVISORY(*tag, InvalidOid, name_high, name_low, neither_sql_form);
}

/* The absolute path of the key file, in the current memory context. */
char *
master_key_path(void)
{
	if (is_absolute_path(keyrot_master_key_file))
		return pstrdup(keyrot_master_key_file);
	return psprintf("%s/%s", DataDir, keyrot_master_key_file);
}

/* Tells whether every base backup holds the key file beside what it protects. */
bool
master_key_is_in_data_directory(void)
{
	char	   *path = master_key_path();

	canonicalize_path(path);
	return path_is_prefix_of_path(DataDir, path);
}

/* Reads all of an open file; returns the number of bytes, or -1 with errno set. */
static ssize_t
read_all(int file, char *buffer, size_t size)
{
	size_t		total = 0;

	while (total < size)
	{
		ssize_t		got = read(file, buffer + total, size - total);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		if (got == 0)
			break;
		total += (size_t) got;
	}
	return (ssize_t) total;
}

static bool
write_all(int file, const char *buffer, size_t length)
{
	while (length > 0)
	{
		ssize_t		written = write(file, buffer, length);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return false;
		buffer += written;
		length -= (size_t) written;
	}
	return true;
}

/* Refuses an open file that others than its owner can read or change. */
static bool
check_file(int file, const char *path, KeyProblem *problem)
{
	struct stat info;

	if (fstat(file, &info) != 0)
	{
		set_problem(problem, hint_restore, "could not examine master key file \"%s\": %m", path);
		return false;
	}
	if (!S_ISREG(info.st_mode))
	{
		set_problem(problem, hint_mode, "master key file \"%s\" is not a regular file", path);
		return false;
	}
	if (info.st_uid != geteuid() && info.st_uid != 0)
	{
		set_problem(problem, hint_mode, "master key file \"%s\" belongs to another user", path);
		return false;
	}
	if ((info.st_mode & (info.st_uid == 0 ? (S_IWGRP | S_IXGRP | S_IRWXO) : (S_IRWXG | S_IRWXO))) != 0)
	{
		set_problem(problem, hint_mode, "master key file \"%s\" can be read by others than its owner", path);
		return false;
	}
	if (info.st_size > KEYFILE_MAX_BYTES)
	{
		set_problem(problem, hint_format, "master key file \"%s\" is longer than %d bytes", path, KEYFILE_MAX_BYTES);
		return false;
	}
	return true;
}

static bool
parse(const char *text, size_t length, const char *path, MasterKeys *keys, KeyProblem *problem)
{
	int			line;

	switch (keyfile_parse(text, length, keys, &line))
	{
		case KEYFILE_OK:
			return true;
		case KEYFILE_EMPTY:
			set_problem(problem, hint_format, "master key file \"%s\" holds no key", path);
			break;
		case KEYFILE_MALFORMED_LINE:
			set_problem(problem, hint_format, "master key file \"%s\": line %d is not 64 hex digits", path, line);
			break;
		case KEYFILE_TOO_MANY_KEYS:
			set_problem(problem, hint_format, "master key file \"%s\" holds more than %d keys", path, KEYFILE_MAX_KEYS);
			break;
		case KEYFILE_CRYPTO_FAILED:
			set_problem(problem, "Check that OpenSSL offers SHA-256.", "could not compute the fingerprint of a master key");
			break;
	}
	return false;
}

/* Reads an open key file into keys, by way of locked memory. */
static bool
read_keys(int file, const char *path, MasterKeys *keys, KeyProblem *problem)
{
	char	   *text;
	ssize_t		length;
	bool		good = false;

	if (!check_file(file, path, problem))
		return false;
	text = crypto_locked_alloc(KEYFILE_MAX_BYTES);
	if (text == NULL)
	{
		set_problem(problem, "Close other sessions or add memory.", "out of memory while reading master key file \"%s\"", path);
		return false;
	}
	length = read_all(file, text, KEYFILE_MAX_BYTES);
	if (length < 0)
		set_problem(problem, hint_restore, "could not read master key file \"%s\": %m", path);
	else
		good = parse(text, (size_t) length, path, keys, problem);
	crypto_locked_free(text, KEYFILE_MAX_BYTES);
	return good;
}

static FileStatus
read_key_file(const char *path, MasterKeys *keys, KeyProblem *problem)
{
	int			file = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	bool		good;

	if (file < 0 && errno == ENOENT)
	{
		set_problem(problem, hint_restore, "master key file \"%s\" does not exist", path);
		problem->missing = true;
		return FILE_MISSING;
	}
	if (file < 0 && errno == ELOOP)
	{
		set_problem(problem, "Set keyrot.master_key_file to the file itself.", "master key file \"%s\" is a symbolic link", path);
		return FILE_UNUSABLE;
	}
	if (file < 0)
	{
		set_problem(problem, hint_mode, "could not open master key file \"%s\": %m", path);
		return FILE_UNUSABLE;
	}
	good = read_keys(file, path, keys, problem);
	close(file);
	return good ? FILE_READ : FILE_UNUSABLE;
}

/* Makes an entry of a folder outlast a crash; where that fails, the file is there all the same. */
static bool
sync_parent(const char *path)
{
	char		folder[MAXPGPATH];
	int			file;
	bool		good;

	strlcpy(folder, path, sizeof(folder));
	get_parent_directory(folder);
	file = open(folder[0] ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (file < 0)
		return false;
	good = pg_fsync(file) == 0;
	close(file);
	return good;
}

/* Creates a file that must not exist, with mode 0600 and durable contents. */
static bool
create_file(const char *path, const char *contents, size_t length)
{
	int			file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
	bool		good;

	if (file < 0)
		return false;
	good = write_all(file, contents, length) && pg_fsync(file) == 0;
	return close(file) == 0 && good;
}

/*
 * Publishes a new key as the key file, unless one has appeared meanwhile; that one then counts.  The
 * temporary file is there for nobody else: the lock keeps the cluster's other sessions away.
 */
static bool
make_key_file(const char *path, const char *temporary, KeyProblem *problem)
{
	uint8_t		raw[CRYPTO_KEY_BYTES];
	char		line[KEYFILE_DIGITS + 1];
	bool		good;

	if (crypto_random(raw, sizeof(raw)) != CRYPTO_OK)
	{
		set_problem(problem, "Check that OpenSSL can draw random bytes.", "could not make a master key");
		return false;
	}
	keyfile_format_key(raw, line);
	crypto_wipe(raw, sizeof(raw));
	line[KEYFILE_DIGITS] = '\n';
	good = create_file(temporary, line, sizeof(line)) &&
		(link(temporary, path) == 0 || errno == EEXIST) &&
		sync_parent(path);
	crypto_wipe(line, sizeof(line));
	if (!good)
		set_problem(problem, "The server's user must be able to write in that folder, or the file must be put there.",
					"could not create master key file \"%s\": %m", path);
	(void) unlink(temporary);
	return good;
}

/* Reads the marker file; returns its length, 0 where there is none, -1 where it cannot be read. */
static ssize_t
read_marker(char contents[MARKER_MAX_BYTES])
{
	int			file = open(MARKER_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t		length;

	if (file < 0)
		return errno == ENOENT ? 0 : -1;
	length = read_all(file, contents, MARKER_MAX_BYTES);
	close(file);
	return length;
}

static bool
is_marked(const uint8_t fingerprint[KEYFILE_FINGERPRINT_BYTES])
{
	char		contents[MARKER_MAX_BYTES + 1];
	char		digits[KEYFILE_FINGERPRINT_DIGITS + 1];
	ssize_t		length = read_marker(contents);

	keyfile_format_fingerprint(fingerprint, digits);
	contents[Max(length, 0)] = '\0';
	return strstr(contents, digits) != NULL;
}

/* Makes the marker file name a fingerprint, durably, before anything is wrapped by that key. */
static bool
mark(const uint8_t fingerprint[KEYFILE_FINGERPRINT_BYTES], KeyProblem *problem)
{
	static const char temporary[] = MARKER_FILE ".tmp";
	char		contents[MARKER_MAX_BYTES + KEYFILE_FINGERPRINT_DIGITS + 2];
	char		digits[KEYFILE_FINGERPRINT_DIGITS + 1];
	ssize_t		length = read_marker(contents);

	if (is_marked(fingerprint))
		return true;
	keyfile_format_fingerprint(fingerprint, digits);
	if (length >= 0)
	{
		length += snprintf(contents + length, sizeof(contents) - (size_t) length, "%s\n", digits);
		(void) unlink(temporary);
		if (create_file(temporary, contents, (size_t) length) &&
			rename(temporary, MARKER_FILE) == 0 && sync_parent(MARKER_FILE))
			return true;
	}
	set_problem(problem, "The server's user must be able to write in the data directory.",
				"could not note the master key in use in file \"%s/%s\": %m", DataDir, MARKER_FILE);
	return false;
}

static FileStatus
read_or_make(const char *path, MasterKeys *keys, KeyProblem *problem)
{
	char		marker[MARKER_MAX_BYTES];
	char		temporary[MAXPGPATH];
	FileStatus	status;

	if (snprintf(temporary, sizeof(temporary), "%s." UINT64_FORMAT ".tmp", path, GetSystemIdentifier()) >=
		(int) sizeof(temporary))
	{
		set_problem(problem, "Set keyrot.master_key_file to a shorter one.", "the path of the master key file is too long");
		return FILE_UNUSABLE;
	}

	/* A crash may have left a second name of the key. */
	(void) unlink(temporary);
	status = read_key_file(path, keys, problem);
	if (status == FILE_MISSING && read_marker(marker) == 0 && make_key_file(path, temporary, problem))
		status = read_key_file(path, keys, problem);
	if (status == FILE_READ && !mark(keys->keys[0].fingerprint, problem))
		status = FILE_UNUSABLE;
	return status;
}

/* Runs one of the readers above under the cluster-wide lock, on keys in locked memory. */
static MasterKeys *
with_lock(FileStatus (*reader) (const char *, MasterKeys *, KeyProblem *), LOCKMODE mode, KeyProblem *problem)
{
	char	   *path = master_key_path();
	LOCKTAG		tag;
	MasterKeys *keys;

	set_lock_tag(&tag);
	(void) LockAcquire(&tag, mode, false, false);
	keys = crypto_locked_alloc(sizeof(MasterKeys));
	if (keys == NULL)
		set_problem(problem, "Close other sessions or add memory.", "out of memory while reading master key file \"%s\"", path);
	else if (reader(path, keys, problem) != FILE_READ)
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
	return with_lock(read_key_file, ShareLock, problem);
}

/*
 * As master_key_read, for wrapping a data key: makes the key file where this cluster never had one, and
 * notes the current key's fingerprint as in use.
 */
MasterKeys *
master_key_read_or_make(KeyProblem *problem)
{
	return with_lock(read_or_make, ExclusiveLock, problem);
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

	if (is_marked(fingerprint))
		return;
	set_lock_tag(&tag);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	if (!mark(fingerprint, &problem))
		ereport(LOG, (errmsg("%s", problem.message), errhint("%s", problem.hint)));
	(void) LockRelease(&tag, ExclusiveLock, false);
}

/* Whether some database of this cluster is known to depend on a master key. */
bool
master_key_is_noted(void)
{
	char		marker[MARKER_MAX_BYTES];

	return read_marker(marker) != 0;
}

/* Wipes and frees master keys; NULL is none. */
void
master_key_free(MasterKeys *keys)
{
	if (keys != NULL)
		crypto_locked_free(keys, sizeof(MasterKeys));
}
