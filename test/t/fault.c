/*
 * fault.c
 *	  A library for LD_PRELOAD that stands between a server and its files: it counts and logs the calls that
 *	  change them, kills the process at the one of our choice or lets that one fail, and plays a full disk.
 *	  Fault.pm builds it and speaks to it.
 *
 * The environment variable KEYROT_FAULT names the control file, which every process that has the variable
 * maps: an order given while the server runs reaches all its processes at once.  Without the variable the
 * library does nothing.  Only regular files and folders whose real path begins with one of the control
 * file's prefixes count; so the server's log, for one, can be left out.
 *
 * Steps.  The process with the pid in the control file counts its calls of open (with O_CREAT), write,
 * writev, pwrite, pwritev, fallocate, ftruncate, truncate, fsync, fdatasync, rename, link, symlink, unlink,
 * mkdir and rmdir, and writes a line of each to the log (the control file's name and ".log") before it is
 * made: number, call, length, path, new path, between tabs.  At the step of our choice it
 *	  is killed (SIGKILL), before the call: what was done is exactly what the lines before this one say;
 *	  is killed when the first half of its bytes are written: the same with a write cut in two;
 *	  or gets an error of our choice from the call, which is not made.
 *
 * Room.  The control file holds the number of bytes by which files may still grow, over all processes.
 * Writing within a file is free, as on a disk that does not copy on write; a new name costs one byte; what
 * is deleted gives nothing back.  Where too little room is left a write comes back short, and without any
 * it fails with ENOSPC, as allocating and new names do.
 *
 * Not seen: what stdio writes (fwrite inside libc does not pass here; a server uses it for statistics,
 * COPY TO a file and its log only), memory maps, and other machines' failures such as the loss of what was
 * not synced yet: a killed process loses nothing that it has written.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(off_t) == 8 && sizeof(long) == 8, "a system of 64 bits is assumed");

/* What happens at the chosen step; a positive number is the error that the call gets. */
#define HOW_KILL	(-1)
#define HOW_TEAR	(-2)

/* The control file, all numbers in the machine's order.  Fault.pm writes it by these offsets. */
typedef struct Control
{
	int64_t		pid;			/* whose calls are steps; 0: nobody's */
	int64_t		step;			/* the chosen one, from 1; 0: none */
	int64_t		how;
	int64_t		steps;			/* made so far */
	int64_t		room;			/* bytes; negative: no limit */
	int64_t		refused;		/* calls that found too little room */
	char		prefixes[4000]; /* each ends with a newline */
} Control;

static Control *control;
static char log_path[PATH_MAX];

