/*
 * files.c
 *	  Small files, read whole and written so that they outlast a crash.
 *
 * Leaves to others what stands in them.  Plain system calls, for contents may be key material: PostgreSQL's
 * own functions raise errors, and what they hold in memory is not wiped.  What went wrong is in errno.
 */
#include "keys/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"

/* Reads what is left of an open file, at most size bytes; returns their number, or -1 with errno set. */
ssize_t
files_read_all(int file, char *buffer, size_t size)
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

/* Makes the contents of an open file outlast a crash, also where it was opened for reading only. */
bool
files_sync(int file)
{
	return !enableFsync || fsync(file) == 0;
}

/* Opens the folder that a path is in; -1 with errno set. */
static int
open_parent(const char *path)
{
	char		folder[MAXPGPATH];

	strlcpy(folder, path, sizeof(folder));
	get_parent_directory(folder);
	return open(folder[0] ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Makes an entry of a folder outlast a crash; where that fails, the file is there all the same. */
bool
files_sync_parent(const char *path)
{
	int			folder = open_parent(path);
	bool		good;

	if (folder < 0)
		return false;
	good = pg_fsync(folder) == 0;
	close(folder);
	return good;
}

/* Creates a file that must not exist, with mode 0600 and durable contents. */
bool
files_create(const char *path, const char *contents, size_t length)
{
	int			file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
	bool		good;

	if (file < 0)
		return false;
	good = write_all(file, contents, length) && pg_fsync(file) == 0;
	return close(file) == 0 && good;
}

/*
 * Puts a file in the place of another, durably.  Where the folder can't be opened to make sure of that, the other
 * one stays.
 */
bool
files_replace(const char *path, const char *temporary)
{
	int			folder = open_parent(path);
	bool		good;

	if (folder < 0)
		return false;
	good = rename(temporary, path) == 0 && pg_fsync(folder) == 0;
	close(folder);
	return good;
}
