/*
 * tables.c
 *	  Determines which relations are keyrot's tables, and is notified of every change to them.
 *
 * A relation counts only if it is a member of the extension: a look-alike keyrot.app, created by a user in a
 * database without the extension, is never accessed.  It must also have the expected columns.
 *
 * This file registers the only relation cache callback of keyrot, because a session has room for only ten,
 * for all its extensions.
 */
#include "store/tables.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "store/columns.h"
#include "store/distribution.h"
#include "store/plain.h"
#include "base/errors.h"

#define TABLE(name) {#name, offsetof(Tables, name)}
static const struct
{
	const char *name;
	size_t		place;
}			names[] = {
	TABLE(app), TABLE(zone), TABLE(gateway), TABLE(data_key), TABLE(request), TABLE(retry), TABLE(reseal),
	TABLE(credential_use)
};

static Tables tables;
static bool tables_valid = false;
static bool is_readable[lengthof(names)];	/* without SQL */
static bool is_writable[lengthof(names)];
static bool has_triggers[lengthof(names)];
static Oid	primary_keys[lengthof(names)];	/* of those that are readable */
static bool are_distributed;
static const char *ruled = NULL;	/* a table with a rule */
static uint64 generation = 0;	/* of what is known of them */
static bool watching = false;
static uint64 changes = 0;		/* of any relation or schema, as they become known */
static uint64 data_key_changes = 0;

/*
 * A lock that this transaction holds until it ends: taking it again would cost a lookup, which matters for
 * verifications. If a subtransaction took it, it is released when that is rolled back, so it is known only within
 * that subtransaction.
 */
typedef struct Held
{
	Oid			relation;
	LocalTransactionId transaction;
	SubTransactionId subtransaction;
} Held;

static Held held_tables[lengthof(names)];
static Held held_keys[lengthof(names)];

/* A column that is not as it was created; while there is one, nothing is read. */
static struct
{
	const char *table;
	const char *column;			/* NULL: nothing is wrong */
}			fault;

static Oid *
place_of(Tables *all, int which)
{
	return (Oid *) ((char *) all + names[which].place);
}

/* Forgets the relations when one of them, or everything, is invalidated. */
static void
on_relcache_change(Datum arg pg_attribute_unused(), Oid relation)
{
	changes++;
	if (relation == InvalidOid || relation == tables.data_key)
		data_key_changes++;
	for (int i = 0; i < (int) lengthof(names); i++)
		if (relation == InvalidOid || relation == *place_of(&tables, i))
			tables_valid = false;
}

/* Forgets them when a schema is renamed, because statements find the tables by name. */
static void
on_schema_change(Datum arg pg_attribute_unused(), int cache pg_attribute_unused(), uint32 hash pg_attribute_unused())
{
	changes++;
	tables_valid = false;
}

/* The OID of one of the extension's own tables, or InvalidOid. */
static Oid
member_table(const char *name, Oid schema, Oid extension)
{
	Oid			relation = get_relname_relid(name, schema);
	char		kind = OidIsValid(relation) ? get_rel_relkind(relation) : '\0';

	if ((kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE) ||
		getExtensionOfObject(RelationRelationId, relation) != extension)
		return InvalidOid;
	return relation;
}

/*
 * Determines whether a table can be read and written without SQL, and whether it has a rule. One that no longer
 * exists will be looked up again anyway.
 */
