/*
 * credential_statements.c
 *	  The statements that apps and zones have alike: owners, and expired versions.
 */
#include "store/credential_statements.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "store/rows_sql.h"
#include "store/statement.h"
#include "store/tables.h"
#include "base/errors.h"

/* Whether an AppKey was ever issued, or a zone ever had a key, as the transaction sees it now. */
bool
credential_statements_exists(CredentialKind kind, const char *identifier)
{
	Snapshot	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	Credential	credential;
	bool		found = rows_find_credential(kind, identifier, snapshot, &credential);

	UnregisterSnapshot(snapshot);
	return found;
}

/* Reads the predecessor of the row that was updated, if it has one; raises 55000 if more than the owner changed. */
static void
read_predecessor(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	bool		is_null;
	char	   *predecessor = SPI_getvalue(tuple, desc, 2);

	if (!DatumGetBool(SPI_getbinval(tuple, desc, 1, &is_null)))
		error_not_written(SPI_getbinval(tuple, desc, 3, &is_null) ? "app" : "zone");

	if (predecessor != NULL)
		strlcpy(reader_state, predecessor, SEAL_MAX_IDENTIFIER + 1);
}

/*
 * Transfers a credential; for an app, all AppKeys that it had: each by its name, from one to its predecessor, so that
 * no other app's row is changed, whatever its number.
 */
void
credential_statements_set_owner(const Credential *credential, Oid owner, const char *owner_name)
{
#define SET(table, identifier, predecessor) { \
	.text = "UPDATE keyrot." table " AS a SET owner = $2, owner_name = $3 FROM keyrot." table " AS b" \
	" WHERE a." identifier " OPERATOR(pg_catalog.=) $1 AND b." identifier " OPERATOR(pg_catalog.=) $1" \
	" RETURNING " UNCHANGED("a", "b") ", " predecessor, \
	.success = SPI_OK_UPDATE_RETURNING, \
	.types = {TEXTOID, OIDOID, TEXTOID}, \
}
	static Statement set[] = {SET("app", "app_key", "a.previous_app_key, true"), SET("zone", "zone_id", "NULL, false")};
#undef SET
	char		next[SEAL_MAX_IDENTIFIER + 1];

	strlcpy(next, credential->identifier, sizeof(next));
	while (next[0] != '\0')
	{
		Parameters	parameters = {0};

		CHECK_FOR_INTERRUPTS();
		parameters_add_text(&parameters, next);
		parameters_add(&parameters, ObjectIdGetDatum(owner));
		parameters_add_text(&parameters, owner_name);
		next[0] = '\0';
		if (statement_run(STATEMENT_FOR(credential->kind, set), &parameters, read_predecessor, next) != 1)
			error_not_written(credential->kind == CREDENTIAL_APP ? "app" : "zone");
	}
}

/* A credential of this table whose owner's OID and name disagree, and the role that it is to have. */
#define DISAGREEING(table) \
	"  FROM pg_catalog.pg_roles AS r, keyrot." table " AS before" \
	" WHERE r.oid OPERATOR(pg_catalog.=)" \
	"       coalesce((SELECT n.oid FROM pg_catalog.pg_roles AS n" \
	"                  WHERE n.rolname OPERATOR(pg_catalog.=) before.owner_name), before.owner)" \
	"   AND (r.oid OPERATOR(pg_catalog.<>) before.owner OR r.rolname OPERATOR(pg_catalog.<>) before.owner_name)"

static void
read_counts(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	int64	   *counts = reader_state;
	bool		is_null;

	counts[0] = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &is_null));
	counts[1] = DatumGetInt64(SPI_getbinval(tuple, desc, 2, &is_null));
}

/* Runs one of these statements, and then one that looks for rows that it should have changed. */
static int64
rebind(Statement *update, Statement *find, const char *table)
{
	Parameters	none = {0};
	int64		counts[2] = {0};

	tables_refuse_rules();
	(void) statement_run(update, &none, read_counts, counts);
	if (counts[0] != counts[1] || statement_run_without_rows(find, &none) > 0)
		error_not_written(table);
	return counts[0];
}

