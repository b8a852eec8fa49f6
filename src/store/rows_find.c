/*
 * rows_find.c
 *	  Single rows of plain tables, found by their primary key: what every verification does.
 *
 * The usual way, systable_beginscan() or the executor's slots, takes as long again as the index and the row.  Here the
 * row is read where it lies: its buffer is pinned, so that it stays there while it is taken apart.
 *
 * The functions do what those of rows.c say, on a table and its primary key that the caller has opened, and close both;
 * the transaction keeps the locks.
 */
#include "store/rows_find.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "store/rows_decode.h"

/* A row, and the pinned buffer that contains it. */
typedef struct Found
{
	HeapTupleData row;
	Buffer		buffer;
} Found;

/*
 * Whether one of the versions of a row on this page, to which an index entry points, is visible in the snapshot. If
 * none is, also sets whether all of them are dead to everyone.
 */
static bool
fetch(Relation table, ItemPointerData position, Snapshot snapshot, Found *found, bool *is_dead)
{
	bool		sees;

	found->buffer = ReadBuffer(table, ItemPointerGetBlockNumber(&position));
	LockBuffer(found->buffer, BUFFER_LOCK_SHARE);
	sees = heap_hot_search_buffer(&position, table, found->buffer, snapshot, &found->row, is_dead, true);
	LockBuffer(found->buffer, BUFFER_LOCK_UNLOCK);
	if (!sees)
		ReleaseBuffer(found->buffer);
	return sees;
}

/* Finds the row that has these values in the columns of the primary key. */
static bool
find(Relation table, Relation key, ScanKeyData *values, int count, Snapshot snapshot, Found *found)
{
	IndexScanDesc scan = KEYROT_BEGIN_INDEX_SCAN(table, key, snapshot, count);
	ItemPointer position;
	bool		sees = false;

	index_rescan(scan, values, count, NULL, 0);
	while (!sees && (position = index_getnext_tid(scan, ForwardScanDirection)) != NULL)
	{
		bool		is_dead;

		sees = fetch(table, *position, snapshot, found, &is_dead);
		scan->kill_prior_tuple = !sees && is_dead && !scan->xactStartedInRecovery;
	}
	index_endscan(scan);
	return sees;
}

static void
close_both(Relation table, Relation key)
{
	index_close(key, NoLock);
	table_close(table, NoLock);
}

/* Reads a credential's row. */
typedef void (*Decoder) (CredentialKind kind, HeapTuple tuple, TupleDesc desc, Credential *credential);

static bool
find_credential(Relation table, Relation key, CredentialKind kind, const char *identifier, Snapshot snapshot,
				Decoder decoder, Credential *credential)
{
	ScanKeyData value;
	Found		found;
	bool		sees;

	ScanKeyInit(&value, CREDENTIAL_IDENTIFIER, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(identifier));
	sees = find(table, key, &value, 1, snapshot, &found);
	if (sees)
	{
		decoder(kind, &found.row, RelationGetDescr(table), credential);
		ReleaseBuffer(found.buffer);
	}
	close_both(table, key);
	return sees;
}

bool
rows_find_credential_by_key(Relation table, Relation key, CredentialKind kind, const char *identifier, Snapshot snapshot,
							Credential *credential)
{
	return find_credential(table, key, kind, identifier, snapshot, decode_credential, credential);
}

bool
rows_find_signer_by_key(Relation table, Relation key, CredentialKind kind, const char *identifier, Snapshot snapshot,
						Credential *credential)
{
	if (!find_credential(table, key, kind, identifier, snapshot, decode_for_verification, credential))
		return false;
	strlcpy(credential->identifier, identifier, sizeof(credential->identifier));
	return true;
}

bool
rows_find_gateway_by_key(Relation table, Relation key, const char *zone_id, const char *gateway_id, Snapshot snapshot)
{
	ScanKeyData values[2];
	Found		found;
	bool		sees;

	ScanKeyInit(&values[0], GATEWAY_ZONE_ID, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(zone_id));
	ScanKeyInit(&values[1], GATEWAY_GATEWAY_ID, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(gateway_id));
	sees = find(table, key, values, 2, snapshot, &found);
	if (sees)
		ReleaseBuffer(found.buffer);
	close_both(table, key);
	return sees;
}
