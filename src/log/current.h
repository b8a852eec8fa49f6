/*
 * current.h
 *	  The query string of the current message without its secrets.
 */
#ifndef KEYROT_CURRENT_H
#define KEYROT_CURRENT_H

#include "log/names.h"
#include "base/compat.h"

extern bool current_calls(void);
extern bool current_covers(const char *source);
extern size_t current_length(const char *source);
extern bool current_calls_here(int position);
extern void current_reached(const char *source, int location);
extern void current_hide_whole(void);
extern bool current_mentions(void);
extern const char *current_masked(const char *source);
extern bool current_is_tail(const char *message, size_t length, size_t *start);
extern bool current_is_by_number(void);

#endif
