/*
 * credential_statements.h
 *	  The statements that apps and zones have alike.
 */
#ifndef KEYROT_CREDENTIAL_STATEMENTS_H
#define KEYROT_CREDENTIAL_STATEMENTS_H

#include "base/compat.h"

#include "store/rows.h"

extern void credential_statements_set_owner(const Credential *credential, Oid owner, const char *owner_name);
extern int64 credential_statements_rebind_owners(void);
extern void credential_statements_wipe_expired(CredentialKind kind, BlockNumber first, BlockNumber next, TimestampTz now);
extern TimestampTz credential_statements_next_expiry(CredentialKind kind, BlockNumber first, BlockNumber next);

#endif
