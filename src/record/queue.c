/*
 * queue.c
 *	  The bounded queue, in shared memory, of requests that must be recorded outside their own transaction:
 *	  those that failed, and those whose success was rolled back.
 *
 * Owns the shared memory, its lock, which process is woken, and when expired versions are searched for.
 * ledger.c decides which requests are queued; worker.c processes them.
 *
 * Why not write the row at once, from a separate session?  A failing caller would have to wait for a
 * connection and a commit, and a flood of failures would cause a flood of both.  Here the caller copies a few
 * hundred bytes under a lock that is never held during waits, I/O or errors, and continues; requests that do
 * not fit are counted.  One role can use at most an eighth of the queue, so that its flood does not hide the
 * failures of others.
 *
 * A row stays in the queue until it is committed to the table: it may be written twice, which is resolved by
 * its primary key, but is never dropped.  Requests that wait when the server stops or crashes are lost.
 */
#include "record/queue.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "base/settings.h"
#include "base/shared.h"

#define SHARES "keyrot shares of the request queue"
#define SHARE_OF_ONE_CALLER 8	/* the eighth part */
#define REFUSALS_A_SECOND 100	/* of one caller, that are recorded singly */
#define REFUSED_CALLERS 128		/* at once */
#define OUTCOME_OF_REFUSAL "53400"

/* The search for expired versions takes at most a hundredth of the time, and runs at least once an hour. */
#define SWEEP_PAUSE_FACTOR 100
#define SWEEP_PAUSE_MIN (5 * USECS_PER_SEC)
#define SWEEP_PAUSE_MAX USECS_PER_HOUR

/* Age of the counts of credentials from which reading them causes a new search. */
#define CENSUS_MAX_AGE (30 * USECS_PER_SEC)

/*
 * Requests of the same session user and caller share a part of the queue.  The caller alone would not do: through a
 * SECURITY DEFINER function, many session users have the same one.
 */
typedef struct Asker
{
	Oid			session_user;
	Oid			caller;
} Asker;

/* The part of the queue that an asker uses; exists only while it uses any. */
typedef struct Share
{
	Asker		asker;			/* the key, which comes first */
	int			rows;
} Share;

/* The number of refusals of an asker that were queued in a second. */
typedef struct Refusals
{
	Asker		asker;
	int			count;
	int64		second;
} Refusals;

/* A run of the worker. */
typedef struct Run
{
	WorkerState state;
	uint64		signs_of_life;	/* when it began */
} Run;

typedef struct Queue
{
	int			size;
	int			first;			/* the oldest row */
	int			count;
	int64		lost;
	int64		omitted;
	uint64		signs_of_life;	/* grows with every word from a session of the database */
	Run			run;			/* the present one */
	Run			last_run;		/* the last one that ended */
	Latch	   *launcher_latch;
	Latch	   *worker_latch;
	int			taken;			/* rows that the worker is recording */
	int			careful;		/* rows to be recorded singly, for one of them may be why a run failed */
	bool		sweeping;
	TimestampTz sweep_at;
	TimestampTz sweep_not_before;
	QueueCensus census;
	Refusals	refusals[REFUSED_CALLERS];
	RequestRow	rows[FLEXIBLE_ARRAY_MEMBER];
} Queue;

static Queue *queue = NULL;
static LWLock *lock = NULL;
static HTAB *shares = NULL;		/* by asker: nobody's share is counted under the lock */

static Size
queue_bytes(void)
{
	return add_size(offsetof(Queue, rows), mul_size(keyrot_request_queue_size, sizeof(RequestRow)));
}

static void
start(void *memory, LWLock *its_lock, bool found)
{
	HASHCTL		control = {.keysize = sizeof(Asker), .entrysize = sizeof(Share)};

	queue = memory;
	lock = its_lock;
	/* There are never more askers than rows, so each finds an entry. */
	shares = ShmemInitHash(SHARES, keyrot_request_queue_size, keyrot_request_queue_size, &control, HASH_ELEM | HASH_BLOBS);
	if (found)
		return;
	memset(queue, 0, queue_bytes());
	queue->size = keyrot_request_queue_size;
	queue->run.state = WORKER_DONE;
	queue->last_run.state = WORKER_DONE;
}

/* Requests the shared memory, if keyrot is preloaded and has a database to record in. */
void
queue_init(void)
{
	if (settings_preloaded() && keyrot_database[0] != '\0')
		shared_add("keyrot request queue", queue_bytes(), hash_estimate_size(keyrot_request_queue_size, sizeof(Share)), start);
}

bool
queue_exists(void)
{
	return queue != NULL;
}

