/*
 * logtext.h
 *	  Texts without their secrets, as the log and other readers of statements need them.
 *
 * Functions that return a length write the text where "out" points to and add no zero byte; with NULL they
 * only tell how much room it needs.  "in" and "out" do not overlap, unless that is said.
 */
#ifndef KEYROT_LOGTEXT_H
#define KEYROT_LOGTEXT_H

#include "log/lexer.h"

extern size_t logtext_redact(const LexerText *in, LexerVerdict verdict, char *out);
extern void logtext_mask(const LexerText *in, LexerVerdict verdict, char *out);
extern size_t logtext_audit_fields(const char *message, size_t length);
extern size_t logtext_context(const LexerText *in, LexerVerdict least, char *out);
extern size_t logtext_values(const char *message, size_t length, bool (*is_readable) (const char *, size_t), char *out);
extern bool logtext_is_tree(const char *detail);
extern bool logtext_tree_has_constant(const char *detail);

#endif