/*
 * For owners whose OID and name disagree, sets both to the role of that name or, if there is none, to the role of
 * that OID. Returns the number of rows changed. Raises 22021 for a role whose name is not valid in the database's
 * encoding, and 55000 if a row was not written, or was written with another version or secret.
 */
int64
credential_statements_rebind_owners(void)
{
#define REBIND(table, identifier) { \
	.text = "WITH rebound AS (UPDATE keyrot." table " AS c SET owner = r.oid, owner_name = " VALID_NAME_OF("r") \
	DISAGREEING(table) " AND before." identifier " OPERATOR(pg_catalog.=) c." identifier \
	" RETURNING " UNCHANGED("c", "before") " AS as_given)" \
	" SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE as_given) FROM rebound", \
	.success = SPI_OK_SELECT, \
}
#define FIND(table, identifier) { \
	.text = "SELECT" DISAGREEING(table) " LIMIT 1", \
	.success = SPI_OK_SELECT, \
}
	static Statement update[] = FOR_BOTH_KINDS(REBIND);
	static Statement find[] = FOR_BOTH_KINDS(FIND);

	return rebind(&update[0], &find[0], "app") + rebind(&update[1], &find[1], "zone");
#undef FIND
#undef REBIND
}
#undef DISAGREEING

/* A range of blocks of a table, including the first and excluding the next, as two tids. */
static void
add_blocks(Parameters *parameters, BlockNumber first, BlockNumber next)
{
	ItemPointer tids = palloc(2 * sizeof(ItemPointerData));

	ItemPointerSet(&tids[0], first, 0);
	ItemPointerSet(&tids[1], next, 0);
	parameters_add(parameters, PointerGetDatum(&tids[0]));
	parameters_add(parameters, PointerGetDatum(&tids[1]));
}

typedef struct Expired
{
	int			count;
	char		(*identifiers)[SEAL_MAX_IDENTIFIER + 1];
} Expired;

static void
read_expired(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	Expired    *expired = reader_state;
	bool		is_null;
	Datum		identifier = SPI_getbinval(tuple, desc, 1, &is_null);

	text_to_cstring_buffer(DatumGetTextPP(identifier), expired->identifiers[expired->count++],
						   sizeof(expired->identifiers[0]));
}

/* Wipes one previous version whose grace period has ended, unless its row is locked. */
static void
wipe_one(CredentialKind kind, const char *identifier, TimestampTz now)
{
#define WIPE(table, identifier) { \
	.text = "UPDATE keyrot." table " SET previous_secret = NULL, previous_valid_until = NULL, grace_after_use = NULL" \
	" WHERE " identifier " OPERATOR(pg_catalog.=) $1 AND previous_valid_until OPERATOR(pg_catalog.<=) $2", \
	.success = SPI_OK_UPDATE, \
	.types = {TEXTOID, TIMESTAMPTZOID}, \
}
	static Statement wipe[] = FOR_BOTH_KINDS(WIPE);
	Parameters	parameters = {0};

	if (!rows_sql_try_lock(kind, identifier))
		return;
	parameters_add_text(&parameters, identifier);
	parameters_add_time(&parameters, now);
	(void) statement_run_without_rows(STATEMENT_FOR(kind, wipe), &parameters);
#undef WIPE
}

/*
 * As credential_statements_wipe_expired(), on all nodes; at most so many that others wait no longer than for a batch.
 */
static void
wipe_distributed(CredentialKind kind, TimestampTz now)
{
#define WIPED_AT_ONCE 1000
#define FIND(table, identifier) { \
	.text = "SELECT " identifier " FROM keyrot." table " WHERE previous_valid_until OPERATOR(pg_catalog.<=) $1" \
	" ORDER BY " identifier " LIMIT $2", \
	.success = SPI_OK_SELECT, \
	.types = {TIMESTAMPTZOID, INT4OID}, \
}
	static Statement find[] = FOR_BOTH_KINDS(FIND);
	Expired		expired = {0, palloc(WIPED_AT_ONCE * (SEAL_MAX_IDENTIFIER + 1))};
	Parameters	parameters = {0};

	parameters_add_time(&parameters, now);
	parameters_add(&parameters, Int32GetDatum(WIPED_AT_ONCE));
	(void) statement_run(STATEMENT_FOR(kind, find), &parameters, read_expired, &expired);
	for (int i = 0; i < expired.count; i++)
		wipe_one(kind, expired.identifiers[i], now);
	pfree(expired.identifiers);
