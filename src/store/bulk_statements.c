/*
 * bulk_statements.c
 *	  The statements that lock and write many credentials at once: one for all rows of a batch, whose values go
 *	  in as arrays.
 *
 * The rows are locked when they are read, so they need not be checked again when they are written.  If a trigger or
 * policy keeps one of them from being written, or changes what is written, that is an error.  If the tables are
 * distributed, bulk_distributed.c does the same one by one.
 */
#include "store/bulk_statements.h"

#include "catalog/pg_type.h"

#include "store/bulk_distributed.h"
#include "store/rows_decode.h"
#include "store/statement.h"
#include "store/tables.h"
#include "base/errors.h"

/* A credential is read with all its columns, followed by the time when it is due. */
#define READ(due) "SELECT c.*, " due

/* The function that receives locked credentials. */
typedef struct RotationSink
{
	CredentialKind kind;
	RotationReader reader;
	void	   *reader_state;
} RotationSink;

static void
read_rotation(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	RotationSink *sink = reader_state;
	Rotation	rotation = {0};
	bool		is_null;
	Datum		due_at = SPI_getbinval(tuple, desc, desc->natts, &is_null);

	decode_credential(sink->kind, tuple, desc, &rotation.credential);
	rotation.due_at = is_null ? NO_TIME : DatumGetTimestampTz(due_at);
	sink->reader(&rotation, sink->reader_state);
}

/* The condition of a filter, with its parameters $1 to $3. */
#define MEANT \
	" WHERE secret IS NOT NULL AND modified_at OPERATOR(pg_catalog.<) $1" \
	"   AND ($2 IS NULL OR owner OPERATOR(pg_catalog.=) $2) AND ($3 IS NULL OR owner_name OPERATOR(pg_catalog.=) $3)"

static void
add_filter(Parameters *parameters, const BulkFilter *filter)
{
	parameters_add_time(parameters, filter->rotated_before);
	parameters_add_nullable(parameters, ObjectIdGetDatum(filter->owner),
							!OidIsValid(filter->owner) || tables_are_distributed());
	parameters_add_text_or_null(parameters, OidIsValid(filter->owner) ? filter->owner_name : "");
}

/* The number of credentials that match a filter; reads them all. */
int64
bulk_statements_count(const BulkFilter *filter)
{
#define COUNT(table, identifier) { \
	.text = "SELECT pg_catalog.count(*) FROM keyrot." table MEANT, \
	.success = SPI_OK_SELECT, \
	.types = {TIMESTAMPTZOID, OIDOID, TEXTOID}, \
}
	static Statement count[] = FOR_BOTH_KINDS(COUNT);
	Parameters	parameters = {0};

	add_filter(&parameters, filter);
	return statement_count(STATEMENT_FOR(filter->kind, count), &parameters);
#undef COUNT
}

/*
 * Locks the next credentials that match a filter, at most "count", in the order of their identifiers, after a given one,
 * and passes them to the receiver.  Waits for a row that another session has locked, and then checks it again.
 */
void
bulk_statements_lock_next(const BulkFilter *filter, const char *after, int limit, RotationReader reader, void *reader_state)
{
#define LOCK(table, identifier) { \
	.text = READ("due_at") " FROM keyrot." table " AS c" MEANT \
	"   AND " identifier " OPERATOR(pg_catalog.>) $4" \
	" ORDER BY " identifier " LIMIT $5 FOR NO KEY UPDATE", \
	.success = SPI_OK_SELECT, \
	.types = {TIMESTAMPTZOID, OIDOID, TEXTOID, TEXTOID, INT4OID}, \
	.custom_plans = true, \
}
	static Statement lock[] = FOR_BOTH_KINDS(LOCK);
	Parameters	parameters = {0};
	RotationSink sink = {filter->kind, reader, reader_state};

	if (tables_are_distributed())
	{
		bulk_distributed_lock_next(filter, after, limit, reader, reader_state);
		return;
	}
	add_filter(&parameters, filter);
	parameters_add_text(&parameters, after);
	parameters_add(&parameters, Int32GetDatum(limit));
	(void) statement_run(STATEMENT_FOR(filter->kind, lock), &parameters, read_rotation, &sink);
#undef LOCK
}

static void
add_texts(Parameters *parameters, char **texts, int count)
{
	Datum	   *values = palloc(count * sizeof(Datum) + 1);

	for (int i = 0; i < count; i++)
		values[i] = CStringGetTextDatum(texts[i]);
	parameters_add_array(parameters, values, NULL, count, TEXTOID);
}

