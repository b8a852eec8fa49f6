/*
 * rows.c
 *	  Single rows of keyrot's tables: by the executor directly where a table is as the extension made it, by SQL
 *	  where it is not.
 *
 * Whatever somebody adds to a table, a trigger, a policy, partitions, counts for SQL and would be passed by without
 * it.  So a table is looked at, once it is locked, each time: a flag that tables.c keeps.
 */
#include "store/rows.h"

#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "nodes/pg_list.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "store/distribution.h"
#include "store/rows_fast.h"
#include "store/rows_find.h"
#include "store/rows_sql.h"
#include "store/tables.h"
#include "base/errors.h"

static Oid
credentials_of(CredentialKind kind)
{
	const Tables *known = tables_get();

	return kind == CREDENTIAL_APP ? known->app : known->zone;
}

/*
 * Finds the credential of this kind and identifier in the snapshot, even a retired one; returns whether there is one.
 */
bool
rows_find_credential(CredentialKind kind, const char *identifier, Snapshot snapshot, Credential *credential)
{
	Relation	key;
	Relation	table = tables_open_by_key(credentials_of(kind), &key);

	if (table == NULL)
		return rows_sql_find_credential(kind, identifier, snapshot, credential);
	return rows_find_credential_by_key(table, key, kind, identifier, snapshot, credential);
}

/* The same, except that columns that a verification does not need may be left empty. */
bool
rows_find_signer(CredentialKind kind, const char *identifier, Snapshot snapshot, Credential *credential)
{
	Relation	key;
	Relation	table = tables_open_by_key(credentials_of(kind), &key);

	if (table == NULL)
		return rows_sql_find_credential(kind, identifier, snapshot, credential);
	return rows_find_signer_by_key(table, key, kind, identifier, snapshot, credential);
}

/* Passes every credential of a kind in the snapshot to the reader, including retired ones. Can be cancelled. */
void
rows_read_credentials(CredentialKind kind, Snapshot snapshot, CredentialReader reader, void *reader_state)
{
	Relation	table = tables_open_readable(credentials_of(kind), AccessShareLock);

	if (table == NULL)
		rows_sql_read_credentials(kind, snapshot, reader, reader_state);
	else
		rows_fast_read_credentials(table, kind, snapshot, reader, reader_state);
}

/*
 * Finds the current state of the credential of this kind and identifier, even a retired one, and locks its row
 * against other writers until the transaction ends. Waits for a lock, up to lock_timeout, and then sees the new
 * state; raises 40001 if the transaction's snapshot forbids that. It is judged before it is locked, so that callers
 * without rights to it neither wait nor make others wait, and again in its state then. Returns whether there is one.
 */
bool
rows_lock_credential(CredentialKind kind, const char *identifier, CredentialJudge judge, Oid caller,
					 Credential *credential)
{
	Relation	table = tables_open_writable(credentials_of(kind), RowShareLock);
	bool		found = table == NULL ?
		rows_sql_lock_credential(kind, identifier, judge, caller, credential) :
		rows_fast_lock_credential(table, kind, identifier, judge, caller, credential);

	if (found)
		judge(caller, credential);
	return found;
}

/*
 * Changes the credential of this identifier, even a retired one, as "change" says, and stores its new state in
 * "credential". Has the same effect, judges and errors as locking, changing and writing it, but locks the row only if
 * another transaction is changing it, or if the change requires it. Returns whether there is one.
 */
bool
rows_change_credential(const char *identifier, const CredentialChange *change, Credential *credential)
{
	Relation	table = tables_open_writable(credentials_of(change->kind), RowExclusiveLock);

	if (table == NULL)
		return rows_sql_change_credential(identifier, change, credential);
	return rows_fast_change_credential(table, identifier, change, credential);
}

/*
 * Writes what rotations, switches and policies change of a credential that rows_lock_credential() has locked. Raises
 * 55000 if the row was not written, or was written with another version or secret.
 */
void
rows_write_credential(const Credential *credential)
{
	Relation	table = tables_open_writable(credentials_of(credential->kind), RowExclusiveLock);

	if (table != NULL && ItemPointerIsValid(&credential->position))
	{
		rows_fast_write_credential(table, credential);
		return;
	}
	if (table != NULL)
		table_close(table, NoLock);
	rows_sql_write_credential(credential);
}

