/*
 * rows_decode.h
 *	  Where the columns of keyrot's tables are, and rows as records.  For this room alone.
 */
#ifndef KEYROT_ROWS_DECODE_H
#define KEYROT_ROWS_DECODE_H

#include "base/compat.h"

#include "access/htup.h"
#include "access/tupdesc.h"

#include "store/records.h"

/* Positions of columns; a credential's first sixteen are the same in both tables. */
enum
{
	CREDENTIAL_IDENTIFIER = 1,
	CREDENTIAL_OWNER_NAME,
	CREDENTIAL_CREATED_AT,
	CREDENTIAL_OWNER,
	CREDENTIAL_VERSION,
	CREDENTIAL_MODIFIED_AT,
	CREDENTIAL_SECRET,
	CREDENTIAL_PREVIOUS_SECRET,
	CREDENTIAL_PREVIOUS_VALID_UNTIL,
	CREDENTIAL_GRACE_AFTER_USE,
	CREDENTIAL_VALID_UNTIL,
	CREDENTIAL_DUE_AT,
	CREDENTIAL_DISABLED_AT,
	CREDENTIAL_ROTATE_AFTER,
	CREDENTIAL_LIFETIME,
	CREDENTIAL_POLICY_GRACE,
	APP_ID,
	APP_PREVIOUS_APP_KEY
};
enum
{
	GATEWAY_ZONE_ID = 1,
	GATEWAY_GATEWAY_ID
};
enum
{
	REQUEST_ID = 1,
	REQUEST_TARGET,
	REQUEST_REQUESTED_AT,
	REQUEST_ACTION,
	REQUEST_CALLER,
	REQUEST_CALLER_OID,
	REQUEST_SESSION_USER,
	REQUEST_SESSION_USER_OID,
	REQUEST_CLIENT_ADDR,
	REQUEST_PID,
	REQUEST_OUTCOME,
	REQUEST_VERSION,
	REQUEST_RETRY_OF,
	REQUEST_CHANGED_KIND,
	REQUEST_CHANGED_IN
};

extern void decode_credential(CredentialKind kind, HeapTuple tuple, TupleDesc desc, Credential *credential);
extern void decode_for_verification(CredentialKind kind, HeapTuple tuple, TupleDesc desc, Credential *credential);
extern void decode_data_key(HeapTuple tuple, TupleDesc desc, DataKeyRow *row);

#endif
