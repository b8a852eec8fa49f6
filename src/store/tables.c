/*
 * tables.c
 *	  Knows which relations are keyrot's tables.
 *
 * A relation counts only as a member of the extension: a look-alike keyrot.app, made by somebody in a
 * database without the extension, is never touched.
 */
#include "store/tables.h"

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/errors.h"

static Tables tables;
static bool tables_valid = false;
static bool watching = false;
static uint64 changes = 0;		/* of any relation or schema, as they become known */

/* Forgets the relations when one of them, or everything, is invalidated. */
static void
on_relcache_change(Datum arg pg_attribute_unused(), Oid relation)
{
	changes++;
	if (relation == InvalidOid || relation == tables.app || relation == tables.zone ||
		relation == tables.gateway || relation == tables.data_key || relation == tables.request ||
		relation == tables.retry || relation == tables.reseal)
		tables_valid = false;
}

/* Forgets them when a schema is renamed, for statements find the tables by name. */
static void
on_schema_change(Datum arg pg_attribute_unused(), int cache pg_attribute_unused(), uint32 hash pg_attribute_unused())
{
	changes++;
	tables_valid = false;
}

/* The OID of one of the extension's own tables, or InvalidOid; rows.c can handle plain tables only. */
static Oid
member_table(const char *name, Oid schema, Oid extension)
{
	Oid			relation = get_relname_relid(name, schema);

	if (!OidIsValid(relation) || get_rel_relkind(relation) != RELKIND_RELATION ||
		getExtensionOfObject(RelationRelationId, relation) != extension)
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

/* Looks all of them up; tells whether each is there, and the extension's. */
static bool
look_up(Tables *result)
{
	Oid			extension = get_extension_oid("keyrot", true);
	Oid			schema = get_namespace_oid("keyrot", true);
	Tables		found = {0};

	if (!OidIsValid(extension) || !OidIsValid(schema))
		return false;
	found.app = member_table("app", schema, extension);
	found.zone = member_table("zone", schema, extension);
	found.gateway = member_table("gateway", schema, extension);
	found.data_key = member_table("data_key", schema, extension);
	found.request = member_table("request", schema, extension);
	found.retry = member_table("retry", schema, extension);
	found.reseal = member_table("reseal", schema, extension);
	if (!OidIsValid(found.app) || !OidIsValid(found.zone) || !OidIsValid(found.gateway) ||
		!OidIsValid(found.data_key) || !OidIsValid(found.request) || !OidIsValid(found.retry) ||
		!OidIsValid(found.reseal))
		return false;
	found.owner = relation_owner(found.app);
	*result = found;
	return true;
}

/*
 * The extension's tables and their owner, or NULL where the extension is not installed.  The answer is
 * good until the next lock or transaction, or while tables_lock_shared() holds; do not keep it.
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

		/* A look-up may come to know of changes that the ones before it missed. */
		if (!look_up(&tables))
			return NULL;
		tables_valid = changes == changes_before;
	}
	return &tables;
}

/* As tables_find(), and raises 55000 where the extension is not installed. */
const Tables *
tables_get(void)
{
	const Tables *found = tables_find();

	if (found == NULL)
		error_not_installed();
	return found;
}

/*
 * Makes sure that the tables are the extension's, and stay so until the transaction ends.  To be called
 * before anything that was cached is used: facts from before are stale where the extension was dropped
 * while the session was idle in a transaction, and statements would then find whatever somebody has put
 * under the same names.  Raises 55000 where the extension is not installed.
 */
void
tables_lock_shared(void)
{
	/* A lock that the transaction has already would not look for changes that need no lock of ours. */
	AcceptInvalidationMessages();
	for (;;)
	{
		Oid			app = tables_get()->app;

		LockRelationOid(app, AccessShareLock);
		if (tables_valid && tables.app == app)
			return;
		UnlockRelationOid(app, AccessShareLock);
	}
}

/*
 * Waits for the end of every transaction that has written credentials, or has locked one, so that it is about to
 * or just keeps others away; not for those that only read, and not for those that begin meanwhile.  VACUUM and
 * its like are waited for, too: no lock mode tells them from writers.  Holds no lock, so that nobody has to wait
 * for us.  Obeys lock_timeout.
 */
void
tables_await_writers(void)
{
	const Tables known = *tables_get();
	LOCKTAG		app;
	LOCKTAG		zone;

	SET_LOCKTAG_RELATION(app, MyDatabaseId, known.app);
	SET_LOCKTAG_RELATION(zone, MyDatabaseId, known.zone);
	/* One that the look-up left would hold VACUUM back meanwhile, and CREATE INDEX CONCURRENTLY wait for us. */
	InvalidateCatalogSnapshot();
	WaitForLockers(app, ExclusiveLock, false);
	WaitForLockers(zone, ExclusiveLock, false);
}
