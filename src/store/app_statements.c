/*
 * app_statements.c
 *	  The SQL statements on apps; see statement.c for their rules.
 */
#include "store/app_statements.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "store/credential_statements.h"
#include "store/distribution.h"
#include "store/statement.h"
#include "store/tables.h"
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
 * Moves the sequence past every number in use, in one step, after it returned a number in use: it was not restored
 * together with the rows, or was set back. Raises 55000 if the number was not in use, because then something keeps
 * rows from being written.
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

/* The values inserted for a new app, except its number. */
static Parameters
parameters_of_new(const Credential *app, Datum app_name, NullableDatum description)
{
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
	return parameters;
}

/*
 * Draws a number for an app if the tables are distributed. Each node has its own sequence, and therefore its own
 * range: the coordinator's continues the numbers from before. If the sequence was set back, a lookup finds that the
 * number is in use, and the sequence is moved past all numbers of its range.
 */
static int64
draw_distributed_number(void)
{
#define NUMBERS_OF_A_NODE 44	/* bits */
	static Statement draw = {
		.text = "SELECT pg_catalog.nextval('keyrot.app_id') OPERATOR(pg_catalog.+) $1",
		.success = SPI_OK_SELECT,
		.types = {INT8OID},
	};
	static Statement find = {
		.text = "SELECT FROM keyrot.app WHERE app_id OPERATOR(pg_catalog.=) $1 LIMIT 1",
		.success = SPI_OK_SELECT,
		.types = {INT8OID},
	};
	static Statement highest = {
		.text = "SELECT pg_catalog.max(app_id) OPERATOR(pg_catalog.-) $1 FROM keyrot.app"
		" WHERE app_id OPERATOR(pg_catalog.>) $1 AND app_id OPERATOR(pg_catalog.<=) $2",
		.success = SPI_OK_SELECT,
		.types = {INT8OID, INT8OID},
	};
	static Statement skip = {
		.text = "SELECT pg_catalog.setval('keyrot.app_id', greatest($1, last_value)) FROM keyrot.app_id",
		.success = SPI_OK_SELECT,
		.types = {INT8OID},
	};
	int64		first = (int64) distribution_group() << NUMBERS_OF_A_NODE;
	Parameters	range = {0};
	Parameters	number = {0};
	int64		drawn;

	parameters_add(&range, Int64GetDatum(first));
	drawn = statement_count(&draw, &range);
	parameters_add(&number, Int64GetDatum(drawn));
	if (statement_run_without_rows(&find, &number) == 0)
		return drawn;
	parameters_add(&range, Int64GetDatum(first + ((int64) 1 << NUMBERS_OF_A_NODE)));
	number.values[0] = Int64GetDatum(statement_count(&highest, &range));
	(void) statement_run_without_rows(&skip, &number);
	range.count = 1;
	return statement_count(&draw, &range);
#undef NUMBERS_OF_A_NODE
}

/* As app_statements_insert(), if the tables are distributed. */
static bool
insert_distributed(Credential *app, Datum app_name, NullableDatum description)
{
	static Statement insert = {
		.text = "INSERT INTO keyrot.app (app_key, version, owner, owner_name, secret, created_at, modified_at,"
		"                        app_name, description, app_id)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
		" ON CONFLICT (app_key) DO NOTHING RETURNING app_id, app_key OPERATOR(pg_catalog.=) $1"
		" AND version OPERATOR(pg_catalog.=) $2 AND secret OPERATOR(pg_catalog.=) $5",
		.success = SPI_OK_INSERT_RETURNING,
		.types = {TEXTOID, INT4OID, OIDOID, TEXTOID, BYTEAOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, INT8OID},
	};
	Parameters	parameters = parameters_of_new(app, app_name, description);

	parameters_add(&parameters, Int64GetDatum(draw_distributed_number()));
	return statement_run(&insert, &parameters, read_new_app, app) == 1;
}

/*
 * Inserts a new app and sets its app_id, a number that no app ever had. Returns whether the AppKey was free; if
 * another transaction has just inserted it, or the number, waits for that transaction to end.
 */
