/*
 * mask.h
 *	  Statements without secrets, for libraries that store or print them.
 */
#ifndef KEYROT_MASK_H
#define KEYROT_MASK_H

#include "base/compat.h"

extern void mask_init(void);
extern bool mask_marked(const ErrorData *edata);

#endif
