/*
 * arena.c
 *	  Unit tests of the memory for keys: what the kernel keeps out of it, and what happens when it is full.
 *
 * Each in a process of its own, whose arena is empty.
 */
#include "units.h"

#include "crypto/arena.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534

/* ---------- helpers ---------- */

/* Whether the mapping that holds an address has a flag of /proc/self/smaps; -1: the system does not tell. */
static int
has_flag(const void *address, const char *flag)
{
	FILE	   *maps = fopen("/proc/self/smaps", "r");
	char		line[512];
	bool		here = false;
	int			found = -1;

	while (maps != NULL && fgets(line, sizeof(line), maps) != NULL)
	{
		char	   *rest;
		uintptr_t	first = strtoul(line, &rest, 16);

		if (*rest == '-' && rest > line)
			here = (uintptr_t) address >= first && (uintptr_t) address < strtoul(rest + 1, NULL, 16);
		else if (here && strncmp(line, "VmFlags:", 8) == 0)
			found = strstr(line, flag) != NULL;
	}
	if (maps != NULL)
		(void) fclose(maps);
	return found;
}

/* Whether memory can be locked here at all: under AddressSanitizer mlock() does nothing, and says that it did. */
static bool
can_lock(int unused)
{
	uint8_t    *bytes = mmap(NULL, ARENA_REGION_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void) unused;
	return bytes != MAP_FAILED && mlock(bytes, ARENA_REGION_BYTES) == 0 && has_flag(bytes, " lo") == 1;
}

static void
end_well(int signal_number)
{
	(void) signal_number;
	_exit(0);
}

/* To be called in a process of its own: ends it well if the address may not be touched, else returns. */
static bool
touches(const volatile uint8_t *address)
{
	(void) signal(SIGSEGV, end_well);
	(void) signal(SIGBUS, end_well);
	(void) *address;
	return false;
}

/* Gives up the right to lock more memory than a limit, and sets that. */
static bool
limit_locked_memory(size_t bytes)
{
	struct rlimit limit = {bytes, bytes};

	return setrlimit(RLIMIT_MEMLOCK, &limit) == 0 && (geteuid() != 0 || setuid(NOBODY) == 0);
}

/* ---------- what the kernel does for it ---------- */

static bool
is_protected(int unused)
{
	uint8_t    *bytes = arena_alloc(1);

	(void) unused;
	return bytes != NULL && has_flag(bytes, " dd") == 1 && has_flag(bytes, " dc") == 1;
}

static bool
is_locked(int unused)
{
	uint8_t    *bytes = arena_alloc(1);

	(void) unused;
	return bytes != NULL && arena_is_locked() && has_flag(bytes, " lo") == 1;
}

static bool
has_guard_before(int unused)
{
	uint8_t    *bytes = arena_alloc(1);

	(void) unused;
	return touches(bytes - 1);
}

static bool
has_guard_behind(int unused)
{
	size_t		page = (size_t) sysconf(_SC_PAGESIZE);
	uint8_t    *bytes = arena_alloc(ARENA_REGION_BYTES);

	(void) unused;
	return touches(bytes + (ARENA_REGION_BYTES + page - 1) / page * page);
}

static bool
works_unlocked(int unused)
{
	uint8_t    *bytes = NULL;

	(void) unused;
	if (limit_locked_memory(0))
		bytes = arena_alloc(1);
	return bytes != NULL && !arena_is_locked() && has_flag(bytes, " lo") == 0 && has_flag(bytes, " dd") == 1;
}

static bool
grows_unlocked(int unused)
{
	(void) unused;
	return limit_locked_memory(ARENA_REGION_BYTES + ARENA_REGION_BYTES / 2) && arena_alloc(ARENA_REGION_BYTES) != NULL &&
		arena_is_locked() && arena_alloc(1) != NULL && !arena_is_locked();
}

/* ---------- children and sharing ---------- */

static uint8_t *inherited;

static bool
child_has_it_not(int unused)
{
	(void) unused;
	return touches(inherited);
}

static bool
child_has_its_own(int unused)
{
	uint8_t    *own;

	(void) unused;
	arena_free(inherited, 1);
	own = arena_alloc(1);
	return own != NULL && is_zero(own, 1);
}

static bool
is_not_inherited(int unused)
{
	(void) unused;
	inherited = arena_alloc(1);
	*inherited = 7;
	return in_child(child_has_it_not, 0) && in_child(child_has_its_own, 0) && *inherited == 7;
}

static bool
is_locked_in_child(int unused)
{
	(void) unused;
	return arena_alloc(1) != NULL && in_child(is_locked, 0);
}

static uint8_t *shared;

static bool
write_shared(int unused)
{
	(void) unused;
	shared[0] = 7;
	return has_flag(shared, " dd") == 1;
}

static bool
is_shared(int unused)
{
	bool		locked = false;

	(void) unused;
	shared = arena_map_shared(1300, &locked);
	return shared != NULL && is_zero(shared, 1300) && has_flag(shared, " dd") == 1 && in_child(write_shared, 0) &&
		shared[0] == 7;
}

