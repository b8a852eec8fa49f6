/*
 * app_statements.c
 *	  The SQL statements on apps; see statement.c for their rules.
 */
#include "store/app_statements.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "store/credential_statements.h"
#include "store/statement.h"
#include "base/errors.h"

static void
read_new_app(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	Credential *app = reader_state;
	bool		is_null;

	app->app_id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &is_null));
	if (!DatumGetBool(SPI_getbinval(tuple, desc, 2, &is_null)) || is_null)
		error_not_written("app");
}

/*
 * Moves the sequence past every number in use, in one step, where the one just drawn was in use: the sequence
 * did not come along with the rows, or was set back.  Raises 55000 where it was not, for then somebody keeps rows
 * from being written.
 */
static void
skip_numbers_in_use(void)
{
	static Statement skip = {
		.text = "SELECT pg_catalog.setval('keyrot.app_id', greatest(used.app_id, s.last_value))"
		"  FROM (SELECT pg_catalog.max(app_id) AS app_id FROM keyrot.app) AS used, keyrot.app_id AS s"
		" WHERE used.app_id OPERATOR(pg_catalog.>=) pg_catalog.currval('keyrot.app_id')",
		.success = SPI_OK_SELECT,
	};
	Parameters	none = {0};

	if (statement_run_without_rows(&skip, &none) == 0)
		error_not_written("app");
}

/*
 * Inserts a new app and sets its app_id, a number that no app ever had.  Tells whether the AppKey was free; where
 * another transaction has just inserted it, or the number, waits for that one to end.
 */
bool
app_statements_insert(Credential *app, Datum app_name, NullableDatum description)
{
	/* The look-up, beside the constraint, is for tables that cannot have it: partitioned ones. */
	static Statement insert = {
		.text = "INSERT INTO keyrot.app (app_key, version, owner, owner_name, secret, created_at, modified_at,"
		"                        app_id, app_name, description)"
		" SELECT $1, $2, $3, $4, $5, $6, $7, next.app_id, $8, $9"
		"   FROM (SELECT pg_catalog.nextval('keyrot.app_id') AS app_id) AS next"
		"  WHERE NOT EXISTS (SELECT FROM keyrot.app AS a WHERE a.app_id OPERATOR(pg_catalog.=) next.app_id)"
		" ON CONFLICT DO NOTHING RETURNING app_id, app_key OPERATOR(pg_catalog.=) $1"
		" AND version OPERATOR(pg_catalog.=) $2 AND secret OPERATOR(pg_catalog.=) $5",
		.success = SPI_OK_INSERT_RETURNING,
		.types = {TEXTOID, INT4OID, OIDOID, TEXTOID, BYTEAOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, TEXTOID},
	};
	Parameters	parameters = {0};

	parameters_add_text(&parameters, app->identifier);
	parameters_add(&parameters, Int32GetDatum(app->version));
	parameters_add(&parameters, ObjectIdGetDatum(app->owner));
	parameters_add_text(&parameters, app->owner_name);
	parameters_add_sealed(&parameters, &app->secret);
	parameters_add_time(&parameters, app->created_at);
	parameters_add_time(&parameters, app->modified_at);
	parameters_add(&parameters, app_name);
	parameters_add_nullable(&parameters, description.value, description.isnull);
	while (statement_run(&insert, &parameters, read_new_app, app) == 0)
	{
		CHECK_FOR_INTERRUPTS();
		if (credential_statements_exists(CREDENTIAL_APP, app->identifier))
			return false;
		skip_numbers_in_use();
	}
	rows_require_as_written(app);
	return true;
}

/*
 * Inserts the row of an app's new AppKey, with all that the predecessor's row says of the app.  Tells
 * whether the new AppKey was free, waiting as app_statements_insert does.
 */
bool
app_statements_insert_successor(const Credential *app, const char *predecessor)
{
	static Statement insert = {
		.text = "INSERT INTO keyrot.app (app_key, version, owner, owner_name, secret, previous_valid_until,"
		"                        created_at, modified_at, disabled_at, valid_until, due_at, rotate_after, lifetime,"
		"                        policy_grace, grace_after_use, app_id, previous_app_key, app_name, description)"
		" SELECT $2, $3, owner, owner_name, $4, $5, created_at, $6, disabled_at, $7, $8, rotate_after, lifetime,"
		"        policy_grace, $9, app_id, app_key, app_name, description"
		"   FROM keyrot.app WHERE app_key OPERATOR(pg_catalog.=) $1"
		" ON CONFLICT (app_key) DO NOTHING RETURNING app_key OPERATOR(pg_catalog.=) $2"
		" AND version OPERATOR(pg_catalog.=) $3 AND secret OPERATOR(pg_catalog.=) $4",
		.success = SPI_OK_INSERT_RETURNING,
		.types = {TEXTOID, TEXTOID, INT4OID, BYTEAOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		TIMESTAMPTZOID, INT8OID},
	};
	Parameters	parameters = {0};

	parameters_add_text(&parameters, predecessor);
	parameters_add_text(&parameters, app->identifier);
	parameters_add(&parameters, Int32GetDatum(app->version));
	parameters_add_sealed(&parameters, &app->secret);
	parameters_add_time(&parameters, app->previous_valid_until);
	parameters_add_time(&parameters, app->modified_at);
	parameters_add_time(&parameters, app->valid_until);
	parameters_add_time(&parameters, app->due_at);
	parameters_add_nullable(&parameters, Int64GetDatum(app->grace_after_use), app->grace_after_use == NO_GRACE_AFTER_USE);
	if (statement_try_write(&insert, &parameters, "app"))
	{
		rows_require_as_written(app);
		return true;
	}
	if (!credential_statements_exists(CREDENTIAL_APP, app->identifier))
		error_not_written("app");
	return false;
}

