/*
 * credential_statements.h
 *	  The statements that apps and zones have alike.
 */
#ifndef KEYROT_CREDENTIAL_STATEMENTS_H
#define KEYROT_CREDENTIAL_STATEMENTS_H

#include "base/compat.h"

#include "store/rows.h"

/* What is counted: the states of the view keyrot.credentials, of which each credential has one, and more. */
typedef enum CensusItem
{
	CENSUS_CURRENT,
	CENSUS_RETIRING,
	CENSUS_RETIRED,
	CENSUS_DISABLED,
	CENSUS_EXPIRED,
	CENSUS_IN_GRACE,			/* a previous version is accepted still */
	CENSUS_OVERDUE,				/* due for rotation, and not disabled */
	CENSUS_EXPIRING,			/* within 7 days, and not disabled */
	CENSUS_MAY_END,				/* a grace that nobody has needed for a day, as far as is written down */
	CENSUS_ITEMS
} CensusItem;

/* The counts of credentials of one kind so far. */
typedef struct Census
{
	int64		counts[CENSUS_ITEMS];
	TimestampTz first_expiry;	/* when the first grace ends; DT_NOEND: none is open */
	TimestampTz last_expiry;	/* when the last one does; DT_NOBEGIN */
	TimestampTz oldest_version; /* of those that verify; DT_NOEND */
} Census;

extern bool credential_statements_exists(CredentialKind kind, const char *identifier);
extern void credential_statements_set_owner(const Credential *credential, Oid owner, const char *owner_name);
extern int64 credential_statements_rebind_owners(void);
extern void credential_statements_wipe_expired(CredentialKind kind, BlockNumber first, BlockNumber next, TimestampTz now);
extern void credential_statements_begin_census(Census *census);
extern void credential_statements_count(CredentialKind kind, BlockNumber first, BlockNumber next, TimestampTz now,
										Census *census);

#endif
