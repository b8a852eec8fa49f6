/*
 * columns.h
 *	  Which columns keyrot's tables have.
 */
#ifndef KEYROT_COLUMNS_H
#define KEYROT_COLUMNS_H

#include "base/compat.h"

extern int	columns_count(const char *table);
extern int	columns_count_key(const char *table);
extern const char *columns_find_fault(const char *table, Oid relation);

#endif
