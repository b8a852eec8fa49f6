/*
 * columns.c
 *	  The columns of keyrot's tables, as created by the extension's script, and a check that they are
 *	  unchanged.
 *
 * Rows are read by the positions and types of their columns, without a check for each row.  A dropped column
 * would be read as NULL, and one with another type as a number made of its bytes.  So all columns are
 * compared with these lists whenever a table is looked up again, which any change to it causes.  A column
 * that must not be NULL has to be declared NOT NULL: then code that reads it need not check for NULL.
 *
 * Columns that users add after these are theirs; the rows are then written by SQL, which fills them in.
 */
#include "store/columns.h"

#include "access/htup_details.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "utils/catcache.h"
#include "utils/syscache.h"

typedef struct Column
{
	const char *name;
	Oid			type;
	Oid			collation;
	bool		not_null;
} Column;

#define NOT_NULL true
#define NULLABLE false
#define KEY(name, nulls) {name, TEXTOID, C_COLLATION_OID, nulls}
#define TEXT(name, nulls) {name, TEXTOID, DEFAULT_COLLATION_OID, nulls}
#define OTHER(name, type, nulls) {name, type, InvalidOid, nulls}

/* The columns that credentials of both kinds have. */
#define CREDENTIAL(identifier) \
	KEY(identifier, NOT_NULL), \
	TEXT("owner_name", NOT_NULL), \
	OTHER("created_at", TIMESTAMPTZOID, NOT_NULL), \
	OTHER("owner", OIDOID, NOT_NULL), \
	OTHER("version", INT4OID, NOT_NULL), \
	OTHER("modified_at", TIMESTAMPTZOID, NOT_NULL), \
	OTHER("secret", BYTEAOID, NULLABLE), \
	OTHER("previous_secret", BYTEAOID, NULLABLE), \
	OTHER("previous_valid_until", TIMESTAMPTZOID, NULLABLE), \
	OTHER("grace_after_use", INT8OID, NULLABLE), \
	OTHER("valid_until", TIMESTAMPTZOID, NULLABLE), \
	OTHER("due_at", TIMESTAMPTZOID, NULLABLE), \
	OTHER("disabled_at", TIMESTAMPTZOID, NULLABLE), \
	OTHER("rotate_after", INTERVALOID, NULLABLE), \
	OTHER("lifetime", INTERVALOID, NULLABLE), \
	OTHER("policy_grace", INT8OID, NULLABLE)

static const Column app[] = {
	CREDENTIAL("app_key"),
	OTHER("app_id", INT8OID, NOT_NULL),
	KEY("previous_app_key", NULLABLE),
	TEXT("app_name", NOT_NULL),
	TEXT("description", NULLABLE)
};
static const Column zone[] = {
	CREDENTIAL("zone_id")
};
static const Column gateway[] = {
	KEY("zone_id", NOT_NULL),
	KEY("gateway_id", NOT_NULL),
	OTHER("added_at", TIMESTAMPTZOID, NOT_NULL)
};
static const Column data_key[] = {
	OTHER("id", INT4OID, NOT_NULL),
	OTHER("wrapped", BYTEAOID, NOT_NULL),
	OTHER("master_key", BYTEAOID, NOT_NULL),
	OTHER("check_value", BYTEAOID, NOT_NULL),
	OTHER("created_at", TIMESTAMPTZOID, NOT_NULL)
};
static const Column request[] = {
	OTHER("request_id", UUIDOID, NOT_NULL),
	KEY("target", NOT_NULL),
	OTHER("requested_at", TIMESTAMPTZOID, NOT_NULL),
	KEY("action", NOT_NULL),
	TEXT("caller", NOT_NULL),
	OTHER("caller_oid", OIDOID, NOT_NULL),
	TEXT("session_user", NOT_NULL),
	OTHER("session_user_oid", OIDOID, NOT_NULL),
	OTHER("client_addr", INETOID, NULLABLE),
	OTHER("pid", INT4OID, NOT_NULL),
	KEY("outcome", NOT_NULL),
	OTHER("version", INT4OID, NULLABLE),
	OTHER("retry_of", UUIDOID, NULLABLE),
	KEY("changed_kind", NULLABLE),
	OTHER("changed_in", XID8OID, NULLABLE)
};
static const Column retry[] = {
	KEY("caller", NOT_NULL),
	OTHER("caller_oid", OIDOID, NOT_NULL),
	KEY("client_token", NOT_NULL),
	OTHER("request_id", UUIDOID, NOT_NULL),
	KEY("action", NOT_NULL),
	KEY("target", NOT_NULL),
	KEY("new_app_key", NULLABLE),
	OTHER("grace_period", INT8OID, NOT_NULL),
	KEY("grace_from", NOT_NULL),
	OTHER("secret_given", BOOLOID, NOT_NULL),
	OTHER("version", INT4OID, NULLABLE),
	OTHER("created_at", TIMESTAMPTZOID, NOT_NULL)
};
static const Column reseal[] = {
	OTHER("data_key", INT4OID, NOT_NULL),
	OTHER("started_at", TIMESTAMPTZOID, NOT_NULL),
	OTHER("updated_at", TIMESTAMPTZOID, NOT_NULL),
	OTHER("ended_at", TIMESTAMPTZOID, NULLABLE),
	OTHER("done", INT8OID, NOT_NULL),
	OTHER("total", INT8OID, NOT_NULL)
};
static const Column credential_use[] = {
	KEY("kind", NOT_NULL),
	KEY("id", NOT_NULL),
	OTHER("version", INT4OID, NOT_NULL),
	OTHER("last_used_at", TIMESTAMPTZOID, NULLABLE),
	OTHER("earlier_last_used_at", TIMESTAMPTZOID, NULLABLE)
};

