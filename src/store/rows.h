/*
 * rows.h
 *	  Single rows of keyrot's tables, found, locked and written without SQL.
 */
#ifndef KEYROT_ROWS_H
#define KEYROT_ROWS_H

#include "base/compat.h"

#include "storage/block.h"
#include "utils/snapshot.h"

#include "store/records.h"

/* Raises an error if the caller may not act on the credential in its state. */
typedef void (*CredentialJudge) (Oid caller, const Credential *credential);

/* The result of a change. */
typedef enum ChangeResult
{
	CHANGE_MADE,				/* to be written */
	CHANGE_NONE,				/* it stays as it is */
	CHANGE_NEEDS_LOCK			/* to be made again with the row locked */
} ChangeResult;

/*
 * A change of a credential. It may be made more than once, each time from the state that was just read: the last time
 * counts.
 */
typedef struct CredentialChange
{
	CredentialKind kind;
	CredentialJudge judge;
	Oid			caller;
	ChangeResult (*make) (Credential *credential, void *state);
	void	   *state;
} CredentialChange;

/* Called for each credential. */
typedef void (*CredentialReader) (const Credential *credential, void *reader_state);

extern bool rows_find_credential(CredentialKind kind, const char *identifier, Snapshot snapshot,
								 Credential *credential);
extern bool rows_find_signer(CredentialKind kind, const char *identifier, Snapshot snapshot, Credential *credential);
extern void rows_read_credentials(CredentialKind kind, Snapshot snapshot, CredentialReader reader, void *reader_state);
extern bool rows_lock_credential(CredentialKind kind, const char *identifier, CredentialJudge judge, Oid caller,
								 Credential *credential);
extern bool rows_change_credential(const char *identifier, const CredentialChange *change, Credential *credential);
extern void rows_write_credential(const Credential *credential);
extern void rows_require_as_written(const Credential *credential);
extern bool rows_gateway_exists(const char *zone_id, const char *gateway_id, Snapshot snapshot);
extern BlockNumber rows_count_blocks(CredentialKind kind);
extern void rows_lock_row_exclusive(CredentialKind kind);
extern void rows_lock_data_keys(void);
extern int	rows_read_data_keys(Snapshot snapshot, DataKeyRow **rows);
extern void rows_insert_request(const RequestRow *request);

#endif
