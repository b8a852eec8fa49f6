/*
 * change_statements.h
 *	  The statement that reads the changes of credentials.
 */
#ifndef KEYROT_CHANGE_STATEMENTS_H
#define KEYROT_CHANGE_STATEMENTS_H

#include "base/compat.h"

#include "store/records.h"

/* A position in the changes: the transaction of the last change that was read, and its RequestId. */
typedef struct ChangePlace
{
	uint64		transaction;
	pg_uuid_t	request_id;
} ChangePlace;

/* A request that changed a credential. */
typedef struct Change
{
	ChangePlace place;
	CredentialKind kind;
	int32		version;		/* the one made; 0: none */
	TimestampTz changed_at;
	char		action[32];
	char		target[SEAL_MAX_IDENTIFIER + 1];
} Change;

/* Called for each change. */
typedef void (*ChangeReader) (const Change *change, void *reader_state);

extern bool change_statements_know(const ChangePlace *place);
extern void change_statements_read(const ChangePlace *after, int max_count, Oid caller, bool sees_all,
								   ChangeReader reader, void *reader_state);

#endif