#undef FIND
#undef WIPED_AT_ONCE
}

/*
 * Wipes the previous versions whose grace period has ended, in these blocks of the table or of each of its
 * partitions; skips locked rows. If the tables are distributed, the blocks are ignored, and at most a thousand
 * versions are wiped.
 */
void
credential_statements_wipe_expired(CredentialKind kind, BlockNumber first, BlockNumber next, TimestampTz now)
{
#define WIPE(table, identifier) { \
	.text = "UPDATE keyrot." table " SET previous_secret = NULL, previous_valid_until = NULL, grace_after_use = NULL" \
	" WHERE " identifier " OPERATOR(pg_catalog.=) ANY (ARRAY(" \
	"       SELECT " identifier " FROM keyrot." table \
	"        WHERE ctid OPERATOR(pg_catalog.>=) $1 AND ctid OPERATOR(pg_catalog.<) $2" \
	"          AND previous_valid_until OPERATOR(pg_catalog.<=) $3 FOR NO KEY UPDATE SKIP LOCKED))", \
	.success = SPI_OK_UPDATE, \
	.types = {TIDOID, TIDOID, TIMESTAMPTZOID}, \
}
	static Statement wipe[] = FOR_BOTH_KINDS(WIPE);
	Parameters	parameters = {0};

	if (tables_are_distributed())
	{
		wipe_distributed(kind, now);
		return;
	}
	add_blocks(&parameters, first, next);
	parameters_add_time(&parameters, now);
	statement_run_without_rows(STATEMENT_FOR(kind, wipe), &parameters);
#undef WIPE
}

/* An empty census. */
void
credential_statements_begin_census(Census *census)
{
	*census = (Census) {.first_expiry = DT_NOEND, .last_expiry = DT_NOBEGIN, .oldest_version = DT_NOEND};
}

static TimestampTz
time_at(HeapTuple tuple, TupleDesc desc, int column, TimestampTz where_null)
{
	bool		is_null;
	Datum		value = SPI_getbinval(tuple, desc, column, &is_null);

	return is_null ? where_null : DatumGetTimestampTz(value);
}

/* Adds the counts of some blocks: the items of the census in their order, then the times. */
static void
add_counts(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	Census	   *census = reader_state;
	TimestampTz first_expiry = time_at(tuple, desc, CENSUS_ITEMS + 1, DT_NOEND);
	TimestampTz last_expiry = time_at(tuple, desc, CENSUS_ITEMS + 2, DT_NOBEGIN);
	TimestampTz oldest_version = time_at(tuple, desc, CENSUS_ITEMS + 3, DT_NOEND);
	bool		is_null;

	for (int i = 0; i < CENSUS_ITEMS; i++)
		census->counts[i] += DatumGetInt64(SPI_getbinval(tuple, desc, i + 1, &is_null));
	census->first_expiry = Min(census->first_expiry, first_expiry);
	census->last_expiry = Max(census->last_expiry, last_expiry);
	census->oldest_version = Min(census->oldest_version, oldest_version);
}

/*
 * Whether the previous version in this row has not been used for a day, nor since its rotation, while the current one
 * is in use. After a NewAppKey the previous version is in another row, which has its own uses.
 */
#define USE_OF(kind, id, version) \
	"FROM keyrot.credential_use AS u WHERE u.kind OPERATOR(pg_catalog.=) '" kind "'" \
	" AND u.id OPERATOR(pg_catalog.=) " id " AND u.version OPERATOR(pg_catalog.=) " version
#define UNUSED_IN_ROW(kind) \
	"(modified_at OPERATOR(pg_catalog.<=) $4 AND (SELECT u.last_used_at IS NOT NULL" \
	"  AND (u.earlier_last_used_at OPERATOR(pg_catalog.>) $4) IS NOT TRUE " USE_OF(kind, "c.id", "c.version") "))"
