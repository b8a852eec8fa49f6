/*
 * rows.c
 *	  Single rows of keyrot's tables: found and locked by their key, written by the executor's own simple
 *	  insert and update, as logical replication applies changes.
 *
 * Here is what every rotation and every verification does.  The obvious way, a statement for each step,
 * spends more on starting and ending the executor than on the row and the cryptography together: with
 * SQL, a rotation cost half as much again.  Constraints, indexes and triggers count as they do for SQL.
 * No name is looked up, for no text is parsed; the role is switched only where somebody has put a trigger
 * on a table, which then runs as in store.c, whose is all that is done seldom.
 * The price: the tables must be plain tables, neither partitioned nor distributed over other servers, and
 * columns that somebody adds to them stay NULL.
 */
#include "store/rows.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "executor/executor.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "store/statement.h"
#include "store/tables.h"
#include "base/errors.h"

/* Positions of columns; a credential's first sixteen are the same in both tables. */
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
	CREDENTIAL_DISABLED_AT,
	CREDENTIAL_VALID_UNTIL,
	CREDENTIAL_DUE_AT,
	CREDENTIAL_ROTATE_AFTER,
	CREDENTIAL_LIFETIME,
	CREDENTIAL_POLICY_GRACE,
	CREDENTIAL_GRACE_AFTER_USE,
	APP_ID,
	APP_PREVIOUS_APP_KEY
};
enum {GATEWAY_ZONE_ID = 1, GATEWAY_GATEWAY_ID};
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
enum {DATA_KEY_ID = 1, DATA_KEY_WRAPPED, DATA_KEY_MASTER_KEY, DATA_KEY_CHECK_VALUE};

/* A table that is being written to, and what the executor needs for it. */
typedef struct Writer
{
	Relation	relation;
	EState	   *estate;
	ResultRelInfo *target;
	TupleTableSlot *row;		/* the new row */
	bool		is_owner;		/* for the sake of triggers, and then with this session */
	OwnerSession session;
} Writer;

/* A row taken apart; columns count from 1. */
typedef struct Columns
{
	Datum	   *values;
	bool	   *nulls;
} Columns;

/* Takes a row apart in one pass: each column that is looked for by itself is walked to from the first. */
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

/* Copies a bytea column; one too long to have been sealed becomes one byte, which does not open. */
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

static void
decode_credential(CredentialKind kind, HeapTuple tuple, TupleDesc desc, Credential *credential)
{
	Columns		columns = take_apart(tuple, desc);

	credential->kind = kind;
	decode_text(&columns, CREDENTIAL_IDENTIFIER, credential->identifier, sizeof(credential->identifier));
	credential->version = DatumGetInt32(columns.values[CREDENTIAL_VERSION - 1]);
	credential->owner = DatumGetObjectId(columns.values[CREDENTIAL_OWNER - 1]);
	decode_text(&columns, CREDENTIAL_OWNER_NAME, credential->owner_name, sizeof(credential->owner_name));
	decode_sealed(&columns, CREDENTIAL_SECRET, &credential->secret);
	decode_sealed(&columns, CREDENTIAL_PREVIOUS_SECRET, &credential->previous_secret);
	credential->previous_valid_until = decode_time(&columns, CREDENTIAL_PREVIOUS_VALID_UNTIL);
	credential->created_at = decode_time(&columns, CREDENTIAL_CREATED_AT);
	credential->modified_at = decode_time(&columns, CREDENTIAL_MODIFIED_AT);
	credential->disabled_at = decode_time(&columns, CREDENTIAL_DISABLED_AT);
	credential->valid_until = decode_time(&columns, CREDENTIAL_VALID_UNTIL);
	credential->due_at = decode_time(&columns, CREDENTIAL_DUE_AT);
	decode_policy(&columns, &credential->policy);
	credential->grace_after_use = columns.nulls[CREDENTIAL_GRACE_AFTER_USE - 1] ? NO_GRACE_AFTER_USE :
		DatumGetInt64(columns.values[CREDENTIAL_GRACE_AFTER_USE - 1]);
	credential->is_own = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
	credential->app_id = 0;
	credential->previous_app_key[0] = '\0';
	if (kind != CREDENTIAL_APP)
		return;
	credential->app_id = DatumGetInt64(columns.values[APP_ID - 1]);
	decode_text(&columns, APP_PREVIOUS_APP_KEY, credential->previous_app_key, sizeof(credential->previous_app_key));
}

