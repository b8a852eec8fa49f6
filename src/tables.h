/*
 * tables.h
 *	  keyrot's tables as relations: which they are, and rows found by index without SQL.
 */
#ifndef KEYROT_TABLES_H
#define KEYROT_TABLES_H

#include "compat.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "datatype/timestamp.h"
#include "utils/snapshot.h"

#include "identifier.h"
#include "seal.h"

/* Where a timestamp column is NULL: long past, so that what it limits has ended. */
#define NO_TIME ((TimestampTz) PG_INT64_MIN)

/* A sealed value as a row holds it; length 0 is NULL. */
typedef struct Sealed
{
	uint8_t		bytes[SEAL_OVERHEAD + SEAL_MAX_PLAINTEXT];
	size_t		length;
} Sealed;

/* A row of keyrot.app or keyrot.zone. */
typedef struct Credential
{
	SealKind	kind;
	char		identifier[SEAL_MAX_IDENTIFIER + 1];
	int32		version;
	Oid			owner;
	char		owner_name[NAMEDATALEN];
	Sealed		secret;			/* empty: retired or deleted */
	Sealed		previous_secret;
	TimestampTz previous_valid_until;	/* NO_TIME: nothing in grace */
	TimestampTz created_at;
	TimestampTz modified_at;
	int64		app_id;			/* apps only, as the next one */
	char		previous_app_key[APP_KEY_MAX + 1];	/* empty: none */
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

typedef struct Tables
{
	Oid			owner;
	Oid			app;
	Oid			zone;
	Oid			gateway;
	Oid			data_key;
	Oid			request;
} Tables;

extern const Tables *tables_get(void);

extern void tables_decode_credential(SealKind kind, HeapTuple tuple, TupleDesc desc, Credential *credential);
extern bool tables_find_credential(SealKind kind, const char *identifier, Snapshot snapshot,
								   Credential *credential);
extern bool tables_gateway_exists(const char *zone_id, const char *gateway_id, Snapshot snapshot);
extern int	tables_read_data_keys(DataKeyRow **rows);

#endif
