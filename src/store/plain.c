/*
 * plain.c
 *	  Whether one of keyrot's tables is as the extension made it, so that its rows can be read, or read and written,
 *	  without SQL and nobody notices.
 *
 * Rather a table too many is not plain than one too few: it costs time and nothing else.  What concerns only how
 * rows are kept (tablespace, fill factor, replica identity, publications, indexes on columns) leaves it plain.  What
 * SQL heeds only where it writes (triggers, CHECKs, columns of somebody's) leaves it plain for reading.
 */
#include "store/plain.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_namespace.h"
#include "nodes/primnodes.h"
#include "nodes/readfuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* Added columns cannot be filled in without SQL; one that has been dropped again is always NULL. */
static bool
has_own_columns_alone(TupleDesc desc, int columns)
{
	for (int i = 0; i < columns; i++)
		if (TupleDescAttr(desc, i)->attidentity != '\0')
			return false;
	for (int i = columns; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped)
			return false;
	return desc->constr == NULL ||
		(desc->constr->num_check == 0 && desc->constr->num_defval == 0);
}

/* Whether an index has no predicate, or one that runs no function: IS NULL or IS NOT NULL of a column. */
static bool
is_plain_predicate(HeapTuple index)
{
	bool		is_null;
	Datum		predicate = SysCacheGetAttr(INDEXRELID, index, Anum_pg_index_indpred, &is_null);
	Node	   *node;

	if (is_null)
		return true;
	node = stringToNode(TextDatumGetCString(predicate));
	return IsA(node, NullTest) && IsA(((NullTest *) node)->arg, Var);
}

/* Whether all functions and operators of the table's indexes are those of the columns' types. */
static bool
is_plain_index(Oid index)
{
	HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
	bool		plain;

	if (!HeapTupleIsValid(tuple))
		return false;
	plain = heap_attisnull(tuple, Anum_pg_index_indexprs, NULL) && is_plain_predicate(tuple) &&
		!((Form_pg_index) GETSTRUCT(tuple))->indisexclusion;
	ReleaseSysCache(tuple);
	return plain;
}

/* Rows are found by the primary key, which must consist of the first columns of the table, in their order. */
static bool
is_primary_key(Oid index, int key_columns)
{
	HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
	Form_pg_index key;
	bool		found;

	if (!HeapTupleIsValid(tuple))
		return false;
	key = (Form_pg_index) GETSTRUCT(tuple);
	found = key->indisvalid && key->indnkeyatts == key_columns;
	for (int i = 0; found && i < key_columns; i++)
		found = key->indkey.values[i] == i + 1;
	ReleaseSysCache(tuple);
	return found;
}

static bool
has_primary_key(Relation table, int key_columns)
{
	list_free(RelationGetIndexList(table));
	return is_primary_key(table->rd_pkindex, key_columns);
}

static bool
has_plain_indexes(Relation table)
{
	List	   *indexes = RelationGetIndexList(table);
	bool		plain = true;
	ListCell   *index;

	foreach(index, indexes)
		plain = plain && is_plain_index(lfirst_oid(index));
	list_free(indexes);
	return plain;
}

/* Citus' shell tables look plain; if Citus is installed, no table counts as plain. */
static bool
is_citus_installed(void)
{
	return OidIsValid(get_relname_relid("pg_dist_partition", PG_CATALOG_NAMESPACE));
}

/*
 * Whether a table, which has this many columns of the extension, contains all of its rows itself, readable by
 * everyone who may read it, and findable by its primary key, the first of the columns. columns.c checks the columns
 * themselves.
 */
bool
plain_is_readable(Relation table, int columns, int key_columns)
{
	Form_pg_class form = table->rd_rel;

	return form->relkind == RELKIND_RELATION && form->relam == HEAP_TABLE_AM_OID &&
		!form->relispartition && !form->relhassubclass && !form->relrowsecurity &&
		RelationGetNumberOfAttributes(table) >= columns && has_primary_key(table, key_columns) && !is_citus_installed();
}

/* Whether, in addition, nothing was added that SQL would take into account when writing. */
bool
plain_is_writable(Relation table, int columns, int key_columns)
{
	return plain_is_readable(table, columns, key_columns) && table->trigdesc == NULL && table->rd_rules == NULL &&
		has_own_columns_alone(RelationGetDescr(table), columns) && has_plain_indexes(table);
}
