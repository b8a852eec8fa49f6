/*
 * master_file.c
 *	  The cluster's key file: read when needed, created on request, extended by a new first line.
 *
 * master.c decides when that is done, and ensures that no other session of the cluster does it at the same
 * time.  A new file is published by link(), which does not overwrite an existing file, as rename() would.  A
 * new line is written to a copy, which then replaces the file, so that at any time, and after any crash,
 * there is one complete file with all keys that are in use.
 *
 * Problems are returned as a message, not thrown: nothing here throws while key material is in memory or a
 * file is open.  For this reason it uses plain system calls: durable_rename() and fsync_fname() log or raise
 * errors, up to a PANIC that would stop the server because of a directory outside the data directory; they
 * ignore a directory that cannot be opened; and the former opens the old file for writing, which fails with
 * mode 0400.
 */
#include "keys/master_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "base/settings.h"
#include "crypto/arena.h"

#define LINE_BYTES (MASTER_TEXT_DIGITS + 1)

static const char hint_restore[] = "Restore the file from a backup.";
static const char hint_mode[] =
"It must be owned by the server's user with mode 0600, or by root with mode 0640.";
static const char hint_format[] =
"The file must contain one key of 64 hex digits per line, the current key first. Restore it from a backup.";
static const char hint_memory[] = "Close other sessions or add memory.";
static const char hint_by_hand[] =
"Insert a new first line of 64 hex digits yourself, and call rewrap_data_keys().";

/* The absolute path of the key file, in the current memory context. */
char *
master_file_path(void)
{
	if (is_absolute_path(keyrot_master_key_file))
		return pstrdup(keyrot_master_key_file);
	return psprintf("%s/%s", DataDir, keyrot_master_key_file);
}

/*
 * Whether every base backup includes the key file along with the data that it protects; if a command is set,
 * a file that was left there.
 */
bool
master_file_is_in_data_directory(void)
{
	char	   *path = master_file_path();

	canonicalize_path(path);
	return path_is_prefix_of_path(DataDir, path) &&
		(keyrot_master_key_command[0] == '\0' || access(path, F_OK) == 0);
}

/* Refuses an open file that others than its owner can read or change. */
static bool
check_file(int file, const char *path, struct stat *info, KeyProblem *problem)
{
	if (fstat(file, info) != 0)
	{
		problem_set(problem, hint_restore, "could not stat master key file \"%s\": %m", path);
		return false;
	}
	if (!S_ISREG(info->st_mode))
	{
		problem_set(problem, hint_mode, "master key file \"%s\" is not a regular file", path);
		return false;
	}
	if (info->st_uid != geteuid() && info->st_uid != 0)
	{
		problem_set(problem, hint_mode, "master key file \"%s\" is owned by another user", path);
		return false;
	}
	if ((info->st_mode & (info->st_uid == 0 ? (S_IWGRP | S_IXGRP | S_IRWXO) : (S_IRWXG | S_IRWXO))) != 0)
	{
		problem_set(problem, hint_mode, "master key file \"%s\" has group or world access", path);
		return false;
	}
	if (info->st_size > MASTER_TEXT_MAX_BYTES)
	{
		problem_set(problem, hint_format, "master key file \"%s\" is longer than %d bytes", path, MASTER_TEXT_MAX_BYTES);
		return false;
	}
	return true;
}

static bool
parse(const char *text, size_t length, const char *path, MasterKeys *keys, KeyProblem *problem)
{
	int			line;

	switch (master_text_parse(text, length, keys, &line))
	{
		case MASTER_TEXT_OK:
			return true;
		case MASTER_TEXT_EMPTY:
			problem_set(problem, hint_format, "master key file \"%s\" contains no key", path);
			break;
		case MASTER_TEXT_MALFORMED_LINE:
			problem_set(problem, hint_format, "master key file \"%s\": line %d is not 64 hex digits", path, line);
			break;
		case MASTER_TEXT_TOO_MANY_KEYS:
			problem_set(problem, hint_format, "master key file \"%s\" contains more than %d keys", path, MASTER_TEXT_MAX_KEYS);
			break;
		case MASTER_TEXT_CRYPTO_FAILED:
			problem_set(problem, "Check that OpenSSL provides SHA-256.", "could not compute the fingerprint of a master key");
			break;
	}
	return false;
}

/* Reads the rest of an open file, at most size bytes; returns their number, or -1 with errno set. */
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

/* Reads the text of an open key file, and its keys into keys; returns its length, or -1 and sets the problem. */
static ssize_t
read_text(int file, const char *path, char text[MASTER_TEXT_MAX_BYTES], MasterKeys *keys, KeyProblem *problem)
{
	ssize_t		length = read_all(file, text, MASTER_TEXT_MAX_BYTES);

	if (length < 0)
		problem_set(problem, hint_restore, "could not read master key file \"%s\": %m", path);
	else if (!parse(text, (size_t) length, path, keys, problem))
		length = -1;
	return length;
}

