/*
 * bulk_statements.h
 *	  The statements that lock and write many credentials at once.
 */
#ifndef KEYROT_BULK_STATEMENTS_H
#define KEYROT_BULK_STATEMENTS_H

#include "base/compat.h"

#include "store/rows.h"

/* A filter: credentials of a kind that have a secret and were last rotated before a given time. */
typedef struct BulkFilter
{
	CredentialKind kind;
	Oid			owner;			/* InvalidOid: whoever owns them */
	const char *owner_name;
	TimestampTz rotated_before;
} BulkFilter;

/* When a credential is due, and for which caller. */
typedef struct DueFilter
{
	CredentialKind kind;
	Oid			caller;
	bool		sees_all;
	TimestampTz now;
	NullableDatum max_age;		/* microseconds; NULL: without a policy, none is due */
} DueFilter;

/* A credential to be rotated, and its new version. */
typedef struct Rotation
{
	Credential	credential;
	TimestampTz due_at;			/* where it was looked for as due */
	int64		grace;
	pg_uuid_t	request_id;
} Rotation;

/* Called for each locked credential. */
typedef void (*RotationReader) (const Rotation *rotation, void *reader_state);

extern int64 bulk_statements_count(const BulkFilter *filter);
extern void bulk_statements_lock_next(const BulkFilter *filter, const char *after, int limit,
									  RotationReader reader, void *reader_state);
extern void bulk_statements_lock_listed(const BulkFilter *filter, char **identifiers, int count,
										RotationReader reader, void *reader_state);
extern void bulk_statements_lock_due(const DueFilter *filter, int limit, RotationReader reader, void *reader_state);
extern void bulk_statements_end_grace_of(char **app_keys, int count);
extern void bulk_statements_write(CredentialKind kind, const Rotation *rotations, int count, TimestampTz modified_at);
extern void bulk_statements_record(const RequestRow *common, const Rotation *rotations, int count);

#endif
