/*
 * limit.h
 *	  The rate limit: how many requests a second one caller may make of one function.
 */
#ifndef KEYROT_LIMIT_H
#define KEYROT_LIMIT_H

#include "base/compat.h"

extern void limit_init(void);
extern void limit_admit(Oid caller, const char *function, int per_second);
extern int64 limit_overflows(void);

#endif
