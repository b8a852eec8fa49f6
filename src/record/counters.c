/*
 * counters.c
 *	  How often what happened since the server started: requests by their action, failures by their reason.
 *
 * Owns two lists of names, each with a count, in shared memory, if keyrot is preloaded and has a database to
 * record in.  Names are added when they first occur, and are never removed; when a list is full, further names are
 * counted as "other".  Counting finds the name and adds to an atomic; only adding a name takes a lock.
 */
#include "record/counters.h"

#include "port/atomics.h"

#include "base/settings.h"
#include "base/shared.h"

#define MAX_NAMES 128
#define NAME_BYTES 32
#define OTHER "other"

typedef struct Count
{
	char		name[NAME_BYTES];
	pg_atomic_uint64 count;
} Count;

typedef struct CountList
{
	pg_atomic_uint32 used;
	Count		counts[MAX_NAMES];
} CountList;

typedef struct Counters
{
	CountList	actions;
	CountList	failures;
} Counters;

static Counters *counters = NULL;
static LWLock *lock = NULL;

static void
clear(CountList *list)
{
	pg_atomic_init_u32(&list->used, 0);
	for (int i = 0; i < MAX_NAMES; i++)
		pg_atomic_init_u64(&list->counts[i].count, 0);
}

static void
start(void *memory, LWLock *its_lock, bool found)
{
	counters = memory;
	lock = its_lock;
	if (found)
		return;
	clear(&counters->actions);
	clear(&counters->failures);
}

/* Requests the shared memory, if keyrot is preloaded and has a database to record in. */
void
counters_init(void)
{
	if (settings_preloaded() && keyrot_database[0] != '\0')
		shared_add("keyrot counters", sizeof(Counters), 0, start);
}

/* The count of this name; NULL if the list does not have the name yet. */
static Count *
find(CountList *list, const char *name)
{
	uint32		count = pg_atomic_read_u32(&list->used);

	pg_read_barrier();
	for (uint32 i = 0; i < count; i++)
		if (strcmp(list->counts[i].name, name) == 0)
			return &list->counts[i];
	return NULL;
}

/* Adds a name. The last count is for all names that occur when the list is full. The caller holds the lock. */
static Count *
append(CountList *list, const char *name)
{
	Count	   *count = find(list, name);
	uint32		next = pg_atomic_read_u32(&list->used);

	if (count != NULL)
		return count;
	if (next == MAX_NAMES)
		return &list->counts[MAX_NAMES - 1];
	strlcpy(list->counts[next].name, next == MAX_NAMES - 1 ? OTHER : name, NAME_BYTES);
	pg_write_barrier();
	pg_atomic_write_u32(&list->used, next + 1);
	return &list->counts[next];
}

static void
add_one(CountList *list, const char *name)
{
	Count	   *count = find(list, name);

	if (count == NULL)
	{
		LWLockAcquire(lock, LW_EXCLUSIVE);
		count = append(list, name);
		LWLockRelease(lock);
	}
	pg_atomic_fetch_add_u64(&count->count, 1);
}

/*
 * Counts a request that has ended, by its outcome: "ok", an SQLSTATE, or "rolled back".  Counts only in sessions of
 * the database that the worker records in.  Holds the lock only to add a name, and never raises an error.
 */
void
counters_add_request(const char *action, const char *outcome)
{
	add_one(&counters->actions, action);
	if (strcmp(outcome, "ok") != 0)
		add_one(&counters->failures, outcome);
}

static void
hand_out(CountList *list, CountReader reader, void *reader_state)
{
	uint32		count = pg_atomic_read_u32(&list->used);

	pg_read_barrier();
	for (uint32 i = 0; i < count; i++)
		reader(list->counts[i].name, pg_atomic_read_u64(&list->counts[i].count), reader_state);
}

/* Passes each action and the number of its requests to the reader. */
void
counters_read_actions(CountReader reader, void *reader_state)
{
	hand_out(&counters->actions, reader, reader_state);
}

/* Passes each SQLSTATE, and "rolled back", and the number of its failures to the reader. */
void
counters_read_failures(CountReader reader, void *reader_state)
{
	hand_out(&counters->failures, reader, reader_state);
}