static Oid
credentials_of(CredentialKind kind)
{
	const Tables *known = tables_get();

	return kind == CREDENTIAL_APP ? known->app : known->zone;
}

/* The OID of a relation's primary key. */
static Oid
primary_key(Relation relation)
{
	if (!relation->rd_indexvalid)
		list_free(RelationGetIndexList(relation));
	return relation->rd_pkindex;
}

/* Opens the table of a kind of credential, and a scan for the row of this identifier. */
static SysScanDesc
begin_scan(CredentialKind kind, const char *identifier, LOCKMODE mode, Snapshot snapshot)
{
	Relation	relation = tables_open(credentials_of(kind), mode);
	ScanKeyData key;

	ScanKeyInit(&key, CREDENTIAL_IDENTIFIER, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(identifier));
	return systable_beginscan(relation, primary_key(relation), true, snapshot, 1, &key);
}

/* Closes what begin_scan() opened, and keeps a lock on the table that is not just for reading. */
static void
end_scan(SysScanDesc scan, LOCKMODE mode)
{
	Relation	relation = scan->heap_rel;

	systable_endscan(scan);
	table_close(relation, mode == AccessShareLock ? mode : NoLock);
}

/*
 * Finds the credential of this kind and identifier as the snapshot sees it, also a retired one, and
 * tells whether there is one.
 */
bool
rows_find_credential(CredentialKind kind, const char *identifier, Snapshot snapshot, Credential *credential)
{
	SysScanDesc scan = begin_scan(kind, identifier, AccessShareLock, snapshot);
	HeapTuple	tuple = systable_getnext(scan);
	bool		found = HeapTupleIsValid(tuple);

	if (found)
		decode_credential(kind, tuple, RelationGetDescr(scan->heap_rel), credential);
	end_scan(scan, AccessShareLock);
	return found;
}

/* Hands the reader every credential of a kind that the snapshot sees, retired ones too.  Can be cancelled. */
void
rows_read_credentials(CredentialKind kind, Snapshot snapshot, CredentialReader reader, void *reader_state)
{
	Relation	relation = tables_open(credentials_of(kind), AccessShareLock);
	TableScanDesc scan = table_beginscan(relation, snapshot, 0, NULL);
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext, "keyrot row", ALLOCSET_SMALL_SIZES);
	TupleTableSlot *slot = table_slot_create(relation, NULL);
	MemoryContext caller = MemoryContextSwitchTo(row_context);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		Credential	credential;

		CHECK_FOR_INTERRUPTS();
		decode_credential(kind, ExecFetchSlotHeapTuple(slot, false, NULL), RelationGetDescr(relation), &credential);
		reader(&credential, reader_state);
		MemoryContextReset(row_context);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(row_context);
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	table_close(relation, AccessShareLock);
}

/*
 * Locks a row against other writers and leaves its newest version in the slot, as SELECT … FOR NO KEY
 * UPDATE does.  Its key is never updated, so nothing is to be checked again.  Tells whether it is still
 * there.
 */
static bool
lock_row(Relation relation, ItemPointer position, Snapshot snapshot, TupleTableSlot *slot)
{
	bool		sees_newest = !IsolationUsesXactSnapshot();
	TM_FailureData failure;
	TM_Result	result = table_tuple_lock(relation, position, snapshot, slot, GetCurrentCommandId(true),
										  LockTupleNoKeyExclusive, LockWaitBlock,
										  sees_newest ? TUPLE_LOCK_FLAG_FIND_LAST_VERSION : 0, &failure);

	if (result == TM_Ok)
		return true;
	if (sees_newest && result == TM_Deleted)
		return false;
	if (result == TM_Updated || result == TM_Deleted)
		error_concurrent_update();
	if (result == TM_SelfModified)
		error_changed_by_command();
	elog(ERROR, "could not lock row: result %d", (int) result);
}

