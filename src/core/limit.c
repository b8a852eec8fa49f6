/*
 * limit.c
 *	  The rate limit: admits a call, or refuses it.
 *
 * Owns the table of the calls of the last second: an entry for each database, session's user, caller and
 * function, with the times of its latest admissions by the monotonic clock.  If the library is preloaded, the
 * table is in shared memory and has a fixed size; otherwise each session has its own.  request.c decides
 * which limit a function has.
 *
 * The rule: a call is admitted unless the Nth admission before it is less than a second old.  So a second,
 * counted from any moment and without its last instant, never holds more than N admissions, and a call is
 * never refused without N admissions in the second before it.  N is the limit at the time of the call, which
 * is why an entry keeps as many times as the largest possible N, regardless of the limit when they were
 * noted.
 *
 * Why not a counter for each second of the clock, or a token bucket?  A counter admits 2 N calls around the
 * turn of a second; a bucket admits N calls at once and up to N more within the same second or, if it is
 * smaller, refuses a caller that stays within N.
 *
 * One lock guards the table.  It is held for the time of one lookup, which is short compared with the tens of
 * microseconds that the rest of a request takes.  Nothing that can raise an error or wait is called while it
 * is held.
 */
#include "core/limit.h"

#include <time.h>

#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "base/errors.h"
#include "base/settings.h"
#include "base/shared.h"

#define HASH_NAME "keyrot rate limit by caller"

#define SECOND INT64CONST(1000000000)	/* in nanoseconds, as all times here */

typedef struct LimitKey
{
	Oid			database;
	Oid			session_user;
	Oid			caller;
	char		function[NAMEDATALEN];	/* padded with zeros */
} LimitKey;

/* The times of an entry's latest admissions; the one after the last takes the place of the first. */
typedef struct LimitTimes
{
	int64		at[MAX_RATE_LIMIT];
} LimitTimes;

/* A caller and a function. It stays in the table until it is idle and its place is needed. */
typedef struct LimitEntry
{
	LimitKey	key;			/* the hash table's, so it comes first */
	dlist_node	by_age;
	uint64		admitted;		/* how many, since the entry was made */
	LimitTimes *times;
} LimitEntry;

typedef struct LimitTable
{
	LWLock	   *lock;			/* NULL: the table is this session's own */
	dlist_head	by_age;			/* entries, the one longest without an admission first */
	int64		overflows;		/* calls refused because no entry was idle */
	LimitTimes	times[FLEXIBLE_ARRAY_MEMBER];	/* where shared; else each entry's is allocated */
} LimitTable;

static LimitTable *table;
static HTAB *entries;			/* by key */

static void
set_up_table(LWLock *lock)
{
	table->lock = lock;
	dlist_init(&table->by_age);
	table->overflows = 0;
}

static HASHCTL
hash_layout(void)
{
	HASHCTL		layout = {.keysize = sizeof(LimitKey), .entrysize = sizeof(LimitEntry)};

	return layout;
}

