/*
 * usage_statements.h
 *	  The statements on last uses, and on grace periods that begin with one.
 */
#ifndef KEYROT_USAGE_STATEMENTS_H
#define KEYROT_USAGE_STATEMENTS_H

#include "base/compat.h"

#include "store/records.h"

/* A row of keyrot.credential_use. */
typedef struct UseRow
{
	CredentialKind kind;
	char		identifier[SEAL_MAX_IDENTIFIER + 1];
	int32		version;
	TimestampTz last_used_at;	/* of that version, as the next one of the version before; NO_TIME: not known */
	TimestampTz earlier_last_used_at;
} UseRow;

/* When the version that replaced another was first used; the grace period of that one then begins. */
typedef struct FirstUse
{
	char		identifier[SEAL_MAX_IDENTIFIER + 1];	/* of the row that the previous version is in, as its version */
	int32		version;
	TimestampTz at;
	bool		still_waits;	/* the row could not be told */
} FirstUse;

extern void usage_statements_write(const UseRow *rows, int count);
extern TimestampTz usage_statements_begin_graces(CredentialKind kind, FirstUse *graces, int count);

#endif
