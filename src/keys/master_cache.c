/*
 * master_cache.c
 *	  The master keys that keyrot.master_key_command printed, kept so that it runs as seldom as possible.
 *
 * Owns what is known of the command's runs: which there were, the keys of the latest that succeeded, and why
 * the latest that failed did.  Where the library is preloaded this is in shared memory, so that one run
 * serves all sessions; else each session has its own.  Leaves to master.c the lock under which the
 * command is run.
 *
 * Keys are good as long as the configuration is not reloaded and the setting is the same.  A failure is good
 * for those who asked before that run began, and waited for it: so a command that hangs is not run once for
 * each of them in turn.  It is also good for those who come right after it: else every call by anybody would
 * start a process, hundreds a second, and the service that the command asks would get no rest to recover.
 * Whoever comes later tries anew.
 *
 * Nothing waits, reads, writes or raises under the cache's own lock.
 */
#include "keys/master_cache.h"

#include <time.h>

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "base/settings.h"
#include "crypto/arena.h"

#define CACHE_NAME "keyrot master keys"
#define TRANCHE_NAME "keyrot_master_keys"

#define SECOND INT64CONST(1000000000)	/* in nanoseconds */
#define PAUSE (10 * SECOND)		/* between runs because a master key is missing */
#define FAILURE_LASTS SECOND	/* from the end of the run */

typedef struct KeyCache
{
	LWLock	   *lock;			/* NULL: the cache is this session's own */
	pg_atomic_uint64 reloads;
	uint64		begun;			/* runs that ever began */
	int64		begun_at;		/* the latest of them, by the monotonic clock */
	KeyRun		kept;			/* that the keys are from; number 0: there are none */
	KeyRun		failed;			/* the latest that did */
	int64		failed_at;		/* when it ended */
	KeyProblem	problem;		/* and why */
	bool		locked;			/* the keys are kept out of swap space */
	MasterKeys *keys;
} KeyCache;

static KeyCache own = {.locked = true};
static KeyCache *cache = &own;

static shmem_request_hook_type previous_shmem_request_hook;
static shmem_startup_hook_type previous_shmem_startup_hook;

static void
request_shared_memory(void)
{
	if (previous_shmem_request_hook != NULL)
		previous_shmem_request_hook();
	RequestAddinShmemSpace(sizeof(KeyCache));
	RequestNamedLWLockTranche(TRANCHE_NAME, 1);
}

/*
 * The keys have pages of their own, which the server's first process maps once and all others inherit; of
 * huge pages, in which PostgreSQL's shared memory may lie, none could be left out of core dumps.  When the
 * server starts anew after a crash they are wiped.
 */
static void
prepare_keys(void)
{
	static MasterKeys *keys;
	static bool locked;

	if (keys == NULL)
		keys = arena_map_shared(sizeof(MasterKeys), &locked);
	if (keys == NULL)
		error_crypto(CRYPTO_NO_MEMORY);
	crypto_wipe(keys, sizeof(MasterKeys));
	cache->keys = keys;
	cache->locked = locked;
}

static void
open_shared_cache(void)
{
	bool		found;

	if (previous_shmem_startup_hook != NULL)
		previous_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	cache = ShmemInitStruct(CACHE_NAME, sizeof(KeyCache), &found);
	if (!found)
	{
		memset(cache, 0, sizeof(KeyCache));
		cache->lock = &GetNamedLWLockTranche(TRANCHE_NAME)->lock;
		pg_atomic_init_u64(&cache->reloads, 0);
		prepare_keys();
	}
	settings_count_reloads_in(&cache->reloads);
	LWLockRelease(AddinShmemInitLock);
}

/* Takes part in the server's start, where the library is preloaded; called once, after settings_init(). */
void
master_cache_init(void)
{
	if (!settings_preloaded())
		return;
	previous_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shared_memory;
	previous_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = open_shared_cache;
}

/* Whether one run serves all sessions. */
bool
master_cache_is_shared(void)
{
	return cache->lock != NULL;
}

/*
 * Whether keys that the sessions share, where a command is set, are kept out of swap space; a session's own
 * are the arena's to tell.
 */
bool
master_cache_is_locked(void)
{
	return cache->locked || keyrot_master_key_command[0] == '\0';
}

static void
lock_cache(LWLockMode mode)
{
	if (cache->lock != NULL)
		LWLockAcquire(cache->lock, mode);
}

static void
unlock_cache(void)
{
	if (cache->lock != NULL)
		LWLockRelease(cache->lock);
}

static int64
read_clock(void)
{
	struct timespec now;

	(void) clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * SECOND + now.tv_nsec;
}

static uint64
hash_command(void)
{
	return hash_bytes_extended((const unsigned char *) keyrot_master_key_command,
							   (int) strlen(keyrot_master_key_command), 0);
}

