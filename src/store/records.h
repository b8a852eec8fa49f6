/*
 * records.h
 *	  Rows of keyrot's tables as C sees them.
 */
#ifndef KEYROT_RECORDS_H
#define KEYROT_RECORDS_H

#include "base/compat.h"

#include "datatype/timestamp.h"
#include "storage/itemptr.h"
#include "utils/uuid.h"

#include "crypto/identifier.h"
#include "crypto/seal.h"

#define NO_TIME ((TimestampTz) PG_INT64_MIN)	/* NULL: long past, so that what it limits has ended */

/* A sealed value in a row; length 0 is NULL. */
typedef struct Sealed
{
	uint8_t		bytes[SEAL_OVERHEAD + SEAL_MAX_PLAINTEXT];
	size_t		length;
} Sealed;

/* When a credential is due for rotation, how long a version lives, and the grace period of a scheduled rotation. */
typedef struct Policy
{
	Interval	rotate_after;	/* all zeros: none, as the next one */
	Interval	lifetime;
	int64		grace;			/* microseconds */
} Policy;

#define NO_GRACE_AFTER_USE ((int64) -1)	/* no grace period that begins with the first use of the successor */

/* A row of keyrot.app or keyrot.zone. */
typedef struct Credential
{
	CredentialKind	kind;
	bool		is_locked;		/* its row, until the transaction ends */
	ItemPointerData position;	/* of the row, where that is locked and its table plain */
	char		identifier[SEAL_MAX_IDENTIFIER + 1];
	int32		version;
	Oid			owner;
	char		owner_name[NAMEDATALEN];
	Sealed		secret;			/* empty: retired or deleted */
	Sealed		previous_secret;
	TimestampTz previous_valid_until;	/* NO_TIME: nothing in grace */
	int64		grace_after_use;	/* microseconds; the bound is previous_valid_until */
	TimestampTz created_at;
	TimestampTz modified_at;
	TimestampTz disabled_at;	/* NO_TIME: not disabled */
	TimestampTz valid_until;	/* of the current version; NO_TIME: for ever */
	TimestampTz due_at;			/* NO_TIME: never */
	Policy		policy;
	int64		app_id;			/* apps only, as the next one */
	char		previous_app_key[APP_KEY_MAX + 1];	/* empty: none */
	TransactionId writer;		/* of this version of the row */
	bool		is_own;			/* written by the transaction that read it, which may be rolled back yet */
} Credential;

/* A row of keyrot.data_key. */
#define DATA_KEY_TAG_BYTES 8	/* fingerprint of a master key, check value of a data key */
typedef struct DataKeyRow
{
	int32		id;
	Sealed		wrapped;
	uint8_t		master_key[DATA_KEY_TAG_BYTES];
	uint8_t		check_value[DATA_KEY_TAG_BYTES];
} DataKeyRow;

/* A role in the request log; its name remains known when the role is gone. */
typedef struct LoggedRole
{
	Oid			oid;
	char		name[NAMEDATALEN];
} LoggedRole;

/*
 * A row of keyrot.request, without pointers, so that it can lie in shared memory, and with its target last,
 * so that a copy may be cut off behind it.
 */
typedef struct RequestRow
{
	pg_uuid_t	id;
	TimestampTz requested_at;
	char		action[32];
	LoggedRole	caller;
	LoggedRole	session_user;
	int32		client_addr[8]; /* an inet, which a Datum may point to; all zeros: none */
	int32		pid;
	char		outcome[16];	/* "ok", "rolled back" or a SQLSTATE */
	int32		version;		/* 0: made none */
	bool		is_repetition;
	pg_uuid_t	retry_of;		/* the request that a repetition repeats */
	CredentialKind changed;		/* what verification answers otherwise of; 0: nothing */
	char		target[SEAL_MAX_IDENTIFIER + 1];
} RequestRow;

#endif