/*
 * Finds the credential of this kind and identifier as it stands now, also a retired one, and holds its
 * row against other writers until the transaction ends.  Waits for whoever holds it, as lock_timeout
 * allows, and sees what they left; raises 40001 where the transaction's snapshot forbids that.  Judged
 * before it is locked, so that who has no right to it neither waits nor makes others wait, and again as it
 * stands then.  Tells whether it is there.
 */
bool
rows_lock_credential(CredentialKind kind, const char *identifier, CredentialJudge judge, Oid caller,
					 Credential *credential)
{
	Snapshot	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	SysScanDesc scan = begin_scan(kind, identifier, RowShareLock, snapshot);
	Relation	relation = scan->heap_rel;
	HeapTuple	tuple = systable_getnext(scan);
	bool		found = false;

	if (HeapTupleIsValid(tuple))
	{
		ItemPointerData position = tuple->t_self;
		TupleTableSlot *slot = table_slot_create(relation, NULL);

		decode_credential(kind, tuple, RelationGetDescr(relation), credential);
		judge(caller, credential);
		found = lock_row(relation, &position, snapshot, slot);
		if (found)
			decode_credential(kind, ExecFetchSlotHeapTuple(slot, false, NULL), RelationGetDescr(relation), credential);
		credential->position = slot->tts_tid;
		ExecDropSingleTupleTableSlot(slot);
	}
	end_scan(scan, RowShareLock);
	UnregisterSnapshot(snapshot);
	if (found)
		judge(caller, credential);
	return found;
}

/* Whether somebody has put a trigger on a table of ours. */
static bool
has_triggers(Relation relation)
{
	TriggerDesc *triggers = relation->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
		if (!triggers->triggers[i].tgisinternal)
			return true;
	return false;
}

/* Opens a table for writing one row, all of whose columns are NULL at first. */
static void
begin_write(Writer *writer, Oid table)
{
	writer->relation = tables_open(table, RowExclusiveLock);
	writer->estate = CreateExecutorState();
	PushActiveSnapshot(GetTransactionSnapshot());
	writer->estate->es_snapshot = GetActiveSnapshot();
	writer->estate->es_output_cid = GetCurrentCommandId(true);
	writer->target = makeNode(ResultRelInfo);
	InitResultRelInfo(writer->target, writer->relation, 0, NULL, 0);
	ExecOpenIndices(writer->target, false);
	writer->row = MakeSingleTupleTableSlot(RelationGetDescr(writer->relation), &TTSOpsVirtual);
	memset(writer->row->tts_isnull, true, RelationGetNumberOfAttributes(writer->relation) * sizeof(bool));
	writer->is_owner = has_triggers(writer->relation);
	if (writer->is_owner)
		statement_become_owner(&writer->session);
	AfterTriggerBeginQuery();
}

/* Makes the written row visible to the commands that follow, and closes the table but for its lock. */
static void
end_write(Writer *writer)
{
	AfterTriggerEndQuery(writer->estate);
	if (writer->is_owner)
		statement_leave_owner(&writer->session);
	ExecCloseResultRelations(writer->estate);
	ExecDropSingleTupleTableSlot(writer->row);
	ExecCloseIndices(writer->target);
	ExecResetTupleTable(writer->estate->es_tupleTable, false);
	FreeExecutorState(writer->estate);
	PopActiveSnapshot();
	table_close(writer->relation, NoLock);
	CommandCounterIncrement();
}

static void
set_column(TupleTableSlot *row, int column, Datum value)
{
	row->tts_values[column - 1] = value;
	row->tts_isnull[column - 1] = false;
}

static void
set_sealed(TupleTableSlot *row, int column, const Sealed *sealed)
{
	bytea	   *value;

	row->tts_isnull[column - 1] = sealed->length == 0;
	if (sealed->length == 0)
		return;
	value = palloc(VARHDRSZ + sealed->length);
	SET_VARSIZE(value, VARHDRSZ + sealed->length);
	memcpy(VARDATA(value), sealed->bytes, sealed->length);
	row->tts_values[column - 1] = PointerGetDatum(value);
}