/* Reads an open key file into keys, using locked memory. */
static bool
read_keys(int file, const char *path, MasterKeys *keys, KeyProblem *problem)
{
	struct stat info;
	char	   *text;
	bool		good;

	if (!check_file(file, path, &info, problem))
		return false;
	text = arena_alloc(MASTER_TEXT_MAX_BYTES);
	if (text == NULL)
	{
		problem_set(problem, hint_memory, "out of memory while reading master key file \"%s\"", path);
		return false;
	}
	good = read_text(file, path, text, keys, problem) >= 0;
	arena_free(text, MASTER_TEXT_MAX_BYTES);
	return good;
}

/* Opens the key file for reading; returns -1 and sets the problem on failure. */
static int
open_key_file(const char *path, KeyProblem *problem)
{
	int			file = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (file >= 0)
		return file;
	if (errno == ENOENT)
	{
		problem_set(problem, hint_restore, "master key file \"%s\" does not exist", path);
		problem->missing = true;
	}
	else if (errno == ELOOP)
		problem_set(problem, "Set keyrot.master_key_file to the file itself.", "master key file \"%s\" is a symbolic link", path);
	else
		problem_set(problem, hint_mode, "could not open master key file \"%s\": %m", path);
	return -1;
}

/* Reads the keys of the file into keys, which the caller wipes; returns false and sets the problem on failure. */
bool
master_file_read(const char *path, MasterKeys *keys, KeyProblem *problem)
{
	int			file = open_key_file(path, problem);
	bool		good;

	if (file < 0)
		return false;
	good = read_keys(file, path, keys, problem);
	close(file);
	return good;
}

