/*
 * rows_sql.h
 *	  Single rows of tables that are not plain, by statements.  For rows.c, and what distributed tables need.
 */
#ifndef KEYROT_ROWS_SQL_H
#define KEYROT_ROWS_SQL_H

#include "base/compat.h"

#include "store/rows.h"

extern bool rows_sql_find_credential(CredentialKind kind, const char *identifier, Snapshot snapshot,
									  Credential *credential);
extern void rows_sql_read_credentials(CredentialKind kind, Snapshot snapshot, CredentialReader reader,
									   void *reader_state);
extern bool rows_sql_lock_credential(CredentialKind kind, const char *identifier, CredentialJudge judge, Oid caller,
									  Credential *credential);
extern bool rows_sql_change_credential(const char *identifier, const CredentialChange *change, Credential *credential);
extern bool rows_sql_try_lock(CredentialKind kind, const char *identifier);
extern void rows_sql_write_credential(const Credential *credential);
extern void rows_sql_insert_request(const RequestRow *request);
extern bool rows_sql_gateway_exists(const char *zone_id, const char *gateway_id, Snapshot snapshot);
extern int	rows_sql_read_data_keys(Snapshot snapshot, DataKeyRow **rows);

#endif