/* The same for those of these identifiers that match a filter. */
void
bulk_statements_lock_listed(const BulkFilter *filter, char **identifiers, int count,
							RotationReader reader, void *reader_state)
{
#define LOCK(table, identifier) { \
	.text = READ("due_at") " FROM keyrot." table " AS c" MEANT \
	"   AND " identifier " OPERATOR(pg_catalog.=) ANY ($4)" \
	" ORDER BY " identifier " FOR NO KEY UPDATE", \
	.success = SPI_OK_SELECT, \
	.types = {TIMESTAMPTZOID, OIDOID, TEXTOID, TEXTARRAYOID}, \
}
	static Statement lock[] = FOR_BOTH_KINDS(LOCK);
	Parameters	parameters = {0};
	RotationSink sink = {filter->kind, reader, reader_state};

	if (tables_are_distributed())
	{
		bulk_distributed_lock_listed(filter, identifiers, count, reader, reader_state);
		return;
	}
	add_filter(&parameters, filter);
	add_texts(&parameters, identifiers, count);
	(void) statement_run(STATEMENT_FOR(filter->kind, lock), &parameters, read_rotation, &sink);
#undef LOCK
}

/*
 * Computes $1 and $2 from max_age: the latest time of a rotation that is older than max_age, and max_age as an
 * interval of microseconds only, whose length does not depend on a time zone.  NULLs if there is no max_age, or if it
 * reaches back further than any timestamp.
 */
static void
add_age(Parameters *parameters, const DueFilter *filter)
{
	Interval   *age = palloc0(sizeof(Interval));
	TimestampTz latest;

	age->time = DatumGetInt64(filter->max_age.value);
	latest = filter->now - age->time;
	if (filter->max_age.isnull || age->time > filter->now - MIN_TIMESTAMP || !IS_VALID_TIMESTAMP(latest))
	{
		parameters_add_null(parameters);
		parameters_add_null(parameters);
		return;
	}
	parameters_add_time(parameters, latest);
	parameters_add(parameters, IntervalPGetDatum(age));
}

/*
 * Locks the credentials that are due and that the caller may act on, earliest first, and passes them to the receiver, at
 * most "count".  Skips those that are disabled, locked by another session, or at their last version.
 */
void
bulk_statements_lock_due(const DueFilter *filter, int limit, RotationReader reader, void *reader_state)
{
#define DUE "CASE WHEN rotate_after IS NULL THEN modified_at OPERATOR(pg_catalog.+) $2 ELSE due_at END"
#define LOCK(table, identifier) { \
	.text = READ(DUE) " FROM keyrot." table " AS c" \
	" WHERE secret IS NOT NULL AND disabled_at IS NULL AND version OPERATOR(pg_catalog.<) 2147483647" \
	"   AND ((rotate_after IS NOT NULL AND due_at OPERATOR(pg_catalog.<=) $3)" \
	"        OR (rotate_after IS NULL AND modified_at OPERATOR(pg_catalog.<) $1))" \
	"   AND ($4 OR " MAY_ACT_FOR_OWNER("$5") ")" \
	" ORDER BY " DUE ", " identifier " LIMIT $6 FOR NO KEY UPDATE OF c SKIP LOCKED", \
	.success = SPI_OK_SELECT, \
	.types = {TIMESTAMPTZOID, INTERVALOID, TIMESTAMPTZOID, BOOLOID, OIDOID, INT4OID}, \
	.custom_plans = true, \
}
	static Statement lock[] = FOR_BOTH_KINDS(LOCK);
	Parameters	parameters = {0};
	RotationSink sink = {filter->kind, reader, reader_state};

	if (tables_are_distributed())
	{
		bulk_distributed_lock_due(filter, limit, reader, reader_state);
		return;
	}
	add_age(&parameters, filter);
	parameters_add_time(&parameters, filter->now);
	parameters_add(&parameters, BoolGetDatum(filter->sees_all));
	parameters_add(&parameters, ObjectIdGetDatum(filter->caller));
	parameters_add(&parameters, Int32GetDatum(limit));
	(void) statement_run(STATEMENT_FOR(filter->kind, lock), &parameters, read_rotation, &sink);
#undef LOCK
#undef DUE
}

