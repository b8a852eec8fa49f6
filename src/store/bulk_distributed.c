/*
 * bulk_distributed.c
 *	  What bulk_statements.c does, where the tables are distributed: no statement can lock rows of several shards, so that
 *	  they are looked for first, and then locked, judged again and written one by one.
 */
#include "store/bulk_distributed.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "store/distribution.h"
#include "store/rows_sql.h"
#include "store/statement.h"

/* Identifiers that were found. */
typedef struct Found
{
	int			count;
	char		(*identifiers)[SEAL_MAX_IDENTIFIER + 1];
} Found;

static void
read_identifier(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	Found	   *found = reader_state;
	bool		is_null;
	Datum		identifier = SPI_getbinval(tuple, desc, 1, &is_null);

	text_to_cstring_buffer(DatumGetTextPP(identifier), found->identifiers[found->count++], sizeof(found->identifiers[0]));
}

static Found
make_room(int limit)
{
	return (Found) {0, palloc((Size) limit * (SEAL_MAX_IDENTIFIER + 1))};
}

/* If the caller may not act on it, the rotation raises the error. */
static void
judge_nothing(Oid caller pg_attribute_unused(), const Credential *credential pg_attribute_unused())
{
}

static bool
lock_row(CredentialKind kind, const char *identifier, Credential *credential)
{
	CHECK_FOR_INTERRUPTS();
	return rows_lock_credential(kind, identifier, judge_nothing, InvalidOid, credential);
}

static bool
is_meant(const BulkFilter *filter, const Credential *credential)
{
	return credential->secret.length > 0 && credential->modified_at < filter->rotated_before &&
		(!OidIsValid(filter->owner) || strcmp(credential->owner_name, filter->owner_name) == 0);
}

/* Locks a credential and passes it to the receiver if it then still matches the filter; returns whether it did. */
static bool
lock_meant(const BulkFilter *filter, const char *identifier, RotationReader reader, void *reader_state)
{
	Rotation	rotation = {0};

	if (!lock_row(filter->kind, identifier, &rotation.credential) || !is_meant(filter, &rotation.credential))
		return false;
	reader(&rotation, reader_state);
	return true;
}

/* As bulk_statements_lock_next(): passes on at least one if there is any. */
void
bulk_distributed_lock_next(const BulkFilter *filter, const char *after, int limit, RotationReader reader,
						   void *reader_state)
{
#define FIND(table, identifier) { \
	.text = "SELECT " identifier " FROM keyrot." table " WHERE " identifier " OPERATOR(pg_catalog.>) $1" \
	"   AND secret IS NOT NULL AND modified_at OPERATOR(pg_catalog.<) $2" \
	"   AND ($3 IS NULL OR owner_name OPERATOR(pg_catalog.=) $3) ORDER BY " identifier " LIMIT $4", \
	.success = SPI_OK_SELECT, \
	.types = {TEXTOID, TIMESTAMPTZOID, TEXTOID, INT4OID}, \
	.custom_plans = true, \
}
	static Statement statements[] = FOR_BOTH_KINDS(FIND);
	Found		found = make_room(limit);
	bool		any = false;

	do
	{
		Parameters	parameters = {0};

		parameters_add_text(&parameters, found.count == 0 ? after : found.identifiers[found.count - 1]);
		parameters_add_time(&parameters, filter->rotated_before);
		if (OidIsValid(filter->owner))
			parameters_add_text(&parameters, filter->owner_name);
		else
			parameters_add_null(&parameters);
		parameters_add(&parameters, Int32GetDatum(limit));
		found.count = 0;
		(void) statement_run(STATEMENT_FOR(filter->kind, statements), &parameters, read_identifier, &found);
		for (int i = 0; i < found.count; i++)
			any = lock_meant(filter, found.identifiers[i], reader, reader_state) || any;
	} while (found.count > 0 && !any);
	pfree(found.identifiers);
#undef FIND
}

/* As bulk_statements_lock_listed(). */
void
bulk_distributed_lock_listed(const BulkFilter *filter, char **identifiers, int count, RotationReader reader,
							 void *reader_state)
{
	for (int i = 0; i < count; i++)
		(void) lock_meant(filter, identifiers[i], reader, reader_state);
}

