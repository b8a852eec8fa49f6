/*
 * shared.h
 *	  Shared memory that is asked for when the library is preloaded.
 */
#ifndef KEYROT_SHARED_H
#define KEYROT_SHARED_H

#include "base/compat.h"

#include "storage/lwlock.h"

/* Is given its memory and a lock in each process; "found": another process has set them up. */
typedef void (*SharedStart) (void *memory, LWLock *lock, bool found);

extern void shared_add(const char *name, Size bytes, Size bytes_of_tables, SharedStart start);

#endif
