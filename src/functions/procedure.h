/*
 * procedure.h
 *	  What procedures that commit have in common.
 */
#ifndef KEYROT_PROCEDURE_H
#define KEYROT_PROCEDURE_H

#include "base/compat.h"

extern void procedure_require_top_level(FunctionCallInfo fcinfo, const char *name);
extern void procedure_begin_work(const char *name, MemoryContext context);
extern void procedure_end_work(MemoryContext context);
extern void procedure_commit_work(MemoryContext context);

#endif