static void
open_shared_table(void *memory, LWLock *lock, bool found)
{
	HASHCTL		layout = hash_layout();

	table = memory;
	if (!found)
		set_up_table(lock);
	/* All of its elements are there from the start, so entering one takes no memory later. */
	entries = ShmemInitHash(HASH_NAME, keyrot_rate_limit_entries, keyrot_rate_limit_entries, &layout,
							HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
}

/* Requests shared memory if the library is preloaded; called once, after settings_init(). */
void
limit_init(void)
{
	if (settings_preloaded())
		shared_add("keyrot rate limit",
				   add_size(offsetof(LimitTable, times), mul_size(keyrot_rate_limit_entries, sizeof(LimitTimes))),
				   hash_estimate_size(keyrot_rate_limit_entries, sizeof(LimitEntry)), open_shared_table);
}

/* Creates this session's own table if it does not exist yet; raises an error if out of memory. */
static void
require_table(void)
{
	HASHCTL		layout = hash_layout();

	if (table != NULL)
		return;
	if (entries == NULL)
		entries = hash_create(HASH_NAME, 32, &layout, HASH_ELEM | HASH_BLOBS);
	table = MemoryContextAlloc(TopMemoryContext, offsetof(LimitTable, times));
	set_up_table(NULL);
}

static void
lock_table(void)
{
	if (table->lock != NULL)
		LWLockAcquire(table->lock, LW_EXCLUSIVE);
}

static void
unlock_table(void)
{
	if (table->lock != NULL)
		LWLockRelease(table->lock);
}

static int64
read_clock(void)
{
	struct timespec now;

	(void) clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * SECOND + now.tv_nsec;
}

/* The time of the entry's Nth latest admission, N being "back"; it has that many. */
static int64
admitted_at(const LimitEntry *entry, int back)
{
	return entry->times->at[(entry->admitted - (uint64) back) % MAX_RATE_LIMIT];
}

/* Memory for times that no entry has used yet: an entry is removed only to give its memory to another. */
static LimitTimes *
take_times(void)
{
	if (table->lock == NULL)
		return MemoryContextAlloc(TopMemoryContext, sizeof(LimitTimes));
	return &table->times[hash_get_num_entries(entries)];
}

/* The memory of the entry that has been idle longest, which is removed; NULL and the time to wait if none is idle. */
static LimitTimes *
reuse_times(int64 now, int64 *wait)
{
	LimitEntry *oldest = dlist_head_element(LimitEntry, by_age, &table->by_age);
	LimitTimes *times = oldest->times;

	*wait = admitted_at(oldest, 1) + SECOND - now;
	if (*wait > 0)
		return NULL;
	dlist_delete(&oldest->by_age);
	(void) hash_search(entries, &oldest->key, HASH_REMOVE, NULL);
	return times;
}

/* The caller's entry, created if there is none; NULL and the time to wait if there is no room for it. */
static LimitEntry *
find_or_make(const LimitKey *key, int64 now, int64 *wait)
{
	LimitEntry *entry = hash_search(entries, key, HASH_FIND, NULL);
	LimitTimes *times;

	if (entry != NULL)
		return entry;
	times = hash_get_num_entries(entries) < keyrot_rate_limit_entries ? take_times() : reuse_times(now, wait);
	if (times == NULL)
		return NULL;
	entry = hash_search(entries, key, HASH_ENTER, NULL);
	entry->admitted = 0;
	entry->times = times;
	dlist_push_tail(&table->by_age, &entry->by_age);
	return entry;
}

/* Notes an admission. */
static void
admit(LimitEntry *entry, int64 now)
{
	entry->times->at[entry->admitted % MAX_RATE_LIMIT] = now;
	entry->admitted++;
	dlist_delete(&entry->by_age);
	dlist_push_tail(&table->by_age, &entry->by_age);
}

/* How long the Nth admission before this call still prevents it; 0 or less if it does not. */
static int64
time_to_wait(const LimitEntry *entry, int per_second, int64 now)
{
	if (entry->admitted < (uint64) per_second)
		return 0;
	return admitted_at(entry, per_second) + SECOND - now;
}

/*
 * Admits a call of the function by the caller, or raises 53400 with the time to wait.  At most per_second
 * calls are admitted per second; 0: no limit, and then the call is not counted either.  An admission counts
 * regardless of the outcome of the call and its transaction; a refusal is not counted.
 */
void
limit_admit(Oid caller, const char *function, int per_second)
{
	LimitKey	key;
	LimitEntry *entry;
	int64		now;
	int64		wait = 0;

	if (per_second == 0)
		return;
	require_table();
	memset(&key, 0, sizeof(key));
	key.database = MyDatabaseId;
	key.session_user = GetSessionUserId();
	key.caller = caller;
	strlcpy(key.function, function, sizeof(key.function));

	lock_table();
	now = read_clock();
	entry = find_or_make(&key, now, &wait);
	if (entry == NULL)
		table->overflows++;
	else
		wait = time_to_wait(entry, per_second, now);
	if (wait <= 0)
		admit(entry, now);
	unlock_table();

	if (entry == NULL)
		error_limit_table_full(function, wait);
	if (wait > 0)
		error_too_many_requests(function, per_second, wait);
}

/* How many calls were refused because the table was full, since server start or since the start of this session. */
int64
limit_overflows(void)
{
	int64		overflows;

	if (table == NULL)
		return 0;
	lock_table();
	overflows = table->overflows;
	unlock_table();
	return overflows;
}