bool
app_statements_insert(Credential *app, Datum app_name, NullableDatum description)
{
	/* The lookup, in addition to the constraint, is for partitioned tables, which cannot have the constraint. */
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
	Parameters	parameters;

	if (tables_are_distributed())
		return insert_distributed(app, app_name, description);
	parameters = parameters_of_new(app, app_name, description);
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

/* The columns of an app's row that a Credential does not have, in the memory context of the call. */
typedef struct AppTexts
{
	Datum		name;
	NullableDatum description;
} AppTexts;

static void
read_texts(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	AppTexts   *texts = reader_state;
	bool		is_null;

	texts->name = SPI_datumTransfer(SPI_getbinval(tuple, desc, 1, &is_null), false, -1);
	texts->description.value = SPI_getbinval(tuple, desc, 2, &texts->description.isnull);
	if (!texts->description.isnull)
		texts->description.value = SPI_datumTransfer(texts->description.value, false, -1);
}

/* As app_statements_insert_successor(), if the tables are distributed: the two rows may be on different nodes. */
static bool
insert_successor_distributed(const Credential *app, const char *predecessor)
{
	static Statement find = {
		.text = "SELECT app_name, description FROM keyrot.app WHERE app_key OPERATOR(pg_catalog.=) $1",
		.success = SPI_OK_SELECT,
		.types = {TEXTOID},
	};
	static Statement insert = {
		.text = "INSERT INTO keyrot.app (app_key, version, owner, owner_name, secret, previous_valid_until,"
		"                        created_at, modified_at, disabled_at, valid_until, due_at, rotate_after, lifetime,"
		"                        policy_grace, grace_after_use, app_id, previous_app_key, app_name, description)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)"
		" ON CONFLICT (app_key) DO NOTHING RETURNING app_key OPERATOR(pg_catalog.=) $1"
		" AND version OPERATOR(pg_catalog.=) $2 AND secret OPERATOR(pg_catalog.=) $5",
		.success = SPI_OK_INSERT_RETURNING,
		.types = {TEXTOID, INT4OID, OIDOID, TEXTOID, BYTEAOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
			TIMESTAMPTZOID, TIMESTAMPTZOID, INTERVALOID, INTERVALOID, INT8OID, INT8OID, INT8OID, TEXTOID, TEXTOID, TEXTOID},
	};
	Parameters	key = {0};
	Parameters	parameters = {0};
	AppTexts	texts;

	parameters_add_text(&key, predecessor);
	if (statement_run(&find, &key, read_texts, &texts) != 1)
		error_not_written("app");
	parameters_add_text(&parameters, app->identifier);
	parameters_add(&parameters, Int32GetDatum(app->version));
	parameters_add(&parameters, ObjectIdGetDatum(app->owner));
	parameters_add_text(&parameters, app->owner_name);
	parameters_add_sealed(&parameters, &app->secret);
	parameters_add_time(&parameters, app->previous_valid_until);
	parameters_add_time(&parameters, app->created_at);
	parameters_add_time(&parameters, app->modified_at);
	parameters_add_time(&parameters, app->disabled_at);
	parameters_add_time(&parameters, app->valid_until);
	parameters_add_time(&parameters, app->due_at);
	parameters_add_policy(&parameters, app);
	parameters_add(&parameters, Int64GetDatum(app->app_id));
	parameters_add_text(&parameters, predecessor);
	parameters_add(&parameters, texts.name);
	parameters_add_nullable(&parameters, texts.description.value, texts.description.isnull);
	return statement_try_write(&insert, &parameters, "app");
}

/*
 * Inserts the row of an app's new AppKey, with everything that the row of its predecessor contains about the app.
 * Returns whether the new AppKey was free; waits as app_statements_insert() does.
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

	if (tables_are_distributed())
		return insert_successor_distributed(app, predecessor);
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

/* Changes an app's name and description, if they are not NULL. */
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

/* Finds the app that has this number; returns whether there is one. Sets only its AppKey and owner. */
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

/* The condition of a filter on apps, as a part of statements. */
#define LISTED(may_act_on) \
	"  FROM keyrot.app" \
	" WHERE secret IS NOT NULL" \
	"   AND ($1 IS NULL OR app_id OPERATOR(pg_catalog.=) $1)" \
	"   AND ($2 IS NULL OR app_key OPERATOR(pg_catalog.=) $2)" \
	"   AND ($3 IS NULL OR app_name OPERATOR(pg_catalog.=) $3)" \
	"   AND ($4 OR " may_act_on ")"

/* The parameters of that condition. */
static void
add_filter(Parameters *parameters, const AppFilter *filter)
{
	parameters_add_nullable(parameters, filter->app_id.value, filter->app_id.isnull);
	parameters_add_text_or_null(parameters, filter->app_key);
	parameters_add_nullable(parameters, filter->app_name.value, filter->app_name.isnull);
	parameters_add(parameters, BoolGetDatum(filter->sees_all));
	parameters_add(parameters, tables_are_distributed() ? distribution_roles_of(filter->caller) :
				   ObjectIdGetDatum(filter->caller));
}

/* The statement for the way in which owners are identified: by OID and name, or by name only. */
static Statement *
choose(Statement *by_oid, Statement *by_name)
{
	return tables_are_distributed() ? by_name : by_oid;
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
 * Passes a page of the apps that the caller may act on to the reader, in the order of their last change, each with
 * the number of all that match. The values are valid only until the reader returns.
 */
void
app_statements_list(const AppFilter *filter, AppListingReader reader, void *reader_state)
{
#define LIST(order, may_act_on, caller_type) { \
	.text = "SELECT app_id, app_key, app_name, description, created_at, modified_at," \
	"       pg_catalog.count(*) OVER () AS total_count, disabled_at IS NOT NULL AS disabled" LISTED(may_act_on) \
	" ORDER BY modified_at " order ", app_id " order " LIMIT $7 OFFSET $6", \
	.success = SPI_OK_SELECT, \
	.types = {INT8OID, TEXTOID, TEXTOID, BOOLOID, caller_type, INT8OID, INT4OID}, \
	.custom_plans = true, \
}
	static Statement newest_first = LIST("DESC", MAY_ACT_FOR_OWNER("$5"), OIDOID);
	static Statement oldest_first = LIST("ASC", MAY_ACT_FOR_OWNER("$5"), OIDOID);
	static Statement distributed_newest_first = LIST("DESC", MAY_ACT_FOR_OWNER_NAME("$5"), TEXTARRAYOID);
	static Statement distributed_oldest_first = LIST("ASC", MAY_ACT_FOR_OWNER_NAME("$5"), TEXTARRAYOID);
	Listing		listing = {reader, reader_state};
	Parameters	parameters = {0};

	add_filter(&parameters, filter);
	parameters_add(&parameters, Int64GetDatum(filter->offset));
	parameters_add(&parameters, Int32GetDatum(filter->limit));
	statement_run(filter->newest_first ? choose(&newest_first, &distributed_newest_first)
				  : choose(&oldest_first, &distributed_oldest_first), &parameters, read_listing, &listing);
#undef LIST
}

/* The number of apps that match a filter, on all pages. */
int64
app_statements_count(const AppFilter *filter)
{
#define COUNT(may_act_on, caller_type) { \
	.text = "SELECT pg_catalog.count(*)" LISTED(may_act_on), \
	.success = SPI_OK_SELECT, \
	.types = {INT8OID, TEXTOID, TEXTOID, BOOLOID, caller_type}, \
	.custom_plans = true, \
}
	static Statement count = COUNT(MAY_ACT_FOR_OWNER("$5"), OIDOID);
	static Statement distributed_count = COUNT(MAY_ACT_FOR_OWNER_NAME("$5"), TEXTARRAYOID);
	Parameters	parameters = {0};

	add_filter(&parameters, filter);
	return statement_count(choose(&count, &distributed_count), &parameters);
#undef COUNT
}
#undef LISTED