static void
set_time(TupleTableSlot *row, int column, TimestampTz value)
{
	row->tts_values[column - 1] = TimestampTzGetDatum(value);
	row->tts_isnull[column - 1] = value == NO_TIME;
}

static void
set_interval(TupleTableSlot *row, int column, const Interval *value)
{
	row->tts_values[column - 1] = IntervalPGetDatum(value);
	row->tts_isnull[column - 1] = value->month == 0 && value->day == 0 && value->time == 0;
}

/*
 * Writes what rotations, switches and policies change of a credential that rows_lock_credential() has locked.
 * None of them is indexed, so that the update is a HOT one wherever the page has room.
 */
void
rows_write_credential(const Credential *credential)
{
	Writer		writer;
	EPQState	never_used;
	ItemPointerData position = credential->position;
	TupleTableSlot *old;
	int			columns;

	begin_write(&writer, credentials_of(credential->kind));
	old = table_slot_create(writer.relation, NULL);
	if (!table_tuple_fetch_row_version(writer.relation, &position, SnapshotAny, old))
		elog(ERROR, "could not find the locked row of \"%s\"", credential->identifier);
	slot_getallattrs(old);
	columns = old->tts_tupleDescriptor->natts;
	memcpy(writer.row->tts_values, old->tts_values, columns * sizeof(Datum));
	memcpy(writer.row->tts_isnull, old->tts_isnull, columns * sizeof(bool));
	set_column(writer.row, CREDENTIAL_VERSION, Int32GetDatum(credential->version));
	set_sealed(writer.row, CREDENTIAL_SECRET, &credential->secret);
	set_sealed(writer.row, CREDENTIAL_PREVIOUS_SECRET, &credential->previous_secret);
	set_time(writer.row, CREDENTIAL_PREVIOUS_VALID_UNTIL, credential->previous_valid_until);
	set_time(writer.row, CREDENTIAL_MODIFIED_AT, credential->modified_at);
	set_time(writer.row, CREDENTIAL_DISABLED_AT, credential->disabled_at);
	set_time(writer.row, CREDENTIAL_VALID_UNTIL, credential->valid_until);
	set_time(writer.row, CREDENTIAL_DUE_AT, credential->due_at);
	set_interval(writer.row, CREDENTIAL_ROTATE_AFTER, &credential->policy.rotate_after);
	set_interval(writer.row, CREDENTIAL_LIFETIME, &credential->policy.lifetime);
	writer.row->tts_values[CREDENTIAL_POLICY_GRACE - 1] = Int64GetDatum(credential->policy.grace);
	writer.row->tts_isnull[CREDENTIAL_POLICY_GRACE - 1] = credential->policy.grace == 0;
	writer.row->tts_values[CREDENTIAL_GRACE_AFTER_USE - 1] = Int64GetDatum(credential->grace_after_use);
	writer.row->tts_isnull[CREDENTIAL_GRACE_AFTER_USE - 1] = credential->grace_after_use == NO_GRACE_AFTER_USE;
	ExecStoreVirtualTuple(writer.row);

	KEYROT_EPQ_INIT(&never_used, writer.estate);
	ExecSimpleRelationUpdate(writer.target, writer.estate, &never_used, old, writer.row);
	EvalPlanQualEnd(&never_used);
	ExecDropSingleTupleTableSlot(old);
	end_write(&writer);
}

