/*
 * logtext.h
 *	  Texts without their secrets, for the log and for other readers of statements.
 *
 * Functions that return a length write the text to "out", without a zero byte; if "out" is NULL, they only return
 * the length.  "in" and "out" must not overlap.
 */
#ifndef KEYROT_LOGTEXT_H
#define KEYROT_LOGTEXT_H

#include "log/names.h"

/* Replaces what is hidden. */
#define LOGTEXT_MARKER "<redacted by keyrot>"
#define LOGTEXT_MARKER_LENGTH (sizeof(LOGTEXT_MARKER) - 1)

extern size_t logtext_statements(const NamesText *in, char *out);
extern size_t logtext_statement(const char *text, size_t length, char *out);
extern size_t logtext_message(const char *text, size_t length, char *out);
extern size_t logtext_context(const char *text, size_t length, char *out);
extern bool logtext_calls_near(const NamesText *in, size_t start);
extern bool logtext_calls_at(const NamesText *in, size_t at);
extern void logtext_mask_statements(const NamesText *in, char *out);
extern void logtext_mask(const NamesText *in, char *out);
extern bool logtext_is_tree(const char *detail);
extern bool logtext_tree_has_call(const char *detail, bool (*is_own) (unsigned function));

#endif
