/*
 * redact.h
 *	  The server log without secrets.
 */
#ifndef KEYROT_REDACT_H
#define KEYROT_REDACT_H

#include "base/compat.h"

extern void redact_init(void);
extern const char *redact_problem(void);

#endif
