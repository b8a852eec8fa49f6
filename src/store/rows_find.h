/*
 * rows_find.h
 *	  Single rows of plain tables, found by their primary key.  For rows.c alone.
 */
#ifndef KEYROT_ROWS_FIND_H
#define KEYROT_ROWS_FIND_H

#include "base/compat.h"

#include "utils/relcache.h"
#include "utils/snapshot.h"

#include "store/records.h"

extern bool rows_find_credential_by_key(Relation table, Relation key, CredentialKind kind, const char *identifier,
										Snapshot snapshot, Credential *credential);
extern bool rows_find_signer_by_key(Relation table, Relation key, CredentialKind kind, const char *identifier,
									Snapshot snapshot, Credential *credential);
extern bool rows_find_gateway_by_key(Relation table, Relation key, const char *zone_id, const char *gateway_id,
									 Snapshot snapshot);

#endif
