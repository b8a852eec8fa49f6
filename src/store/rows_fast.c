/*
 * rows_fast.c
 *	  Single rows of plain tables: found and locked by their key, and written without the executor, but for indexes.
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
 * Locks a row against other writers and stores its newest version in the slot, as SELECT … FOR NO KEY UPDATE does.
 * Its key is never updated, so it need not be checked again. Returns whether the row still exists.
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

/* Locks the row at this position, if it still exists, and reads its current state. */
static bool
lock_and_read(Relation table, ItemPointer position, Snapshot snapshot, CredentialKind kind, Credential *credential)
{
	TupleTableSlot *slot = table_slot_create(table, NULL);
	ItemPointerData first = *position;
	bool		found = lock_row(table, &first, snapshot, slot);

	if (found)
	{
		decode_credential(kind, ExecFetchSlotHeapTuple(slot, false, NULL), RelationGetDescr(table), credential);
		credential->position = slot->tts_tid;
		credential->is_locked = true;
	}
	ExecDropSingleTupleTableSlot(slot);
	return found;
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
		decode_credential(kind, tuple, RelationGetDescr(table), credential);
		judge(caller, credential);
		found = lock_and_read(table, &tuple->t_self, snapshot, kind, credential);
	}
	systable_endscan(scan);
	table_close(table, NoLock);
	UnregisterSnapshot(snapshot);
	return found;
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

static void
set_microseconds(TupleTableSlot *row, int column, int64 value, int64 none)
{
	row->tts_values[column - 1] = Int64GetDatum(value);
	row->tts_isnull[column - 1] = value == none;
}

/* A row of the table, all of whose columns are NULL. */
static TupleTableSlot *
make_row(Relation table)
{
	TupleTableSlot *row = MakeSingleTupleTableSlot(RelationGetDescr(table), &TTSOpsVirtual);

	memset(row->tts_isnull, true, RelationGetNumberOfAttributes(table) * sizeof(bool));
	return row;
}

/* The new version of a row, with the columns that rows_write_credential() may change. */
static TupleTableSlot *
make_successor(Relation table, HeapTuple old, const Credential *credential)
{
	TupleTableSlot *row = make_row(table);

	heap_deform_tuple(old, RelationGetDescr(table), row->tts_values, row->tts_isnull);
	set_column(row, CREDENTIAL_VERSION, Int32GetDatum(credential->version));
	set_time(row, CREDENTIAL_MODIFIED_AT, credential->modified_at);
	set_sealed(row, CREDENTIAL_SECRET, &credential->secret);
	set_sealed(row, CREDENTIAL_PREVIOUS_SECRET, &credential->previous_secret);
	set_time(row, CREDENTIAL_PREVIOUS_VALID_UNTIL, credential->previous_valid_until);
	set_microseconds(row, CREDENTIAL_GRACE_AFTER_USE, credential->grace_after_use, NO_GRACE_AFTER_USE);
	set_time(row, CREDENTIAL_DISABLED_AT, credential->disabled_at);
	set_time(row, CREDENTIAL_VALID_UNTIL, credential->valid_until);
	set_time(row, CREDENTIAL_DUE_AT, credential->due_at);
	set_interval(row, CREDENTIAL_ROTATE_AFTER, &credential->policy.rotate_after);
	set_interval(row, CREDENTIAL_LIFETIME, &credential->policy.lifetime);
	set_microseconds(row, CREDENTIAL_POLICY_GRACE, credential->policy.grace, 0);
	return ExecStoreVirtualTuple(row);
}

/* Inserts a written row into the table's indexes: all, or for an update only those that need it. */
static void
insert_index_entries(Relation table, TupleTableSlot *row, bool is_update, bool only_summarizing)
{
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *target = makeNode(ResultRelInfo);

	PushActiveSnapshot(GetTransactionSnapshot());
	InitResultRelInfo(target, table, 0, NULL, 0);
	ExecOpenIndices(target, false);
	KEYROT_INSERT_INDEX_TUPLES(target, row, estate, is_update, only_summarizing);
	ExecCloseIndices(target);
	FreeExecutorState(estate);
	PopActiveSnapshot();
}