/* Returns what waits and what was lost. This function and those below require queue_exists(). */
void
queue_look(QueueView *view)
{
	LWLockAcquire(lock, LW_SHARED);
	view->waiting = queue->count;
	view->lost = queue->lost;
	view->omitted = queue->omitted;
	view->life_since_run = queue->signs_of_life != queue->last_run.signs_of_life;
	view->sweep_at = Max(queue->sweep_at, queue->sweep_not_before);
	view->launcher = queue->launcher_latch != NULL;
	view->worker = queue->last_run.state;
	LWLockRelease(lock);
}

static bool
is_same(Asker a, Asker b)
{
	return a.session_user == b.session_user && a.caller == b.caller;
}

/* Whether this refusal is one of the first of its asker in this second. The caller holds the lock. */
static bool
admit_refusal(Asker asker, int64 second)
{
	Refusals   *refusals = NULL;

	for (int i = 0; i < REFUSED_CALLERS; i++)
	{
		Refusals   *other = &queue->refusals[i];

		if (other->second == second && is_same(other->asker, asker))
			return other->count++ < REFUSALS_A_SECOND;
		if (other->second != second)
			refusals = other;
	}
	if (refusals == NULL)
		return false;
	*refusals = (Refusals) {.asker = asker, .count = 1, .second = second};
	return true;
}

static Asker
asker_of(const RequestRow *row)
{
	return (Asker) {.session_user = row->session_user.oid, .caller = row->caller.oid};
}

/* Reserves room for a row; false if there is none, or its asker has used its share. The caller holds the lock. */
static bool
take_room(Asker asker)
{
	Share	   *share;
	bool		found;

	if (queue->count == queue->size)
		return false;
	share = hash_search(shares, &asker, HASH_ENTER_NULL, &found);
	if (share == NULL)
		return false;
	if (!found)
		share->rows = 0;
	if (share->rows >= queue->size / SHARE_OF_ONE_CALLER)
		return false;
	share->rows++;
	return true;
}

/* Releases the room of a row that is removed. The caller holds the lock. */
static void
give_room(const RequestRow *row)
{
	Asker		asker = asker_of(row);
	Share	   *share = hash_search(shares, &asker, HASH_FIND, NULL);

	if (share != NULL && --share->rows == 0)
		hash_search(shares, &asker, HASH_REMOVE, NULL);
}

/* The latch of the process to wake when there is work. The caller holds the lock. */
static Latch *
listener(void)
{
	return queue->worker_latch != NULL ? queue->worker_latch : queue->launcher_latch;
}

static void
wake(Latch *latch)
{
	if (latch != NULL)
		SetLatch(latch);
}

/* Adds a request to the queue, or counts it if there is no room. Never waits, and never raises an error. */
void
queue_put(const RequestRow *row)
{
	int64		second = GetCurrentTimestamp() / USECS_PER_SEC;
	bool		is_refusal = strcmp(row->outcome, OUTCOME_OF_REFUSAL) == 0;
	Asker		asker = asker_of(row);
	Latch	   *latch;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	queue->signs_of_life++;
	if (is_refusal && !admit_refusal(asker, second))
		queue->omitted++;
	else if (!take_room(asker))
		queue->lost++;
	else
	{
		queue->rows[(queue->first + queue->count) % queue->size] = *row;
		queue->count++;
	}
	latch = listener();
	LWLockRelease(lock);
	wake(latch);
}

/* Tells that a session is in the database, so a worker that could not connect to it should try again. */
void
queue_show_life(void)
{
	Latch	   *latch;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	queue->signs_of_life++;
	latch = listener();
	LWLockRelease(lock);
	wake(latch);
}

/*
 * Returns the counts of credentials of the last search.  If they are old, another search becomes due: so credentials
 * are counted often while somebody reads the counts, and otherwise once an hour.  For sessions of the queue's database.
 */
void
queue_ask_census(QueueCensus *census)
{
	TimestampTz now = GetCurrentTimestamp();
	Latch	   *latch = NULL;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	*census = queue->census;
	if (!queue->sweeping && now - queue->census.counted_at > CENSUS_MAX_AGE && queue->sweep_at > now)
	{
		queue->signs_of_life++;
		queue->sweep_at = now;
		latch = listener();
	}
	LWLockRelease(lock);
	wake(latch);
}

/* Schedules a search for expired versions at this time. */
void
queue_expect_expiry(TimestampTz valid_until)
{
	Latch	   *latch;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	queue->signs_of_life++;
	latch = valid_until < queue->sweep_at ? listener() : NULL;
	queue->sweep_at = Min(queue->sweep_at, valid_until);
	LWLockRelease(lock);
	wake(latch);
}