static void
examine(int which, Oid relation)
{
	int			columns = columns_count(names[which].name);
	int			key_columns = columns_count_key(names[which].name);
	Relation	table = RelationIdGetRelation(relation);

	is_readable[which] = false;
	is_writable[which] = false;
	has_triggers[which] = false;
	if (table == NULL)
		return;
	is_readable[which] = plain_is_readable(table, columns, key_columns);
	is_writable[which] = plain_is_writable(table, columns, key_columns);
	has_triggers[which] = table->trigdesc != NULL;
	primary_keys[which] = table->rd_pkindex;
	if (table->rd_rules != NULL)
		ruled = names[which].name;
	RelationClose(table);
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

/* Looks up all tables; returns whether each of them exists, belongs to the extension, and is as it was created. */
static bool
look_up(Tables *result)
{
	Oid			extension = get_extension_oid("keyrot", true);
	Oid			schema = get_namespace_oid("keyrot", true);
	Tables		found = {0};

	fault.column = NULL;
	if (!OidIsValid(extension) || !OidIsValid(schema))
		return false;
	for (int i = 0; i < (int) lengthof(names); i++)
	{
		Oid			relation = member_table(names[i].name, schema, extension);

		if (!OidIsValid(relation))
			return false;
		*place_of(&found, i) = relation;
	}
	/* This is stored before anything else is checked, so that later changes are noticed. */
	if (result->data_key != found.data_key)
		data_key_changes++;
	found.owner = relation_owner(found.app);
	*result = found;
	ruled = NULL;
	are_distributed = distribution_has(found.app);
	for (int i = 0; i < (int) lengthof(names); i++)
		examine(i, *place_of(&found, i));
	for (int i = 0; i < (int) lengthof(names) && fault.column == NULL; i++)
	{
		fault.table = names[i].name;
		fault.column = columns_find_fault(names[i].name, *place_of(&found, i));
	}
	return fault.column == NULL;
}

/*
 * The extension's tables and their owner, or NULL if the extension is not installed, or a table has other columns
 * than it was created with. The result is valid until the next lock or transaction, or while
 * tables_lock_access_share() holds; do not keep it.
 */
const Tables *
tables_find(void)
{
	if (!watching)
	{
		CacheRegisterRelcacheCallback(on_relcache_change, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, on_schema_change, (Datum) 0);
		watching = true;
	}

	while (!tables_valid)
	{
		uint64		changes_before = changes;
		bool		found = look_up(&tables);

		/* A lookup may process invalidations that previous ones did not. */
		if (changes != changes_before)
			continue;
		if (!found)
			return NULL;
		tables_valid = true;
		generation++;
	}
	return &tables;
}

/*
 * As tables_find(), but raises 55000 instead of returning NULL. If it is called again after a table was locked, the
 * result holds for what is read then: any change of the table made before is known by the time the lock is granted.
 */
const Tables *
tables_get(void)
{
	const Tables *found = tables_find();

	if (found != NULL)
		return found;
	if (fault.column != NULL)
		error_column_changed(fault.table, fault.column);
	error_not_installed();
}

/* Whether a table, in its current state, is one of the extension's and as wanted; sets which one. */
static bool
is_one_of(const bool *wanted, Oid table, int *which)
{
	(void) tables_get();
	for (*which = 0; *which < (int) lengthof(names); (*which)++)
		if (table == *place_of(&tables, *which))
			return wanted[*which];
	return false;
}

static Relation
open_if(const bool *wanted, Oid table, LOCKMODE mode)
{
	Relation	relation = table_open(table, mode);
	int			which;

	if (is_one_of(wanted, table, &which))
		return relation;
	table_close(relation, mode);
	return NULL;
}

/*
 * Opens one of the tables, locked, if its rows may be read without SQL; otherwise returns NULL, and SQL takes its own
 * locks. Raises 55000 if the table has other columns than it was created with.
 */
Relation
tables_open_readable(Oid table, LOCKMODE mode)
{
	return open_if(is_readable, table, mode);
}

/* Takes AccessShareLock until the transaction ends. */
static void
hold(Held *held, Oid relation)
{
	SubTransactionId subtransaction = GetCurrentSubTransactionId();
	VirtualTransactionId transaction;

	GET_VXID_FROM_PGPROC(transaction, *MyProc);
	if (held->relation == relation && held->transaction == transaction.localTransactionId &&
		held->subtransaction == subtransaction)
		return;
	LockRelationOid(relation, AccessShareLock);
	*held = (Held) {relation, transaction.localTransactionId, subtransaction};
}

/*
 * The same for reading rows by the table's primary key, which is also opened. The caller closes both without a lock
 * mode, because the transaction keeps AccessShareLock on both.
 */
Relation
tables_open_by_key(Oid table, Relation *key)
{
	int			which;

	if (!is_one_of(is_readable, table, &which))
		return NULL;
	hold(&held_tables[which], table);
	if (!is_one_of(is_readable, table, &which))
		return NULL;
	hold(&held_keys[which], primary_keys[which]);
	*key = index_open(primary_keys[which], NoLock);
	return table_open(table, NoLock);
}

/* As tables_open_readable(), if rows may also be written without SQL. */
Relation
tables_open_writable(Oid table, LOCKMODE mode)
{
	return open_if(is_writable, table, mode);
}

/* Whether the table has triggers, which may write more than keyrot does. */
bool
tables_have_triggers(Oid table)
{
	int			which;

	return is_one_of(has_triggers, table, &which);
}

/*
 * Whether the tables are distributed over a Citus cluster; false if tables_find() returns NULL. If so, roles are
 * identified by name only, because their OIDs differ from node to node.
 */
bool
tables_are_distributed(void)
{
	return tables_find() != NULL && are_distributed;
}

/* Raises 55000 if a table has a rule, which would replace keyrot's statements by unknown ones. */
void
tables_refuse_rules(void)
{
	(void) tables_get();
	if (ruled != NULL)
		error_rule(ruled);
}

/* Increases with each change of the tables, after which older plans may no longer be right. */
uint64
tables_generation(void)
{
	return generation;
}

/* Increases with each announced change of keyrot.data_key, of any kind. */
uint64
tables_data_key_changes(void)
{
	return data_key_changes;
}

/*
 * Takes AccessShareLock on the table of apps, and ensures that the tables are the extension's, and remain so until
 * the transaction ends. Must be called before anything that was cached is used: if the extension was dropped while
 * the session was idle in a transaction, cached facts are outdated, and statements would find whatever has been
 * created under the same names. Raises 55000 as tables_get() does.
 */
void
tables_lock_access_share(void)
{
	/*
	 * Taking a lock that the transaction already holds would not process invalidations of changes that need no lock
	 * on the table.
	 */
	AcceptInvalidationMessages();
	for (;;)
	{
		Oid			app = tables_get()->app;

		hold(&held_tables[0], app);
		if (tables_valid && tables.app == app)
			return;
	}
}

/*
 * Waits for the end of every transaction that has written credentials, or has locked one in order to write it or to
 * prevent others from writing; not for those that only read, nor for those that begin in the meantime. Also waits for
 * VACUUM and the like, because no lock mode distinguishes them from writers. Holds no lock, so nobody has to wait for
 * this session. Obeys lock_timeout.
 */
void
tables_await_writers(void)
{
	const Tables known = *tables_get();
	LOCKTAG		app;
	LOCKTAG		zone;

	if (tables_are_distributed())
	{
		distribution_await_writers();
		return;
	}
	SET_LOCKTAG_RELATION(app, MyDatabaseId, known.app);
	SET_LOCKTAG_RELATION(zone, MyDatabaseId, known.zone);
	/*
	 * A snapshot left by the lookup would hold back VACUUM, and CREATE INDEX CONCURRENTLY would wait for this
	 * session.
	 */
	InvalidateCatalogSnapshot();
	WaitForLockers(app, ExclusiveLock, false);
	WaitForLockers(zone, ExclusiveLock, false);
}
