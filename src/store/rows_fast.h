/*
 * rows_fast.h
 *	  Single rows of plain tables, without SQL.  For rows.c alone.
 */
#ifndef KEYROT_ROWS_FAST_H
#define KEYROT_ROWS_FAST_H

#include "base/compat.h"

#include "utils/relcache.h"

#include "store/rows.h"

extern void rows_fast_read_credentials(Relation table, CredentialKind kind, Snapshot snapshot, CredentialReader reader,
									   void *reader_state);
extern bool rows_fast_lock_credential(Relation table, CredentialKind kind, const char *identifier, CredentialJudge judge, Oid caller,
									  Credential *credential);
extern bool rows_fast_change_credential(Relation table, const char *identifier, const CredentialChange *change,
										Credential *credential);
extern void rows_fast_write_credential(Relation table, const Credential *credential);
extern void rows_fast_insert_request(Relation table, const RequestRow *request);
extern int	rows_fast_read_data_keys(Relation table, Snapshot snapshot, DataKeyRow **rows);

#endif
