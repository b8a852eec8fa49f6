/*
 * queue.h
 *	  The bounded queue, in shared memory, of requests that are to be recorded from outside.
 */
#ifndef KEYROT_QUEUE_H
#define KEYROT_QUEUE_H

#include "base/compat.h"

#include "datatype/timestamp.h"

#include "store/credential_statements.h"
#include "store/rows.h"

/* How a run of the worker ended, or how far it came. */
typedef enum WorkerState
{
	WORKER_STARTED,				/* not connected yet */
	WORKER_CONNECTED,
	WORKER_NO_SLOT,				/* all of max_worker_processes are taken */
	WORKER_NOT_INSTALLED,		/* the database has no extension keyrot */
	WORKER_GAVE_WAY,			/* somebody wants the database for themselves */
	WORKER_DONE
} WorkerState;

/* What there is to do, and how it goes. */
typedef struct QueueView
{
	int			waiting;
	int64		lost;			/* no room, or a trigger was in the way; since the server started, as the next one */
	int64		omitted;		/* refusals by the rate limit that were not recorded singly */
	TimestampTz sweep_at;		/* when to look for expired versions */
	bool		launcher;		/* whether there is a launcher */
	WorkerState worker;			/* how its last run ended */
	bool		life_since_run; /* whether a session of the database was heard of since that run began */
} QueueView;

/* What the last search for expired versions has counted beside. */
typedef struct QueueCensus
{
	TimestampTz counted_at;		/* 0: it was never finished */
	Census		apps;
	Census		zones;
} QueueCensus;

extern void queue_init(void);
extern bool queue_exists(void);
extern void queue_look(QueueView *view);

extern void queue_ask_census(QueueCensus *census);

extern void queue_put(const RequestRow *row);
extern void queue_show_life(void);
extern void queue_expect_expiry(TimestampTz valid_until);

extern void queue_attach_launcher(void);
extern void queue_start_worker(void);
extern WorkerState queue_end_worker(void);

extern void queue_attach_worker(void);
extern bool queue_worker_may_leave(void);
extern void queue_set_worker(WorkerState state);
extern int	queue_copy_oldest(RequestRow *rows, int room);
extern void queue_remove_oldest(int count, int lost);
extern bool queue_begin_sweep(void);
extern void queue_end_sweep(const QueueCensus *census, int64 duration);

#endif