static void
detach_launcher(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	queue->launcher_latch = NULL;
	LWLockRelease(lock);
}

/* Makes this process, until it ends, the one to wake when there is work and no worker. */
void
queue_attach_launcher(void)
{
	before_shmem_exit(detach_launcher, (Datum) 0);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	queue->launcher_latch = MyLatch;
	LWLockRelease(lock);
}

/* A worker is about to be started. */
void
queue_start_worker(void)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	queue->run = (Run) {.state = WORKER_STARTED, .signs_of_life = queue->signs_of_life};
	LWLockRelease(lock);
}

/*
 * The worker ended while it recorded rows.  They are tried again one at a time; a row that fails alone is moved to
 * the end, so that it does not block others.  The caller holds the lock.
 */
static void
be_careful(void)
{
	if (queue->taken == 1 && queue->careful > 0)
	{
		int			last = (queue->first + queue->count) % queue->size;

		queue->rows[last] = queue->rows[queue->first];
		queue->first = (queue->first + 1) % queue->size;
	}
	queue->careful = queue->count;
	queue->taken = 0;
}

/* The worker has ended, in whatever way; returns how far it got. A search that it did not finish is due again. */
WorkerState
queue_end_worker(void)
{
	TimestampTz now = GetCurrentTimestamp();
	WorkerState state;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	queue->worker_latch = NULL;
	if (queue->taken > 0)
		be_careful();
	if (queue->sweeping)
		queue->sweep_at = Min(queue->sweep_at, now);
	queue->sweeping = false;
	queue->last_run = queue->run;
	state = queue->run.state;
	LWLockRelease(lock);
	return state;
}

/* Makes this process, which is now connected to the database, the one to wake. */
void
queue_attach_worker(void)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	queue->run.state = WORKER_CONNECTED;
	queue->worker_latch = MyLatch;
	LWLockRelease(lock);
}

/* Lets the worker exit unless there is new work; from then on the launcher is woken. */
bool
queue_worker_may_leave(void)
{
	bool		may_leave;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	may_leave = queue->count == 0;
	if (may_leave)
	{
		queue->run.state = WORKER_DONE;
		queue->worker_latch = NULL;
	}
	LWLockRelease(lock);
	return may_leave;
}

/* Reports how the worker's run ends. */
void
queue_set_worker(WorkerState state)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	queue->run.state = state;
	LWLockRelease(lock);
}

/* Copies as many of the oldest rows as fit, to be recorded, and returns their number. */
int
queue_copy_oldest(RequestRow *rows, int room)
{
	int			count;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	count = Min(queue->careful > 0 ? 1 : room, queue->count);
	queue->taken = count;
	for (int i = 0; i < count; i++)
		rows[i] = queue->rows[(queue->first + i) % queue->size];
	LWLockRelease(lock);
	return count;
}

/*
 * Removes the oldest rows once they are committed, and counts those of them that could not be written.  Only the
 * worker removes rows.
 */
void
queue_remove_oldest(int count, int lost)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int i = 0; i < count; i++)
		give_room(&queue->rows[(queue->first + i) % queue->size]);
	queue->first = (queue->first + count) % queue->size;
	queue->count -= count;
	queue->lost += lost;
	queue->careful = Max(queue->careful - count, 0);
	queue->taken = 0;
	LWLockRelease(lock);
}

/* Whether a search for expired versions is due; if so, records that it has begun. */
bool
queue_begin_sweep(void)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		due;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	due = Max(queue->sweep_at, queue->sweep_not_before) <= now;
	if (due)
	{
		queue->sweeping = true;
		queue->sweep_at = DT_NOEND;
	}
	LWLockRelease(lock);
	return due;
}

/*
 * The search has ended, and took so many microseconds.  A rotation that was not committed by then, or that this
 * server has only replayed, is found by the hourly search.
 */
void
queue_end_sweep(const QueueCensus *census, int64 duration)
{
	TimestampTz next_expiry = Min(census->apps.first_expiry, census->zones.first_expiry);
	TimestampTz now = GetCurrentTimestamp();
	int64		pause = Max(duration, 0);

	pause = Min(Max(pause * SWEEP_PAUSE_FACTOR, SWEEP_PAUSE_MIN), SWEEP_PAUSE_MAX);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	queue->sweeping = false;
	queue->census = *census;
	queue->sweep_at = Min(queue->sweep_at, Min(next_expiry, now + SWEEP_PAUSE_MAX));
	queue->sweep_not_before = now + pause;
	LWLockRelease(lock);
}