#define UNUSED_BESIDE_NEW_APP_KEY \
	"((SELECT n.modified_at OPERATOR(pg_catalog.<=) $4 AND EXISTS (SELECT " USE_OF("app", "n.app_key", "n.version") \
	"           AND u.last_used_at IS NOT NULL)" \
	"    FROM keyrot.app AS n WHERE n.app_id OPERATOR(pg_catalog.=) c.app_id" \
	"     AND n.previous_app_key OPERATOR(pg_catalog.=) c.id)" \
	" AND (SELECT u.last_used_at OPERATOR(pg_catalog.>) $4 " USE_OF("app", "c.id", "c.version") ") IS NOT TRUE)"

/*
 * Counts the credentials in these blocks, or on all nodes if the tables are distributed, in their state at that time,
 * and adds them to the census.
 */
void
credential_statements_count(CredentialKind kind, BlockNumber first, BlockNumber next, TimestampTz now, Census *census)
{
#define COUNT(condition) "pg_catalog.count(*) FILTER (WHERE " condition "), "
#define CENSUS_OF(table, columns, unused, where) { \
	.text = "SELECT " COUNT("live AND NOT off AND NOT expired") \
	COUNT("NOT live AND grace AND NOT off") \
	COUNT("NOT live AND NOT grace") \
	COUNT("off AND (live OR grace)") \
	COUNT("live AND NOT off AND expired") \
	COUNT("grace AND previous_secret IS NOT NULL") \
	COUNT("live AND NOT off AND due_at OPERATOR(pg_catalog.<=) $3") \
	COUNT("live AND NOT off AND NOT expired AND valid_until OPERATOR(pg_catalog.-) '7 days'::interval OPERATOR(pg_catalog.<=) $3") \
	COUNT("CASE WHEN grace AND previous_secret IS NOT NULL AND NOT off AND NOT expired THEN " unused " END") \
	"pg_catalog.min(previous_valid_until), pg_catalog.max(previous_valid_until) FILTER (WHERE grace), " \
	"pg_catalog.min(modified_at) FILTER (WHERE live AND NOT off AND NOT expired)" \
	"  FROM (SELECT secret IS NOT NULL AS live, disabled_at IS NOT NULL AS off," \
	"               (valid_until OPERATOR(pg_catalog.<=) $3) IS TRUE AS expired," \
	"               (previous_valid_until OPERATOR(pg_catalog.>) $3) IS TRUE AS grace," \
	"               valid_until, due_at, modified_at, previous_secret, previous_valid_until, version, " columns \
	"          FROM keyrot." table where ") AS c", \
	.success = SPI_OK_SELECT, \
	.types = {TIDOID, TIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID}, \
}
#define IN_BLOCKS " WHERE ctid OPERATOR(pg_catalog.>=) $1 AND ctid OPERATOR(pg_catalog.<) $2"
	static Statement census_of_apps = CENSUS_OF("app", "app_key AS id, app_id",
		"CASE WHEN live THEN " UNUSED_IN_ROW("app") " ELSE " UNUSED_BESIDE_NEW_APP_KEY " END", IN_BLOCKS);
	static Statement census_of_zones = CENSUS_OF("zone", "zone_id AS id", UNUSED_IN_ROW("zone"), IN_BLOCKS);
	static Statement distributed_census_of_apps = CENSUS_OF("app", "app_key AS id", "false", "");
	static Statement distributed_census_of_zones = CENSUS_OF("zone", "zone_id AS id", "false", "");
	Statement  *local = kind == CREDENTIAL_APP ? &census_of_apps : &census_of_zones;
	Statement  *distributed = kind == CREDENTIAL_APP ? &distributed_census_of_apps : &distributed_census_of_zones;
	Parameters	parameters = {0};

	add_blocks(&parameters, first, next);
	parameters_add_time(&parameters, now);
	parameters_add_time(&parameters, now - USECS_PER_DAY);
	(void) statement_run(tables_are_distributed() ? distributed : local, &parameters, add_counts, census);
#undef IN_BLOCKS
#undef CENSUS_OF
#undef COUNT
}
