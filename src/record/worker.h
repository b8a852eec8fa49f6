/*
 * worker.h
 *	  The background worker, and who starts it.
 */
#ifndef KEYROT_WORKER_H
#define KEYROT_WORKER_H

#include "base/compat.h"

extern void worker_init(void);

/* Entry points, which PostgreSQL finds by name. */
extern PGDLLEXPORT void keyrot_launcher_main(Datum argument);
extern PGDLLEXPORT void keyrot_worker_main(Datum argument);

#endif
