/*
 * rows_fast.c
 *	  Single rows of plain tables: found and locked by their key, written by the executor's own simple insert and
 *	  update, as logical replication applies changes.
 *
 * Here is what every rotation and every verification does.  The obvious way, a statement for each step,
 * spends more on starting and ending the executor than on the row and the cryptography together: with
 * SQL, a rotation cost half as much again.  No name is looked up, no text is parsed, and no role is switched, for
 * nothing of anybody else's runs here: a table that has a trigger, a policy or a CHECK is not plain, and its rows
 * are for rows_sql.c.
 *
 * The functions do what those of rows.c say, on a table that the caller has locked, and close it.
 */
#include "store/rows_fast.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "store/rows_decode.h"
#include "base/errors.h"

/* A table that is being written to, and what the executor needs for it. */
typedef struct Writer
{
	Relation	relation;
	EState	   *estate;
	ResultRelInfo *target;
	TupleTableSlot *row;		/* the new row */
} Writer;

/* The OID of a relation's primary key. */
static Oid
primary_key(Relation relation)
{
	if (!relation->rd_indexvalid)
		list_free(RelationGetIndexList(relation));
	return relation->rd_pkindex;
}

/* Begins a scan for the credential's row of this identifier. */
static SysScanDesc
begin_scan(Relation table, const char *identifier, Snapshot snapshot)
{
	ScanKeyData key;

	ScanKeyInit(&key, CREDENTIAL_IDENTIFIER, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(identifier));
	return systable_beginscan(table, primary_key(table), true, snapshot, 1, &key);
}

bool
rows_fast_find_credential(Relation table, CredentialKind kind, const char *identifier, Snapshot snapshot,
						  Credential *credential)
{
	SysScanDesc scan = begin_scan(table, identifier, snapshot);
	HeapTuple	tuple = systable_getnext(scan);
	bool		found = HeapTupleIsValid(tuple);

	if (found)
		decode_credential(kind, tuple, RelationGetDescr(table), credential);
	systable_endscan(scan);
	table_close(table, AccessShareLock);
	return found;
}

void
rows_fast_read_credentials(Relation table, CredentialKind kind, Snapshot snapshot, CredentialReader reader,
						   void *reader_state)
{
	TableScanDesc scan = table_beginscan(table, snapshot, 0, NULL);
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext, "keyrot row", ALLOCSET_SMALL_SIZES);
	TupleTableSlot *slot = table_slot_create(table, NULL);
	MemoryContext caller = MemoryContextSwitchTo(row_context);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		Credential	credential;

		CHECK_FOR_INTERRUPTS();
		decode_credential(kind, ExecFetchSlotHeapTuple(slot, false, NULL), RelationGetDescr(table), &credential);
		reader(&credential, reader_state);
		MemoryContextReset(row_context);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(row_context);
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	table_close(table, AccessShareLock);
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

bool
rows_fast_lock_credential(Relation table, CredentialKind kind, const char *identifier, CredentialJudge judge, Oid caller,
						  Credential *credential)
{
	Snapshot	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	SysScanDesc scan = begin_scan(table, identifier, snapshot);
	HeapTuple	tuple = systable_getnext(scan);
	bool		found = false;

	if (HeapTupleIsValid(tuple))
	{
		ItemPointerData position = tuple->t_self;
		TupleTableSlot *slot = table_slot_create(table, NULL);

		decode_credential(kind, tuple, RelationGetDescr(table), credential);
		judge(caller, credential);
		found = lock_row(table, &position, snapshot, slot);
		if (found)
			decode_credential(kind, ExecFetchSlotHeapTuple(slot, false, NULL), RelationGetDescr(table), credential);
		credential->position = slot->tts_tid;
		ExecDropSingleTupleTableSlot(slot);
	}
	systable_endscan(scan);
	table_close(table, NoLock);
	UnregisterSnapshot(snapshot);
	return found;
}

/* Prepares for writing one row, all of whose columns are NULL at first. */
static void
begin_write(Writer *writer, Relation table)
{
	writer->relation = table;
	writer->estate = CreateExecutorState();
	PushActiveSnapshot(GetTransactionSnapshot());
	writer->estate->es_snapshot = GetActiveSnapshot();
	writer->estate->es_output_cid = GetCurrentCommandId(true);
	writer->target = makeNode(ResultRelInfo);
	InitResultRelInfo(writer->target, writer->relation, 0, NULL, 0);
	ExecOpenIndices(writer->target, false);
	writer->row = MakeSingleTupleTableSlot(RelationGetDescr(writer->relation), &TTSOpsVirtual);
	memset(writer->row->tts_isnull, true, RelationGetNumberOfAttributes(writer->relation) * sizeof(bool));
}

/* Makes the written row visible to the commands that follow, and closes the table but for its lock. */
static void
end_write(Writer *writer)
{
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

/* No column that is written is indexed, so that the update is a HOT one wherever the page has room. */
void
rows_fast_write_credential(Relation table, const Credential *credential)
{
	Writer		writer;
	EPQState	never_used;
	ItemPointerData position = credential->position;
	TupleTableSlot *old;
	int			columns;

	begin_write(&writer, table);
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

void
rows_fast_insert_request(Relation table, const RequestRow *request)
{
	Writer		writer;
	TupleTableSlot *row;

	begin_write(&writer, table);
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

bool
rows_fast_gateway_exists(Relation table, const char *zone_id, const char *gateway_id, Snapshot snapshot)
{
	ScanKeyData keys[2];
	SysScanDesc scan;
	bool		found;

	ScanKeyInit(&keys[0], GATEWAY_ZONE_ID, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(zone_id));
	ScanKeyInit(&keys[1], GATEWAY_GATEWAY_ID, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(gateway_id));
	scan = systable_beginscan(table, primary_key(table), true, snapshot, 2, keys);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(table, AccessShareLock);
	return found;
}

int
rows_fast_read_data_keys(Relation table, Snapshot snapshot, DataKeyRow **rows)
{
	SysScanDesc scan = systable_beginscan(table, InvalidOid, false, snapshot, 0, NULL);
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
		decode_data_key(tuple, RelationGetDescr(table), &(*rows)[count++]);
	}
	systable_endscan(scan);
	table_close(table, AccessShareLock);
	return count;
}
