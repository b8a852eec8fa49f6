/*
 * arena.c
 *	  Memory for keys: locked, guarded, excluded from core dumps and from child processes.
 *
 * Owns the pages and tracks which parts are in use, not what is stored in them.  Nothing here throws, aborts
 * or depends on PostgreSQL.
 *
 * Why not OpenSSL's secure heap?  There is one for the whole process, whose size is chosen by the library
 * that initializes it, and once it is full, libpq and other users cannot load private keys any more.  It also
 * aborts if it cannot allocate memory for its own bookkeeping.
 *
 * A region is a range of slots between two inaccessible pages.  An allocation uses as many consecutive slots
 * as it needs, first fit: there are few allocations, and they change rarely.  Another region is mapped when
 * no existing one has room, so that even many data keys never end up in ordinary memory.  The bookkeeping is
 * stored elsewhere.
 *
 * A child process does not inherit memory locks, so it does not inherit these pages either, if the system
 * allows that: accessing them there is a fault, never a key of zeros.  It starts with its own arena.
 */
#include "crypto/arena.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <openssl/crypto.h>

#define REGION_SLOTS	(ARENA_REGION_BYTES / ARENA_SLOT_BYTES)

/* The madvise() advice that excludes pages from core dumps; 0, which does nothing, if the system has none. */
#if defined(MADV_DONTDUMP)
#define LEAVE_OUT_OF_DUMPS MADV_DONTDUMP
#elif defined(MADV_NOCORE)
#define LEAVE_OUT_OF_DUMPS MADV_NOCORE
#else
#define LEAVE_OUT_OF_DUMPS 0
#endif

typedef struct Region
{
	uint8_t    *bytes;
	bool		locked;
	bool		used[REGION_SLOTS];
} Region;

static struct
{
	pid_t		pid;			/* the process that it belongs to */
	int			count;
	Region		regions[ARENA_MAX_REGIONS];
} arena;

static size_t
page_bytes(void)
{
	return (size_t) sysconf(_SC_PAGESIZE);
}

/* Maps zeroed pages with a guard before and behind; tells whether they are locked.  NULL: no memory. */
static uint8_t *
map_guarded(size_t length, int sharing, bool *locked)
{
	size_t		guard = page_bytes();
	size_t		whole = length + 2 * guard;
	uint8_t    *mapped = mmap(NULL, whole, PROT_NONE, sharing | MAP_ANONYMOUS, -1, 0);
	uint8_t    *bytes;

	*locked = false;
	if (mapped == MAP_FAILED)
		return NULL;
	bytes = mapped + guard;
	if (mprotect(bytes, length, PROT_READ | PROT_WRITE) != 0)
	{
		(void) munmap(mapped, whole);
		return NULL;
	}
	(void) madvise(bytes, length, LEAVE_OUT_OF_DUMPS);
#ifdef MADV_DONTFORK
	if (sharing == MAP_PRIVATE)
		(void) madvise(mapped, whole, MADV_DONTFORK);
#endif
	*locked = mlock(bytes, length) == 0;
	return bytes;
}

static size_t
whole_pages(size_t length)
{
	return (length + page_bytes() - 1) / page_bytes() * page_bytes();
}

/* A child forgets the regions of its parent, which it does not have. */
static void
start_process(void)
{
	if (arena.pid == getpid())
		return;
	arena.pid = getpid();
	arena.count = 0;
}

static Region *
add_region(void)
{
	Region	   *region = &arena.regions[arena.count];

	if (arena.count == ARENA_MAX_REGIONS)
		return NULL;
	memset(region, 0, sizeof(*region));
	region->bytes = map_guarded(whole_pages(ARENA_REGION_BYTES), MAP_PRIVATE, &region->locked);
	if (region->bytes == NULL)
		return NULL;
	arena.count++;
	return region;
}

static size_t
slots_for(size_t length)
{
	return (length + ARENA_SLOT_BYTES - 1) / ARENA_SLOT_BYTES;
}

/* Takes so many free slots in a row.  NULL: the region has none. */
static void *
take_slots(Region *region, size_t wanted)
{
	size_t		in_row = 0;

	for (size_t i = 0; i < REGION_SLOTS; i++)
	{
		in_row = region->used[i] ? 0 : in_row + 1;
		if (in_row < wanted)
			continue;
		memset(&region->used[i + 1 - wanted], true, wanted);
		return region->bytes + (i + 1 - wanted) * ARENA_SLOT_BYTES;
	}
	return NULL;
}

/*
 * Allocates length zeroed bytes, at least one and at most ARENA_REGION_BYTES.  Free with arena_free().  NULL:
 * no memory, all regions are full, or the length is another.
 */
void *
arena_alloc(size_t length)
{
	void	   *bytes = NULL;
	Region	   *added;

	start_process();
	if (length == 0 || length > ARENA_REGION_BYTES)
		return NULL;
	for (int i = 0; i < arena.count && bytes == NULL; i++)
		bytes = take_slots(&arena.regions[i], slots_for(length));
	if (bytes != NULL)
		return bytes;
	added = add_region();
	return added == NULL ? NULL : take_slots(added, slots_for(length));
}

/*
 * Wipes and frees what arena_alloc() gave; length as it was then.  NULL is allowed, and what a parent
 * process allocated, which is left alone.
 */
void
arena_free(void *bytes, size_t length)
{
	uintptr_t	place = (uintptr_t) bytes;

	start_process();
	for (int i = 0; i < arena.count; i++)
	{
		Region	   *region = &arena.regions[i];
		uintptr_t	first = (uintptr_t) region->bytes;

		if (place < first || place >= first + ARENA_REGION_BYTES)
			continue;
		OPENSSL_cleanse(bytes, slots_for(length) * ARENA_SLOT_BYTES);
		memset(&region->used[(place - first) / ARENA_SLOT_BYTES], false, slots_for(length));
		return;
	}
}

/* Is all that arena_alloc() gives in this process kept out of swap space? */
bool
arena_is_locked(void)
{
	start_process();
	if (arena.count == 0 && add_region() == NULL)
		return false;
	for (int i = 0; i < arena.count; i++)
		if (!arena.regions[i].locked)
			return false;
	return true;
}

/*
 * Maps length zeroed bytes that this process and its children share, for as long as they live; tells whether
 * they are kept out of swap space, which they are while this process lives.  They have pages of their own of
 * the ordinary size: of huge ones the kernel hides no part from core dumps.  NULL: no memory.
 */
void *
arena_map_shared(size_t length, bool *locked)
{
	return map_guarded(whole_pages(length), MAP_SHARED, locked);
}
