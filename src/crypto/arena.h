/*
 * arena.h
 *	  Memory for keys: locked, guarded, excluded from core dumps and from child processes.
 */
#ifndef KEYROT_ARENA_H
#define KEYROT_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#define ARENA_SLOT_BYTES	64
#define ARENA_REGION_BYTES	32768	/* whatever the page size: a multiple of it, or a part of one page */
#define ARENA_MAX_REGIONS	64

extern void *arena_alloc(size_t length);
extern void arena_free(void *bytes, size_t length);
extern bool arena_is_locked(void);
extern void *arena_map_shared(size_t length, bool *locked);

#endif