/* Opens the directory of a path; returns -1 with errno set on failure. */
static int
open_parent(const char *path)
{
	char		folder[MAXPGPATH];

	strlcpy(folder, path, sizeof(folder));
	get_parent_directory(folder);
	return open(folder[0] ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Makes a directory entry durable; if that fails, the file exists nevertheless. */
static bool
sync_parent(const char *path)
{
	int			folder = open_parent(path);
	bool		good;

	if (folder < 0)
		return false;
	good = pg_fsync(folder) == 0;
	close(folder);
	return good;
}

/*
 * Makes the current file durable, no matter who created it, before anything depends on it: an administrator
 * may just have copied it, or a session may have crashed after it created it.  If the server may not read the
 * directory, this is left to whoever created the file.  Returns false and sets the problem on failure.
 */
bool
master_file_settle(const char *path, KeyProblem *problem)
{
	int			file = open_key_file(path, problem);
	bool		good;

	if (file < 0)
		return false;
	good = (!enableFsync || fsync(file) == 0) && (sync_parent(path) || errno == EACCES);
	if (!good)
		problem_set(problem, "Check the disk that holds the file.", "could not fsync master key file \"%s\": %m", path);
	close(file);
	return good;
}

/* A file name in the same directory that no other cluster uses; false if the path is too long for that. */
static bool
name_temporary(const char *path, char temporary[MAXPGPATH])
{
	return snprintf(temporary, MAXPGPATH, "%s." UINT64_FORMAT ".tmp", path, GetSystemIdentifier()) < MAXPGPATH;
}

/* Removes what a crash may have left in the directory: a second name of the file, or a copy of the keys. */
void
master_file_tidy(const char *path)
{
	char		temporary[MAXPGPATH];

	if (name_temporary(path, temporary))
		(void) unlink(temporary);
}

static bool
prepare_temporary(const char *path, char temporary[MAXPGPATH], KeyProblem *problem)
{
	master_file_tidy(path);
	if (name_temporary(path, temporary))
		return true;
	problem_set(problem, "Set keyrot.master_key_file to a shorter one.", "the path of the master key file is too long");
	return false;
}

/* Generates a key and writes it as a line of the file. */
static bool
make_line(char line[LINE_BYTES], KeyProblem *problem)
{
	uint8_t		raw[CRYPTO_KEY_BYTES];
	char		digits[MASTER_TEXT_DIGITS + 1];

	if (crypto_random(raw, sizeof(raw)) != CRYPTO_OK)
	{
		problem_set(problem, "Check that OpenSSL can generate random bytes.", "could not generate a master key");
		return false;
	}
	master_text_format_key(raw, digits);
	crypto_wipe(raw, sizeof(raw));
	memcpy(line, digits, MASTER_TEXT_DIGITS);
	crypto_wipe(digits, sizeof(digits));
	line[MASTER_TEXT_DIGITS] = '\n';
	return true;
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

/* Creates a file that must not exist, with mode 0600 and durable contents. */
static bool
create_durably(const char *path, const char *contents, size_t length)
{
	int			file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
	bool		good;

	if (file < 0)
		return false;
	good = write_all(file, contents, length) && pg_fsync(file) == 0;
	return close(file) == 0 && good;
}

/*
 * Publishes a new key as the key file, unless one has been created in the meantime: then that one stays, and
 * *made is false.  Must be called under the cluster's lock only; returns false and sets the problem on
 * failure.
 */
bool
master_file_make(const char *path, bool *made, KeyProblem *problem)
{
	char		temporary[MAXPGPATH];
	char		line[LINE_BYTES];
	bool		good;

	if (!prepare_temporary(path, temporary, problem) || !make_line(line, problem))
		return false;
	good = create_durably(temporary, line, sizeof(line));
	crypto_wipe(line, sizeof(line));
	*made = good && link(temporary, path) == 0;
	good = good && (*made || errno == EEXIST) && sync_parent(path);
	if (!good)
		problem_set(problem, "Make the directory writable for the server's user, or create the file yourself.",
					"could not create master key file \"%s\": %m", path);
	(void) unlink(temporary);
	return good;
}

/* Whether the path still names the open file, unchanged since it was opened. */
static bool
is_unchanged(int file, const struct stat *before, const char *path)
{
	struct stat now;
	struct stat named;

	return fstat(file, &now) == 0 && lstat(path, &named) == 0 &&
		named.st_dev == now.st_dev && named.st_ino == now.st_ino &&
		now.st_size == before->st_size &&
		now.st_mtim.tv_sec == before->st_mtim.tv_sec && now.st_mtim.tv_nsec == before->st_mtim.tv_nsec;
}

/* Refuses a file that must not be replaced by one that the server owns. */
static bool
check_replaceable(int file, const char *path, struct stat *info, KeyProblem *problem)
{
	if (!check_file(file, path, info, problem))
		return false;
	if (info->st_uid != geteuid())
	{
		problem_set(problem, hint_by_hand, "master key file \"%s\" is owned by root, so the server cannot add a key to it", path);
		return false;
	}
	if (flock(file, LOCK_EX | LOCK_NB) != 0)
	{
		problem_set(problem, "Try again.", "master key file \"%s\" is being changed by another server", path);
		return false;
	}
	return true;
}

/* Reads the file, leaving room for a line before it, and refuses one to which no line can be added, returning -1. */
static ssize_t
read_behind_line(int file, const char *path, char *text, KeyProblem *problem)
{
	MasterKeys *keys = arena_alloc(sizeof(MasterKeys));
	ssize_t		length;

	if (keys == NULL)
	{
		problem_set(problem, hint_memory, "out of memory while reading master key file \"%s\"", path);
		return -1;
	}
	length = read_text(file, path, text + LINE_BYTES, keys, problem);
	if (length >= 0 && (keys->count == MASTER_TEXT_MAX_KEYS || length + LINE_BYTES > MASTER_TEXT_MAX_BYTES))
	{
		problem_set(problem, "Remove the lines of keys that are no longer needed.",
					"master key file \"%s\" has no room for another key", path);
		length = -1;
	}
	arena_free(keys, sizeof(MasterKeys));
	return length;
}

/*
 * Replaces a file with another, durably.  If the directory cannot be opened to fsync it, the file is not
 * replaced.
 */
static bool
replace_durably(const char *path, const char *temporary)
{
	int			folder = open_parent(path);
	bool		good;

	if (folder < 0)
		return false;
	good = rename(temporary, path) == 0 && pg_fsync(folder) == 0;
	close(folder);
	return good;
}

/* Writes a copy of the open file with a new first line, and replaces the file with it. */
static bool
replace_with_longer(int file, const char *path, const char *temporary, const struct stat *before, KeyProblem *problem)
{
	char	   *text = arena_alloc(LINE_BYTES + MASTER_TEXT_MAX_BYTES);
	ssize_t		length;
	bool		good = false;

	if (text == NULL)
	{
		problem_set(problem, hint_memory, "out of memory while reading master key file \"%s\"", path);
		return false;
	}
	length = read_behind_line(file, path, text, problem);
	if (length >= 0 && make_line(text, problem))
	{
		good = create_durably(temporary, text, LINE_BYTES + (size_t) length);
		if (good && !is_unchanged(file, before, path))
		{
			problem_set(problem, "Try again.", "master key file \"%s\" was changed concurrently", path);
			good = false;
		}
		else if (!good || !replace_durably(path, temporary))
		{
			problem_set(problem, hint_by_hand, "could not add a key to master key file \"%s\": %m", path);
			good = false;
		}
	}
	arena_free(text, LINE_BYTES + MASTER_TEXT_MAX_BYTES);
	return good;
}

/*
 * Adds a new key before the others, durably; the older lines are not changed.  Must be called under the
 * cluster's lock only; returns false and sets the problem on failure, and then the file is unchanged, or has
 * one key more than it needs.
 */
bool
master_file_add_key(const char *path, KeyProblem *problem)
{
	char		temporary[MAXPGPATH];
	struct stat before;
	int			file;
	bool		good;

	if (!prepare_temporary(path, temporary, problem))
		return false;
	file = open_key_file(path, problem);
	if (file < 0)
		return false;
	good = check_replaceable(file, path, &before, problem) &&
		replace_with_longer(file, path, temporary, &before, problem);
	close(file);
	if (!good)
		(void) unlink(temporary);
	return good;
}
