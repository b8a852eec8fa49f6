/*
 * rows_decode.c
 *	  Rows of keyrot's tables as records, by the positions of their columns; columns.c has seen to those.
 */
#include "store/rows_decode.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

enum
{
	DATA_KEY_ID = 1,
	DATA_KEY_WRAPPED,
	DATA_KEY_MASTER_KEY,
	DATA_KEY_CHECK_VALUE
};

/* The number of columns, from the first on, that include all that a verification reads. */
#define VERIFICATION_COLUMNS CREDENTIAL_DISABLED_AT

/* A row's values; columns count from 1. */
typedef struct Columns
{
	Datum	   *values;
	bool	   *nulls;
} Columns;

/* Reads all columns of a row in one pass. */
static Columns
take_apart(HeapTuple tuple, TupleDesc desc)
{
	Columns		columns;

	columns.values = palloc(desc->natts * sizeof(Datum));
	columns.nulls = palloc(desc->natts * sizeof(bool));
	heap_deform_tuple(tuple, desc, columns.values, columns.nulls);
	return columns;
}

/* Copies a text column into a buffer of the given size; NULL becomes the empty string. */
static void
decode_text(const Columns *columns, int column, char *buffer, size_t size)
{
	text	   *packed;

	buffer[0] = '\0';
	if (columns->nulls[column - 1])
		return;
	packed = DatumGetTextPP(columns->values[column - 1]);
	if (VARSIZE_ANY_EXHDR(packed) >= size)
		return;
	memcpy(buffer, VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed));
	buffer[VARSIZE_ANY_EXHDR(packed)] = '\0';
}

/*
 * Copies a bytea column; a value that is too long for a sealed secret is replaced by one byte, which cannot be
 * opened.
 */
static void
decode_sealed(const Columns *columns, int column, Sealed *sealed)
{
	bytea	   *packed;

	sealed->length = 0;
	if (columns->nulls[column - 1])
		return;
	packed = DatumGetByteaPP(columns->values[column - 1]);
	sealed->length = VARSIZE_ANY_EXHDR(packed);
	if (sealed->length == 0 || sealed->length > sizeof(sealed->bytes))
	{
		sealed->bytes[0] = 0;
		sealed->length = 1;
		return;
	}
	memcpy(sealed->bytes, VARDATA_ANY(packed), sealed->length);
}

static TimestampTz
decode_time(const Columns *columns, int column)
{
	return columns->nulls[column - 1] ? NO_TIME : DatumGetTimestampTz(columns->values[column - 1]);
}

static Interval
decode_interval(const Columns *columns, int column)
{
	static const Interval none = {0};

	return columns->nulls[column - 1] ? none : *DatumGetIntervalP(columns->values[column - 1]);
}

static void
decode_policy(const Columns *columns, Policy *policy)
{
	policy->rotate_after = decode_interval(columns, CREDENTIAL_ROTATE_AFTER);
	policy->lifetime = decode_interval(columns, CREDENTIAL_LIFETIME);
	policy->grace = columns->nulls[CREDENTIAL_POLICY_GRACE - 1] ? 0 :
		DatumGetInt64(columns->values[CREDENTIAL_POLICY_GRACE - 1]);
}

/* Reads only the columns of a verification. */
static void
decode_verification(const Columns *columns, Credential *credential)
{
	credential->version = DatumGetInt32(columns->values[CREDENTIAL_VERSION - 1]);
	decode_sealed(columns, CREDENTIAL_SECRET, &credential->secret);
	decode_sealed(columns, CREDENTIAL_PREVIOUS_SECRET, &credential->previous_secret);
	credential->previous_valid_until = decode_time(columns, CREDENTIAL_PREVIOUS_VALID_UNTIL);
	credential->modified_at = decode_time(columns, CREDENTIAL_MODIFIED_AT);
	credential->disabled_at = decode_time(columns, CREDENTIAL_DISABLED_AT);
	credential->valid_until = decode_time(columns, CREDENTIAL_VALID_UNTIL);
	credential->grace_after_use = columns->nulls[CREDENTIAL_GRACE_AFTER_USE - 1] ? NO_GRACE_AFTER_USE :
		DatumGetInt64(columns->values[CREDENTIAL_GRACE_AFTER_USE - 1]);
}

static bool
is_own(HeapTuple tuple)
{
	return TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
}

/*
 * A description of these columns, which are the same for both kinds, as if they were the whole row: so later columns
 * are not read.
 */