#define MAX_COLUMNS 64

#define LIST(table, key_count) {#table, table, lengthof(table), key_count}
static const struct
{
	const char *table;
	const Column *columns;
	int			count;
	int			key_count;		/* 0: its primary key is other columns; its rows are found by SQL alone */
}			lists[] = {
	LIST(app, 1), LIST(zone, 1), LIST(gateway, 2), LIST(data_key, 1), LIST(request, 2), LIST(retry, 0), LIST(reseal, 1),
	LIST(credential_use, 2)
};

static bool
is_as_made(Form_pg_attribute attribute, const Column *column)
{
	return !attribute->attisdropped && strcmp(NameStr(attribute->attname), column->name) == 0 &&
		attribute->atttypid == column->type && attribute->attcollation == column->collation &&
		(attribute->attnotnull || !column->not_null);
}

/* The first of these columns that the relation lacks, or has with another definition; NULL if there is none. */
static const char *
find_difference(Oid relation, const Column *columns, int count)
{
	CatCList   *attributes = SearchSysCacheList1(ATTNUM, ObjectIdGetDatum(relation));
	bool		good[MAX_COLUMNS] = {false};

	Assert(count <= MAX_COLUMNS);
	for (int i = 0; i < attributes->n_members; i++)
	{
		Form_pg_attribute attribute = (Form_pg_attribute) GETSTRUCT(&attributes->members[i]->tuple);
		int			position = attribute->attnum - 1;

		if (position >= 0 && position < count)
			good[position] = is_as_made(attribute, &columns[position]);
	}
	ReleaseCatCacheList(attributes);
	for (int i = 0; i < count; i++)
		if (!good[i])
			return columns[i].name;
	return NULL;
}

static int
list_of(const char *table)
{
	for (int i = 0; i < (int) lengthof(lists); i++)
		if (strcmp(lists[i].table, table) == 0)
			return i;
	elog(ERROR, "table \"%s\" has no list of columns", table);
}

/* The number of columns with which one of keyrot's tables was created. */
int
columns_count(const char *table)
{
	return lists[list_of(table)].count;
}

/* How many of them, starting with the first, are its primary key. */
int
columns_count_key(const char *table)
{
	return lists[list_of(table)].key_count;
}

/*
 * The first column of one of keyrot's tables, opened as this relation, that is not as it was created; NULL if there
 * is none.
 */
const char *
columns_find_fault(const char *table, Oid relation)
{
	int			list = list_of(table);

	return find_difference(relation, lists[list].columns, lists[list].count);
}
