/*
 * redact.h
 *	  The server log without secrets.
 */
#ifndef KEYROT_REDACT_H
#define KEYROT_REDACT_H

#include "log/lexer.h"
#include "base/compat.h"

extern void redact_init(void);
extern const char *redact_problem(void);
extern bool redact_takes_secret(const char *prepared);
extern LexerVerdict redact_statement(void);
extern LexerVerdict redact_judge_text(const LexerText *text);
extern LexerVerdict redact_judge(const char *source);
extern LexerVerdict redact_begin_run(LexerVerdict verdict);
extern void redact_end_run(LexerVerdict outer);

#endif
