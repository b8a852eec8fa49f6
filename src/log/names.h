/*
 * names.h
 *	  Which texts call a function of keyrot's, as far as their spelling tells.
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

/* A text, with what has to be known of the session that it belongs to. */
typedef struct NamesText
{
	const char *text;
	size_t		length;			/* bytes */
	bool		is_installed;	/* keyrot is, in the database: names without a schema count */
	bool		unknown_calls;	/* EXECUTE of what is not prepared (yet) counts */
	NamesPrepared (*prepared) (const char *name);	/* what EXECUTE of this name runs; may be NULL */
	void		(*pause) (void);	/* called now and then while a long text is read; may be NULL */
} NamesText;

/* Tells that so many bytes were looked at; the fuzzers count them, nothing else does. */
#ifdef KEYROT_COUNT_STEPS
extern size_t names_steps;
#define NAMES_STEPS(bytes) (names_steps += (bytes))
#else
#define NAMES_STEPS(bytes) ((void) (bytes))
#endif

/* Whether a text has what no call can do without.  Most statements of others' do not, and need no closer look. */
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
