/*
 * tables.c
 *	  Knows which relations are keyrot's, and finds single rows of them by index.
 *
 * A relation counts only as a member of the extension: a look-alike keyrot.app, made by somebody in a
 * database without the extension, is never touched.  Verification, signing and describing read one row
 * by its primary key; going through the executor for that costs more than the cryptography does.
 * Whatever writes or locks is store.c's.
 */
#include "tables.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "commands/extension.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "errors.h"

/* Positions of columns; a credential's first nine are the same in both tables. */
enum
{
	CREDENTIAL_IDENTIFIER = 1,
	CREDENTIAL_VERSION,
	CREDENTIAL_OWNER,
	CREDENTIAL_OWNER_NAME,
	CREDENTIAL_SECRET,
	CREDENTIAL_PREVIOUS_SECRET,
	CREDENTIAL_PREVIOUS_VALID_UNTIL,
	CREDENTIAL_CREATED_AT,
	CREDENTIAL_MODIFIED_AT,
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
	DATA_KEY_ID = 1,
	DATA_KEY_WRAPPED,
	DATA_KEY_MASTER_KEY,
	DATA_KEY_CHECK_VALUE
};

static Tables tables;
static bool tables_valid = false;
static bool watching = false;

/* Forgets the relations when one of them, or everything, is invalidated. */
static void
on_relcache_change(Datum arg pg_attribute_unused(), Oid relation)
{
	if (relation == InvalidOid || relation == tables.app || relation == tables.zone ||
		relation == tables.gateway || relation == tables.data_key || relation == tables.request)
		tables_valid = false;
}

/* The OID of one of the extension's own tables, or InvalidOid. */
static Oid
member_table(const char *name, Oid schema, Oid extension)
{
	Oid			relation = get_relname_relid(name, schema);

	if (!OidIsValid(relation) || getExtensionOfObject(RelationRelationId, relation) != extension)
		return InvalidOid;
	return relation;
}

static Oid
relation_owner(Oid relation)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * The extension's tables and their owner.  Raises 55000 where the extension is not installed.  The
 * answer is good until the next lock or transaction; do not keep it.
 */
const Tables *
tables_get(void)
{
	Oid			extension;
	Oid			schema;

	if (tables_valid)
		return &tables;

	if (!watching)
	{
		CacheRegisterRelcacheCallback(on_relcache_change, (Datum) 0);
		watching = true;
	}

	extension = get_extension_oid("keyrot", true);
	schema = get_namespace_oid("keyrot", true);
	if (!OidIsValid(extension) || !OidIsValid(schema))
		error_not_installed();

	tables.app = member_table("app", schema, extension);
	tables.zone = member_table("zone", schema, extension);
	tables.gateway = member_table("gateway", schema, extension);
	tables.data_key = member_table("data_key", schema, extension);
	tables.request = member_table("request", schema, extension);
	if (!OidIsValid(tables.app) || !OidIsValid(tables.zone) || !OidIsValid(tables.gateway) ||
		!OidIsValid(tables.data_key) || !OidIsValid(tables.request))
		error_not_installed();
	tables.owner = relation_owner(tables.app);
	tables_valid = true;
	return &tables;
}

/* Copies a text column into a buffer of the given size; NULL becomes the empty string. */
static void
decode_text(HeapTuple tuple, TupleDesc desc, int column, char *buffer, size_t size)
{
	bool		is_null;
	Datum		value = heap_getattr(tuple, column, desc, &is_null);
	text	   *packed;

	buffer[0] = '\0';
	if (is_null)
		return;
	packed = DatumGetTextPP(value);
	if (VARSIZE_ANY_EXHDR(packed) >= size)
		return;
	memcpy(buffer, VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed));
	buffer[VARSIZE_ANY_EXHDR(packed)] = '\0';
}