/* Wipes the secrets that these retired AppKeys keep for their grace period; raises 55000 if a row was not written. */
void
bulk_statements_end_grace_of(char **app_keys, int count)
{
	static Statement lock = {
		.text = "SELECT FROM keyrot.app WHERE app_key OPERATOR(pg_catalog.=) ANY ($1)"
		"   AND previous_valid_until IS NOT NULL ORDER BY app_key FOR NO KEY UPDATE",
		.success = SPI_OK_SELECT,
		.types = {TEXTARRAYOID},
	};
	static Statement update = {
		.text = "WITH ended AS (UPDATE keyrot.app"
		"   SET previous_secret = NULL, previous_valid_until = NULL, grace_after_use = NULL"
		" WHERE app_key OPERATOR(pg_catalog.=) ANY ($1) AND previous_valid_until IS NOT NULL"
		" RETURNING previous_secret IS NULL AND previous_valid_until IS NULL AS as_given)"
		" SELECT FROM ended WHERE as_given",
		.success = SPI_OK_SELECT,
		.types = {TEXTARRAYOID},
	};
	Parameters	parameters = {0};

	if (count == 0)
		return;
	if (tables_are_distributed())
	{
		bulk_distributed_end_grace_of(app_keys, count);
		return;
	}
	tables_refuse_rules();
	add_texts(&parameters, app_keys, count);
	if (statement_run_without_rows(&lock, &parameters) != statement_run_without_rows(&update, &parameters))
		error_not_written("app");
}

/* A value of each rotation, as an array. */
static void
add_column(Parameters *parameters, const Rotation *rotations, int count, Oid type, Datum (*value_of) (const Rotation *))
{
	Datum	   *values = palloc(count * sizeof(Datum));

	for (int i = 0; i < count; i++)
		values[i] = value_of(&rotations[i]);
	parameters_add_array(parameters, values, NULL, count, type);
}

static Datum
identifier_of(const Rotation *rotation)
{
	return CStringGetTextDatum(rotation->credential.identifier);
}

static Datum
version_of(const Rotation *rotation)
{
	return Int32GetDatum(rotation->credential.version);
}

static Datum
request_id_of(const Rotation *rotation)
{
	return UUIDPGetDatum(&rotation->request_id);
}

/* The sealed secrets at this offset in a credential. */
static void
add_secrets(Parameters *parameters, const Rotation *rotations, int count, size_t offset)
{
	Datum	   *values = palloc(count * sizeof(Datum));
	bool	   *nulls = palloc(count * sizeof(bool));

	for (int i = 0; i < count; i++)
	{
		const Sealed *sealed = (const Sealed *) ((const char *) &rotations[i].credential + offset);
		bytea	   *value = palloc(VARHDRSZ + sealed->length);

		SET_VARSIZE(value, VARHDRSZ + sealed->length);
		memcpy(VARDATA(value), sealed->bytes, sealed->length);
		values[i] = PointerGetDatum(value);
		nulls[i] = sealed->length == 0;
	}
	parameters_add_array(parameters, values, nulls, count, BYTEAOID);
}

/* The times at this offset in a credential. */
static void
add_times(Parameters *parameters, const Rotation *rotations, int count, size_t offset)
{
	Datum	   *values = palloc(count * sizeof(Datum));
	bool	   *nulls = palloc(count * sizeof(bool));

	for (int i = 0; i < count; i++)
	{
		TimestampTz time = *(const TimestampTz *) ((const char *) &rotations[i].credential + offset);

		values[i] = TimestampTzGetDatum(time);
		nulls[i] = time == NO_TIME;
	}
	parameters_add_array(parameters, values, nulls, count, TIMESTAMPTZOID);
}

/*
 * Writes the new versions of locked credentials, and the previous version if it has a grace period.  Raises 55000 if a
 * row was not written, or was written with other values.
 */
