/*
 * store.c
 *	  Every SQL statement of keyrot: constant text, typed parameters, plans that are kept.  The only file
 *	  that uses SPI.  What each rotation does to its row and to the log is done by rows.c, without SQL.
 *
 * Statements run as the owner of keyrot's tables, on PostgreSQL's own search_path (owner.c), and write
 * OPERATOR(pg_catalog.=) wherever an operator stands, with none of the constructs that hide one: a kept
 * plan is analysed anew when the caller's search_path has changed, and would take the operators that it
 * finds there.
 *
 * No parameter ever holds a plaintext secret.  Who may do what is not decided here.
 */
#include "store.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "owner.h"

#define MAX_PARAMETERS 13

/* A statement, its plan once it was prepared, and how SPI reports its success. */
typedef struct Statement
{
	const char *text;
	int			success;
	Oid			types[MAX_PARAMETERS];
	bool		custom_plans;	/* which rows are wanted decides how to find them */
	SPIPlanPtr	plan;
} Statement;

/* Parameters in the order of the statement. */
typedef struct Parameters
{
	int			count;
	Datum		values[MAX_PARAMETERS];
	char		nulls[MAX_PARAMETERS];
} Parameters;

typedef void (*RowReader) (HeapTuple tuple, TupleDesc desc, void *reader_state);

static void
add(Parameters *parameters, Datum value)
{
	parameters->values[parameters->count] = value;
	parameters->nulls[parameters->count++] = ' ';
}

static void
add_null(Parameters *parameters)
{
	parameters->values[parameters->count] = (Datum) 0;
	parameters->nulls[parameters->count++] = 'n';
}

static void
add_nullable(Parameters *parameters, NullableDatum value)
{
	if (value.isnull)
		add_null(parameters);
	else
		add(parameters, value.value);
}

static void
add_text(Parameters *parameters, const char *value)
{
	add(parameters, CStringGetTextDatum(value));
}

static void
add_bytes(Parameters *parameters, const void *bytes, size_t length)
{
	bytea	   *value = palloc(VARHDRSZ + length);

	SET_VARSIZE(value, VARHDRSZ + length);
	memcpy(VARDATA(value), bytes, length);
	add(parameters, PointerGetDatum(value));
}

static void
add_sealed(Parameters *parameters, const Sealed *sealed)
{
	if (sealed->length == 0)
		add_null(parameters);
	else
		add_bytes(parameters, sealed->bytes, sealed->length);
}

static void
add_time(Parameters *parameters, TimestampTz value)
{
	if (value == NO_TIME)
		add_null(parameters);
	else
		add(parameters, TimestampTzGetDatum(value));
}

static void
prepare(Statement *statement, int parameter_count)
{
	SPIPlanPtr	plan = SPI_prepare_cursor(statement->text, parameter_count, statement->types,
										  statement->custom_plans ? 0 : CURSOR_OPT_GENERIC_PLAN);

	if (plan == NULL)
		elog(ERROR, "could not prepare statement: %s", SPI_result_code_string(SPI_result));
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "could not keep plan");
	statement->plan = plan;
}

/* Executes a statement inside an open SPI connection and hands its rows to the reader. */
static uint64
execute(Statement *statement, const Parameters *parameters, RowReader reader, void *reader_state)
{
	int			result;
	uint64		processed;

	if (statement->plan == NULL)
		prepare(statement, parameters->count);
	result = SPI_execute_plan(statement->plan, (Datum *) parameters->values, parameters->nulls, false, 0);
	if (result != statement->success)
		elog(ERROR, "statement ended with %s", SPI_result_code_string(result));
	processed = SPI_processed;
	for (uint64 i = 0; reader != NULL && i < processed; i++)
		reader(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, reader_state);
	return processed;
}

/* Runs a statement as the tables' owner, on PostgreSQL's own search_path, and returns its row count. */
static uint64
run(Statement *statement, const Parameters *parameters, RowReader reader, void *reader_state)
{
	OwnerSession session;
	volatile uint64 processed = 0;

	owner_begin(&session);
	PG_TRY();
	{
		SPI_connect();
		processed = execute(statement, parameters, reader, reader_state);
		SPI_finish();
	}
	PG_FINALLY();
	{
		owner_end(&session);
	}
	PG_END_TRY();
	return processed;
}