#define REAL(function) \
	static __typeof__(&function) real; \
	if (real == NULL) \
		real = (__typeof__(&function)) dlsym(RTLD_NEXT, #function)

#define VISIBLE __attribute__((visibility("default")))

/* ---------- the control file ---------- */

static int
real_open(const char *path, int flags, mode_t mode)
{
	REAL(open);
	return real(path, flags, mode);
}

static ssize_t
real_write(int file, const void *bytes, size_t length)
{
	REAL(write);
	return real(file, bytes, length);
}

__attribute__((constructor)) static void
map_control(void)
{
	const char *path = getenv("KEYROT_FAULT");
	int			file;
	void	   *map;

	if (path == NULL || (file = real_open(path, O_RDWR | O_CLOEXEC, 0)) < 0)
		return;
	map = mmap(NULL, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	(void) close(file);
	(void) snprintf(log_path, sizeof(log_path), "%s.log", path);
	if (map != MAP_FAILED)
		control = map;
}

static int64_t
read_number(int64_t *number)
{
	return __atomic_load_n(number, __ATOMIC_SEQ_CST);
}

static bool
is_stepping(void)
{
	return control != NULL && read_number(&control->pid) == getpid();
}

/* Whether a call has to be looked at, at all. */
static bool
is_watching(void)
{
	return control != NULL && (read_number(&control->room) >= 0 || is_stepping());
}

/* ---------- which file ---------- */

static bool
has_prefix(const char *path)
{
	const char *prefix = control->prefixes;

	while (*prefix != '\0')
	{
		size_t		length = strcspn(prefix, "\n");

		if (length > 0 && strncmp(path, prefix, length) == 0)
			return true;
		prefix += length + (prefix[length] == '\n');
	}
	return false;
}

/* The real path of a name that need not exist; its folder must. */
static bool
real_path(const char *path, char name[PATH_MAX])
{
	const char *slash = strrchr(path, '/');
	const char *last = slash == NULL ? path : slash + 1;
	char		folder[PATH_MAX];
	size_t		length;

	(void) snprintf(folder, sizeof(folder), "%.*s", slash == NULL ? 1 : (int) (slash - path) + 1, slash == NULL ? "." : path);
	if (realpath(folder, name) == NULL)
		return false;
	length = strlen(name);
	return snprintf(name + length, PATH_MAX - length, "/%s", last) < (int) (PATH_MAX - length);
}

static bool
is_watched_path(const char *path, char name[PATH_MAX])
{
	int			error = errno;
	bool		watched = is_watching() && real_path(path, name) && has_prefix(name);

	errno = error;
	return watched;
}

static bool
is_watched_file(int file, char name[PATH_MAX], struct stat *info)
{
	int			error = errno;
	char		link_path[64];
	ssize_t		length;
	bool		watched = false;

	(void) snprintf(link_path, sizeof(link_path), "/proc/self/fd/%d", file);
	if (is_watching() && fstat(file, info) == 0 && (S_ISREG(info->st_mode) || S_ISDIR(info->st_mode)) &&
		(length = readlink(link_path, name, PATH_MAX - 1)) > 0)
	{
		name[length] = '\0';
		watched = has_prefix(name);
	}
	errno = error;
	return watched;
}

/* ---------- steps ---------- */

static void
write_line(int64_t number, const char *call, size_t length, const char *path, const char *new_path)
{
	char		line[2 * PATH_MAX + 100];
	int			size = snprintf(line, sizeof(line), "%lld\t%s\t%zu\t%s\t%s\n",
								(long long) number, call, length, path, new_path);
	int			file = real_open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, S_IRUSR | S_IWUSR);

	if (file < 0 || real_write(file, line, (size_t) size) != size)
		abort();
	(void) close(file);
}

/*
 * Counts and logs a step.  Returns 0 where the call shall be made, HOW_TEAR where half of it shall be made,
 * and otherwise the error that it shall fail with.
 */
static int
step(const char *call, size_t length, const char *path, const char *new_path)
{
	int			error = errno;
	int64_t		number;
	int			how;

	if (!is_stepping())
		return 0;
	number = __atomic_add_fetch(&control->steps, 1, __ATOMIC_SEQ_CST);
	write_line(number, call, length, path, new_path);
	errno = error;
	if (number != read_number(&control->step))
		return 0;
	how = (int) read_number(&control->how);
	if (how == HOW_KILL || (how == HOW_TEAR && length == 0))
		(void) kill(getpid(), SIGKILL);
	return how;
}

/* A step of a call that is made as a whole or not at all; false: it shall fail, with errno set. */
static bool
step_passes(const char *call, size_t length, const char *path, const char *new_path)
{
	int			how = step(call, length, path, new_path);

	if (how == HOW_TEAR)
		(void) kill(getpid(), SIGKILL);
	if (how > 0)
		errno = how;
	return how == 0;
}

/* ---------- room ---------- */

/* Takes up to this many bytes of the room left, and returns how many. */
static int64_t
take_room(int64_t wanted)
{
	int64_t		room = read_number(&control->room);
	int64_t		taken;

	do
	{
		if (room < 0)
			return wanted;
		taken = wanted < room ? wanted : room;
	} while (!__atomic_compare_exchange_n(&control->room, &room, room - taken, false,
										  __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	if (taken < wanted)
		(void) __atomic_add_fetch(&control->refused, 1, __ATOMIC_SEQ_CST);
	return taken;
}

static bool
has_room_for_name(void)
{
	if (take_room(1) == 1)
		return true;
	errno = ENOSPC;
	return false;
}

/*
 * How many of these bytes there is room for, written from this place on.  None, where some were asked for,
 * is ENOSPC.
 */
static size_t
room_for_bytes(off_t size, off_t start, size_t length)
{
	off_t		end = start + (off_t) length;
	off_t		growth = end <= size ? 0 : end - (start > size ? start : size);
	off_t		missing = growth == 0 ? 0 : growth - take_room(growth);

	if (missing == 0)
		return length;
	if ((size_t) missing < length)
		return length - (size_t) missing;
	errno = ENOSPC;
	return 0;
}

/* ---------- writing ---------- */

typedef struct Piece
{
	const char *call;
	int			file;
	const struct iovec *pieces;
	int			count;
	off_t		start;			/* -1: where the file stands */
	ssize_t		(*make) (const struct Piece *piece);
} Piece;

static ssize_t
make_writev(const Piece *piece)
{
	REAL(writev);
	return real(piece->file, piece->pieces, piece->count);
}

static ssize_t
make_pwritev(const Piece *piece)
{
	REAL(pwritev);
	return real(piece->file, piece->pieces, piece->count, piece->start);
}

/* Makes no more of the call than its first bytes. */
static ssize_t
make_part(const Piece *piece, size_t length)
{
	struct iovec few[piece->count];
	Piece		part = *piece;

	part.pieces = few;
	part.count = 0;
	for (int i = 0; i < piece->count && length > 0; i++)
	{
		few[i] = piece->pieces[i];
		if (few[i].iov_len > length)
			few[i].iov_len = length;
		length -= few[i].iov_len;
		part.count++;
	}
	return part.make(&part);
}

static off_t
start_of(const Piece *piece, const struct stat *info)
{
	if (piece->start >= 0)
		return piece->start;
	if ((fcntl(piece->file, F_GETFL) & O_APPEND) != 0)
		return info->st_size;
	return lseek(piece->file, 0, SEEK_CUR);
}

static ssize_t
write_piece(const Piece *piece)
{
	char		name[PATH_MAX];
	struct stat info;
	size_t		length = 0;
	size_t		allowed;
	int			how;

	if (!is_watched_file(piece->file, name, &info))
		return piece->make(piece);
	for (int i = 0; i < piece->count; i++)
		length += piece->pieces[i].iov_len;
	how = step(piece->call, length, name, "");
	if (how > 0)
	{
		errno = how;
		return -1;
	}
	allowed = room_for_bytes(info.st_size, start_of(piece, &info), how == HOW_TEAR ? length / 2 : length);
	if (allowed == 0 && length > 0 && how == 0)
		return -1;
	if (allowed == length)
		return piece->make(piece);
	(void) !make_part(piece, allowed);
	if (how == HOW_TEAR)
		(void) kill(getpid(), SIGKILL);
	return (ssize_t) allowed;
}

VISIBLE ssize_t
write(int file, const void *bytes, size_t length)
{
	struct iovec all = {(void *) bytes, length};

	return write_piece(&(Piece) {"write", file, &all, 1, -1, make_writev});
}

VISIBLE ssize_t
writev(int file, const struct iovec *pieces, int count)
{
	return write_piece(&(Piece) {"writev", file, pieces, count, -1, make_writev});
}

VISIBLE ssize_t
pwrite(int file, const void *bytes, size_t length, off_t start)
{
	struct iovec all = {(void *) bytes, length};

	return write_piece(&(Piece) {"pwrite", file, &all, 1, start, make_pwritev});
}

VISIBLE ssize_t
pwritev(int file, const struct iovec *pieces, int count, off_t start)
{
	return write_piece(&(Piece) {"pwritev", file, pieces, count, start, make_pwritev});
}

/* ---------- the other calls on an open file ---------- */

/* Whether a call on an open file shall be made; otherwise errno tells why not. */
static bool
file_call_passes(const char *call, int file, off_t start, off_t length)
{
	char		name[PATH_MAX];
	struct stat info;

	if (!is_watched_file(file, name, &info))
		return true;
	return step_passes(call, (size_t) length, name, "") &&
		room_for_bytes(info.st_size, start, (size_t) length) == (size_t) length;
}

VISIBLE int
posix_fallocate(int file, off_t start, off_t length)
{
	int			error = errno;

	REAL(posix_fallocate);
	if (file_call_passes("fallocate", file, start, length))
		return real(file, start, length);
	errno = error;
	return ENOSPC;
}

VISIBLE int
fallocate(int file, int mode, off_t start, off_t length)
{
	REAL(fallocate);
	if (file_call_passes("fallocate", file, start, length))
		return real(file, mode, start, length);
	errno = ENOSPC;
	return -1;
}

VISIBLE int
fsync(int file)
{
	REAL(fsync);
	return file_call_passes("fsync", file, 0, 0) ? real(file) : -1;
}

VISIBLE int
fdatasync(int file)
{
	REAL(fdatasync);
	return file_call_passes("fdatasync", file, 0, 0) ? real(file) : -1;
}

VISIBLE int
ftruncate(int file, off_t length)
{
	REAL(ftruncate);
	return file_call_passes("ftruncate", file, 0, 0) ? real(file, length) : -1;
}

/* ---------- names ---------- */

static int
open_name(const char *path, int flags, mode_t mode)
{
	char		name[PATH_MAX];

	if ((flags & O_CREAT) != 0 && is_watched_path(path, name) &&
		(!step_passes("open", 0, name, "") || (access(name, F_OK) != 0 && !has_room_for_name())))
		return -1;
	return real_open(path, flags, mode);
}

static mode_t
mode_of(int flags, va_list arguments)
{
	return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

VISIBLE int
open(const char *path, int flags,...)
{
	va_list		arguments;
	mode_t		mode;

	va_start(arguments, flags);
	mode = mode_of(flags, arguments);
	va_end(arguments);
	return open_name(path, flags, mode);
}

VISIBLE int
creat(const char *path, mode_t mode)
{
	return open_name(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* Whether a call on a name shall be made. */
static bool
name_call_passes(const char *call, const char *path)
{
	char		name[PATH_MAX];

	return !is_watched_path(path, name) || step_passes(call, 0, name, "");
}

/* Whether a call that makes a name out of another one shall be made. */
static bool
new_name_passes(const char *call, const char *path, const char *new_path)
{
	char		name[PATH_MAX] = "";
	char		new_name[PATH_MAX] = "";
	bool		is_watched = is_watched_path(path, name);

	if (!is_watched_path(new_path, new_name) && !is_watched)
		return true;
	return step_passes(call, 0, name, new_name);
}

static bool
has_room_for(const char *path)
{
	char		name[PATH_MAX];

	return !is_watched_path(path, name) || has_room_for_name();
}

VISIBLE int
rename(const char *path, const char *new_path)
{
	REAL(rename);
	return new_name_passes("rename", path, new_path) ? real(path, new_path) : -1;
}

VISIBLE int
link(const char *path, const char *new_path)
{
	REAL(link);
	return new_name_passes("link", path, new_path) && has_room_for(new_path) ? real(path, new_path) : -1;
}

VISIBLE int
symlink(const char *path, const char *new_path)
{
	REAL(symlink);
	return new_name_passes("symlink", path, new_path) && has_room_for(new_path) ? real(path, new_path) : -1;
}

VISIBLE int
mkdir(const char *path, mode_t mode)
{
	REAL(mkdir);
	return name_call_passes("mkdir", path) && has_room_for(path) ? real(path, mode) : -1;
}

VISIBLE int
unlink(const char *path)
{
	REAL(unlink);
	return name_call_passes("unlink", path) ? real(path) : -1;
}

VISIBLE int
rmdir(const char *path)
{
	REAL(rmdir);
	return name_call_passes("rmdir", path) ? real(path) : -1;
}

VISIBLE int
truncate(const char *path, off_t length)
{
	REAL(truncate);
	return name_call_passes("truncate", path) ? real(path, length) : -1;
}

/* The names that programs with large files on systems of 32 bits would call. */
#define ALIAS(function) __attribute__((alias(#function), visibility("default")))
int			open64(const char *path, int flags,...) ALIAS(open);
int			creat64(const char *path, mode_t mode) ALIAS(creat);
ssize_t		pwrite64(int file, const void *bytes, size_t length, off_t start) ALIAS(pwrite);
ssize_t		pwritev64(int file, const struct iovec *pieces, int count, off_t start) ALIAS(pwritev);
int			posix_fallocate64(int file, off_t start, off_t length) ALIAS(posix_fallocate);
int			fallocate64(int file, int mode, off_t start, off_t length) ALIAS(fallocate);
int			ftruncate64(int file, off_t length) ALIAS(ftruncate);
int			truncate64(const char *path, off_t length) ALIAS(truncate);