void
bulk_statements_write(CredentialKind kind, const Rotation *rotations, int count, TimestampTz modified_at)
{
#define WRITE(table, identifier) { \
	.text = "WITH written AS (UPDATE keyrot." table " AS c" \
	"   SET version = n.version, secret = n.secret," \
	"       previous_secret = n.previous_secret," \
	"       previous_valid_until = n.previous_valid_until, grace_after_use = NULL, modified_at = $8," \
	"       valid_until = n.valid_until, due_at = n.due_at" \
	"  FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4)," \
	"                  pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7))" \
	"       AS n (id, version, secret, previous_secret, previous_valid_until, valid_until, due_at)" \
	" WHERE c." identifier " OPERATOR(pg_catalog.=) n.id" \
	" RETURNING c.version OPERATOR(pg_catalog.=) n.version AND c.secret OPERATOR(pg_catalog.=) n.secret AND " \
	SAME("c.previous_secret", "n.previous_secret") " AS as_given)" \
	" SELECT pg_catalog.count(*) FROM written WHERE as_given", \
	.success = SPI_OK_SELECT, \
	.types = {TEXTARRAYOID, INT4ARRAYOID, BYTEAARRAYOID, BYTEAARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, \
	TIMESTAMPTZARRAYOID, TIMESTAMPTZOID}, \
}
	static Statement write[] = FOR_BOTH_KINDS(WRITE);
	Parameters	parameters = {0};

	if (tables_are_distributed())
	{
		bulk_distributed_write(rotations, count);
		return;
	}
	tables_refuse_rules();
	add_column(&parameters, rotations, count, TEXTOID, identifier_of);
	add_column(&parameters, rotations, count, INT4OID, version_of);
	add_secrets(&parameters, rotations, count, offsetof(Credential, secret));
	add_secrets(&parameters, rotations, count, offsetof(Credential, previous_secret));
	add_times(&parameters, rotations, count, offsetof(Credential, previous_valid_until));
	add_times(&parameters, rotations, count, offsetof(Credential, valid_until));
	add_times(&parameters, rotations, count, offsetof(Credential, due_at));
	parameters_add_time(&parameters, modified_at);
	if (statement_count(STATEMENT_FOR(kind, write), &parameters) != count)
		error_not_written(kind == CREDENTIAL_APP ? "app" : "zone");
#undef WRITE
}

/*
 * Records the requests of rotations; each has its own id, target and version, and shares everything else.  Raises 55000
 * if a row was not written, or was written with other values.
 */
void
bulk_statements_record(const RequestRow *common, const Rotation *rotations, int count)
{
	static Statement insert = {
		.text = "WITH n AS (SELECT * FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3))"
		"            AS n (request_id, target, version)),"
		" written AS (INSERT INTO keyrot.request (request_id, target, version, requested_at, action, caller, caller_oid,"
		"  \"session_user\", session_user_oid, client_addr, pid, outcome, changed_kind, changed_in)"
		" SELECT n.request_id, n.target, n.version, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,"
		"  pg_catalog.pg_current_xact_id() FROM n RETURNING request_id, target, version, outcome)"
		" SELECT pg_catalog.count(*) FROM written AS w JOIN n ON w.request_id OPERATOR(pg_catalog.=) n.request_id"
		"   AND w.target OPERATOR(pg_catalog.=) n.target AND w.version OPERATOR(pg_catalog.=) n.version"
		" WHERE w.outcome OPERATOR(pg_catalog.=) $12",
		.success = SPI_OK_SELECT,
		.types = {UUIDARRAYOID, TEXTARRAYOID, INT4ARRAYOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, OIDOID, TEXTOID, OIDOID,
		INETOID, INT4OID, TEXTOID, TEXTOID},
	};
	Parameters	parameters = {0};

	if (tables_are_distributed())
	{
		bulk_distributed_record(common, rotations, count);
		return;
	}
	tables_refuse_rules();
	add_column(&parameters, rotations, count, UUIDOID, request_id_of);
	add_column(&parameters, rotations, count, TEXTOID, identifier_of);
	add_column(&parameters, rotations, count, INT4OID, version_of);
	parameters_add_time(&parameters, common->requested_at);
	parameters_add_text(&parameters, common->action);
	parameters_add_text(&parameters, common->caller.name);
	parameters_add(&parameters, ObjectIdGetDatum(common->caller.oid));
	parameters_add_text(&parameters, common->session_user.name);
	parameters_add(&parameters, ObjectIdGetDatum(common->session_user.oid));
	parameters_add_nullable(&parameters, PointerGetDatum(common->client_addr), common->client_addr[0] == 0);
	parameters_add(&parameters, Int32GetDatum(common->pid));
	parameters_add_text(&parameters, common->outcome);
	parameters_add_text(&parameters, common->changed == CREDENTIAL_APP ? "app" : "zone");
	if (statement_count(&insert, &parameters) != count)
		error_not_written("request");
}