static bool
is_same_sealed(const Sealed *one, const Sealed *other)
{
	return one->length == other->length && memcmp(one->bytes, other->bytes, one->length) == 0;
}

/*
 * Raises 55000 if a trigger has written a credential again after keyrot, with another version or secret, which the
 * result of the statement does not show.
 */
void
rows_require_as_written(const Credential *credential)
{
	Credential	stored;
	Snapshot	snapshot;
	bool		found;

	if (!tables_have_triggers(credentials_of(credential->kind)))
		return;
	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	found = rows_find_credential(credential->kind, credential->identifier, snapshot, &stored);
	UnregisterSnapshot(snapshot);
	if (!found || stored.version != credential->version || !is_same_sealed(&stored.secret, &credential->secret) ||
		!is_same_sealed(&stored.previous_secret, &credential->previous_secret))
		error_not_written(credential->kind == CREDENTIAL_APP ? "app" : "zone");
}

/*
 * Records a request that succeeded, in the caller's own transaction; for a change, with the ID of the top-level
 * transaction. Raises 55000 if the row was not written, or was written with other values.
 */
void
rows_insert_request(const RequestRow *request)
{
	Relation	table = tables_open_writable(tables_get()->request, RowExclusiveLock);

	if (table == NULL)
		rows_sql_insert_request(request);
	else
		rows_fast_insert_request(table, request);
}

/*
 * Takes RowExclusiveLock on the table of this kind of credential, as a writer does, before the data key to seal with
 * is chosen: dropping a data key waits for all such transactions.
 */
void
rows_lock_row_exclusive(CredentialKind kind)
{
	LockRelationOid(credentials_of(kind), RowExclusiveLock);
}

/*
 * Prevents others from changing the data keys until the transaction ends, on all nodes if the tables are distributed.
 */
void
rows_lock_data_keys(void)
{
	if (tables_are_distributed())
		distribution_lock_data_keys();
	else
		LockRelationOid(tables_get()->data_key, ShareRowExclusiveLock);
}

static BlockNumber
count_blocks(Oid relation)
{
	Relation	part = table_open(relation, AccessShareLock);
	BlockNumber blocks = RELKIND_HAS_STORAGE(part->rd_rel->relkind) ? RelationGetNumberOfBlocks(part) : 0;

	table_close(part, AccessShareLock);
	return blocks;
}

/*
 * The number of blocks of the table of a kind of credential, or of the largest of its partitions. If the tables are
 * distributed: 1 on the coordinator, which stands for all, and 0 on other nodes.
 */
BlockNumber
rows_count_blocks(CredentialKind kind)
{
	List	   *parts;
	BlockNumber most = 0;
	ListCell   *part;

	if (tables_are_distributed())
		return distribution_group() == 0 ? 1 : 0;
	parts = find_all_inheritors(credentials_of(kind), AccessShareLock, NULL);
	foreach(part, parts)
	{
		BlockNumber blocks = count_blocks(lfirst_oid(part));

		most = Max(most, blocks);
	}
	list_free(parts);
	return most;
}

/* Whether the zone has this gateway in the snapshot. */
bool
rows_gateway_exists(const char *zone_id, const char *gateway_id, Snapshot snapshot)
{
	Relation	key;
	Relation	table = tables_open_by_key(tables_get()->gateway, &key);

	if (table == NULL)
		return rows_sql_gateway_exists(zone_id, gateway_id, snapshot);
	return rows_find_gateway_by_key(table, key, zone_id, gateway_id, snapshot);
}

/*
 * Reads all data keys in the snapshot, in no particular order, into an array in the current memory context, and
 * returns their number. NULL means a new snapshot even in REPEATABLE READ and in a parallel worker, as for a catalog:
 * secrets are sealed even with a key that another session has just created.
 */
int
rows_read_data_keys(Snapshot snapshot, DataKeyRow **rows)
{
	Relation	table = tables_open_readable(tables_get()->data_key, AccessShareLock);

	if (table == NULL)
		return rows_sql_read_data_keys(snapshot, rows);
	return rows_fast_read_data_keys(table, snapshot, rows);
}
