/*
 * usage_statements.c
 *	  The statements on last uses, and on grace periods that begin with one: many rows in one statement each.
 */
#include "store/usage_statements.h"

#include "catalog/pg_type.h"

#include "store/statement.h"

/* Values collected for an array. */
typedef struct Column
{
	Datum	   *values;
	bool	   *nulls;
} Column;

static Column
make_column(int count)
{
	return (Column) {palloc(count * sizeof(Datum)), palloc0(count * sizeof(bool))};
}

static void
put_time(Column *column, int i, TimestampTz time)
{
	column->values[i] = TimestampTzGetDatum(time);
	column->nulls[i] = time == NO_TIME;
}

/* Writes last uses to their table; a time only ever moves forward. */
void
usage_statements_write(const UseRow *rows, int count)
{
#define NEWER "excluded.version OPERATOR(pg_catalog.-) t.version"
#define OLDER "t.version OPERATOR(pg_catalog.-) excluded.version"
	static Statement upsert = {
		.text = "INSERT INTO keyrot.credential_use AS t (kind, id, version, last_used_at, earlier_last_used_at)"
		" SELECT u.kind, u.id, u.version, u.last_used_at, u.earlier_last_used_at"
		"   FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4),"
		"                   pg_catalog.unnest($5)) AS u(kind, id, version, last_used_at, earlier_last_used_at)"
		" ON CONFLICT (kind, id) DO UPDATE SET version = greatest(excluded.version, t.version),"
		"    last_used_at = CASE WHEN " NEWER " OPERATOR(pg_catalog.>) 0 THEN excluded.last_used_at"
		"                        WHEN " NEWER " OPERATOR(pg_catalog.=) 0 THEN greatest(excluded.last_used_at, t.last_used_at)"
		"                        ELSE t.last_used_at END,"
		"    earlier_last_used_at ="
		"       CASE WHEN " NEWER " OPERATOR(pg_catalog.>) 1 THEN excluded.earlier_last_used_at"
		"            WHEN " NEWER " OPERATOR(pg_catalog.=) 1 THEN greatest(excluded.earlier_last_used_at, t.last_used_at)"
		"            WHEN " NEWER " OPERATOR(pg_catalog.=) 0 THEN greatest(excluded.earlier_last_used_at, t.earlier_last_used_at)"
		"            WHEN " OLDER " OPERATOR(pg_catalog.=) 1 THEN greatest(excluded.last_used_at, t.earlier_last_used_at)"
		"            ELSE t.earlier_last_used_at END",
		.success = SPI_OK_INSERT,
		.types = {TEXTARRAYOID, TEXTARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID},
	};
#undef NEWER
#undef OLDER
	Parameters	parameters = {0};
	Column		kinds = make_column(count);
	Column		ids = make_column(count);
	Column		versions = make_column(count);
	Column		last = make_column(count);
	Column		earlier = make_column(count);

	for (int i = 0; i < count; i++)
	{
		kinds.values[i] = CStringGetTextDatum(rows[i].kind == CREDENTIAL_APP ? "app" : "zone");
		ids.values[i] = CStringGetTextDatum(rows[i].identifier);
		versions.values[i] = Int32GetDatum(rows[i].version);
		put_time(&last, i, rows[i].last_used_at);
		put_time(&earlier, i, rows[i].earlier_last_used_at);
	}
	parameters_add_array(&parameters, kinds.values, kinds.nulls, count, TEXTOID);
	parameters_add_array(&parameters, ids.values, ids.nulls, count, TEXTOID);
	parameters_add_array(&parameters, versions.values, versions.nulls, count, INT4OID);
	parameters_add_array(&parameters, last.values, last.nulls, count, TIMESTAMPTZOID);
	parameters_add_array(&parameters, earlier.values, earlier.nulls, count, TIMESTAMPTZOID);
	statement_run_without_rows(&upsert, &parameters);
}

static Parameters
parameters_of(const FirstUse *graces, int count)
{
	Parameters	parameters = {0};
	Column		ids = make_column(count);
	Column		versions = make_column(count);
	Column		times = make_column(count);

	for (int i = 0; i < count; i++)
	{
		ids.values[i] = CStringGetTextDatum(graces[i].identifier);
		versions.values[i] = Int32GetDatum(graces[i].version);
		put_time(&times, i, graces[i].at);
	}
	parameters_add_array(&parameters, ids.values, ids.nulls, count, TEXTOID);
	parameters_add_array(&parameters, versions.values, versions.nulls, count, INT4OID);
	parameters_add_array(&parameters, times.values, times.nulls, count, TIMESTAMPTZOID);
	return parameters;
}

#define GIVEN \
	"ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3))" \
	" WITH ORDINALITY AS given(id, version, first_use, place)"
#define WAITING(table, identifier) \
	"  FROM " GIVEN " JOIN keyrot." table " AS c ON c." identifier " OPERATOR(pg_catalog.=) given.id" \
	"   AND c.version OPERATOR(pg_catalog.=) given.version AND c.grace_after_use IS NOT NULL"

static void
read_earliest(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	TimestampTz *earliest = reader_state;
	bool		is_null;
	Datum		value = SPI_getbinval(tuple, desc, 1, &is_null);

	if (!is_null)
		*earliest = Min(*earliest, DatumGetTimestampTz(value));
}

static void
read_waiting(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	FirstUse   *graces = reader_state;
	bool		is_null;

	graces[DatumGetInt64(SPI_getbinval(tuple, desc, 1, &is_null)) - 1].still_waits = true;
}

/* Marks those that could not be written because their row is locked. */
static void
mark_waiting(CredentialKind kind, FirstUse *graces, int count)
{
#define FIND(table, identifier) { \
	.text = "SELECT given.place" WAITING(table, identifier), \
	.success = SPI_OK_SELECT, \
	.types = {TEXTARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID}, \
}
	static Statement find[] = FOR_BOTH_KINDS(FIND);
#undef FIND
	Parameters	parameters = parameters_of(graces, count);

	for (int i = 0; i < count; i++)
		graces[i].still_waits = false;
	(void) statement_run(STATEMENT_FOR(kind, find), &parameters, read_waiting, graces);
}

/*
 * Sets the end of grace periods of one kind that wait for their first use: the first use plus their length. Skips and
 * marks locked rows. Returns when the first of these periods ends; DT_NOEND if there is none.
 */
TimestampTz
usage_statements_begin_graces(CredentialKind kind, FirstUse *graces, int count)
{
#define BEGIN(table, identifier) { \
	.text = "WITH held AS (SELECT c." identifier " AS id, given.first_use" WAITING(table, identifier) \
	"              FOR NO KEY UPDATE OF c SKIP LOCKED)" \
	" UPDATE keyrot." table " AS c SET grace_after_use = NULL, previous_valid_until = least(c.previous_valid_until," \
	"        held.first_use OPERATOR(pg_catalog.+)" \
	"        (interval '1 microsecond' OPERATOR(pg_catalog.*) c.grace_after_use))" \
	"   FROM held WHERE c." identifier " OPERATOR(pg_catalog.=) held.id RETURNING c.previous_valid_until", \
	.success = SPI_OK_UPDATE_RETURNING, \
	.types = {TEXTARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID}, \
}
	static Statement begin_graces[] = FOR_BOTH_KINDS(BEGIN);
#undef BEGIN
	Parameters	parameters = parameters_of(graces, count);
	TimestampTz earliest = DT_NOEND;

	(void) statement_run(STATEMENT_FOR(kind, begin_graces), &parameters, read_earliest, &earliest);
	mark_waiting(kind, graces, count);
	return earliest;
}
