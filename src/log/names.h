/*
 * names.h
 *	  Which texts call one of keyrot's functions, judged by their spelling.
 */
#ifndef KEYROT_NAMES_H
#define KEYROT_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

typedef enum NamesPrepared
{
	NAMES_UNKNOWN,				/* not prepared in this session */
	NAMES_HARMLESS,
	NAMES_CALLS
} NamesPrepared;

/* A text, and what has to be known about the session that it belongs to. */
typedef struct NamesText
{
	const char *text;
	size_t		length;			/* bytes */
	bool		is_installed;	/* the database has keyrot: names without a schema count */
	bool		unknown_calls;	/* EXECUTE of a statement that is not prepared (yet) counts */
	NamesPrepared (*prepared) (const char *name);	/* what EXECUTE of this name runs; may be NULL */
	void		(*pause) (void);	/* called from time to time while a long text is read; may be NULL */
} NamesText;

/* Counts bytes that were looked at, for the fuzzers only. */
#ifdef KEYROT_COUNT_STEPS
extern size_t names_steps;
#define NAMES_STEPS(bytes) (names_steps += (bytes))
#else
#define NAMES_STEPS(bytes) ((void) (bytes))
#endif

/* Whether a text has a parenthesis, which every call has.  Many statements have none and need no closer look. */
static inline bool
names_call_may_occur(const char *text, size_t length)
{
	return memchr(text, '(', length) != NULL;
}

extern bool names_is_space(char c);
extern bool names_is_word(char c);
extern bool names_are_own(const char *name, size_t length);
extern bool names_call_occurs(const NamesText *text);
extern bool names_mention_occurs(const NamesText *text);

#endif
