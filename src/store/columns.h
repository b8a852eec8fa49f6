/*
 * columns.h
 *	  Which columns keyrot's tables have.
 */
#ifndef KEYROT_COLUMNS_H
#define KEYROT_COLUMNS_H

#include "base/compat.h"

extern const char *columns_find_fault(const char *table, Oid relation);

#endif
