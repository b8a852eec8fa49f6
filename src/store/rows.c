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
 * Finds the credential of this kind and identifier as the snapshot sees it, also a retired one, and
 * tells whether there is one.
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

/* The same, but for what a verification does not read: that may be empty. */
bool
rows_find_signer(CredentialKind kind, const char *identifier, Snapshot snapshot, Credential *credential)
{
	Relation	key;
	Relation	table = tables_open_by_key(credentials_of(kind), &key);

	if (table == NULL)
		return rows_sql_find_credential(kind, identifier, snapshot, credential);
	return rows_find_signer_by_key(table, key, kind, identifier, snapshot, credential);
}

/* Hands the reader every credential of a kind that the snapshot sees, retired ones too.  Can be cancelled. */
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
	Relation	table = tables_open_writable(credentials_of(kind), RowShareLock);
	bool		found = table == NULL ?
		rows_sql_lock_credential(kind, identifier, judge, caller, credential) :
		rows_fast_lock_credential(table, kind, identifier, judge, caller, credential);

	if (found)
		judge(caller, credential);
	return found;
}

/*
 * Changes the credential of this identifier as it stands now, also a retired one, by what the change makes of it, and
 * leaves in "credential" how it stands then.  Does what locking, changing and writing do, judged likewise and with the
 * same errors, but locks the row only where somebody else is changing it, or the change asks for it.  Tells whether
 * it is there.
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
 * Writes what rotations, switches and policies change of a credential that rows_lock_credential() has locked.
 * Raises 55000 where something keeps it from being written, or writes another version or secret.
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
 * Raises 55000 where a trigger has written a credential again after us, with another version or secret: what a
 * statement returns is from before that.
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
 * Records a request that succeeded, in the caller's own transaction; its change, by the top-level one's number.  Raises 55000 where something keeps the row from
 * being written, or writes another.
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
 * is chosen: whoever drops a data key waits for all such transactions.
 */
void
rows_lock_row_exclusive(CredentialKind kind)
{
	LockRelationOid(credentials_of(kind), RowExclusiveLock);
}

/* Keeps others from changing the data keys until the transaction ends, on whichever node where they are distributed. */
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
 * How many blocks the table of a kind of credential has, or the largest of its partitions.  Where the tables are
 * distributed, one stands for all of them on the coordinator, and no other node has any.
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

/* Tells whether the snapshot sees this gateway in this zone. */
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
 * Reads all data keys that the snapshot sees, ordered by nothing, into an array in the current memory context
 * and returns their number.  NULL is a new snapshot even in REPEATABLE READ and in a parallel worker, as for
 * a catalog: a key that another session just made is what secrets are sealed with.
 */
int
rows_read_data_keys(Snapshot snapshot, DataKeyRow **rows)
{
	Relation	table = tables_open_readable(tables_get()->data_key, AccessShareLock);

	if (table == NULL)
		return rows_sql_read_data_keys(snapshot, rows);
	return rows_fast_read_data_keys(table, snapshot, rows);
}
