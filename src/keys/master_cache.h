/*
 * master_cache.h
 *	  The master keys that keyrot.master_key_command printed, kept so that it is run rarely.
 */
#ifndef KEYROT_MASTER_CACHE_H
#define KEYROT_MASTER_CACHE_H

#include "keys/master_text.h"
#include "base/errors.h"

/* A run of the command; runs are numbered, starting with 1. */
typedef struct KeyRun
{
	uint64		number;
	uint64		reloads;		/* of the configuration, before it */
	uint64		command;		/* its text, hashed */
} KeyRun;

/* Which runs satisfy a caller: keys of this or a later run, or the failure of this or a later run. */
typedef struct KeyNeed
{
	uint64		keys_from;
	uint64		failure_from;
} KeyNeed;

extern void master_cache_init(void);
extern bool master_cache_is_shared(void);
extern bool master_cache_is_locked(void);

extern KeyNeed master_cache_need_any(void);
extern KeyNeed master_cache_need_new(void);
extern KeyNeed master_cache_need_again(void);
extern bool master_cache_answer(KeyNeed need, MasterKeys **keys, KeyProblem *problem);

extern KeyRun master_cache_begin_run(void);
extern void master_cache_end_run(KeyRun run, const MasterKeys *keys, const KeyProblem *problem);
extern void master_cache_forget(void);

#endif