/*
 * Writes a new version of the row from which a credential was read, unless another transaction has changed that row;
 * waits for one that is changing it, up to lock_timeout. Returns whether it was written. No indexed column changes,
 * so it is a HOT update if the page has room.
 */
static bool
try_update(Relation table, HeapTuple old, Snapshot snapshot, const Credential *credential)
{
	TupleTableSlot *row = make_successor(table, old, credential);
	KEYROT_UPDATED_INDEXES indexes;
	TM_FailureData failure;
	LockTupleMode mode;
	TM_Result	result;

	CheckCmdReplicaIdentity(table, CMD_UPDATE);
	result = table_tuple_update(table, &old->t_self, row, GetCurrentCommandId(true), snapshot, InvalidSnapshot, true,
								&failure, &mode, &indexes);
	if (result == TM_Ok && KEYROT_UPDATES_INDEXES(indexes))
		insert_index_entries(table, row, true, KEYROT_ONLY_SUMMARIZING(indexes));
	ExecDropSingleTupleTableSlot(row);
	if (result == TM_Ok)
		CommandCounterIncrement();
	return result == TM_Ok;
}

/* Updates a locked row, which nobody else can have changed. */
static void
update_locked(Relation table, Snapshot snapshot, const Credential *credential)
{
	TupleTableSlot *slot = table_slot_create(table, NULL);
	ItemPointerData position = credential->position;

	if (!table_tuple_fetch_row_version(table, &position, SnapshotAny, slot) ||
		!try_update(table, ExecFetchSlotHeapTuple(slot, false, NULL), snapshot, credential))
		elog(ERROR, "could not update the locked row of \"%s\"", credential->identifier);
	ExecDropSingleTupleTableSlot(slot);
}

void
rows_fast_write_credential(Relation table, const Credential *credential)
{
	Snapshot	snapshot = RegisterSnapshot(GetTransactionSnapshot());

	update_locked(table, snapshot, credential);
	UnregisterSnapshot(snapshot);
	table_close(table, NoLock);
}

/* Changes a credential whose row must be locked first. */
static bool
change_locked(Relation table, ItemPointer position, Snapshot snapshot, const CredentialChange *change,
			  Credential *credential)
{
	if (!lock_and_read(table, position, snapshot, change->kind, credential))
		return false;
	change->judge(change->caller, credential);
	if (change->make(credential, change->state) == CHANGE_MADE)
		update_locked(table, snapshot, credential);
	return true;
}

/*
 * A row that is updated at once need not be locked before, which would write WAL. The scan stays open meanwhile: it
 * pins the row's page, so that no other row can take its position.
 */
static bool
change_row(Relation table, HeapTuple tuple, Snapshot snapshot, const CredentialChange *change, Credential *credential)
{
	decode_credential(change->kind, tuple, RelationGetDescr(table), credential);
	change->judge(change->caller, credential);
	switch (change->make(credential, change->state))
	{
		case CHANGE_NONE:
			return true;
		case CHANGE_MADE:
			if (try_update(table, tuple, snapshot, credential))
				return true;
			break;
		case CHANGE_NEEDS_LOCK:
			break;
	}
	return change_locked(table, &tuple->t_self, snapshot, change, credential);
}

bool
rows_fast_change_credential(Relation table, const char *identifier, const CredentialChange *change,
							Credential *credential)
{
	Snapshot	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	SysScanDesc scan = begin_scan(table, identifier, snapshot);
	HeapTuple	tuple = systable_getnext(scan);
	bool		found = HeapTupleIsValid(tuple) && change_row(table, tuple, snapshot, change, credential);

	systable_endscan(scan);
	table_close(table, NoLock);
	UnregisterSnapshot(snapshot);
	return found;
}

void
rows_fast_insert_request(Relation table, const RequestRow *request)
{
	TupleTableSlot *row = make_row(table);

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
	table_tuple_insert(table, ExecStoreVirtualTuple(row), GetCurrentCommandId(true), 0, NULL);
	insert_index_entries(table, row, false, false);
	ExecDropSingleTupleTableSlot(row);
	table_close(table, NoLock);
	CommandCounterIncrement();
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
