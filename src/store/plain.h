/*
 * plain.h
 *	  Whether a table is as the extension made it.  For tables.c alone.
 */
#ifndef KEYROT_PLAIN_H
#define KEYROT_PLAIN_H

#include "base/compat.h"

#include "utils/relcache.h"

extern bool plain_is_readable(Relation table, int columns, int key_columns);
extern bool plain_is_writable(Relation table, int columns, int key_columns);

#endif
