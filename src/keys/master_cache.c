/*
 * master_cache.c
 *	  The master keys that keyrot.master_key_command printed, kept so that it is run as rarely as possible.
 *
 * Owns the information about the command's runs: their numbers, the keys of the latest successful one, and
 * the problem of the latest failed one.  If the library is preloaded this is in shared memory, so that one
 * run serves all sessions; otherwise each session has its own.  master.c holds the lock under which the
 * command is run.
 *
 * Keys are valid as long as the configuration is not reloaded and the setting does not change.  A failure
 * applies to callers that began to wait before that run started: so a command that hangs is not run for each
 * of them in turn.  It also applies to callers that come immediately after it: otherwise every call would
 * start a process, hundreds per second, and the service that the command uses could not recover.  Later
 * callers try again.
 *
 * While the cache's own lock is held, nothing waits, performs I/O or raises an error.
 */
#include "keys/master_cache.h"

#include <time.h>

#include "common/hashfn.h"

#include "base/settings.h"
#include "base/shared.h"
#include "crypto/arena.h"

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

/*
 * The keys have their own pages, which the postmaster maps once and all other processes inherit; PostgreSQL's
 * shared memory may be in huge pages, parts of which cannot be excluded from core dumps.  They are wiped when
 * the server restarts after a crash.
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
open_shared_cache(void *memory, LWLock *lock, bool found)
{
	cache = memory;
	if (!found)
	{
		memset(cache, 0, sizeof(KeyCache));
		cache->lock = lock;
		pg_atomic_init_u64(&cache->reloads, 0);
		prepare_keys();
	}
	settings_count_reloads_in(&cache->reloads);
}

/* Requests shared memory if the library is preloaded; called once, after settings_init(). */
void
master_cache_init(void)
{
	if (settings_preloaded())
		shared_add("keyrot master keys", sizeof(KeyCache), 0, open_shared_cache);
}

/* Whether one run serves all sessions. */
bool
master_cache_is_shared(void)
{
	return cache->lock != NULL;
}

/*
 * Whether keys that the sessions share, if a command is set, are kept out of swap space; for a session's own
 * keys, see the arena.
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

/* Whether a run was of the current command, with the current configuration. */
static bool
is_of_now(const KeyRun *run)
{
	return run->number > 0 && run->reloads == settings_reloads() && run->command == hash_command();
}

/* Accepts any keys that the command printed since the last reload, and a failure that has just occurred. */
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

/* Accepts only later runs of the command. */
KeyNeed
master_cache_need_new(void)
{
	KeyNeed		need;

	lock_cache(LW_SHARED);
	need.keys_from = need.failure_from = cache->begun + 1;
	unlock_cache();
	return need;
}

/* A key is missing: the command must be run again, unless the latest run was a short time ago. */
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
 * Satisfies a need from an earlier run: true with keys in locked memory, to be freed by master_free() before
 * anything can throw, or with NULL and the problem.  False: the command must be run.
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
 * Notes that the caller now runs the command, and wipes keys that are no longer valid; an interrupted run
 * need not be reported.
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

/* Memory for a session's own keys is allocated when needed; NULL: they are not kept. */
static void
require_own_memory(void)
{
	if (cache->keys == NULL)
		cache->keys = arena_alloc(sizeof(MasterKeys));
}

/*
 * Notes why a run failed.  Databases can have different encodings, and messages of the operating system are
 * in the encoding of the session that ran the command; only ASCII is shared between sessions.
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

/* Notes the result of the run: keys, or NULL and the problem. */
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

/* Wipes the keys of a command if none is set any more. */
void
master_cache_forget(void)
{
	lock_cache(LW_EXCLUSIVE);
	wipe_kept();
	unlock_cache();
}