static bool
shared_is_locked(int unused)
{
	bool		locked = false;

	(void) unused;
	shared = arena_map_shared(1300, &locked);
	return locked && has_flag(shared, " lo") == 1;
}

static bool
shared_has_guard(int unused)
{
	bool		locked;

	(void) unused;
	shared = arena_map_shared(1300, &locked);
	return touches(shared - 1);
}

/* ---------- slots ---------- */

#define PIECES 900				/* more than a region holds */

static bool
keeps_apart(int unused)
{
	static uint8_t *pieces[PIECES];
	bool		good = true;

	(void) unused;
	for (int round = 0; round < 3; round++)
	{
		for (int i = round; i < PIECES; i++)
		{
			size_t		length = (size_t) (i % 200) + 1;

			if (pieces[i] != NULL)
				continue;
			pieces[i] = arena_alloc(length);
			good = good && pieces[i] != NULL && is_zero(pieces[i], length);
			memset(pieces[i], i % 255 + 1, length);
		}
		for (int i = round; i < PIECES; i++)
		{
			for (int at = 0; at <= i % 200; at++)
				good = good && pieces[i][at] == i % 255 + 1;
			if (i % 3 != round)
				continue;
			arena_free(pieces[i], (size_t) (i % 200) + 1);
			good = good && is_zero(pieces[i], (size_t) (i % 200) + 1);
			pieces[i] = NULL;
		}
	}
	return good;
}

static bool
uses_gaps(int unused)
{
	uint8_t    *first = arena_alloc(ARENA_SLOT_BYTES);
	uint8_t    *second = arena_alloc(2 * ARENA_SLOT_BYTES);
	uint8_t    *third = arena_alloc(ARENA_SLOT_BYTES);

	(void) unused;
	arena_free(second, 2 * ARENA_SLOT_BYTES);
	return second == first + ARENA_SLOT_BYTES && arena_alloc(2 * ARENA_SLOT_BYTES + 1) == third + ARENA_SLOT_BYTES &&
		arena_alloc(ARENA_SLOT_BYTES + 1) == second;
}

static bool
refuses_when_full(int unused)
{
	static uint8_t *pieces[ARENA_MAX_REGIONS];
	CryptoKey  *key;
	uint8_t		raw[CRYPTO_KEY_BYTES] = {7};
	bool		good = arena_alloc(0) == NULL && arena_alloc(ARENA_REGION_BYTES + 1) == NULL;

	(void) unused;
	for (int i = 0; i < ARENA_MAX_REGIONS; i++)
	{
		pieces[i] = arena_alloc(ARENA_REGION_BYTES);
		good = good && pieces[i] != NULL;
	}
	good = good && arena_alloc(1) == NULL && crypto_key_make(raw, &key) == CRYPTO_NO_MEMORY && key == NULL;
	arena_free(pieces[5], ARENA_REGION_BYTES);
	return good && crypto_key_make(raw, &key) == CRYPTO_OK && (uint8_t *) crypto_key_raw(key) == pieces[5];
}

static bool
frees_nothing(int unused)
{
	uint8_t		elsewhere[ARENA_SLOT_BYTES];

	(void) unused;
	memset(elsewhere, 1, sizeof(elsewhere));
	arena_free(NULL, 1);
	arena_free(elsewhere, 1);
	return arena_alloc(1) != NULL && elsewhere[0] == 1;
}

void
arena_tests(void)
{
	ok(in_child(keeps_apart, 0), "pieces do not overlap, are zero at first, and are wiped");
	ok(in_child(uses_gaps, 0), "gaps are used, where they are long enough");
	ok(in_child(refuses_when_full, 0), "a full arena is a status, and usable when there is room again");
	ok(in_child(frees_nothing, 0), "nothing, and what is not in the arena, can be freed");
	if (has_flag(&inherited, " rd") != 1)
	{
		ok(true, "the kernel protects the arena # SKIP this system cannot tell");
		return;
	}
	ok(in_child(is_protected, 0), "keys are left out of core dumps and children");
	ok(in_child(has_guard_before, 0), "a guard stands before them");
	ok(in_child(has_guard_behind, 0), "and one behind them");
	ok(in_child(is_not_inherited, 0), "a child has an arena of its own, and nothing of its parent's");
	ok(in_child(is_shared, 0), "shared keys are left out of core dumps, and seen by children");
	ok(in_child(shared_has_guard, 0), "and guarded");
	if (!in_child(can_lock, 0))
	{
		ok(true, "keys are locked # SKIP nothing can be locked here");
		return;
	}
	ok(in_child(is_locked, 0), "keys are locked");
	ok(in_child(is_locked_in_child, 0), "in a child, too");
	ok(in_child(shared_is_locked, 0), "and those that are shared");
	ok(in_child(works_unlocked, 0), "without the right to lock, the arena works, and tells");
	ok(in_child(grows_unlocked, 0), "and tells when a further region cannot be locked");
}
