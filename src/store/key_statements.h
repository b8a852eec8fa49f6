/*
 * key_statements.h
 *	  The statements on data keys and on what is sealed with them.
 */
#ifndef KEYROT_KEY_STATEMENTS_H
#define KEYROT_KEY_STATEMENTS_H

#include "base/compat.h"

#include "store/rows.h"

/* How far a reseal has come; a row of keyrot.reseal. */
typedef struct ResealRow
{
	int32		data_key;		/* the one that secrets are moved to */
	TimestampTz started_at;
	TimestampTz updated_at;
	TimestampTz ended_at;		/* NO_TIME: it has not reached its end */
	int64		done;			/* credentials, as the next one */
	int64		total;
} ResealRow;

extern void key_statements_insert(const DataKeyRow *row, TimestampTz created_at);
extern bool key_statements_rewrap(const DataKeyRow *row);
extern void key_statements_delete(int32 id);
extern bool key_statements_seals_anything(int32 data_key);
extern int64 key_statements_count_sealed_before(int32 data_key);
extern int	key_statements_lock_sealed_before(CredentialKind kind, int32 data_key, const char *after, int32 limit,
											  char (*identifiers)[SEAL_MAX_IDENTIFIER + 1]);
extern void key_statements_note_reseal(const ResealRow *row);
extern bool key_statements_find_reseal(ResealRow *row);
extern void key_statements_commit(void);

#endif