/* When a credential is due, by its policy or otherwise by max_age; NO_TIME: never. */
static TimestampTz
due_time(const DueFilter *filter, const Credential *credential)
{
	const Interval *period = &credential->policy.rotate_after;

	if (period->month != 0 || period->day != 0 || period->time != 0)
		return credential->due_at;
	return filter->max_age.isnull ? NO_TIME : credential->modified_at + DatumGetInt64(filter->max_age.value);
}

/* Locks a credential and passes it to the receiver if it is then still due; does not wait for a locked row. */
static void
lock_one_due(const DueFilter *filter, const char *identifier, RotationReader reader, void *reader_state)
{
	Rotation	rotation = {0};
	Credential *credential = &rotation.credential;

	if (!rows_sql_try_lock(filter->kind, identifier) || !lock_row(filter->kind, identifier, credential))
		return;
	rotation.due_at = due_time(filter, credential);
	if (credential->secret.length > 0 && credential->disabled_at == NO_TIME && credential->version < PG_INT32_MAX &&
		rotation.due_at != NO_TIME && rotation.due_at <= filter->now)
		reader(&rotation, reader_state);
}

/* The latest time of a rotation that is older than max_age; NULL if there is none. */
static void
add_latest(Parameters *parameters, const DueFilter *filter)
{
	int64		age = DatumGetInt64(filter->max_age.value);

	if (filter->max_age.isnull || age > filter->now - MIN_TIMESTAMP)
		parameters_add_null(parameters);
	else
		parameters_add_time(parameters, filter->now - age);
}

/* As bulk_statements_lock_due(). */
void
bulk_distributed_lock_due(const DueFilter *filter, int limit, RotationReader reader, void *reader_state)
{
#define FIND(table, identifier) { \
	.text = "SELECT " identifier " FROM keyrot." table \
	" WHERE secret IS NOT NULL AND disabled_at IS NULL AND version OPERATOR(pg_catalog.<) 2147483647" \
	"   AND ((rotate_after IS NOT NULL AND due_at OPERATOR(pg_catalog.<=) $2)" \
	"        OR (rotate_after IS NULL AND modified_at OPERATOR(pg_catalog.<) $1))" \
	"   AND ($3 OR " MAY_ACT_FOR_OWNER_NAME("$4") ")" \
	" ORDER BY CASE WHEN rotate_after IS NULL THEN modified_at OPERATOR(pg_catalog.+) ($2 OPERATOR(pg_catalog.-) $1)" \
	"  ELSE due_at END, " identifier " LIMIT $5", \
	.success = SPI_OK_SELECT, \
	.types = {TIMESTAMPTZOID, TIMESTAMPTZOID, BOOLOID, TEXTARRAYOID, INT4OID}, \
	.custom_plans = true, \
}
	static Statement statements[] = FOR_BOTH_KINDS(FIND);
	Parameters	parameters = {0};
	Found		found = make_room(limit);

	add_latest(&parameters, filter);
	parameters_add_time(&parameters, filter->now);
	parameters_add(&parameters, BoolGetDatum(filter->sees_all));
	parameters_add(&parameters, distribution_roles_of(filter->caller));
	parameters_add(&parameters, Int32GetDatum(limit));
	(void) statement_run(STATEMENT_FOR(filter->kind, statements), &parameters, read_identifier, &found);
	for (int i = 0; i < found.count; i++)
		lock_one_due(filter, found.identifiers[i], reader, reader_state);
	pfree(found.identifiers);
#undef FIND
}

/* As bulk_statements_end_grace_of(). */
void
bulk_distributed_end_grace_of(char **app_keys, int count)
{
	Credential	app;

	for (int i = 0; i < count; i++)
	{
		if (!lock_row(CREDENTIAL_APP, app_keys[i], &app) || app.previous_valid_until == NO_TIME)
			continue;
		app.previous_secret.length = 0;
		app.previous_valid_until = NO_TIME;
		app.grace_after_use = NO_GRACE_AFTER_USE;
		rows_write_credential(&app);
	}
}

/* As bulk_statements_write(). */
void
bulk_distributed_write(const Rotation *rotations, int count)
{
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		rows_write_credential(&rotations[i].credential);
	}
}

/* As bulk_statements_record(). */
void
bulk_distributed_record(const RequestRow *common, const Rotation *rotations, int count)
{
	RequestRow	row = *common;

	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		row.id = rotations[i].request_id;
		row.version = rotations[i].credential.version;
		strlcpy(row.target, rotations[i].credential.identifier, sizeof(row.target));
		rows_insert_request(&row);
	}
}