static TupleDesc
describe_verification(TupleDesc whole)
{
	static TupleDesc known = NULL;
	MemoryContext caller;
	TupleDesc	desc;

	if (known != NULL)
		return known;
	caller = MemoryContextSwitchTo(TopMemoryContext);
	desc = CreateTemplateTupleDesc(VERIFICATION_COLUMNS);
	for (int i = 1; i <= VERIFICATION_COLUMNS; i++)
		TupleDescCopyEntry(desc, (AttrNumber) i, whole, (AttrNumber) i);
	MemoryContextSwitchTo(caller);
	known = desc;
	return known;
}

/*
 * Reads what a verification needs from a credential's row; everything else is zero or empty. An app's previous AppKey
 * is read only if a grace period waits for the first use.
 */
void
decode_for_verification(CredentialKind kind, HeapTuple tuple, TupleDesc desc, Credential *credential)
{
	Datum		values[APP_PREVIOUS_APP_KEY];
	bool		nulls[APP_PREVIOUS_APP_KEY];
	Columns		columns = {values, nulls};

	heap_deform_tuple(tuple, describe_verification(desc), values, nulls);
	memset(credential, 0, sizeof(*credential));
	credential->kind = kind;
	decode_verification(&columns, credential);
	credential->is_own = is_own(tuple);
	if (kind != CREDENTIAL_APP || credential->grace_after_use == NO_GRACE_AFTER_USE)
		return;
	values[APP_PREVIOUS_APP_KEY - 1] = heap_getattr(tuple, APP_PREVIOUS_APP_KEY, desc, &nulls[APP_PREVIOUS_APP_KEY - 1]);
	decode_text(&columns, APP_PREVIOUS_APP_KEY, credential->previous_app_key, sizeof(credential->previous_app_key));
}

/*
 * Reads a row of the table of this kind of credential, or of a statement that returns all of its columns; a value
 * that does not fit into the record cannot be opened, or is empty.
 */
void
decode_credential(CredentialKind kind, HeapTuple tuple, TupleDesc desc, Credential *credential)
{
	Columns		columns = take_apart(tuple, desc);

	credential->kind = kind;
	decode_text(&columns, CREDENTIAL_IDENTIFIER, credential->identifier, sizeof(credential->identifier));
	decode_verification(&columns, credential);
	credential->owner = DatumGetObjectId(columns.values[CREDENTIAL_OWNER - 1]);
	decode_text(&columns, CREDENTIAL_OWNER_NAME, credential->owner_name, sizeof(credential->owner_name));
	credential->created_at = decode_time(&columns, CREDENTIAL_CREATED_AT);
	credential->due_at = decode_time(&columns, CREDENTIAL_DUE_AT);
	decode_policy(&columns, &credential->policy);
	credential->is_locked = false;
	ItemPointerSetInvalid(&credential->position);
	credential->writer = HeapTupleHeaderGetRawXmin(tuple->t_data);
	credential->is_own = is_own(tuple);
	credential->app_id = 0;
	credential->previous_app_key[0] = '\0';
	if (kind != CREDENTIAL_APP)
		return;
	credential->app_id = DatumGetInt64(columns.values[APP_ID - 1]);
	decode_text(&columns, APP_PREVIOUS_APP_KEY, credential->previous_app_key, sizeof(credential->previous_app_key));
}

/* Copies the eight bytes of a fingerprint or check value; zeros for any other length. */
static void
decode_tag(const Columns *columns, int column, uint8_t tag[DATA_KEY_TAG_BYTES])
{
	bytea	   *packed = DatumGetByteaPP(columns->values[column - 1]);

	memset(tag, 0, DATA_KEY_TAG_BYTES);
	if (VARSIZE_ANY_EXHDR(packed) == DATA_KEY_TAG_BYTES)
		memcpy(tag, VARDATA_ANY(packed), DATA_KEY_TAG_BYTES);
}

/* The same for a row of keyrot.data_key. */
void
decode_data_key(HeapTuple tuple, TupleDesc desc, DataKeyRow *row)
{
	Columns		columns = take_apart(tuple, desc);

	row->id = DatumGetInt32(columns.values[DATA_KEY_ID - 1]);
	decode_sealed(&columns, DATA_KEY_WRAPPED, &row->wrapped);
	decode_tag(&columns, DATA_KEY_MASTER_KEY, row->master_key);
	decode_tag(&columns, DATA_KEY_CHECK_VALUE, row->check_value);
}
