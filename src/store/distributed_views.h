/*
 * distributed_views.h
 *	  What the views show where the tables are distributed.
 */
#ifndef KEYROT_DISTRIBUTED_VIEWS_H
#define KEYROT_DISTRIBUTED_VIEWS_H

#include "base/compat.h"

#include "access/tupdesc.h"
#include "utils/tuplestore.h"

extern void distributed_views_define(void);
extern bool distributed_views_has(const char *view);
extern void distributed_views_read(const char *view, Oid caller, bool sees_all, TupleDesc expected,
								   Tuplestorestate *result);

#endif