/* Records a request that succeeded, in the caller's own transaction; its change, by the top-level one's number. */
void
rows_insert_request(const RequestRow *request)
{
	Writer		writer;
	TupleTableSlot *row;

	begin_write(&writer, tables_get()->request);
	row = writer.row;
	set_column(row, REQUEST_ID, UUIDPGetDatum(&request->id));
	set_column(row, REQUEST_TARGET, CStringGetTextDatum(request->target));
	set_column(row, REQUEST_REQUESTED_AT, TimestampTzGetDatum(request->requested_at));
	set_column(row, REQUEST_ACTION, CStringGetTextDatum(request->action));
	set_column(row, REQUEST_CALLER, CStringGetTextDatum(request->caller.name));
	set_column(row, REQUEST_CALLER_OID, ObjectIdGetDatum(request->caller.oid));
	set_column(row, REQUEST_SESSION_USER, CStringGetTextDatum(request->session_user.name));
	set_column(row, REQUEST_SESSION_USER_OID, ObjectIdGetDatum(request->session_user.oid));
	if (request->client_addr[0] != 0)
		set_column(row, REQUEST_CLIENT_ADDR, PointerGetDatum(request->client_addr));
	set_column(row, REQUEST_PID, Int32GetDatum(request->pid));
	set_column(row, REQUEST_OUTCOME, CStringGetTextDatum(request->outcome));
	if (request->version > 0)
		set_column(row, REQUEST_VERSION, Int32GetDatum(request->version));
	if (request->is_repetition)
		set_column(row, REQUEST_RETRY_OF, UUIDPGetDatum(&request->retry_of));
	if (request->changed != 0)
	{
		set_column(row, REQUEST_CHANGED_KIND, CStringGetTextDatum(request->changed == CREDENTIAL_APP ? "app" : "zone"));
		set_column(row, REQUEST_CHANGED_IN, FullTransactionIdGetDatum(GetTopFullTransactionId()));
	}
	ExecStoreVirtualTuple(writer.row);
	ExecSimpleRelationInsert(writer.target, writer.estate, writer.row);
	end_write(&writer);
}

/*
 * Takes RowExclusiveLock on the table of this kind of credential, as a writer does, before the data key to seal with
 * is chosen: whoever drops a data key waits for all such transactions.
 */
void
rows_lock_row_exclusive(CredentialKind kind)
{
	LockRelationOid(credentials_of(kind), RowExclusiveLock);
}

/* How many blocks the table of a kind of credential has. */
BlockNumber
rows_count_blocks(CredentialKind kind)
{
	Relation	relation = tables_open(credentials_of(kind), AccessShareLock);
	BlockNumber blocks = RelationGetNumberOfBlocks(relation);

	table_close(relation, AccessShareLock);
	return blocks;
}

/* Tells whether the snapshot sees this gateway in this zone. */
bool
rows_gateway_exists(const char *zone_id, const char *gateway_id, Snapshot snapshot)
{
	Relation	relation = tables_open(tables_get()->gateway, AccessShareLock);
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
decode_tag(const Columns *columns, int column, uint8_t tag[DATA_KEY_TAG_BYTES])
{
	bytea	   *packed = DatumGetByteaPP(columns->values[column - 1]);

	memset(tag, 0, DATA_KEY_TAG_BYTES);
	if (VARSIZE_ANY_EXHDR(packed) == DATA_KEY_TAG_BYTES)
		memcpy(tag, VARDATA_ANY(packed), DATA_KEY_TAG_BYTES);
}

static void
decode_data_key(HeapTuple tuple, TupleDesc desc, DataKeyRow *row)
{
	Columns		columns = take_apart(tuple, desc);

	row->id = DatumGetInt32(columns.values[DATA_KEY_ID - 1]);
	decode_sealed(&columns, DATA_KEY_WRAPPED, &row->wrapped);
	decode_tag(&columns, DATA_KEY_MASTER_KEY, row->master_key);
	decode_tag(&columns, DATA_KEY_CHECK_VALUE, row->check_value);
}

/*
 * Reads all data keys that the snapshot sees, ordered by nothing, into an array in the current memory context
 * and returns their number.  NULL is a new snapshot even in REPEATABLE READ and in a parallel worker, as for
 * a catalog: a key that another session just made is what secrets are sealed with.
 */
int
rows_read_data_keys(Snapshot snapshot, DataKeyRow **rows)
{
	Relation	relation = tables_open(tables_get()->data_key, AccessShareLock);
	SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, snapshot, 0, NULL);
	HeapTuple	tuple;
	int			count = 0;
	int			room = 4;

	*rows = palloc(room * sizeof(DataKeyRow));
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		if (count == room)
		{
			room *= 2;
			*rows = repalloc(*rows, room * sizeof(DataKeyRow));
		}
		decode_data_key(tuple, RelationGetDescr(relation), &(*rows)[count++]);
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return count;
}
