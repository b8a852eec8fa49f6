/*
 * counters.h
 *	  How often what happened since the server started.
 */
#ifndef KEYROT_COUNTERS_H
#define KEYROT_COUNTERS_H

#include "base/compat.h"

typedef void (*CountReader) (const char *name, uint64 count, void *reader_state);

extern void counters_init(void);
extern void counters_add_request(const char *action, const char *outcome);
extern void counters_read_actions(CountReader reader, void *reader_state);
extern void counters_read_failures(CountReader reader, void *reader_state);

#endif