/* Changes an app's name and description, where they are not NULL. */
void
app_statements_modify(const char *app_key, NullableDatum app_name, NullableDatum description)
{
	static Statement update = {
		.text = "UPDATE keyrot.app AS a SET app_name = coalesce($2, a.app_name), description = coalesce($3, a.description)"
		"  FROM keyrot.app AS b WHERE a.app_key OPERATOR(pg_catalog.=) $1 AND b.app_key OPERATOR(pg_catalog.=) $1"
		" RETURNING " UNCHANGED("a", "b"),
		.success = SPI_OK_UPDATE_RETURNING,
		.types = {TEXTOID, TEXTOID, TEXTOID},
	};
	Parameters	parameters = {0};

	parameters_add_text(&parameters, app_key);
	parameters_add_nullable(&parameters, app_name.value, app_name.isnull);
	parameters_add_nullable(&parameters, description.value, description.isnull);
	statement_write_one(&update, &parameters, "app");
}

static void
read_owned_app(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	Credential *app = reader_state;
	bool		is_null;
	char	   *app_key = SPI_getvalue(tuple, desc, 1);
	char	   *owner_name = SPI_getvalue(tuple, desc, 3);

	strlcpy(app->identifier, app_key, sizeof(app->identifier));
	app->owner = DatumGetObjectId(SPI_getbinval(tuple, desc, 2, &is_null));
	strlcpy(app->owner_name, owner_name, sizeof(app->owner_name));
}

/* Finds the one app that has this number, and tells whether there is one: its AppKey and owner, nothing else. */
bool
app_statements_find(int64 app_id, Credential *app)
{
	static Statement find = {
		.text = "SELECT app_key, owner, owner_name FROM keyrot.app"
		" WHERE app_id OPERATOR(pg_catalog.=) $1 AND secret IS NOT NULL",
		.success = SPI_OK_SELECT,
		.types = {INT8OID},
	};
	Parameters	parameters = {0};

	parameters_add(&parameters, Int64GetDatum(app_id));
	return statement_run(&find, &parameters, read_owned_app, app) == 1;
}

/* Which apps a filter means, as a piece of the statements on them. */
#define LISTED \
	"  FROM keyrot.app" \
	" WHERE secret IS NOT NULL" \
	"   AND ($1 IS NULL OR app_id OPERATOR(pg_catalog.=) $1)" \
	"   AND ($2 IS NULL OR app_key OPERATOR(pg_catalog.=) $2)" \
	"   AND ($3 IS NULL OR app_name OPERATOR(pg_catalog.=) $3)" \
	"   AND ($4 OR (pg_catalog.pg_has_role($5, owner, 'USAGE')" \
	"               AND EXISTS (SELECT FROM pg_catalog.pg_roles AS r" \
	"                            WHERE r.oid OPERATOR(pg_catalog.=) owner" \
	"                              AND r.rolname OPERATOR(pg_catalog.=) owner_name)))"

/* The parameters of that piece. */
static void
add_filter(Parameters *parameters, const AppFilter *filter)
{
	parameters_add_nullable(parameters, filter->app_id.value, filter->app_id.isnull);
	parameters_add_text_or_null(parameters, filter->app_key);
	parameters_add_nullable(parameters, filter->app_name.value, filter->app_name.isnull);
	parameters_add(parameters, BoolGetDatum(filter->sees_all));
	parameters_add(parameters, ObjectIdGetDatum(filter->caller));
}

typedef struct Listing
{
	AppListingReader reader;
	void	   *reader_state;
} Listing;

static void
read_listing(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	Listing    *listing = reader_state;
	Datum		values[APP_LISTING_COLUMNS];
	bool		nulls[APP_LISTING_COLUMNS];

	heap_deform_tuple(tuple, desc, values, nulls);
	listing->reader(values, nulls, listing->reader_state);
}

/*
 * Hands the reader a page of the apps that the caller may act on, in the order of their last change, each with
 * the count of all that match.  The values live only until the reader returns.
 */
void
app_statements_list(const AppFilter *filter, AppListingReader reader, void *reader_state)
{
#define LIST(order) { \
	.text = "SELECT app_id, app_key, app_name, description, created_at, modified_at," \
	"       pg_catalog.count(*) OVER () AS total_count, disabled_at IS NOT NULL AS disabled" LISTED \
	" ORDER BY modified_at " order ", app_id " order " LIMIT $7 OFFSET $6", \
	.success = SPI_OK_SELECT, \
	.types = {INT8OID, TEXTOID, TEXTOID, BOOLOID, OIDOID, INT8OID, INT4OID}, \
	.custom_plans = true, \
}
	static Statement newest_first = LIST("DESC");
	static Statement oldest_first = LIST("ASC");
	Listing		listing = {reader, reader_state};
	Parameters	parameters = {0};

	add_filter(&parameters, filter);
	parameters_add(&parameters, Int64GetDatum(filter->offset));
	parameters_add(&parameters, Int32GetDatum(filter->limit));
	statement_run(filter->newest_first ? &newest_first : &oldest_first, &parameters, read_listing, &listing);
#undef LIST
}

/* How many apps the filter means, whatever its page. */
int64
app_statements_count(const AppFilter *filter)
{
	static Statement count = {
		.text = "SELECT pg_catalog.count(*)" LISTED,
		.success = SPI_OK_SELECT,
		.types = {INT8OID, TEXTOID, TEXTOID, BOOLOID, OIDOID},
		.custom_plans = true,
	};
	Parameters	parameters = {0};

	add_filter(&parameters, filter);
	return statement_count(&count, &parameters);
}
#undef LISTED