/* Whether a run was of the command that is set now, and under the configuration as it stands. */
static bool
is_of_now(const KeyRun *run)
{
	return run->number > 0 && run->reloads == settings_reloads() && run->command == hash_command();
}

/* Any keys will do that the command printed since the last reload, and a failure of just now. */
KeyNeed
master_cache_need_any(void)
{
	KeyNeed		need = {.keys_from = 0};
	bool		just_failed;

	lock_cache(LW_SHARED);
	just_failed = cache->failed.number > 0 && read_clock() - cache->failed_at < FAILURE_LASTS;
	need.failure_from = just_failed ? cache->failed.number : cache->begun + 1;
	unlock_cache();
	return need;
}

/* The command must be run from now on. */
KeyNeed
master_cache_need_new(void)
{
	KeyNeed		need;

	lock_cache(LW_SHARED);
	need.keys_from = need.failure_from = cache->begun + 1;
	unlock_cache();
	return need;
}

/* The keys lack one: the command is to be run again, unless the latest run is not long ago. */
KeyNeed
master_cache_need_again(void)
{
	KeyNeed		need;
	bool		is_due;

	lock_cache(LW_SHARED);
	is_due = cache->begun == 0 || read_clock() - cache->begun_at >= PAUSE;
	need.keys_from = need.failure_from = cache->begun + (is_due ? 1 : 0);
	unlock_cache();
	return need;
}

/*
 * Answers a need by a run that there was: true with keys in locked memory, to be freed by master_free()
 * before anything can throw, or with NULL and what is wrong.  False: the command has to be run.
 */
bool
master_cache_answer(KeyNeed need, MasterKeys **keys, KeyProblem *problem)
{
	MasterKeys *copy = arena_alloc(sizeof(MasterKeys));
	bool		has_keys;
	bool		has_failed;

	*keys = NULL;
	if (copy == NULL)
	{
		problem_set(problem, "Close other sessions or add memory.", "out of memory while reading the master keys");
		return true;
	}
	lock_cache(LW_SHARED);
	has_keys = is_of_now(&cache->kept) && cache->kept.number >= need.keys_from;
	has_failed = is_of_now(&cache->failed) && cache->failed.number >= need.failure_from;
	if (has_keys)
		*copy = *cache->keys;
	else if (has_failed)
		*problem = cache->problem;
	unlock_cache();
	if (has_keys)
		*keys = copy;
	else
		arena_free(copy, sizeof(MasterKeys));
	return has_keys || has_failed;
}

/* Under the lock. */
static void
wipe_kept(void)
{
	if (cache->kept.number > 0)
		crypto_wipe(cache->keys, sizeof(MasterKeys));
	cache->kept.number = 0;
}

/*
 * Notes that the command is run now, by the caller, and wipes keys that are not good any more; a run that is
 * interrupted need not be ended.
 */
KeyRun
master_cache_begin_run(void)
{
	KeyRun		run = {.reloads = settings_reloads(), .command = hash_command()};

	lock_cache(LW_EXCLUSIVE);
	if (!is_of_now(&cache->kept))
		wipe_kept();
	run.number = ++cache->begun;
	cache->begun_at = read_clock();
	unlock_cache();
	return run;
}

/* A session's own keys get their memory when there are some; NULL: they are not kept then. */
static void
require_own_memory(void)
{
	if (cache->keys == NULL)
		cache->keys = arena_alloc(sizeof(MasterKeys));
}

/*
 * Notes why a run failed.  Databases differ in encoding, and the words of the operating system are translated
 * into that of the session which ran it; what the sessions share is what every encoding shows alike.
 */
static void
keep_problem(const KeyProblem *problem)
{
	cache->problem = *problem;
	if (cache->lock == NULL)
		return;
	for (char *byte = cache->problem.message; *byte != '\0'; byte++)
		if (IS_HIGHBIT_SET(*byte))
			*byte = '?';
}

/* Notes what came of the run: keys, or none and why. */
void
master_cache_end_run(KeyRun run, const MasterKeys *keys, const KeyProblem *problem)
{
	require_own_memory();
	lock_cache(LW_EXCLUSIVE);
	if (keys == NULL && run.number > cache->failed.number)
	{
		cache->failed = run;
		cache->failed_at = read_clock();
		keep_problem(problem);
	}
	else if (keys != NULL && run.number > cache->kept.number && cache->keys != NULL)
	{
		*cache->keys = *keys;
		cache->kept = run;
	}
	unlock_cache();
}

/* Wipes keys of a command where none is set any more. */
void
master_cache_forget(void)
{
	lock_cache(LW_EXCLUSIVE);
	wipe_kept();
	unlock_cache();
}