static uint64
run_without_rows(Statement *statement, const Parameters *parameters)
{
	return run(statement, parameters, NULL, NULL);
}


/*
 * Credentials
 */

/* Hands a credential over, an app with the AppKeys that it had. */
void
store_set_owner(const Credential *credential, Oid owner, const char *owner_name)
{
	static Statement set_app_owner = {
		.text = "UPDATE keyrot.app SET owner = $2, owner_name = $3 WHERE app_id OPERATOR(pg_catalog.=) $1",
		.success = SPI_OK_UPDATE,
		.types = {INT8OID, OIDOID, TEXTOID},
	};
	static Statement set_zone_owner = {
		.text = "UPDATE keyrot.zone SET owner = $2, owner_name = $3 WHERE zone_id OPERATOR(pg_catalog.=) $1",
		.success = SPI_OK_UPDATE,
		.types = {TEXTOID, OIDOID, TEXTOID},
	};
	Parameters	parameters = {0};

	if (credential->kind == SEAL_APP)
		add(&parameters, Int64GetDatum(credential->app_id));
	else
		add_text(&parameters, credential->identifier);
	add(&parameters, ObjectIdGetDatum(owner));
	add_text(&parameters, owner_name);
	run_without_rows(credential->kind == SEAL_APP ? &set_app_owner : &set_zone_owner, &parameters);
}

/*
 * Where an owner's OID and name disagree, sets both to the role of that name or, where none has it, to
 * the role of that OID.  Returns the number of rows changed.
 */
int64
store_rebind_owners(void)
{
#define REBIND(table) \
	"UPDATE keyrot." table " AS c SET owner = r.oid, owner_name = r.rolname" \
	"  FROM pg_catalog.pg_roles AS r" \
	" WHERE r.oid OPERATOR(pg_catalog.=)" \
	"       coalesce((SELECT n.oid FROM pg_catalog.pg_roles AS n" \
	"                  WHERE n.rolname OPERATOR(pg_catalog.=) c.owner_name), c.owner)" \
	"   AND (r.oid OPERATOR(pg_catalog.<>) c.owner OR r.rolname OPERATOR(pg_catalog.<>) c.owner_name)"
	static Statement rebind_apps = {
		.text = REBIND("app"),
		.success = SPI_OK_UPDATE,
	};
	static Statement rebind_zones = {
		.text = REBIND("zone"),
		.success = SPI_OK_UPDATE,
	};
	Parameters	none = {0};

	return (int64) (run_without_rows(&rebind_apps, &none) + run_without_rows(&rebind_zones, &none));
#undef REBIND
}


/*
 * Apps
 */

static void
read_number(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	bool		is_null;

	*(int64 *) reader_state = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &is_null));
}

/*
 * Inserts a new app and sets its app_id.  Tells whether the AppKey was free; where another transaction
 * has just inserted it, waits for that one to end.
 */
bool
store_insert_app(Credential *app, Datum app_name, NullableDatum description)
{
	static Statement insert = {
		.text = "INSERT INTO keyrot.app (app_key, version, owner, owner_name, secret, created_at, modified_at,"
		"                        app_id, app_name, description)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, pg_catalog.nextval('keyrot.app_id'), $8, $9)"
		" ON CONFLICT (app_key) DO NOTHING RETURNING app_id",
		.success = SPI_OK_INSERT_RETURNING,
		.types = {TEXTOID, INT4OID, OIDOID, TEXTOID, BYTEAOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, TEXTOID},
	};
	Parameters	parameters = {0};

	add_text(&parameters, app->identifier);
	add(&parameters, Int32GetDatum(app->version));
	add(&parameters, ObjectIdGetDatum(app->owner));
	add_text(&parameters, app->owner_name);
	add_sealed(&parameters, &app->secret);
	add_time(&parameters, app->created_at);
	add_time(&parameters, app->modified_at);
	add(&parameters, app_name);
	add_nullable(&parameters, description);
	return run(&insert, &parameters, read_number, &app->app_id) == 1;
}

/*
 * Inserts the row of an app's new AppKey, with all that the predecessor's row says of the app.  Tells
 * whether the new AppKey was free, waiting as store_insert_app does.
 */
