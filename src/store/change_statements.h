/*
 * change_statements.h
 *	  The statement that reads the changes of credentials.
 */
#ifndef KEYROT_CHANGE_STATEMENTS_H
#define KEYROT_CHANGE_STATEMENTS_H

#include "base/compat.h"

#include "store/records.h"

/* Is told of one change after the other. */
typedef void (*ChangeReader) (const Change *change, void *reader_state);

extern bool change_statements_know(const ChangePlace *place);
extern void change_statements_read(const ChangePlace *after, int max_count, Oid caller, bool sees_all,
								   ChangeReader reader, void *reader_state);

#endif