/* Copies a bytea column; one too long to have been sealed becomes one byte, which does not open. */
static void
decode_sealed(HeapTuple tuple, TupleDesc desc, int column, Sealed *sealed)
{
	bool		is_null;
	Datum		value = heap_getattr(tuple, column, desc, &is_null);
	bytea	   *packed;

	sealed->length = 0;
	if (is_null)
		return;
	packed = DatumGetByteaPP(value);
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
decode_time(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		is_null;
	Datum		value = heap_getattr(tuple, column, desc, &is_null);

	return is_null ? NO_TIME : DatumGetTimestampTz(value);
}

static Datum
decode_fixed(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		is_null;

	return heap_getattr(tuple, column, desc, &is_null);
}

/* Reads a credential out of a row whose columns stand as in its table. */
void
tables_decode_credential(SealKind kind, HeapTuple tuple, TupleDesc desc, Credential *credential)
{
	credential->kind = kind;
	decode_text(tuple, desc, CREDENTIAL_IDENTIFIER, credential->identifier, sizeof(credential->identifier));
	credential->version = DatumGetInt32(decode_fixed(tuple, desc, CREDENTIAL_VERSION));
	credential->owner = DatumGetObjectId(decode_fixed(tuple, desc, CREDENTIAL_OWNER));
	decode_text(tuple, desc, CREDENTIAL_OWNER_NAME, credential->owner_name, sizeof(credential->owner_name));
	decode_sealed(tuple, desc, CREDENTIAL_SECRET, &credential->secret);
	decode_sealed(tuple, desc, CREDENTIAL_PREVIOUS_SECRET, &credential->previous_secret);
	credential->previous_valid_until = decode_time(tuple, desc, CREDENTIAL_PREVIOUS_VALID_UNTIL);
	credential->created_at = decode_time(tuple, desc, CREDENTIAL_CREATED_AT);
	credential->modified_at = decode_time(tuple, desc, CREDENTIAL_MODIFIED_AT);
	credential->app_id = 0;
	credential->previous_app_key[0] = '\0';
	if (kind != SEAL_APP)
		return;
	credential->app_id = DatumGetInt64(decode_fixed(tuple, desc, APP_ID));
	decode_text(tuple, desc, APP_PREVIOUS_APP_KEY, credential->previous_app_key,
				sizeof(credential->previous_app_key));
}

/* The OID of a relation's primary key. */
static Oid
primary_key(Relation relation)
{
	if (!relation->rd_indexvalid)
		list_free(RelationGetIndexList(relation));
	return relation->rd_pkindex;
}

/*
 * Finds the credential of this kind and identifier as the snapshot sees it, also a retired one, and
 * tells whether there is one.
 */
bool
tables_find_credential(SealKind kind, const char *identifier, Snapshot snapshot, Credential *credential)
{
	const Tables *known = tables_get();
	Relation	relation = table_open(kind == SEAL_APP ? known->app : known->zone, AccessShareLock);
	Datum		wanted = CStringGetTextDatum(identifier);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found;

	ScanKeyInit(&key, CREDENTIAL_IDENTIFIER, BTEqualStrategyNumber, F_TEXTEQ, wanted);
	scan = systable_beginscan(relation, primary_key(relation), true, snapshot, 1, &key);
	tuple = systable_getnext(scan);
	found = HeapTupleIsValid(tuple);
	if (found)
		tables_decode_credential(kind, tuple, RelationGetDescr(relation), credential);
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	pfree(DatumGetPointer(wanted));
	return found;
}

/* Tells whether the snapshot sees this gateway in this zone. */
bool
tables_gateway_exists(const char *zone_id, const char *gateway_id, Snapshot snapshot)
{
	Relation	relation = table_open(tables_get()->gateway, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	bool		found;

	ScanKeyInit(&keys[0], GATEWAY_ZONE_ID, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(zone_id));
	ScanKeyInit(&keys[1], GATEWAY_GATEWAY_ID, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(gateway_id));
	scan = systable_beginscan(relation, primary_key(relation), true, snapshot, 2, keys);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return found;
}

/* Copies the eight bytes of a fingerprint or check value; anything else becomes zeros. */
static void
decode_tag(HeapTuple tuple, TupleDesc desc, int column, uint8_t tag[DATA_KEY_TAG_BYTES])
{
	bytea	   *packed = DatumGetByteaPP(decode_fixed(tuple, desc, column));

	memset(tag, 0, DATA_KEY_TAG_BYTES);
	if (VARSIZE_ANY_EXHDR(packed) == DATA_KEY_TAG_BYTES)
		memcpy(tag, VARDATA_ANY(packed), DATA_KEY_TAG_BYTES);
}

/*
 * Reads all data keys, ordered by nothing, into an array in the current memory context and returns
 * their number.  The snapshot is a new one even in REPEATABLE READ and in a parallel worker, as for a
 * catalog: a key that another session just made is what secrets are sealed with.
 */
int
tables_read_data_keys(DataKeyRow **rows)
{
	Relation	relation = table_open(tables_get()->data_key, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(relation);
	SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	int			count = 0;
	int			room = 4;

	*rows = palloc(room * sizeof(DataKeyRow));
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		DataKeyRow *row;

		if (count == room)
		{
			room *= 2;
			*rows = repalloc(*rows, room * sizeof(DataKeyRow));
		}
		row = &(*rows)[count++];
		row->id = DatumGetInt32(decode_fixed(tuple, desc, DATA_KEY_ID));
		decode_sealed(tuple, desc, DATA_KEY_WRAPPED, &row->wrapped);
		decode_tag(tuple, desc, DATA_KEY_MASTER_KEY, row->master_key);
		decode_tag(tuple, desc, DATA_KEY_CHECK_VALUE, row->check_value);
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return count;
}