bool
store_insert_successor(const Credential *app, const char *predecessor)
{
	static Statement insert = {
		.text = "INSERT INTO keyrot.app (app_key, version, owner, owner_name, secret, previous_valid_until,"
		"                        created_at, modified_at, app_id, previous_app_key, app_name, description)"
		" SELECT $2, $3, owner, owner_name, $4, $5, created_at, $6, app_id, app_key, app_name, description"
		"   FROM keyrot.app WHERE app_key OPERATOR(pg_catalog.=) $1"
		" ON CONFLICT (app_key) DO NOTHING",
		.success = SPI_OK_INSERT,
		.types = {TEXTOID, TEXTOID, INT4OID, BYTEAOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
	};
	Parameters	parameters = {0};

	add_text(&parameters, predecessor);
	add_text(&parameters, app->identifier);
	add(&parameters, Int32GetDatum(app->version));
	add_sealed(&parameters, &app->secret);
	add_time(&parameters, app->previous_valid_until);
	add_time(&parameters, app->modified_at);
	return run_without_rows(&insert, &parameters) == 1;
}

/* Changes an app's name and description, where they are not NULL. */
void
store_modify_app(const char *app_key, NullableDatum app_name, NullableDatum description)
{
	static Statement update = {
		.text = "UPDATE keyrot.app SET app_name = coalesce($2, app_name), description = coalesce($3, description)"
		" WHERE app_key OPERATOR(pg_catalog.=) $1",
		.success = SPI_OK_UPDATE,
		.types = {TEXTOID, TEXTOID, TEXTOID},
	};
	Parameters	parameters = {0};

	add_text(&parameters, app_key);
	add_nullable(&parameters, app_name);
	add_nullable(&parameters, description);
	run_without_rows(&update, &parameters);
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

/* Finds the app that has this number, and tells whether there is one: its AppKey and owner, nothing else. */
bool
store_find_app(int64 app_id, Credential *app)
{
	static Statement find = {
		.text = "SELECT app_key, owner, owner_name FROM keyrot.app"
		" WHERE app_id OPERATOR(pg_catalog.=) $1 AND secret IS NOT NULL",
		.success = SPI_OK_SELECT,
		.types = {INT8OID},
	};
	Parameters	parameters = {0};

	add(&parameters, Int64GetDatum(app_id));
	return run(&find, &parameters, read_owned_app, app) == 1;
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
	add_nullable(parameters, filter->app_id);
	if (filter->app_key[0] == '\0')
		add_null(parameters);
	else
		add_text(parameters, filter->app_key);
	add_nullable(parameters, filter->app_name);
	add(parameters, BoolGetDatum(filter->sees_all));
	add(parameters, ObjectIdGetDatum(filter->caller));
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
 * Hands the reader a page of the apps that the caller may act on, newest change first, each with the
 * count of all that match.  The values live only until the reader returns.
 */
void
store_list_apps(const AppFilter *filter, AppListingReader reader, void *reader_state)
{
	static Statement list = {
		.text = "SELECT app_id, app_key, app_name, description, created_at, modified_at,"
		"       pg_catalog.count(*) OVER () AS total_count" LISTED
		" ORDER BY modified_at DESC, app_id DESC LIMIT $7 OFFSET $6",
		.success = SPI_OK_SELECT,
		.types = {INT8OID, TEXTOID, TEXTOID, BOOLOID, OIDOID, INT8OID, INT4OID},
		.custom_plans = true,
	};
	Listing		listing = {reader, reader_state};
	Parameters	parameters = {0};

	add_filter(&parameters, filter);
	add(&parameters, Int64GetDatum(filter->offset));
	add(&parameters, Int32GetDatum(filter->limit));
	run(&list, &parameters, read_listing, &listing);
}

/* How many apps the filter means, whatever its page. */
int64
store_count_apps(const AppFilter *filter)
{
	static Statement count = {
		.text = "SELECT pg_catalog.count(*)" LISTED,
		.success = SPI_OK_SELECT,
		.types = {INT8OID, TEXTOID, TEXTOID, BOOLOID, OIDOID},
		.custom_plans = true,
	};
	Parameters	parameters = {0};
	int64		result = 0;

	add_filter(&parameters, filter);
	run(&count, &parameters, read_number, &result);
	return result;
}
#undef LISTED


/*
 * Zones and gateways
 */

/* Inserts a zone that never had a key; tells whether it was free, waiting as store_insert_app does. */
bool
store_insert_zone(const Credential *zone)
{
	static Statement insert = {
		.text = "INSERT INTO keyrot.zone (zone_id, version, owner, owner_name, secret, created_at, modified_at)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (zone_id) DO NOTHING",
		.success = SPI_OK_INSERT,
		.types = {TEXTOID, INT4OID, OIDOID, TEXTOID, BYTEAOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
	};
	Parameters	parameters = {0};

	add_text(&parameters, zone->identifier);
	add(&parameters, Int32GetDatum(zone->version));
	add(&parameters, ObjectIdGetDatum(zone->owner));
	add_text(&parameters, zone->owner_name);
	add_sealed(&parameters, &zone->secret);
	add_time(&parameters, zone->created_at);
	add_time(&parameters, zone->modified_at);
	return run_without_rows(&insert, &parameters) == 1;
}

/* Gives a deleted zone, whose row the caller has locked, a key again. */
void
store_revive_zone(const Credential *zone)
{
	static Statement update = {
		.text = "UPDATE keyrot.zone SET version = $2, secret = $3, previous_secret = NULL,"
		"       previous_valid_until = NULL, created_at = $4, modified_at = $5"
		" WHERE zone_id OPERATOR(pg_catalog.=) $1",
		.success = SPI_OK_UPDATE,
		.types = {TEXTOID, INT4OID, BYTEAOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
	};
	Parameters	parameters = {0};

	add_text(&parameters, zone->identifier);
	add(&parameters, Int32GetDatum(zone->version));
	add_sealed(&parameters, &zone->secret);
	add_time(&parameters, zone->created_at);
	add_time(&parameters, zone->modified_at);
	run_without_rows(&update, &parameters);
}

/* Adds a gateway to a zone; tells whether it was not there yet. */
bool
store_insert_gateway(const char *zone_id, const char *gateway_id, TimestampTz added_at)
{
	static Statement insert = {
		.text = "INSERT INTO keyrot.gateway (zone_id, gateway_id, added_at) VALUES ($1, $2, $3)"
		" ON CONFLICT (zone_id, gateway_id) DO NOTHING",
		.success = SPI_OK_INSERT,
		.types = {TEXTOID, TEXTOID, TIMESTAMPTZOID},
	};
	Parameters	parameters = {0};

	add_text(&parameters, zone_id);
	add_text(&parameters, gateway_id);
	add_time(&parameters, added_at);
	return run_without_rows(&insert, &parameters) == 1;
}

/* Removes a gateway; tells whether it was there. */
bool
store_delete_gateway(const char *zone_id, const char *gateway_id)
{
	static Statement delete = {
		.text = "DELETE FROM keyrot.gateway WHERE zone_id OPERATOR(pg_catalog.=) $1"
		" AND gateway_id OPERATOR(pg_catalog.=) $2",
		.success = SPI_OK_DELETE,
		.types = {TEXTOID, TEXTOID},
	};
	Parameters	parameters = {0};

	add_text(&parameters, zone_id);
	add_text(&parameters, gateway_id);
	return run_without_rows(&delete, &parameters) == 1;
}

/* Removes all gateways of a zone. */
void
store_delete_gateways(const char *zone_id)
{
	static Statement delete = {
		.text = "DELETE FROM keyrot.gateway WHERE zone_id OPERATOR(pg_catalog.=) $1",
		.success = SPI_OK_DELETE,
		.types = {TEXTOID},
	};
	Parameters	parameters = {0};

	add_text(&parameters, zone_id);
	run_without_rows(&delete, &parameters);
}


/*
 * Data keys
 */

/* Inserts a data key, wrapped already. */
void
store_insert_data_key(const DataKeyRow *row, TimestampTz created_at)
{
	static Statement insert = {
		.text = "INSERT INTO keyrot.data_key (id, wrapped, master_key, check_value, created_at)"
		" VALUES ($1, $2, $3, $4, $5)",
		.success = SPI_OK_INSERT,
		.types = {INT4OID, BYTEAOID, BYTEAOID, BYTEAOID, TIMESTAMPTZOID},
	};
	Parameters	parameters = {0};

	add(&parameters, Int32GetDatum(row->id));
	add_sealed(&parameters, &row->wrapped);
	add_bytes(&parameters, row->master_key, DATA_KEY_TAG_BYTES);
	add_bytes(&parameters, row->check_value, DATA_KEY_TAG_BYTES);
	add_time(&parameters, created_at);
	run_without_rows(&insert, &parameters);
}


/*
 * Retries
 */

/*
 * Notes what a client_token is used for.  Tells whether the caller has not used it before; where another
 * transaction is just using it, waits for that one to end.
 */
bool
store_reserve_token(const TokenRow *token)
{
	static Statement insert = {
		.text = "INSERT INTO keyrot.retry (caller_oid, client_token, request_id, action, target, new_app_key,"
		"                          grace_period, secret_given, created_at)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (caller_oid, client_token) DO NOTHING",
		.success = SPI_OK_INSERT,
		.types = {OIDOID, TEXTOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, INT8OID, BOOLOID, TIMESTAMPTZOID},
	};
	Parameters	parameters = {0};

	add(&parameters, ObjectIdGetDatum(token->caller));
	add_text(&parameters, token->client_token);
	add(&parameters, UUIDPGetDatum(&token->request_id));
	add_text(&parameters, token->action);
	add_text(&parameters, token->target);
	if (token->new_app_key[0] == '\0')
		add_null(&parameters);
	else
		add_text(&parameters, token->new_app_key);
	add(&parameters, Int64GetDatum(token->grace));
	add(&parameters, BoolGetDatum(token->secret_given));
	add_time(&parameters, token->created_at);
	return run_without_rows(&insert, &parameters) == 1;
}

static void
read_token_text(HeapTuple tuple, TupleDesc desc, int column, char *buffer, size_t size)
{
	bool		is_null;
	Datum		value = SPI_getbinval(tuple, desc, column, &is_null);

	buffer[0] = '\0';
	if (!is_null)
		text_to_cstring_buffer(DatumGetTextPP(value), buffer, size);
}

static void
read_token(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	TokenRow   *token = reader_state;
	bool		is_null;

	token->request_id = *DatumGetUUIDP(SPI_getbinval(tuple, desc, 1, &is_null));
	read_token_text(tuple, desc, 2, token->action, sizeof(token->action));
	read_token_text(tuple, desc, 3, token->target, sizeof(token->target));
	read_token_text(tuple, desc, 4, token->new_app_key, sizeof(token->new_app_key));
	token->grace = DatumGetInt64(SPI_getbinval(tuple, desc, 5, &is_null));
	token->secret_given = DatumGetBool(SPI_getbinval(tuple, desc, 6, &is_null));
	token->version = DatumGetInt32(SPI_getbinval(tuple, desc, 7, &is_null));
}

/* Reads what the caller used a client_token for; tells whether it is there. */
bool
store_find_token(Oid caller, const char *client_token, TokenRow *token)
{
	static Statement select = {
		.text = "SELECT request_id, action, target, new_app_key, grace_period, secret_given, version"
		"  FROM keyrot.retry WHERE caller_oid OPERATOR(pg_catalog.=) $1"
		"   AND client_token OPERATOR(pg_catalog.=) $2",
		.success = SPI_OK_SELECT,
		.types = {OIDOID, TEXTOID},
	};
	Parameters	parameters = {0};

	add(&parameters, ObjectIdGetDatum(caller));
	add_text(&parameters, client_token);
	return run(&select, &parameters, read_token, token) == 1;
}

/* Adds the version that the request of a reserved client_token made. */
void
store_finish_token(Oid caller, const char *client_token, int32 version)
{
	static Statement update = {
		.text = "UPDATE keyrot.retry SET version = $3 WHERE caller_oid OPERATOR(pg_catalog.=) $1"
		"   AND client_token OPERATOR(pg_catalog.=) $2",
		.success = SPI_OK_UPDATE,
		.types = {OIDOID, TEXTOID, INT4OID},
	};
	Parameters	parameters = {0};

	add(&parameters, ObjectIdGetDatum(caller));
	add_text(&parameters, client_token);
	add(&parameters, Int32GetDatum(version));
	run_without_rows(&update, &parameters);
}
